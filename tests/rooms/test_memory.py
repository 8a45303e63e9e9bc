"""When memory runs out, batches get smaller and nothing else changes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weitiao.errors import TrainingError
from weitiao.memory import in_memory, ran_out


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> Iterator[None]:
    """Each want of memory collects garbage, which with torch loaded takes most of the time of these tests."""
    gc.freeze()
    yield
    gc.unfreeze()


def room_for(rows: int, error: Callable[[], Exception]) -> Callable[[np.ndarray], np.ndarray]:
    def run(batch: np.ndarray) -> np.ndarray:
        if len(batch) > rows:
            raise error()
        return batch * 10

    return run


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 9))
def test_every_row_once_in_order_whatever_fits(sizes: list[int], room: int) -> None:
    numbers = np.arange(sum(sizes))
    batches = np.split(numbers, np.cumsum(sizes)[:-1])
    done = list(in_memory(batches, room_for(room, MemoryError)))
    assert np.array_equal(np.concatenate([rows for rows, _ in done]), numbers)
    assert all(np.array_equal(result, rows * 10) for rows, result in done)
    assert max(len(rows) for rows, _ in done) <= max(room, 1)


def test_a_batch_that_failed_once_is_not_tried_again_at_that_size() -> None:
    tried: list[int] = []

    def run(batch: np.ndarray) -> int:
        tried.append(len(batch))
        if len(batch) > 3:
            raise MemoryError
        return 0

    list(in_memory([np.arange(8)] * 3, run))
    assert tried == [8, 4, 2, 2, 2, 2] + [2] * 8


def test_a_single_row_that_does_not_fit_ends_it() -> None:
    with pytest.raises(TrainingError, match=r"single row\. Set a smaller model\.max_length"):
        list(in_memory([np.arange(4)], room_for(0, MemoryError)))


def test_other_errors_are_passed_on() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        list(in_memory([np.arange(4)], room_for(0, lambda: RuntimeError("shapes do not fit"))))


def test_what_says_that_memory_ran_out() -> None:
    assert ran_out(MemoryError())
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    assert ran_out(RuntimeError("could not create a primitive"))
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out(ValueError("out of memory"))
    with pytest.raises(RuntimeError) as raised:  # what the allocator itself says, asked for 4 EiB
        torch.empty(2**60, dtype=torch.float32)
    assert ran_out(raised.value)
