"""ROUGE-1: how many words a text and its best reference have in common, as an F-measure.

Words are those of Google's ``rouge_score`` without stemming (lower case, ASCII letters and digits); each
Chinese character is a word, where that package finds none and says 0.

Source: Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._rouge import RougeN, google


class Rouge1(RougeN):
    """F-measure of shared words, averaged over rows; the best reference counts."""

    title, title_zh = "ROUGE-1", "ROUGE-1"
    n = 1

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return Google's ``rouge_score`` with our words."""
        return google("rouge1")

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases by hand: 3 of 4 and 6 words shared; 3 of 4 and 4 characters, and the better of two."""
        return [
            {"targets": [("the cat sat down",)], "predictions": ["The cat, it sat on it."], "classes": 0, "value": 0.6},
            {"targets": [("小猫睡觉", "狗")], "predictions": ["小猫睡了"], "classes": 0, "value": 0.75},
        ]
