"""BM25: texts that share rare words with the query come first.

    sum over words w of the query   idf(w) * f (k + 1) / (f + k (1 - b + b * length / mean length))

with f how often w stands in the text, idf(w) = log(1 + (N - n + 0.5) / (n + 0.5)), n of N texts with w, k = 1.2,
b = 0.75. Words are those between spaces and signs; of scripts without spaces, characters and pairs of them.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009, equation 3.15.
Differs: 1 is added inside the logarithm, as Lucene does, so that no word counts against a text.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np

from weitiao.evaluation.baselines.base import Baseline, Told
from weitiao.evaluation.linear import is_unspaced
from weitiao.tasks._ranks import candidates, ranks

_K, _B = 1.2, 0.75
_WORD = re.compile(r"\w+")


class BM25(Baseline):
    """What can be found without any model, by words alone."""

    title, title_zh = "BM25", "BM25"
    fits = ("ranks",)

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Search the same candidates by their words."""
        measured = getattr(told.task, "measured", None)
        if measured is None:
            return None
        rows = measured(list(told.test))
        documents, relevant = candidates(rows)
        if not documents:
            return None
        matrix, index = _weights([_words(text) for text in documents])
        queries = [_words(row["text"]) for row in rows]

        def score(some: slice) -> np.ndarray:
            return np.stack([_score(matrix, index, query) for query in queries[some]])

        return {"ranks": ranks(score, relevant, len(documents))}, "BM25 (k1=1.2, b=0.75) over the same candidates."

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return queries that share a word with their text."""
        words = ("refund", "card", "phone", "hotel", "早餐", "价格", "房间", "屏幕")
        rows = [{"text": f"about {word}", "text_pair": f"here {word} is said"} for word in words]
        return {"train": rows, "test": rows, "least": 1.0, "task": "retrieval"}


def _words(text: str) -> list[str]:
    found: list[str] = []
    for word in _WORD.findall(text.casefold()):
        found += [*word, *map("".join, pairwise(word))] if is_unspaced([word]) else [word]
    return found


def _weights(texts: list[list[str]]) -> tuple[Any, dict[str, int]]:
    """Return what each word adds to each text's score, sparse ``(words, texts)``, and the number of each word."""
    from scipy.sparse import csr_array

    index: dict[str, int] = {}
    mean = sum(map(len, texts)) / len(texts) or 1.0
    rows, columns, values = [], [], []
    for column, words in enumerate(texts):
        for word, f in Counter(words).items():
            rows.append(index.setdefault(word, len(index)))
            columns.append(column)
            values.append(f * (_K + 1) / (f + _K * (1 - _B + _B * len(words) / mean)))
    place = np.array(rows, dtype=np.int64)
    n = np.bincount(place, minlength=len(index))
    idf = np.log1p((len(texts) - n + 0.5) / (n + 0.5))
    shape = (max(len(index), 1), len(texts))
    return csr_array((np.array(values) * idf[place], (place, np.array(columns, dtype=np.int64))), shape=shape), index


def _score(matrix: Any, index: dict[str, int], query: list[str]) -> np.ndarray:
    known = [index[word] for word in query if word in index]
    return np.asarray(matrix[known].sum(axis=0)).ravel() if known else np.zeros(matrix.shape[1])
