"""What a search is judged by: which of all texts of the rows belong to each query, and in what order they came."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from weitiao.data.fields import Field
from weitiao.data.table import Table
from weitiao.tasks.base import Rows, objects

__all__ = ["RELEVANT", "candidates", "ranks", "unrelated"]

RELEVANT = Field("label", "target", False, ("label", "relevance", "relevant", "is_duplicate", "标签"))
_NO = frozenset({"0", "0.0", "false", "no", "否"})

_MOST = 100  # candidates of a query whose order is kept
_BLOCK = 4_000_000  # scores held at once


def unrelated(table: Table) -> dict[int, str]:
    """Return the rows that are labeled as a pair that does not belong together, each with why they are refused."""
    if "label" not in table.column_names:
        return {}
    wrong = (i for i, label in enumerate(table.column("label")) if str(label).strip().lower() in _NO)
    return dict.fromkeys(wrong, "a pair that does not belong together: retrieval learns from those that do")


def candidates(rows: Rows) -> tuple[list[str], list[set[int]]]:
    """Return the different texts that are searched, and for each row which of them belong to its query.

    A query that stands in several rows has several texts that belong to it.
    """
    index: dict[str, int] = {}
    own: dict[str, set[int]] = {}
    for row in rows:
        own.setdefault(row["text"], set()).add(index.setdefault(row["text_pair"], len(index)))
    return list(index), [own[row["text"]] for row in rows]


def ranks(score: Callable[[slice], np.ndarray], relevant: Sequence[set[int]], documents: int) -> np.ndarray:
    """Return the relevances of each query's best candidates, best first, as metrics of ranks take them.

    A relevant text that is not among the best 100 is counted behind them.

    Parameters
    ----------
    score
        Given some queries, returns ``(queries, documents)``.
    """
    found = []
    step = max(1, _BLOCK // max(documents, 1))
    for start in range(0, len(relevant), step):
        scores = score(slice(start, start + step))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :_MOST]
        for best, own in zip(order.tolist(), relevant[start : start + step], strict=True):
            seen = tuple(float(i in own) for i in best)
            found.append(seen + (1.0,) * (len(own) - int(sum(seen))))
    return objects(found)
