"""Recall at 10: the share of a query's relevant candidates among its first ten.

The mean over queries of relevant candidates among the first 10 / all relevant candidates, and 0 for a query
that has none. With more than ten relevant candidates the largest value a query can reach is 10 / their number: the
denominator is not cut to 10.

Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008, chapter 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weitiao.evaluation.metrics._ranks import QueryMean, recall


class RecallAt10(QueryMean):
    """Share of relevant candidates among the first ten; says nothing about their order there."""

    title, title_zh = "recall@10", "召回率@10"

    def score(self, relevances: Sequence[float]) -> float:
        """Return the share of relevant candidates among the first 10."""
        return recall(relevances, 10)

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return all found, one of two found (the other is eleventh), and none at all."""
        lists = [(0, 1, 1), (1, *[0] * 9, 1), (0, 0)]
        return [{"targets": lists, "predictions": lists, "classes": 0, "value": 1.5 / 3}]
