"""Plain text: a paragraph a row where empty lines part paragraphs, else a line a row; a file, or a folder of files.

Source: the layout of Project Gutenberg's plain texts, with paragraphs between empty lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from weitiao.data.delimited import Raw
from weitiao.data.formats.base import Format

_NAMES = (".txt", ".txt.gz")
_LONGEST = 50  # lines a paragraph has on average at most; where there are more, an empty line means nothing
_END = re.compile(r"[.!?…。！？][\"'”’」』）)]*$")


class PlainText(Format):
    """Texts that stand one after another in a .txt file."""

    def recognizes(self, path: Path, start: str) -> bool:
        """Whether a .txt file has paragraphs, or lines that mostly end as sentences do; or a folder holds only such."""
        if path.is_dir():
            files = sorted(path.iterdir())
            return bool(files) and all(file.name.lower().endswith(_NAMES) for file in files)
        if not path.name.lower().endswith(_NAMES):
            return False
        lines = start.splitlines()
        filled = [line.strip() for line in lines if line.strip()]
        if len(filled) < 2 or any("\t" in line for line in filled) or filled[0][0] in "[{":
            return False
        if _has_paragraphs(lines):
            return True
        is_table = any(len({line.count(sign) for line in filled} - {0}) == 1 for sign in ",;|" if sign in filled[0])
        return not is_table and 2 * sum(bool(_END.search(line)) for line in filled) > len(filled)

    def rows(self, path: Path, lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
        """Yield a row a paragraph or line, as it stands but for white space around it."""
        if not path.is_dir():
            yield from _texts(lines, note)
            return
        for file in sorted(path.iterdir()):
            if file.name.lower().endswith(_NAMES):
                for row in _texts(self.open_lines(file), lambda text, file=file: note(f"{file.name}: {text}")):
                    yield row._replace(file=file.name)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return two paragraphs, one of them of two lines; a file of lines; and tables that look alike."""
        return {
            "files": {"a.txt": "The pipes lie below.\nNobody knows where.\n\n\n管网在城市地下。\n"},
            "open": "a.txt",
            "rows": [{"text": "The pipes lie below.\nNobody knows where."}, {"text": "管网在城市地下。"}],
            "faulty": {"files": {"a.txt": "  one\n two, three\n"}, "rows": 2, "reasons": []},
            "others": ["1,Good.\n2,Bad.\n", "text\tlabel\nGood.\t1\nBad.\t0\n", "只有一行。\n"],
        }


def _has_paragraphs(lines: Iterable[str]) -> bool:
    """Whether empty lines part paragraphs."""
    runs = [(empty, sum(1 for _ in run)) for empty, run in groupby(lines, key=lambda line: not line.strip())]
    texts = [length for empty, length in runs if not empty]
    return len(texts) > 1 and sum(texts) <= _LONGEST * len(texts)


def _texts(lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
    paragraphs = _has_paragraphs(lines)
    note(f"read as plain text, a {'paragraph' if paragraphs else 'line'} a row")
    waiting: list[str] = []
    first = number = 0
    for number, line in enumerate(lines, 1):
        body = line.rstrip("\r\n")
        if body.strip():
            first = first if waiting else number
            waiting.append(body)
        if waiting and (not paragraphs or not body.strip()):
            yield _row(first, waiting)
            waiting = []
    if waiting:
        yield _row(first, waiting)


def _row(line: int, texts: list[str]) -> Raw:
    text = "\n".join(texts).strip()
    return Raw(line, {"text": text}, "", text)
