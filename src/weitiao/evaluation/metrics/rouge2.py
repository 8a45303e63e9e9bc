"""ROUGE-2: how many pairs of neighboring words a text and its best reference have in common, as an F-measure.

Words are those of Google's ``rouge_score`` without stemming (lower case, ASCII letters and digits); each
Chinese character is a word, where that package finds none and says 0.

Source: Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._rouge import RougeN, google


class Rouge2(RougeN):
    """F-measure of shared pairs of words, averaged over rows; the best reference counts."""

    title, title_zh = "ROUGE-2", "ROUGE-2"
    n = 2

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return Google's ``rouge_score`` with our words."""
        return google("rouge2")

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases by hand: 1 pair of 3 and 5 shared; 2 of 3 and 3 of characters, and the better of two."""
        return [
            {
                "targets": [("the cat sat down",)],
                "predictions": ["The cat, it sat on it."],
                "classes": 0,
                "value": 0.25,
            },
            {"targets": [("小猫睡觉", "狗")], "predictions": ["小猫睡了"], "classes": 0, "value": 2 / 3},
        ]
