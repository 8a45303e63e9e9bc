"""The order in which rows are met: seeded, bucketed by length, and a pure function of its arguments.

The rows of a step do not depend on how many devices share it or how it is cut into micro-batches, so a run
keeps its data order when either changes, and a resumed run needs nothing but the number of the step.
"""

from __future__ import annotations

import math

import numpy as np

from weitiao.randomness import generator

__all__ = ["cut", "epoch_order", "longest_first", "steps_per_epoch"]

# Rows are sorted by length within a window of this many batches: long enough that a batch has rows of like
# length, short enough that an epoch stays a shuffle.
_WINDOW = 50


def epoch_order(lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the row numbers of each step of an epoch.

    Parameters
    ----------
    lengths
        Tokens a row, ``(rows,)``.
    batch_size
        Rows a step; the last step of the epoch may have fewer.
    seed, epoch
        Decide the shuffle.

    Returns
    -------
    One array of row numbers a step. Every row comes exactly once.
    """
    rng = generator(seed, "order", epoch)
    order = rng.permutation(len(lengths))
    steps: list[np.ndarray] = []
    for start in range(0, len(order), batch_size * _WINDOW):
        window = order[start : start + batch_size * _WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        steps += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    return [steps[i] for i in rng.permutation(len(steps))]


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return how many steps `epoch_order` gives."""
    return math.ceil(rows / batch_size)


def cut(rows: np.ndarray, micro_batch_size: int, processes: int) -> list[np.ndarray]:
    """Cut the rows of a step into micro-batches, as many for each process.

    Returns
    -------
    Arrays whose sizes differ by one at most; some are empty when there are fewer rows than processes.
    """
    return np.array_split(rows, processes * math.ceil(len(rows) / (micro_batch_size * processes)))


def longest_first(lengths: np.ndarray, batch_size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return batches for a pass without training, and how to put its results back in order.

    Rows of like length go together; the longest come first, so that memory runs out at once or never.

    Returns
    -------
    Row numbers of each batch; and the index that sorts the joined results into the order of `lengths`.
    """
    order = np.argsort(lengths, kind="stable")[::-1]
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)], np.argsort(order)
