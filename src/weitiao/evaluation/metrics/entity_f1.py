"""Entity F1: precision and recall of whole entities in one number, over all types together.

An entity counts only with the right start, end and type. Over all rows,

    F1 = 2 correct / (true + predicted)

and 0 where there is neither a true nor a predicted entity.

Source: Tjong Kim Sang and De Meulder, Introduction to the CoNLL-2003 Shared Task: Language-Independent
Named Entity Recognition, 2003, arXiv:cs/0306050. Equal to the micro average of seqeval on the same spans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from weitiao.evaluation.metrics._counts import divide
from weitiao.evaluation.metrics._entities import EntityMetric, per_type, true_or_false

if TYPE_CHECKING:
    from weitiao.evaluation.panels import Cell, Panel


class EntityF1(EntityMetric):
    """F1 of entities found exactly; a span one character off counts as one missed and one invented."""

    title, title_zh = "entity F1", "实体 F1"

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return F1 of correct, true and predicted entities."""
        return divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2])

    def panels(self, targets: np.ndarray, predictions: np.ndarray, labels: Sequence[str]) -> Sequence[Panel]:
        """Return one table: true entities, precision, recall and F1 of every type, the worst F1 first."""
        from weitiao.evaluation.panels import TablePanel

        rows: list[tuple[Cell, ...]] = []
        for kind, (correct, gold, predicted) in per_type(targets, predictions).items():
            precision = correct / predicted if predicted else None
            recall = correct / gold if gold else None
            rows.append((kind, gold, precision, recall, 2 * correct / (gold + predicted)))
        rows.sort(key=lambda row: (row[4], row[0]))
        note = (
            "Worst first; n: true entities. Precision: the share of predicted entities that are right in start, end "
            "and type. Recall: the share of true entities that are found so."
        )
        return [TablePanel("Every type of entity", ("type", "n", "precision", "recall", "F1"), tuple(rows), note)]

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``f1_score`` over the entities of either side."""
        from sklearn.metrics import f1_score

        settings: dict[str, Any] = {"zero_division": 0}  # its type stub knows no number here
        return lambda targets, predictions, classes: float(f1_score(*true_or_false(targets, predictions), **settings))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return one right of three true and two predicted, and rows without entities."""
        true = [frozenset({(0, 2, "PER"), (5, 7, "LOC")}), frozenset({(0, 3, "ORG")})]
        said = [frozenset({(0, 2, "PER"), (5, 8, "LOC")}), frozenset()]
        nothing = [frozenset(), frozenset()]
        return [
            {"targets": true, "predictions": said, "classes": 3, "value": 0.4},
            {"targets": nothing, "predictions": nothing, "classes": 3, "value": 0.0},
        ]
