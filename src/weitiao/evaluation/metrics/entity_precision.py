"""Entity precision: the share of predicted entities that are true ones.

    precision = correct / predicted

and 0 where there is no predicted entity. An entity counts only with the right start, end and type; all rows and
types are counted together.

Source: Tjong Kim Sang and De Meulder, Introduction to the CoNLL-2003 Shared Task: Language-Independent
Named Entity Recognition, 2003, arXiv:cs/0306050. Equal to the micro average of seqeval on the same spans.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import divide
from weitiao.evaluation.metrics._entities import EntityMetric, true_or_false


class EntityPrecision(EntityMetric):
    """Share of predicted entities that are right; says nothing about the ones that were missed."""

    title, title_zh = "entity precision", "实体精确率"

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return the share of predicted entities that are correct."""
        return divide(sums[..., 0], sums[..., 2])

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return scikit-learn's ``precision_score`` over the entities of either side."""
        from sklearn.metrics import precision_score as score

        settings: dict[str, Any] = {"zero_division": 0}  # its type stub knows no number here
        return lambda targets, predictions, classes: float(score(*true_or_false(targets, predictions), **settings))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return one right of three true and two predicted, and a case with no predicted entity."""
        true = [frozenset({(0, 2, "PER"), (5, 7, "LOC")}), frozenset({(0, 3, "ORG")})]
        said = [frozenset({(0, 2, "PER"), (5, 8, "LOC")}), frozenset()]
        none = [frozenset(), frozenset()]
        return [
            {"targets": true, "predictions": said, "classes": 3, "value": 0.5},
            {"targets": true, "predictions": none, "classes": 3, "value": 0.0},
        ]
