"""Solved examples to stand before a text: which of the training rows, and in which order.

Rows are compared by the cosine of TF-IDF vectors of their words and, in Chinese, their characters and pairs of these:
no model is asked, and a row is found in a millisecond. A row is never an example of itself, nor is one with the same
texts.

Source: Liu et al., What Makes Good In-Context Examples for GPT-3?, 2021, arXiv:2101.06804 (similar ones, the nearest
last); Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking, 1998 (diverse ones); Lu et al.,
Fantastically Ordered Prompts and Where to Find Them, 2021, arXiv:2104.08786 (several orders).
Differs: likeness by TF-IDF, where Liu et al. take sentence vectors.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from pydantic import Field as Setting
from pydantic import model_validator

from weitiao.data.near import normalise
from weitiao.data.words import HAN
from weitiao.plugins import Options
from weitiao.randomness import generator

__all__ = ["ExampleSettings", "Examples", "orders", "pool_of"]

_POOL = 200  # rows to choose from
_TERM = re.compile(f"[{HAN}]+|(?:(?![{HAN}])\\w)+")


class ExampleSettings(Options):
    """Solved examples that stand before each text."""

    count: int = Setting(8, ge=1, le=256, description="examples before a text, as far as there is room")
    select: Literal["similar", "diverse", "random"] = Setting(
        "similar",
        description="'similar': those with the most like words; 'diverse': like the text and unlike each other; "
        "'random': the same for every text, of each class as many",
    )
    pool: int | None = Setting(
        None, ge=1, description="training rows to choose from, kept in the bundle; null: 200. Not with 'random'"
    )
    orders: int = Setting(1, ge=1, description="orders of the examples whose answers are averaged")
    seed: int = Setting(
        0, ge=0, description="draws the rows to choose from, where there are more, and the orders but the first"
    )

    @model_validator(mode="after")
    def _no_idle_setting(self) -> ExampleSettings:
        if self.select == "random" and self.pool is not None:
            raise ValueError("pool has no effect with select: random, which takes the same examples for every text")
        if self.pool is not None and self.pool <= self.count:
            raise ValueError("pool should be larger than count, or there is nothing to choose")
        if self.orders > math.factorial(self.count):
            raise ValueError(f"{self.count} examples do not stand in {self.orders} orders")
        return self

    @property
    def kept(self) -> int:
        """How many training rows are kept to choose from."""
        return 2 * self.count if self.select == "random" else self.pool or max(_POOL, 2 * self.count)


def pool_of(
    rows: Sequence[Mapping[str, Any]], fields: Sequence[str], size: int, *, seed: int = 0
) -> list[dict[str, str]]:
    """Return rows to choose from, in turn of each class, each text once; rows and classes are drawn by the seed."""
    by_label: dict[str, list[dict[str, str]]] = defaultdict(list)
    seen = set()
    for i in generator(seed, "examples").permutation(len(rows)):
        row = {name: str(rows[i][name]) for name in (*fields, "label")}
        if (key := _key(row, fields)) not in seen:
            seen.add(key)
            by_label[row["label"]].append(row)
    found: list[dict[str, str]] = []
    labels = sorted(by_label)
    queues = [by_label[labels[i]] for i in generator(seed, "classes").permutation(len(labels))]
    for turn in range(max(map(len, queues), default=0)):
        found += [queue[turn] for queue in queues if turn < len(queue)]
        if len(found) >= size:
            break
    return found[:size]


class Examples:
    """Chooses examples for rows.

    Parameters
    ----------
    pool
        From `pool_of`.
    fields
        Texts of a row.
    """

    def __init__(self, pool: Sequence[Mapping[str, str]], fields: Sequence[str], settings: ExampleSettings) -> None:
        self.fields, self.settings = fields, settings
        self._keys = [_key(row, fields) for row in pool]
        counts = [Counter(_terms(row, fields)) for row in pool]
        seen = Counter(term for count in counts for term in count)
        self._idf = {term: math.log((1 + len(pool)) / (1 + rows)) + 1 for term, rows in seen.items()}
        self._vectors = [self._vector(count) for count in counts]
        self._where: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for i, vector in enumerate(self._vectors):
            for term, weight in vector.items():
                self._where[term].append((i, weight))

    def choose(self, row: Mapping[str, Any]) -> list[int]:
        """Return places in the pool of the examples for a row, the one to stand nearest to it first."""
        key, count = _key(row, self.fields), self.settings.count
        others = [i for i, own in enumerate(self._keys) if own != key]
        if self.settings.select == "random":
            return others[:count]
        near: dict[int, float] = defaultdict(float)
        for term, weight in self._vector(Counter(_terms(row, self.fields))).items():
            for i, other in self._where.get(term, ()):
                near[i] += weight * other
        ranked = sorted(others, key=lambda i: (-near[i], i))
        return ranked[:count] if self.settings.select == "similar" else self._diverse(ranked, near)

    def _diverse(self, ranked: list[int], near: Mapping[int, float]) -> list[int]:
        """Take in turn what is like the row and unlike what was taken: maximal marginal relevance, half and half."""
        left, likeness, taken = list(ranked), dict.fromkeys(ranked, 0.0), []
        while left and len(taken) < self.settings.count:
            best = max(left, key=lambda i: near[i] - likeness[i])  # the first of equals
            left.remove(best)
            taken.append(best)
            for i in left:
                likeness[i] = max(likeness[i], _cosine(self._vectors[i], self._vectors[best]))
        return taken

    def _vector(self, counts: Mapping[str, int]) -> dict[str, float]:
        """Return a vector of length 1; terms that the pool lacks count nothing."""
        weights = {term: count * self._idf[term] for term, count in counts.items() if term in self._idf}
        norm = math.sqrt(sum(weight**2 for weight in weights.values())) or 1.0
        return {term: weight / norm for term, weight in weights.items()}


def orders(chosen: Sequence[int], count: int, *, seed: int = 0) -> list[list[int]]:
    """Return so many orders of examples, as many as there are at most; the first has the nearest one last."""
    first = list(reversed(chosen))
    found, random = [first], generator(seed, "orders")
    while len(found) < min(count, math.factorial(len(first))):
        other = [first[i] for i in random.permutation(len(first))]
        if other not in found:
            found.append(other)
    return found


def _key(row: Mapping[str, Any], fields: Sequence[str]) -> tuple[str, ...]:
    """Return what rows with the same texts share; of a pair, whichever way round it comes."""
    return tuple(sorted(normalise(str(row[name])) for name in fields))


def _terms(row: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    found = []
    for run in _TERM.findall(" ".join(str(row[name]) for name in fields).casefold()):
        chinese = re.match(f"[{HAN}]", run)
        found += [*run, *("".join(two) for two in pairwise(run))] if chinese else [run]
    return found


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    short, long = sorted((one, other), key=len)
    return sum(weight * long[term] for term, weight in short.items() if term in long)
