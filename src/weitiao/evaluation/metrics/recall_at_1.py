"""Recall at 1: the share of a query's relevant candidates that is ranked first.

The mean over queries of relevant candidates among the first 1 / all relevant candidates, and 0 for a query
that has none. With several relevant candidates the largest value a query can reach is 1 / their number: the
denominator is not cut to 1.

Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008, chapter 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weitiao.evaluation.metrics._ranks import QueryMean, recall


class RecallAt1(QueryMean):
    """Share of relevant candidates ranked first; with one relevant candidate a query, how often it comes first."""

    title, title_zh = "recall@1", "召回率@1"

    def score(self, relevances: Sequence[float]) -> float:
        """Return the share of relevant candidates among the first 1."""
        return recall(relevances, 1)

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return one of one, one of two, none of one and none at all."""
        lists = [(1, 0), (2, 1, 0), (0, 1), (0, 0)]
        return [{"targets": lists, "predictions": lists, "classes": 0, "value": 1.5 / 4}]
