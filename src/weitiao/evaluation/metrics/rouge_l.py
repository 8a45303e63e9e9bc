"""ROUGE-L: the longest common subsequence of a text and its best reference, as an F-measure.

Unlike ROUGE-1 it minds the order of words. A text is one sequence; sentences are not told apart.
Words are those of Google's ``rouge_score`` without stemming (lower case, ASCII letters and digits); each
Chinese character is a word, where that package finds none and says 0.

Source: Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._rouge import Rouge, common_subsequence, google


class RougeL(Rouge):
    """F-measure of words shared in the same order, averaged over rows; the best reference counts."""

    title, title_zh = "ROUGE-L", "ROUGE-L"

    def overlap(self, reference: list[str], prediction: list[str]) -> tuple[int, int, int]:
        """Return the length of the longest common subsequence, and both lengths."""
        return common_subsequence(reference, prediction), len(reference), len(prediction)

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return Google's ``rouge_score`` with our words."""
        return google("rougeL")

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases by hand: "cat down" of 4 and 4 words; 2 of 4 and 4 characters, and the better of two."""
        return [
            {"targets": [("the cat sat down",)], "predictions": ["cat down, the sat"], "classes": 0, "value": 0.5},
            {"targets": [("小猫睡觉", "狗")], "predictions": ["觉睡小猫"], "classes": 0, "value": 0.5},
        ]
