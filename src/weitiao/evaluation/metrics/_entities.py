"""Counts of entities found: a prediction is right when start, end and type all equal those of a true entity."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from weitiao.evaluation.metrics.base import Summed

__all__ = ["EntityMetric", "TypeCounts", "per_type", "true_or_false"]


class TypeCounts(NamedTuple):
    """Entities of one type over all rows."""

    correct: int
    gold: int
    predicted: int


class EntityMetric(Summed):
    """What is a function of three sums: correct, true and predicted entities."""

    needs = "entities"

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return correct, true and predicted entities of each row, ``(rows, 3)``."""
        pairs = zip(targets, predictions, strict=True)
        rows = [(len(gold & said), len(gold), len(said)) for gold, said in pairs]
        return np.array(rows, dtype=np.float64).reshape(-1, 3)


def per_type(targets: np.ndarray, predictions: np.ndarray) -> dict[str, TypeCounts]:
    """Return the counts of every type that occurs on either side, by name."""
    correct, gold, predicted = Counter[str](), Counter[str](), Counter[str]()
    for true, said in zip(targets, predictions, strict=True):
        for counter, entities in ((correct, true & said), (gold, true), (predicted, said)):
            counter.update(kind for _, _, kind in entities)
    return {kind: TypeCounts(correct[kind], gold[kind], predicted[kind]) for kind in sorted(gold | predicted)}


def true_or_false(targets: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every entity of either side, whether it is true and whether it is predicted.

    This is the form in which a reference for binary classification reads entities.
    """
    pairs = zip(targets, predictions, strict=True)
    found = [(entity in true, entity in said) for true, said in pairs for entity in true | said]
    table = np.array(found or [(False, False)])
    return table[:, 0], table[:, 1]
