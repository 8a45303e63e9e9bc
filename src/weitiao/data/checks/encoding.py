"""Text that was damaged by a wrong encoding, or that carries characters nobody sees."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from pydantic import Field

from weitiao.data.checks.base import Check, CheckInput, excerpt, num_rows, places, share
from weitiao.findings import Finding, Severity
from weitiao.plugins import Options

_NOTE = re.compile(r"UTF-8|BOM|NUL|byte", re.IGNORECASE)
_LINE = re.compile(r"\bline (\d+)")
_UNICODE = re.compile(r"read as utf-(16|32)")
# Bytes 0x80 to 0xBF as latin-1 or cp1252 shows them; quotes left out, which may follow a real letter.
_TAIL = (
    "[\u0080-\u00bf\u20ac\u0192\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d"
    "\u2022\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
)
_WIDE_TAIL = _TAIL[:-1] + "\u201a\u201e\u2026\u2018\u2019\u201c\u201d\u2013\u2014]"
_MOJIBAKE = re.compile(
    "\ufffd|锟斤拷|锘縏|ï»¿"  # replacement characters, read once more as GBK; a byte order mark read as text
    f"|[ÃÂ]{_TAIL}|(?:[ÐÑ]{_WIDE_TAIL}){{2}}"  # accented letters, Cyrillic
    "|â€"  # typographic quotes and dashes
    f"|[\u00e3-\u00e9\u00ef]{_WIDE_TAIL}{{2}}"  # Chinese, Japanese, full-width forms
)
_HIGH_RUN = re.compile("[\u0080-\uffff]{3,}")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u200b\u2060\ufeff\ud800-\udfff]")
_FULL_WIDTH = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]+")


class Encoding(Check):
    """What reading had to decide about bytes, and text that looks decoded wrongly."""

    class Settings(Options):
        """When damaged text spoils the whole."""

        error_share: float = Field(0.2, gt=0, le=1, description="share of damaged rows above which it is an error")

    settings: Settings

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield findings on damaged text, on how files were read, on odd characters."""
        for split in data.tables:
            yield from self._mojibake(data, split)
        yield from self._notes(data)
        for split, table in data.tables.items():
            texts = data.texts(split)
            if rows := [i for i, text in enumerate(texts) if _CONTROL.search(text)]:
                codes = sorted({f"U+{ord(c):04X}" for i in rows for c in _CONTROL.findall(texts[i])})
                yield Finding(
                    self.name,
                    "warning",
                    f"{num_rows(len(rows), split)} with invisible control characters ({', '.join(codes[:5])}).",
                    "Remove them: the tokenizer drops some and gives others tokens of their own.",
                    places=places(table, rows),
                    count=len(rows),
                    evidence={"characters": codes[:20]},
                )
            if rows := [i for i, text in enumerate(texts) if _FULL_WIDTH.search(text)]:
                seen = [found[0] for i in rows[:5] if (found := _FULL_WIDTH.search(texts[i]))]
                yield Finding(
                    self.name,
                    "info",
                    f"{num_rows(len(rows), split)} with full-width letters or digits, such as {seen[0]}.",
                    "Most tokenizers fold them; if yours does not, write them half-width.",
                    places=places(table, rows),
                    count=len(rows),
                    evidence={"examples": seen},
                )

    def _mojibake(self, data: CheckInput, split: str) -> Iterator[Finding]:
        texts, table = data.texts(split), data.tables[split]
        found = {i: what for i, text in enumerate(texts) if (what := _damage(text))}
        if not found:
            return
        rows = list(found)
        yield Finding(
            self.name,
            "error" if len(rows) > self.settings.error_share * len(texts) else "warning",
            f"{num_rows(len(rows), split)} ({share(len(rows), len(texts))}) with text decoded in the wrong encoding.",
            "Go back to the original file and convert it to UTF-8 once; damage that was saved cannot be undone safely.",
            places=places(table, rows),
            count=len(rows),
            evidence={"examples": [{"seen": found[i], "text": excerpt(texts[i])} for i in rows[:5]]},
        )

    def _notes(self, data: CheckInput) -> Iterator[Finding]:
        sources = dict.fromkeys(source for table in data.tables.values() for source in table.sources)
        for source in sources:
            for note in source.notes:
                if not _NOTE.search(note):
                    continue
                line = _LINE.search(note)
                declared = _UNICODE.search(note) or "BOM" in note
                severity: Severity = "info" if declared else "warning"
                yield Finding(
                    self.name,
                    severity,
                    f"{source.file}: {note}.",
                    "Look whether accents and Chinese characters are right; if so nothing need be done, "
                    "else give the encoding or save the file as UTF-8.",
                    places=(f"{source.file}:{line[1] if line else 1}",),
                    evidence={"encoding": source.encoding},
                )

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return UTF-8 read as latin-1, and the same text whole."""
        return {
            "faulty": {"all": [{"text": "你好，世界".encode().decode("latin-1"), "label": "a"}]},
            "clean": {"all": [{"text": "你好，世界", "label": "a"}, {"text": "déjà vu à l'été", "label": "b"}]},
        }


def _damage(text: str) -> str | None:
    """Return the piece of a text that was decoded wrongly, if one is certain."""
    if text.isascii():
        return None
    if found := _MOJIBAKE.search(text):
        return text[found.start() : found.end() + 6]
    for run in _HIGH_RUN.finditer(text):
        if _is_utf8_read_as_gbk(run[0]):
            return run[0][:12]
    return None


def _is_utf8_read_as_gbk(run: str) -> bool:
    # Everyday characters begin with bytes that cannot begin a UTF-8 character, so real Chinese
    # that survives this there and back has not been seen; three characters are asked for all the same.
    try:
        raw = run.encode("gbk")
        back = codecs.getincrementaldecoder("utf-8")().decode(raw, final=False)
    except UnicodeError:
        return False
    return len(back) >= 2 and all("\u2e80" <= c <= "\u9fff" or "\uff00" <= c <= "\uffef" for c in back)
