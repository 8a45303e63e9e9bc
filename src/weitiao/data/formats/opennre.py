"""All sentences that name the same two entities as one row, from a sentence a line (OpenNRE; NYT10 and its kin).

A line is ``{"text": ..., "h": {"id": ..., "name": ..., "pos": [start, end]}, "t": {...}, "relation": ...}``; or has
``token``, a list of words, whose places ``pos`` then counts. What lines have in ``h.id``, ``t.id`` (or else the names)
and ``relation`` makes the bag. A pair of entities that has several relations is several bags.

Source: Riedel, Yao and McCallum, Modeling Relations and Their Mentions without Labeled Text, 2010, ECML PKDD (data);
Han et al., OpenNRE, 2019, arXiv:1909.13078 (its form).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from weitiao.data.delimited import Raw
from weitiao.data.formats.base import Format


class OpenNRE(Format):
    """A bag for each pair of entities and relation, in the order of its first sentence."""

    def recognizes(self, path: Path, start: str) -> bool:
        """Whether the first line has a text and the places of two entities."""
        return _looks_like_it(start)

    def rows(self, path: Path, lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
        """Yield a row a bag, and each sentence that cannot be read with its reason."""
        bags: dict[tuple[Any, ...], tuple[int, list[dict[str, Any]]]] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            found = _sentence(line)
            if isinstance(found, str):
                yield Raw(number, None, found, line.strip())
                continue
            bag = bags.setdefault((*found["ids"], found["label"]), (number, []))
            bag[1].append({key: found[key] for key in ("text", "head", "tail")})
        for (head, tail, label), (number, bag) in bags.items():
            texts = json.dumps(bag, ensure_ascii=False)
            yield Raw(number, {"head_id": head, "tail_id": tail, "texts": texts, "label": label}, "", texts)
        if bags:
            note(f"{sum(len(bag) for _, bag in bags.values()):,} sentences are {len(bags):,} bags")

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return three sentences of two bags."""

        def line(text: str, name: str, relation: str) -> str:
            sides = {"h": {"id": "q1", "name": "Ada", "pos": [0, 3]}}
            at = text.index(name)
            sides["t"] = {"id": name, "name": name, "pos": [at, at + len(name)]}
            return json.dumps({"text": text, **sides, "relation": relation}, ensure_ascii=False)

        def bag(*told: tuple[str, int, int]) -> list[dict[str, Any]]:
            return [
                {
                    "text": text,
                    "head": {"start": 0, "end": 3, "text": "Ada"},
                    "tail": {"start": start, "end": end, "text": text[start:end]},
                }
                for text, start, end in told
            ]

        by_words = json.dumps({"token": ["王", "住", "在 北京"], "h": {"pos": [0, 1]}, "t": {"pos": [2, 3]}})
        off = json.dumps({"text": "Ada", "h": {"name": "Eva", "pos": [0, 3]}, "t": {"pos": [0, 9]}})
        paris, again = "Ada lives in Paris.", "Ada was seen in Paris."
        lines = [line(paris, "Paris", "lives_in"), line("Ada 和 北京", "北京", "NA"), line(again, "Paris", "lives_in")]
        lines.append(by_words)
        return {
            "files": {"a.txt": "\n".join(lines)},
            "open": "a.txt",
            "rows": [
                {
                    "head_id": "q1", "tail_id": "Paris", "label": "lives_in",
                    "texts": bag((paris, 13, 18), (again, 16, 21)),
                },
                {"head_id": "q1", "tail_id": "北京", "label": "NA", "texts": bag(("Ada 和 北京", 6, 8))},
                {
                    "head_id": "王", "tail_id": "在 北京",
                    "texts": [
                        {
                            "text": "王 住 在 北京",
                            "head": {"start": 0, "end": 1, "text": "王"},
                            "tail": {"start": 4, "end": 8, "text": "在 北京"},
                        }
                    ],
                },
            ],
            "faulty": {
                "files": {"a.txt": "\n".join([lines[0], "no", lines[2], '{"text": " "}', off])},
                "rows": 1,
                "reasons": ["no JSON", "no text", "head: 'Eva' is asked for, 'Ada' stands at 0 to 3"],
            },
            "others": ['{"text": "a", "h": 1, "t": 2}', "text\nh\n"],
        }  # fmt: skip


def _looks_like_it(start: str) -> bool:
    """Whether the first filled line is such a sentence."""
    first = next((line for line in start.split("\n") if line.strip()), "")
    try:
        told = json.loads(first)
    except ValueError:
        return False
    sides = [told.get(side) for side in "ht"] if isinstance(told, dict) else [None]
    return all(isinstance(side, dict) and "pos" in side for side in sides) and ("text" in told or "token" in told)


def _sentence(line: str) -> dict[str, Any] | str:
    """Return the values of a line, or why it has none.

    Places are of characters, or of words where there is ``token`` and no ``text``; then words are joined by spaces.

    Returns
    -------
    ``text``; ``head`` and ``tail``, each ``start``, ``end``, ``text``; ``ids`` of both; ``label`` or ``None``.
    """
    try:
        told = json.loads(line)
    except ValueError:
        return "no JSON"
    if not isinstance(told, dict):
        return "no JSON object"
    words = told.get("token") if "text" not in told else None
    text = told.get("text") if words is None else _joined(words)
    if not isinstance(text, str) or not text.strip():
        return "no text"
    values: dict[str, Any] = {"text": text, "label": told.get("relation"), "ids": []}
    for key, side in (("h", "head"), ("t", "tail")):
        found = _side(told.get(key), text, words)
        if isinstance(found, str):
            return f"{side}: {found}"
        values[side] = found
        values["ids"].append(str(told[key].get("id") or found["text"]))
    return values


def _side(told: Any, text: str, words: list[str] | None) -> dict[str, Any] | str:
    try:
        start, end = (int(place) for place in told["pos"])
    except (TypeError, ValueError, KeyError):
        return "no pos of two numbers"
    if words is not None:
        if not 0 <= start < end <= len(words):
            return f"the words {start} to {end} are none of {len(words)}"
        start, end = len(_joined(words[:start])) + bool(start), len(_joined(words[:end]))
    own, name = text[start:end], told.get("name")
    if not 0 <= start < end <= len(text) or not own.strip():
        return f"the characters {start} to {end} are none of {len(text)}"
    if words is None and isinstance(name, str) and own.casefold() != name.casefold():
        return f"{name!r} is asked for, {own!r} stands at {start} to {end}"
    return {"start": start, "end": end, "text": own}


def _joined(words: Any) -> str:
    return " ".join(map(str, words)) if isinstance(words, list) else ""
