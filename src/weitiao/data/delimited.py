"""The records and rows of delimited text.

A quote that never closes costs its own row and no other: the reader goes back to the next line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Dialect", "Raw", "Record", "records", "rows"]

_SPAN_LINES = 1000  # a quoted value longer than this is taken for a quote that never closes


class Raw(NamedTuple):
    """A row as a format's reader gives it: its line, its values or the reason why there are none.

    In a folder, `file` is the one it stands in.
    """

    line: int
    values: dict[str, Any] | None
    reason: str = ""
    content: str = ""
    file: str = ""


class Record(NamedTuple):
    """The fields that start at a physical line, or the reason why they could not be told apart."""

    line: int
    fields: list[str] | None
    reason: str
    content: str


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is written.

    Parameters
    ----------
    delimiter
        One character; ``None`` when every line is one value.
    quoting
        Whether ``"`` encloses values.
    header
        Whether the first record names the columns.
    names
        The columns.
    notes
        What was out of the ordinary.
    """

    delimiter: str | None
    quoting: bool
    header: bool
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def rows(lines: Iterable[str], dialect: Dialect, note: Callable[[str], None]) -> Iterator[Raw]:
    """Yield the rows of a file; `note` is called once for each kind of leniency."""
    width, names, blank, trimmed = len(dialect.names), dialect.names, 0, 0
    read = records(lines, dialect.delimiter, quoting=dialect.quoting, width=width)
    header: list[str] | None = None
    for record in read:
        fields = record.fields
        if dialect.header and header is None and fields is not None and record.content.strip():
            header = fields
            continue
        if fields is None:
            yield Raw(record.line, None, record.reason, record.content)
        elif not record.content:
            blank += 1
        elif len(fields) > width and not any(fields[width:]):
            trimmed += 1
            yield Raw(record.line, dict(zip(names, fields, strict=False)))
        elif len(fields) != width:
            yield Raw(record.line, None, f"{_count(len(fields))} where {width} are expected", record.content)
        elif fields == header:
            yield Raw(record.line, None, "the header again", record.content)
        else:
            yield Raw(record.line, dict(zip(names, fields, strict=True)), "", record.content)
    if blank:
        note(f"{blank} blank lines skipped")
    if trimmed:
        note(f"empty fields at the end of {trimmed} rows ignored")


def records(
    lines: Iterable[str], delimiter: str | None, *, quoting: bool, width: int | None = None
) -> Iterator[Record]:
    """Split lines into records.

    A quoted value may run over line ends. A record whose quote never closes, or closes in the middle of
    a value, is given with a reason; if it had taken in further lines, these are read again on their own.
    """
    source = _Numbered(lines)
    for number, line in source:
        body = line.rstrip("\r\n")
        if not quoting or '"' not in body or delimiter is None:
            yield Record(number, body.split(delimiter) if delimiter else [body], "", body)
            continue
        fields: list[str] = []
        state, part = _parse(body, delimiter, fields, None)
        taken: list[tuple[int, str]] = []
        previous = line
        while state == "open" and len(taken) < _SPAN_LINES and (following := source.take()) is not None:
            taken.append(following)
            pieces = part if part is not None else []
            pieces.append(previous[len(previous.rstrip("\r\n")) :])  # the line end belongs to the value
            previous = following[1]
            state, part = _parse(previous.rstrip("\r\n"), delimiter, fields, pieces)
        if state == "done" and not (taken and _swallowed(taken, fields, delimiter, width)):
            yield Record(number, fields, "", body if not taken else f"{body} …")
            continue
        source.give_back(taken)
        reason = "text after a closing quote" if state == "bad" and not taken else "a quote opens and never closes"
        yield Record(number, None, reason, body)


class _Numbered:
    """Lines with their numbers, which can be given back."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = enumerate(lines, 1)
        self._back: deque[tuple[int, str]] = deque()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        while (item := self.take()) is not None:
            yield item

    def take(self) -> tuple[int, str] | None:
        return self._back.popleft() if self._back else next(self._lines, None)

    def give_back(self, items: Sequence[tuple[int, str]]) -> None:
        self._back.extendleft(reversed(items))


def _parse(body: str, delimiter: str, fields: list[str], part: list[str] | None) -> tuple[str, list[str] | None]:
    """Read one line into `fields`; `part` holds the pieces of a value that a line before left open.

    Returns ``done``, ``open`` (with the pieces) or ``bad``.
    """
    at = 0
    while True:
        if part is None:
            if not body.startswith('"', at):
                end = body.find(delimiter, at)
                if end < 0:
                    fields.append(body[at:])
                    return "done", None
                fields.append(body[at:end])
                at = end + 1
                continue
            part, at = [], at + 1
        end = body.find('"', at)
        if end < 0:
            part.append(body[at:])
            return "open", part
        if body.startswith('"', end + 1):
            part.append(body[at : end + 1])
            at = end + 2
            continue
        part.append(body[at:end])
        fields.append("".join(part))
        part, at = None, end + 1
        while at < len(body) and body[at] == " " and delimiter != " ":
            at += 1
        if at == len(body):
            return "done", None
        if body[at] != delimiter:
            return "bad", None
        at += 1


def _swallowed(taken: list[tuple[int, str]], fields: list[str], delimiter: str, width: int | None) -> bool:
    """Whether a record of several lines is rather a stray quote that has swallowed whole rows."""
    if width is None or width < 2:
        return False

    def is_row(line: str) -> bool:
        own: list[str] = []
        state, _ = _parse(line.rstrip("\r\n"), delimiter, own, None)
        return state == "done" and len(own) == width

    if len(fields) != width:
        return any(is_row(line) for _, line in taken)
    inner = taken[:-1]
    return len(inner) >= (2 if width > 2 else 5) and all(is_row(line) for _, line in inner)


def _count(fields: int) -> str:
    return f"{fields} field{'s' if fields != 1 else ''}"
