"""A token and its tag a line, a blank line between sentences (CoNLL; tags in BIO, IOB1, BIOES or BMES).

The last column is the tag. Sentences become text and spans: tokens are joined by a space, or by nothing if they
are mostly single Chinese characters. A tag that cannot follow the one before begins an entity, as conlleval has
it, and the row says so in `faults`.

Source: Sang and De Meulder, Introduction to the CoNLL-2003 Shared Task, 2003, arXiv:cs/0306050.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from weitiao.data import json_rows
from weitiao.data.delimited import Raw
from weitiao.data.formats._spans import span
from weitiao.data.formats.base import Format

_TAG = re.compile(r"O|([BIEMSLU])(?:-(\S+))?")
_DIGIT = re.compile(r".[0-9]+", re.S)
_CHINESE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_LETTER = {"M": "I", "L": "E", "U": "S"}  # BMES and BILOU in the letters of BIOES
_UNTYPED = "entity"  # for tags that are only B and I


class _Token(NamedTuple):
    line: int
    cells: list[str]
    content: str


class _Layout(NamedTuple):
    """What only the whole file tells."""

    width: int
    numbered: bool  # each character has its position in the word behind it
    between: str
    inside_begins: bool  # IOB1: I- begins an entity, B- only right behind another one of its type
    ends: bool  # the last token of an entity is tagged as such


class Conll(Format):
    """Sentences of tagged tokens."""

    def recognizes(self, path: Path, start: str) -> bool:
        """Whether most lines have the same number of columns, of which the last is a tag."""
        lines = start.split("\n")
        rows = [_cells(line) for line in (lines[:-1] or lines) if line.strip() and not line.startswith("-DOCSTART-")]
        rows = [cells for cells in rows if not cells[0].startswith("#") or _TAG.fullmatch(cells[-1])]
        if not rows:
            return False
        width = Counter(map(len, rows)).most_common(1)[0][0]
        good = sum(len(cells) == width and _TAG.fullmatch(cells[-1]) is not None for cells in rows)
        return width > 1 and good >= 0.8 * len(rows) and any(cells[-1] == "O" or "-" in cells[-1] for cells in rows)

    def rows(self, path: Path, lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
        """Yield a row a sentence, at the line of its first token."""
        layout = _survey(lines)
        if layout.numbered:
            note("the position digit behind each character was taken off")
        if layout.inside_begins:
            note("tags are IOB1: an entity begins with I, and with B only right behind another of its type")
        for sentence in _sentences(lines):
            yield _row(sentence, layout)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return two sentences, of which one has a tag that follows nothing."""
        one = {"start": 0, "end": 10, "type": "PER", "text": "Ada Miller"}
        two = {"start": 3, "end": 9, "type": "LOC", "text": "London"}
        return {
            "files": {
                "a.conll": "-DOCSTART- O\n\nAda B-PER\nMiller I-PER\nsings O\n\n"
                "# id = 2\nin O\nLondon I-LOC\n. O\nToday B-T\n"
            },
            "open": "a.conll",
            "rows": [
                {"text": "Ada Miller sings", "entities": [one], "faults": ""},
                {
                    "text": "in London . Today",
                    "entities": [two, {"start": 12, "end": 17, "type": "T", "text": "Today"}],
                    "faults": "line 9: I-LOC follows O",
                },
            ],
            "faulty": {
                "files": {"a.conll": "Ada\tB-PER\nsings\n\nhe\tO\nhums\tX-Y\n\n\tO\n\nin\tO\nRome\tB-LOC\n"},
                "rows": 1,
                "reasons": [
                    "wrong number of columns: line 2 has 1 where 2 are expected",
                    "not a tag: line 5 has 'X-Y'",
                    "no token: line 7",
                ],
            },
            "others": ["text\tlabel\ngood room\tpos\nbad room\tneg\n", "a text O\nof lines\n", "x,O\ny,O\n"],
        }


def _cells(line: str) -> list[str]:
    body = line.rstrip("\r\n")
    return body.split("\t") if "\t" in body else re.split(" +", body.strip(" "))


