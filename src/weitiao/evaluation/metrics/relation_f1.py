"""Relation F1: macro-F1 over relations without "no relation", a wrong direction being wrong.

A label such as ``Cause-Effect(e2,e1)`` is the relation ``Cause-Effect`` in a direction. With the true and
predicted rows of a relation counted in either direction, and only rows with the right direction as correct,

    F1 = 2 correct / (true + predicted)

and the mean is taken over the relations that occur among the targets. "No relation" (Other, no_relation, NA,
none, 无关系; capitals or not) is no class of its own, but a row wrongly called a relation counts among that
relation's predicted ones.

Source: Hendrickx et al., SemEval-2010 Task 8: Multi-Way Classification of Semantic Relations Between Pairs of
Nominals, 2010, arXiv:1911.10422; the official score of its scorer 1.2, "(9+1)-way evaluation with
directionality taken into account", as a share and not in percent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import divide
from weitiao.evaluation.metrics._facts import NO_RELATION
from weitiao.evaluation.metrics.base import Summed


class RelationF1(Summed):
    """Mean F1 over the true relations; to call a relation the wrong way round is an error."""

    title, title_zh = "relation F1", "关系 F1"
    needs = "names"

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return correct, true and predicted rows, each with one column a relation, ``(rows, 3 * relations)``."""
        true, said = ([_undirected(str(label)) for label in side] for side in (targets, predictions))
        column = {name: i for i, name in enumerate(sorted({*true, *said} - {""}))}
        correct, gold, predicted = (np.zeros((len(true), len(column))) for _ in range(3))
        for row, (t, p) in enumerate(zip(true, said, strict=True)):
            if t:
                gold[row, column[t]] = 1
                correct[row, column[t]] = targets[row] == predictions[row]
            if p:
                predicted[row, column[p]] = 1
        return np.concatenate([correct, gold, predicted], axis=1)

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return the mean F1 over relations that have a true row; 0 where none has."""
        correct, gold, predicted = np.split(sums, 3, axis=-1)
        occurs = gold > 0
        f1 = divide(2 * correct, gold + predicted)  # of a relation without a true row: 0
        return f1.sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1)

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return F1s of 1/2 (a wrong direction) and 2/3 (an invented relation), and rows without any."""
        return [
            {
                "targets": ["A(e1,e2)", "A(e2,e1)", "B(e1,e2)", "Other"],
                "predictions": ["A(e1,e2)", "A(e1,e2)", "B(e1,e2)", "B(e2,e1)"],
                "classes": 5,
                "value": (1 / 2 + 2 / 3) / 2,
            },
            {"targets": ["no_relation", "无关系"], "predictions": ["no_relation", "位于"], "classes": 3, "value": 0.0},
        ]


def _undirected(label: str) -> str:
    relation = label.removesuffix("(e1,e2)").removesuffix("(e2,e1)")
    return "" if relation.casefold() in NO_RELATION else relation
