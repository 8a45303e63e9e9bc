"""Annotations beside their texts (brat: `N.ann` with `N.txt`, a folder of them or one pair).

One row a document. An entity in several pieces cannot be a span and is left out; where the text at an entity's
offsets is not what the annotation says, both stay as they are. The row's `faults` says either.

Source: Stenetorp et al., brat: a Web-based Tool for NLP-Assisted Text Annotation, 2012.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from weitiao.data import json_rows
from weitiao.data.delimited import Raw
from weitiao.data.formats._spans import fits, holds, relation, span
from weitiao.data.formats.base import Format

_BEGINS = re.compile(r"([TREAMN#*]\S*)\t")
_ENTITY = re.compile(r"(T\S*)\t(\S+) ([0-9; ]+)\t(.*)", re.S)
_RELATION = re.compile(r"(R\S*)\t(\S+) \S+?:(\S+) \S+?:(\S+)\s*")
_KINDS = {
    "E": "events",
    "A": "attributes",
    "M": "attributes",
    "N": "normalizations",
    "#": "comments",
    "*": "equivalences",
}


class Brat(Format):
    """Documents with entities and relations in files of their own."""

    def recognizes(self, path: Path, start: str) -> bool:
        """Whether it is a text with its annotations beside it, or a folder of such pairs."""
        if path.is_dir():
            return any(f.with_suffix(".txt").is_file() for f in path.rglob("*.ann"))
        return path.suffix in (".txt", ".ann") and all(path.with_suffix(s).is_file() for s in (".txt", ".ann"))

    def rows(self, path: Path, lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
        """Yield a row a document; a text without annotations is set aside."""
        left_out: Counter[str] = Counter()
        if path.is_dir():
            for file in sorted(path.rglob("*.txt")):
                yield self._row(file, file.relative_to(path).as_posix(), left_out)
        else:
            yield self._row(path.with_suffix(".txt"), f"{path.stem}.txt", left_out)
        if left_out:
            note("annotations left out: " + ", ".join(f"{n:,} {kind}" for kind, n in left_out.most_common()))

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return a folder with one document."""
        return {
            "files": {
                "1.txt": "老王住在北京。\n他 很好。",
                "1.ann": "T1\tPerson 0 2\t老王\nT2\tPlace 4 6\t南京\nT3\tPerson 8 9;10 11\t他 很\n"
                "*\tCoreference T1 T3\n"
                "R1\tLives Arg1:T1 Arg2:T2\t\nR2\tLives Arg1:T3 Arg2:T2\nT4\tPlace 6 99\tx\n",
            },
            "open": ".",
            "rows": [
                {
                    "text": "老王住在北京。\n他 很好。",
                    "entities": [
                        {"id": "T1", "start": 0, "end": 2, "type": "Person", "text": "老王"},
                        {"id": "T2", "start": 4, "end": 6, "type": "Place", "text": "南京"},
                    ],
                    "relations": [relation("Lives", "T1", "T2", "R1")],
                    "faults": "T2: the text at 4-6 is '北京', not '南京'; T3: in several pieces (8 9;10 11); "
                    "T4: 6-99 lies outside the text; R2: one of T3, T2 is no entity of the row",
                }
            ],
            "faulty": {
                "files": {
                    "1.txt": "a",
                    "1.ann": "",
                    "2.txt": "b",
                    "3.txt": "",
                    "3.ann": "",
                    "4.txt": "c",
                    "4.ann": "T1 x\n",
                },
                "rows": 1,
                "reasons": ["no annotations beside it", "the file is empty", "not an annotation: line 1"],
            },
            "others": [],
        }

    def _row(self, file: Path, name: str, left_out: Counter[str]) -> Raw:
        beside = file.with_suffix(".ann")
        if not file.stat().st_size:
            return Raw(1, None, "the file is empty", "", name)
        text = "".join(self.open_lines(file))
        if not beside.is_file():
            return Raw(1, None, "no annotations beside it", text, name)
        entities: dict[str, dict[str, Any]] = {}
        relations: list[tuple[str, ...]] = []
        faults: list[str] = []
        for number, line in _annotations(self.open_lines(beside) if beside.stat().st_size else ()):
            if found := _ENTITY.fullmatch(line):
                _place(text, found, entities, faults)
            elif found := _RELATION.fullmatch(line):
                relations.append(found.groups())
            elif line[0] in _KINDS:
                left_out[_KINDS[line[0]]] += 1
            else:
                return Raw(1, None, f"not an annotation: line {number}", line, name)
        known = []
        for own, kind, head, tail in relations:
            if head in entities and tail in entities:
                known.append(relation(kind, head, tail, own))
            else:
                faults.append(f"{own}: one of {head}, {tail} is no entity of the row")
        values = {"text": text, "entities": [*entities.values()], "relations": known, "faults": "; ".join(faults)}
        return Raw(1, {k: json_rows.plain(v) for k, v in values.items()}, "", text, name)


def _annotations(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield the annotations with their lines; the text of an entity may run over line ends."""
    begun, parts = 1, ""
    for number, line in enumerate(lines, 1):
        if parts and (_BEGINS.match(line) or not parts.startswith("T")):
            yield begun, parts.rstrip("\r\n")
            parts = ""
        if not parts and not line.strip():
            continue
        begun = begun if parts else number
        parts += line
    if parts:
        yield begun, parts.rstrip("\r\n")


def _place(text: str, found: re.Match[str], entities: dict[str, dict[str, Any]], faults: list[str]) -> None:
    own, kind, where, said = found.groups()
    offsets = [int(part) for part in re.findall("[0-9]{1,18}", where)]
    if ";" in where or len(offsets) != 2:
        faults.append(f"{own}: in several pieces ({where})")
        return
    start, end = offsets
    if not fits(text, start, end):
        faults.append(f"{own}: {start}-{end} lies outside the text")
        return
    if holds(text, start, end, said):
        said = text[start:end]
    else:
        faults.append(f"{own}: the text at {start}-{end} is {text[start:end]!r}, not {said!r}")
    entities[own] = span(start, end, kind, said, own)
