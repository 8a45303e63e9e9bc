"""Where a training stands, and what has to be as it was for another process to go on from there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["Interrupt", "Position", "random_state", "set_random_state"]


@dataclass
class Position:
    """Where training stands; with the tensors of a checkpoint, all that a resumed run needs."""

    step: int = 0  # steps taken in all
    epoch: int = 0
    step_in_epoch: int = 0
    loss: float = float("nan")  # of the last step
    best_step: int = 0  # 0: not measured yet
    best_score: float = float("nan")
    since_best: int = 0  # measurements since the best
    scores: list[list[float]] = field(default_factory=list)  # [step, score] of each measurement, higher is better
    seconds: float = 0.0  # in all attempts
    history: list[dict[str, float]] = field(default_factory=list)  # one entry a measurement on dev
    asked_micro: int | None = None  # rows a forward pass, as the recipe says
    micro_batch_size: int | None = None  # and as memory has room for
    skipped: list[dict[str, Any]] = field(default_factory=list)  # steps left out: step, loss, rows
    health: dict[str, Any] = field(default_factory=dict)  # see training.health
    precision: str = "float32"  # of forward and backward passes, which "auto" may choose otherwise on another machine
    done: bool = False


class Interrupt:
    """In the main thread, the first Ctrl-C calls `note`, and the second stops at once."""

    def __init__(self, note: Callable[[], None]) -> None:
        self.note, self.here = note, threading.current_thread() is threading.main_thread()

    def __enter__(self) -> None:
        if self.here:
            self.before = signal.signal(signal.SIGINT, self._first)

    def __exit__(self, *_: object) -> None:
        if self.here:
            signal.signal(signal.SIGINT, self.before)

    def _first(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.before)
        self.note()


def random_state() -> dict[str, torch.Tensor]:
    """Return the state of torch's generators: of the CPU, and of the GPU this process trains on."""
    gpu = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state(), **gpu}


def set_random_state(state: Mapping[str, torch.Tensor]) -> None:
    """Put torch's generators back to what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
