"""What a metric is: a function of targets and predictions, and a few facts about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from weitiao.plugins import Named

if TYPE_CHECKING:
    from weitiao.evaluation.panels import Panel

__all__ = ["Metric", "Needs", "Summed"]

Needs = Literal[
    "labels",
    "names",
    "probabilities",
    "named_probabilities",
    "label_sets",
    "values",
    "entities",
    "texts",
    "likelihood",
    "ranks",
]  # what each stands for is said at `Metric`


class Metric(Named):
    """One number that says how good predictions are. One file in this folder is one metric.

    Attributes
    ----------
    title, title_zh
        What people read, in English and Chinese; without them, the name is shown.
    higher_is_better
        Direction.
    needs
        The form of `targets` and `predictions`; both have a row's entry at the same index.

        ================= ============================================ ==========================================
        needs             targets                                      predictions
        ================= ============================================ ==========================================
        ``labels``        class indices ``(rows,)``                    the same
        ``names``         object ``(rows,)``: the class's name         the same
        ``probabilities`` class indices ``(rows,)``                    ``(rows, classes)``, rows summing to 1
        ``named_          object ``(rows,)``: the class's name         object ``(rows,)``: a mapping of each
        probabilities``                                                class's name to its probability
        ``label_sets``    bool ``(rows, labels)``                      the same
        ``values``        float ``(rows,)``                            the same
        ``entities``      object ``(rows,)``: a frozenset of           the same
                          ``(start, end, type)``
        ``texts``         object ``(rows,)``: a tuple of references;   object ``(rows,)``: a str
                          ``()`` or ``("",)`` says "no answer"
        ``likelihood``    ignored                                      float ``(rows, 2)``: summed log-likelihood
                                                                       of the target's tokens in nats; how many
        ``ranks``         ignored                                      object ``(rows,)``: a tuple of relevances
                                                                       of a query's candidates, best-scored first
        ================= ============================================ ==========================================
    range
        Smallest and largest possible value.
    """

    title: ClassVar[str] = ""
    title_zh: ClassVar[str] = ""
    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "labels"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, *, classes: int) -> float:
        """Return the value of these rows; both are in the form that `needs` names."""
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

    def panels(self, targets: np.ndarray, predictions: np.ndarray, labels: Sequence[str]) -> Sequence[Panel]:
        """Return what a report shows beside the number: where it comes from, class by class, say."""
        return ()

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float] | None:
        """Return an independent implementation ``(targets, predictions, classes) -> value`` to be tested against."""
        return None

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases with known answers: ``{"targets", "predictions", "classes", "value"}``."""
        raise NotImplementedError


class Summed(Metric):
    """A metric that is a function of sums over rows, so that a thousand resamples are one matrix product."""

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return what each row adds to the sums, float64 ``(rows, k)``."""
        raise NotImplementedError

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return the metric's value ``(...)`` of sums ``(..., k)``."""
        raise NotImplementedError

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, *, classes: int = 0) -> float:
        """Return the value of these rows."""
        return float(self.of(self.counts(targets, predictions).sum(axis=0)))

    def weighted(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray, *, classes: int = 0
    ) -> np.ndarray:
        """Return one value a resample, ``(resamples,)``."""
        return self.of(weights @ self.counts(targets, predictions))
