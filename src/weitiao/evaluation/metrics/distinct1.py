"""Distinct-1: the share of words in all predictions that are different ones.

Words are lower-cased; a Chinese character is a word. Divided by the number of 1-grams, as is usual (the paper
divides by that of words). More text repeats more, so only sets of about the same size can be compared; and a
bootstrap's repeated rows repeat their words, so its interval lies below the value.

Source: Li et al., A Diversity-Promoting Objective Function for Neural Conversation Models, 2016, arXiv:1510.03055.
"""

from __future__ import annotations

from typing import Any

from weitiao.evaluation.metrics._distinct import Distinct


class Distinct1(Distinct):
    """Share of words that are new: low where a model says the same to everyone, be it right or wrong."""

    title, title_zh = "distinct-1", "distinct-1"
    n = 1

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases by hand: 2 of 4 words; 3 of 4 characters."""
        return [
            {"targets": [(), ()], "predictions": ["I see.", "i see"], "classes": 0, "value": 0.5},
            {"targets": [()], "predictions": ["好不好吗"], "classes": 0, "value": 0.75},
        ]
