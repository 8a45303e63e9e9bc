"""What the distinct-n metrics share: counting n-grams of all predictions once, and of any weighting of them.

Source: Li et al., A Diversity-Promoting Objective Function for Neural Conversation Models, 2016, arXiv:1510.03055.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from weitiao.evaluation.metrics._texts import words
from weitiao.evaluation.metrics.base import Metric

__all__ = ["Distinct"]


class Distinct(Metric):
    """Share of n-grams of all predictions that are different ones."""

    needs = "texts"
    n: int

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, *, classes: int = 0) -> float:
        """Return the share, in [0, 1]; the targets are not looked at, and 0 is for no n-gram at all."""
        return float(self.weighted(targets, predictions, np.ones((1, len(predictions))))[0])

    def weighted(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray, *, classes: int = 0
    ) -> np.ndarray:
        """Return one share a resample: not made of sums over rows, since rows share n-grams."""
        number: dict[tuple[str, ...], int] = {}
        texts = [words(text) for text in predictions]
        found = [[number.setdefault(gram, len(number)) for gram in _grams(text, self.n)] for text in texts]
        lengths = np.array([len(one) for one in found], dtype=np.int64)
        grams, rows = np.array([g for one in found for g in one], dtype=np.int64), np.repeat(range(len(found)), lengths)
        different = np.array([np.bincount(grams, w[rows] > 0, minlength=1).astype(bool).sum() for w in weights])
        return different / np.maximum(weights @ lengths, 1)

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return the definition as one set and one list."""

        def plain(targets: np.ndarray, predictions: np.ndarray, classes: int) -> float:
            grams = [gram for text in predictions for gram in _grams(words(text), cls.n)]
            return len(set(grams)) / len(grams) if grams else 0.0

        return plain


def _grams(tokens: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
