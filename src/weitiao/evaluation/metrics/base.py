"""What a metric is: a function of targets and predictions, and a few facts about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

__all__ = ["Metric"]


class Metric:
    """One number that says how good predictions are. One file in this folder is one metric.

    Attributes
    ----------
    title, title_zh
        What people read, in English and Chinese; without them, the name is shown.
    higher_is_better
        Direction.
    needs
        ``"labels"``: `predictions` are class indices ``(rows,)``;
        ``"probabilities"``: ``(rows, classes)``, each row summing to 1.
    range
        Smallest and largest possible value.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    title_zh: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[Literal["labels", "probabilities"]] = "labels"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, *, classes: int) -> float:
        """Return the value; `targets` are class indices ``(rows,)``."""
        raise NotImplementedError

    def weighted(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray, *, classes: int
    ) -> np.ndarray:
        """Return the value of many resamples at once.

        A bootstrap asks for a thousand values on the same rows. This default repeats rows and calls the
        metric once a resample; a metric made of sums over rows overrides it with a matrix product.

        Parameters
        ----------
        weights
            ``(resamples, rows)``, how often each row occurs in each resample: whole numbers, as floats.

        Returns
        -------
        ``(resamples,)``, equal to calling the metric on the repeated rows.
        """
        rows = np.arange(len(targets))
        chosen = (np.repeat(rows, counts.astype(np.int64)) for counts in weights)
        return np.array([self(targets[i], predictions[i], classes=classes) for i in chosen], dtype=np.float64)

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float] | None:
        """Return an independent implementation ``(targets, predictions, classes) -> value`` to be tested against."""
        return None

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases with known answers: ``{"targets", "predictions", "classes", "value"}``."""
        raise NotImplementedError