def _sentences(lines: Iterable[str]) -> Iterator[list[_Token]]:
    sentence: list[_Token] = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("-DOCSTART-"):
            cells = _cells(line)
            is_comment = not sentence and line.startswith("#") and not (len(cells) > 1 and _TAG.fullmatch(cells[-1]))
            if not is_comment:
                sentence.append(_Token(number, cells, line.rstrip("\r\n")))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _survey(lines: Iterable[str]) -> _Layout:
    """Go through the file once for what a sentence alone does not tell."""
    widths: Counter[int] = Counter()
    tokens = numbered = chinese = single = begun_inside = begun_freely = ends = 0
    for sentence in _sentences(lines):
        before = ("O", "")
        for _, cells, _ in sentence:
            widths[len(cells)] += 1
            letter, kind = _tag(cells[-1]) or ("O", "")
            begun_inside += letter == "I" and before != ("I", kind) and before != ("B", kind)
            begun_freely += letter in "BS" and (before[0] == "O" or before[1] != kind)
            ends += letter == "E"
            before = (letter, kind)
            token = cells[0]
            tokens += 1
            is_chinese = _CHINESE.match(token) is not None
            is_numbered = _DIGIT.fullmatch(token) is not None
            numbered += is_numbered
            chinese += is_chinese
            single += is_chinese and (len(token) == 1 or is_numbered)
    has_digits = numbered >= 0.95 * tokens and chinese > 0.5 * tokens
    return _Layout(
        width=max(2, widths.most_common(1)[0][0]) if widths else 2,
        numbered=has_digits,
        between="" if single > 0.5 * tokens else " ",
        inside_begins=begun_inside > 0 and not begun_freely and not ends,
        ends=ends > 0,
    )


def _tag(text: str) -> tuple[str, str] | None:
    """Return the letter (in BIOES) and the type of a tag, ``None`` if it is none."""
    found = _TAG.fullmatch(text.strip())
    if found is None:
        return None
    letter = found[1] or "O"
    return _LETTER.get(letter, letter), "" if letter == "O" else found[2] or _UNTYPED


def _row(sentence: list[_Token], layout: _Layout) -> Raw:
    first, content = sentence[0].line, " ".join(token.content for token in sentence)
    for line, cells, _ in sentence:
        if len(cells) != layout.width:
            why = f"wrong number of columns: line {line} has {len(cells)} where {layout.width} are expected"
            return Raw(first, None, why, content)
        if not cells[0]:
            return Raw(first, None, f"no token: line {line}", content)
        if _tag(cells[-1]) is None:
            return Raw(first, None, f"not a tag: line {line} has {cells[-1]!r}", content)
    tokens = [cells[0] for _, cells, _ in sentence]
    if layout.numbered:
        tokens = [token[0] if _DIGIT.fullmatch(token) else token for token in tokens]
    text = layout.between.join(tokens)
    starts, at = [], 0
    for token in tokens:
        starts.append(at)
        at += len(token) + len(layout.between)
    chunks, faults = _chunks(sentence, layout)
    entities = []
    for start, end, kind in chunks:
        left, right = starts[start], starts[end] + len(tokens[end])
        entities.append(span(left, right, kind, text[left:right]))
    return Raw(first, {"text": text, "entities": json_rows.plain(entities), "faults": "; ".join(faults)}, "", content)


def _chunks(sentence: list[_Token], layout: _Layout) -> tuple[list[tuple[int, int, str]], list[str]]:
    """Return the entities as (first token, last token, type), and the tags that cannot stand where they do."""
    chunks: list[tuple[int, int, str]] = []
    faults: list[str] = []
    before, kind_before, is_open = "", "", False
    for i, (line, cells, _) in enumerate(sentence):
        letter, kind = _tag(cells[-1]) or ("O", "")
        goes_on = is_open and letter in "IE" and kind == kind_before
        if is_open and not goes_on and layout.ends:
            faults.append(f"line {sentence[i - 1].line}: the entity of {before} has no end")
        if goes_on:
            chunks[-1] = (chunks[-1][0], i, kind)
        elif letter != "O":
            chunks.append((i, i, kind))
            if letter in "IE" and not (letter == "I" and layout.inside_begins):
                faults.append(f"line {line}: {cells[-1]} " + (f"follows {before}" if before else "begins the sentence"))
        is_open = letter in "BI"
        before, kind_before = cells[-1], kind
    if is_open and layout.ends:
        faults.append(f"line {sentence[-1].line}: the entity of {before} has no end")
    return chunks, faults
