"""Mark what the training rows have marked: the longest match first, with its most frequent type.

A match does not begin or end inside a word of letters or digits; Chinese has no such words.

Source: Tjong Kim Sang and De Meulder, Introduction to the CoNLL-2003 Shared Task, 2003, arXiv:cs/0306050, section 3
(the baseline).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from weitiao.evaluation.baselines.base import Baseline, Told
from weitiao.tasks.base import objects


class Dictionary(Baseline):
    """What can be had by looking entities up; names that training never saw are missed."""

    title, title_zh = "a dictionary of the training entities", "训练实体词典"
    fits = ("entities",)

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Look up the entities of the training rows in each test row."""
        field = told.text_fields[0]
        counts: dict[str, Counter[str]] = {}
        for text, entities in zip(told.train.column(field), told.train_targets, strict=True):
            for start, end, kind in entities:
                counts.setdefault(text[start:end], Counter())[kind] += 1
        # of equally frequent types the first by name
        types = {name: min(found, key=lambda kind: (-found[kind], kind)) for name, found in counts.items()}
        longest = {name[0]: 0 for name in types}
        for name in types:
            longest[name[0]] = max(longest[name[0]], len(name))
        said = [frozenset(_matches(text, types, longest)) for text in told.test.column(field)]
        note = f"{len(types):,} different entities of the training rows; the longest match, its most frequent type."
        return {"entities": objects(said)}, note

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return rows with entities that training has marked, one inside a longer one."""
        train = [
            {"text": "new york is big", "entities": '[{"start": 0, "end": 8, "type": "LOC"}]'},
            {"text": "york is old", "entities": '[{"start": 0, "end": 4, "type": "LOC"}]'},
            {"text": "王小明在北京", "entities": '[[0, 3, "PER"], [4, 6, "LOC"]]'},
        ]
        test = [
            {"text": "in new york, yorkers", "entities": '[[3, 11, "LOC"]]'},
            {"text": "北京的王小明", "entities": '[[0, 2, "LOC"], [3, 6, "PER"]]'},
        ]
        return {"task": "ner", "train": train, "test": test, "least": 1.0}


def _matches(text: str, types: Mapping[str, str], longest: Mapping[str, int]) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(text):
        for end in range(min(len(text), at + longest.get(text[at], 0)), at, -1):
            kind = types.get(text[at:end])
            if kind is not None and not _inside_word(text, at) and not _inside_word(text, end):
                yield at, end, kind
                at = end
                break
        else:
            at += 1


def _inside_word(text: str, at: int) -> bool:
    """Whether a place is between two letters or digits of a script with spaces."""
    return 0 < at < len(text) and all(c.isalnum() and ord(c) < 0x2E80 for c in text[at - 1 : at + 1])
