"""Slips of typing: what people really send.

In a text written with spaces, round(share * words), one at least, of its words get one slip each: a key beside the
right one, two letters exchanged, a letter twice, or a letter missing. Words of fewer than three letters have none.
In a Chinese text, round(share * characters), one at least, of its characters go missing, come twice, or change
places with the next; or a letter or a mark takes its full-width or half-width form. A text is Chinese if it has at
least two Chinese characters for each other word.

Source: Belinkov and Bisk, Synthetic and Natural Noise Both Break Neural Machine Translation, 2018,
arXiv:1711.02173.
Differs: duplication, deletion, and Chinese; numbers, negations, addresses and placeholders stay as they are.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from weitiao.data.augment import Augmentation
from weitiao.data.words import is_chinese, kept, replace_spans, spans

__all__ = ["Noise"]

Kind = Literal["keyboard", "transposition", "duplication", "deletion", "width"]
_KINDS: tuple[Kind, ...] = ("keyboard", "transposition", "duplication", "deletion", "width")
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbors() -> dict[str, str]:
    """Return the keys that touch each key; a row is shifted by half a key against the one above."""
    at = {key: (line, place) for line, keys in enumerate(_KEYS) for place, key in enumerate(keys)}
    touching = {(0, -1), (0, 1), (-1, 0), (-1, 1), (1, 0), (1, -1)}
    return {
        key: "".join(other for other, (l2, p2) in at.items() if (l2 - line, p2 - place) in touching)
        for key, (line, place) in at.items()
    }


_NEAR = _neighbors()
_WIDTH = {chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F) if not chr(code).isdigit()}
_WIDTH |= {wide: narrow for narrow, wide in _WIDTH.items()} | {"。": ".", "、": ","}


class Noise(Augmentation):
    """Rows with slips of typing."""

    class Settings(Augmentation.Settings):
        """How many slips, and which."""

        share: float = Field(default=0.1, gt=0, le=1, description="slips for each word, or Chinese character")
        kinds: tuple[Kind, ...] = Field(
            default=_KINDS,
            min_length=1,
            description="keyboard is for texts written with spaces only, width for Chinese ones only",
        )

        @field_validator("kinds")
        @classmethod
        def _each_once(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
            if len(set(kinds)) < len(kinds):
                raise ValueError("kinds should name each kind once")
            return kinds

    settings: Settings

    def edit(self, text: str, rng: np.random.Generator) -> str:
        """Return the text with slips."""
        return self._chinese(text, rng) if is_chinese(text) else self._spaced(text, rng)

    def _spaced(self, text: str, rng: np.random.Generator) -> str:
        words = [span for span in spans(text) if not span.is_han and span.end - span.start >= 3]
        if not words:
            return text
        several = rng.choice(len(words), max(1, round(self.settings.share * len(words))), replace=False)
        changes = [
            (words[i].start, words[i].end, self._slip(text[words[i].start : words[i].end], rng)) for i in several
        ]
        return replace_spans(text, changes)

    def _slip(self, word: str, rng: np.random.Generator) -> str:
        kinds = [kind for kind in self.settings.kinds if kind != "width"]
        for kind in rng.permutation(kinds) if kinds else ():
            places = _places(word, kind)
            if places:
                i = places[rng.integers(len(places))]
                return word[:i] + _changed(word[i : i + 2], kind, rng) + word[i + 2 :]
        return word

    def _chinese(self, text: str, rng: np.random.Generator) -> str:
        runs = [range(span.start, span.end) for span in spans(text) if span.is_han]
        untouchable = {i for start, end in kept(text) for i in range(start, end)}
        characters = [i for run in runs for i in run]
        places: dict[str, list[int]] = {
            "deletion": characters if len(characters) > 1 else [],
            "duplication": characters,
            "transposition": [i for run in runs for i in run[:-1] if text[i] != text[i + 1]],
            "width": [i for i, c in enumerate(text) if c in _WIDTH and i not in untouchable],
        }
        kinds = [kind for kind in self.settings.kinds if places.get(kind)]
        changes: list[tuple[int, int, str]] = []
        used: set[int] = set()
        for _ in range(max(1, round(self.settings.share * len(characters)))) if kinds else ():
            kind = kinds[rng.integers(len(kinds))]
            i = places[kind][rng.integers(len(places[kind]))]
            end = i + 1 + (kind == "transposition")
            if used.isdisjoint(range(i, end)):  # one slip a character
                used.update(range(i, end))
                new = _WIDTH[text[i]] if kind == "width" else _changed(text[i:end], kind, rng)
                changes.append((i, end, new))
        return replace_spans(text, changes)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, more slips, kinds alone, and two copies."""
        kinds = [["keyboard"], ["transposition"], ["duplication"], ["deletion"], ["width", "keyboard"]]
        return {
            "settings": {},
            "variants": [{"share": 1.0}, *({"kinds": kind} for kind in kinds), {"copies": 2}],
            "idle": [{"share": 0.0}, {"kinds": []}, {"kinds": ["width", "width"]}, {"copies": 0}],
        }


def _places(word: str, kind: str) -> list[int]:
    """Return where in a word such a slip changes something; the first letter is hardly ever mistyped."""
    if kind == "keyboard":
        return [i for i in range(1, len(word)) if word[i].lower() in _NEAR]
    if kind == "transposition":
        return [i for i in range(1, len(word) - 1) if word[i] != word[i + 1]]
    return list(range(1, len(word)))


def _changed(two: str, kind: str, rng: np.random.Generator) -> str:
    """Return one or two characters after a slip at the first."""
    first, rest = two[0], two[1:]
    if kind == "keyboard":
        near = _NEAR[first.lower()]
        new = near[rng.integers(len(near))]
        return (new.upper() if first.isupper() else new) + rest
    if kind == "transposition":
        return rest + first
    return first + first + rest if kind == "duplication" else rest
