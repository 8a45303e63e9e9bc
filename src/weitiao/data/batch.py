"""The order in which rows are met: seeded, bucketed by length, and a pure function of its arguments.

The rows of a step do not depend on how many devices share it or how it is cut into micro-batches, so a run
keeps its data order when either changes, and a resumed run needs nothing but the number of the step.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from weitiao.randomness import generator

__all__ = ["Sampling", "cut", "epoch_order", "longest_first"]

# Rows are sorted by length within a window of this many batches: long enough that a batch has rows of like
# length, short enough that an epoch stays a shuffle.
_WINDOW = 50


Sampling = Literal["shuffled", "balanced", "square_root"]


def epoch_order(
    lengths: np.ndarray,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    classes: np.ndarray | None = None,
    sampling: Sampling = "shuffled",
    batch_tokens: int | None = None,
) -> list[np.ndarray]:
    """Return the row numbers of each step of an epoch.

    Parameters
    ----------
    lengths
        Tokens a row, ``(rows,)``.
    batch_size
        Rows a step; the last step of the epoch may have fewer.
    seed, epoch
        Decide the shuffle, and which rows are drawn.
    classes
        The class of each row, ``(rows,)``; without it all rows count alike, whatever `sampling` says.
    sampling
        ``shuffled``: every row once. ``balanced``: as many rows of each class. ``square_root``: of each class as
        many as the square root of its size says, halfway between the two.
    batch_tokens
        Tokens a step, padding counted, in place of `batch_size` rows; a row longer than that is a step of its own.

    Returns
    -------
    One array of row numbers a step; as many rows as there are, whatever the sampling. Of one class no row comes
    twice before each has come once.
    """
    rng = generator(seed, "order", epoch)
    if classes is None or sampling == "shuffled":
        order = rng.permutation(len(lengths))
    else:
        order = _drawn(classes, 0.0 if sampling == "balanced" else 0.5, rng)
    if batch_tokens is not None:
        batch_size = max(1, round(batch_tokens / max(1.0, lengths.mean())))
    steps: list[np.ndarray] = []
    for start in range(0, len(order), batch_size * _WINDOW):
        window = order[start : start + batch_size * _WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        if batch_tokens is None:
            steps += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
        else:
            steps += _filled(window, lengths, batch_tokens)
    return [steps[i] for i in rng.permutation(len(steps))]


def _filled(rows: np.ndarray, lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Cut rows, sorted by length, into the fewest steps of at most so many tokens, padding counted."""
    starts, first = [], 0
    for i, row in enumerate(rows):
        if i > first and lengths[row] * (i + 1 - first) > batch_tokens:  # the longest so far, for each of them
            starts.append(i)
            first = i
    return np.split(rows, starts)


def _drawn(classes: np.ndarray, power: float, rng: np.random.Generator) -> np.ndarray:
    """Draw as many rows as there are, of each class in proportion to its size to the `power`, shuffled."""
    values, sizes = np.unique(classes, return_counts=True)
    shares = sizes.astype(np.float64) ** power
    wanted = len(classes) * shares / shares.sum()
    # whole numbers that keep the sum and, over epochs, the mean: one random offset under the running total
    edges = np.floor(np.concatenate(([0.0], np.cumsum(wanted))) + rng.random())
    edges[-1] = edges[0] + len(classes)
    drawn = []
    for value, count in zip(values, np.diff(edges).astype(np.int64), strict=True):
        rows = np.flatnonzero(classes == value)
        rounds = [rng.permutation(rows) for _ in range(math.ceil(count / len(rows)))]
        drawn.append(np.concatenate([rows[:0], *rounds])[:count])
    return rng.permutation(np.concatenate([np.zeros(0, dtype=np.int64), *drawn]))


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
