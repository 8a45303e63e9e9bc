"""Faults of pairs of texts of which one is made from the other: the wrong script, a copy, an odd length.

Source: rules of our own, after the filters of Koehn et al., Findings of the WMT 2020 Shared Task on Parallel Corpus
Filtering and Alignment, 2020; spread by the median absolute deviation: Rousseeuw and Croux, Alternatives to the
Median Absolute Deviation, 1993.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from weitiao.data.checks.base import excerpt, num_rows, places, share
from weitiao.data.near import normalise
from weitiao.data.table import Table
from weitiao.findings import Finding

__all__ = ["copies", "odd_lengths", "script", "usual_script", "wrong_side"]

_MAJORITY = 0.8  # share of rows in one script from which a side has a script
_LEAST_LETTERS = 3
_FAR = 5.0  # median absolute deviations from the median that make a length odd
_LEAST_FACTOR = 3.0  # and no less than so many times the usual
_SHORT = 12  # characters; the lengths of short texts say little
_WARNING_SHARE = 0.01


def script(text: str) -> str | None:
    """Return the script of most letters of a text, such as ``"Han"`` or ``"Latin"``; ``None`` if there are too few."""
    counts = Counter(found for character in text if (found := _script(character)))
    if counts["Kana"] > 0.2 * counts["Han"]:  # Japanese writes both
        counts["Kana"] += counts.pop("Han", 0)
    if counts.total() < _LEAST_LETTERS:
        return None
    return counts.most_common(1)[0][0]


@lru_cache(maxsize=1 << 16)
def _script(character: str) -> str | None:
    if not character.isalpha():
        return None
    first = unicodedata.name(character, "").partition(" ")[0]
    return {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana"}.get(first, first.capitalize()) or None


def wrong_side(table: Table, split: str, names: tuple[str, str], columns: Sequence[list[str]]) -> Iterator[Finding]:
    """Find rows of which a side is not in the script that the side has elsewhere; swapped sides are named so."""
    scripts = [[script(text) for text in column] for column in columns]
    usual = [_usual(found) for found in scripts]
    for side, (name, found, own) in enumerate(zip(names, scripts, usual, strict=True)):
        if own is None:
            continue
        wrong = [i for i, one in enumerate(found) if one not in (None, own)]
        if not wrong:
            continue
        swapped = sum(found[i] == usual[1 - side] and scripts[1 - side][i] == own for i in wrong)
        also = f"; in {swapped:,} of them the sides are swapped" if swapped else ""
        yield Finding(
            "wrong_side",
            "warning" if len(wrong) >= _WARNING_SHARE * len(table) else "info",
            f"{num_rows(len(wrong), split, among=len(table))} ({share(len(wrong), len(table))}) have a {name} that is "
            f"not in {own} script like the others{also}.",
            "Put each language on its side, and take out what is not translated.",
            places=places(table, wrong),
            count=len(wrong),
            evidence={
                "script": own,
                "swapped": swapped,
                "examples": [{"script": found[i], name: excerpt(columns[side][i])} for i in wrong[:5]],
            },
        )


def usual_script(texts: Sequence[str]) -> str | None:
    """Return the script that nearly all of some texts are in, if there is one."""
    return _usual([script(text) for text in texts])


def _usual(scripts: Sequence[str | None]) -> str | None:
    counts = Counter(one for one in scripts if one)
    if not counts:
        return None
    most, count = counts.most_common(1)[0]
    return most if count >= _MAJORITY * counts.total() else None


def copies(table: Table, split: str, names: tuple[str, str], columns: Sequence[list[str]]) -> Iterator[Finding]:
    """Find rows of which both sides say the same."""
    pairs = zip(*columns, strict=True)
    same = [
        i for i, (one, other) in enumerate(pairs) if any(map(str.isalpha, one)) and normalise(one) == normalise(other)
    ]
    if same:
        yield Finding(
            "copied",
            "warning" if len(same) >= _WARNING_SHARE * len(table) else "info",
            f"{num_rows(len(same), split, among=len(table))} ({share(len(same), len(table))}) have the same {names[0]} "
            f"and {names[1]}: a model learns from them to copy.",
            "Take out those that are not names or numbers.",
            places=places(table, same),
            count=len(same),
            evidence={"examples": [{names[0]: excerpt(columns[0][i])} for i in same[:5]]},
        )


def odd_lengths(table: Table, split: str, names: tuple[str, str], columns: Sequence[list[str]]) -> Iterator[Finding]:
    """Find rows of which one side is far longer than the other usually is: what was cut off, or joined."""
    sizes = np.array([[len(text) for text in column] for column in columns], dtype=np.float64)  # (2, rows)
    if sizes.shape[1] < 20:
        return
    ratios = np.log(np.maximum(sizes[1], 1) / np.maximum(sizes[0], 1))
    middle = np.median(ratios)
    spread = 1.4826 * np.median(np.abs(ratios - middle))  # that of a normal distribution
    limit = max(_FAR * spread, np.log(_LEAST_FACTOR))
    odd = np.flatnonzero((np.abs(ratios - middle) > limit) & (sizes.max(axis=0) >= _SHORT))
    if not len(odd):
        return
    worst = odd[np.argsort(-np.abs(ratios[odd] - middle), kind="stable")].tolist()
    yield Finding(
        "odd_lengths",
        "warning" if len(odd) >= _WARNING_SHARE * len(table) else "info",
        f"{num_rows(len(odd), split, among=len(table))} ({share(len(odd), len(table))}) have a {names[1]} whose length "
        f"does not fit its {names[0]}: usually it has {np.exp(middle):.2g} times as many characters.",
        "See whether a side was cut off, or lines were put together wrongly.",
        places=places(table, worst),
        count=len(odd),
        evidence={
            "usual_ratio": float(np.exp(middle)),
            "examples": [
                {names[0]: excerpt(columns[0][i]), names[1]: excerpt(columns[1][i]), "ratio": float(np.exp(ratios[i]))}
                for i in worst[:5]
            ],
        },
    )
