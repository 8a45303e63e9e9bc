"""Sentences with two marked entities and the relation between them (SemEval-2010 task 8, in blocks of lines).

A block is a number, a tab and the quoted sentence; the relation; ``Comment:``; and a blank line.

Source: Hendrickx et al., SemEval-2010 Task 8: Multi-Way Classification of Semantic Relations Between Pairs of
Nominals, 2010, arXiv:1911.10422.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from weitiao.data.delimited import Raw
from weitiao.data.formats.base import Format

_SENTENCE = re.compile(r"(\d+)\t(.*)")
_RELATION = re.compile(r"[\w-]+(\(e[12],e[12]\))?")
_MARKED = re.compile(r"<e([12])>.+?</e\1>.*<e(?!\1)([12])>.+?</e\2>", re.S)


class Semeval2010(Format):
    """Blocks of sentence, relation and comment."""

    def recognizes(self, path: Path, start: str) -> bool:
        """Whether the first filled lines are a numbered sentence with marks, and a relation."""
        first, second, *_ = *(line.strip() for line in start.split("\n") if line.strip()), "", ""
        found = _SENTENCE.fullmatch(first)
        return bool(found and "\t" not in found[2] and _MARKED.search(found[2]) and _RELATION.fullmatch(second))

    def rows(self, path: Path, lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
        """Yield a row a block."""
        block: list[str] = []
        begun = 1
        for number, line in enumerate(lines, 1):
            body = line.strip()
            if block and (not body or _SENTENCE.match(body)):
                yield _row(begun, block)
                block = []
            if body:
                begun = begun if block else number
                block.append(body)
        if block:
            yield _row(begun, block)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return two blocks, the second without a comment."""
        return {
            "files": {
                "a.txt": '1\t"The <e1>baker</e1> made the "best" <e2>bread</e2>."\r\n'
                "Product-Producer(e2,e1)\r\nComment: a\r\n\r\n"
                '2\t"A <e1>car</e1> passed a <e2>dog</e2>."\r\nOther\r\n\r\n'
            },
            "open": "a.txt",
            "rows": [
                {
                    "id": "1",
                    "text": 'The <e1>baker</e1> made the "best" <e2>bread</e2>.',
                    "label": "Product-Producer(e2,e1)",
                    "comment": "a",
                },
                {"id": "2", "text": "A <e1>car</e1> passed a <e2>dog</e2>.", "label": "Other", "comment": ""},
            ],
            "faulty": {
                "files": {
                    "a.txt": '1\t"A <e1>a</e1> and <e2>b</e2>."\nOther\nComment:\n2\t"No marks."\nOther\nComment:\n\n'
                    'stray\n\n3\t"A <e1>a</e1> or <e2>b</e2>."\nOther\nOther\n'
                },
                "rows": 1,
                "reasons": ["no <e1> and <e2> around two entities", "no numbered sentence", "several relations"],
            },
            "others": [
                "1\tThe <e1>a</e1> and <e2>b</e2>\tOther\n2\tx\ty\n",
                '1\t"The <e1>a</e1> and <e2>b</e2>."\n2\t"A <e1>c</e1> <e2>d</e2>"\n',
            ],
        }


def _row(line: int, block: list[str]) -> Raw:
    content = " ".join(block)
    found = _SENTENCE.fullmatch(block[0])
    if found is None:
        return Raw(line, None, "no numbered sentence", content)
    text = found[2].strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not _MARKED.search(text):
        return Raw(line, None, "no <e1> and <e2> around two entities", content)
    comments = [rest for rest in block[1:] if rest.startswith("Comment")]
    labels = [rest for rest in block[1:] if not rest.startswith("Comment")]
    if len(labels) > 1:
        return Raw(line, None, "several relations", content)
    comment = " ".join(c.removeprefix("Comment").removeprefix(":").strip() for c in comments)
    # A sentence of a test file has no relation: a row that may still be predicted.
    values = {"id": found[1], "text": text, "label": labels[0] if labels else None, "comment": comment}
    return Raw(line, values, "", content)
