"""When memory runs out: how it is noticed, and how a pass over rows goes on with smaller batches."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from weitiao.errors import TrainingError

__all__ = ["free", "in_memory", "ran_out"]

_SAID = (
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "not enough memory",
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "could not create a primitive",  # how oneDNN puts it
    "could not create a memory",
)
T = TypeVar("T")


def ran_out(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a device, in torch's allocator, in numpy or in Python."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)


def free() -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_memory(batches: Iterable[np.ndarray], run: Callable[[np.ndarray], T]) -> Iterator[tuple[np.ndarray, T]]:
    """Run each batch of row numbers; one that does not fit into memory is halved, and so are those after it.

    Raises
    ------
    TrainingError
        A single row does not fit; the first error is its cause.
    """
    most = sys.maxsize
    for batch in batches:
        waiting = [batch[i : i + most] for i in range(0, len(batch), min(most, len(batch)))]
        while waiting:
            rows = waiting.pop(0)
            result = _try(run, rows)
            if result is not None:
                yield rows, result[0]
                continue
            most = (len(rows) + 1) // 2  # outside the handler, whose traceback holds what filled the memory
            free()
            waiting = [part[i : i + most] for part in (rows, *waiting) for i in range(0, len(part), most)]


def _try(run: Callable[[np.ndarray], T], rows: np.ndarray) -> tuple[T] | None:
    try:
        return (run(rows),)
    except Exception as error:
        if not ran_out(error):
            raise
        if len(rows) == 1:
            raise TrainingError("memory ran out on a single row.", fix="Set a smaller model.max_length.") from error
        return None
