"""Facts that a model would add to a knowledge base, the surest first: what is judged where labels are relations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["NO_RELATION", "Facts", "facts"]

NO_RELATION = frozenset({"other", "no_relation", "na", "none", "无关系"})


@dataclass(frozen=True)
class Facts:
    """Pairs of a row and a relation, by falling probability.

    Parameters
    ----------
    rows
        Of each fact, the row it is said of, ``(facts,)``.
    right
        Whether the row has that relation, ``(facts,)``.
    ends
        Places after which the probability falls, the last fact's among them: where facts tie, none comes first.
    """

    rows: np.ndarray
    right: np.ndarray
    ends: np.ndarray


def facts(targets: np.ndarray, predictions: np.ndarray) -> Facts:
    """Return the facts of rows; "no relation" (Other, no_relation, NA, none, 无关系) is none.

    Parameters
    ----------
    targets
        Object ``(rows,)``: the name of the relation.
    predictions
        Object ``(rows,)``: a mapping of each relation's name to its probability.
    """
    told = [
        (score, i, name == targets[i])
        for i, said in enumerate(predictions)
        for name, score in said.items()
        if name.casefold() not in NO_RELATION
    ]
    scores, rows, right = (np.array([one[k] for one in told]) for k in range(3))
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, np.int64)
    return Facts(rows[order].astype(np.int64), right[order].astype(np.float64), ends)
