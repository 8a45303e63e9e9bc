"""JSON files of records: each with the line it begins at, and what the start of a file shows of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from json.decoder import JSONObject  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any, NamedTuple

from weitiao.data import json_rows
from weitiao.data.delimited import Raw
from weitiao.errors import DataError

__all__ = ["Located", "Record", "line_of", "others", "records", "samples"]

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+)', re.S)
_SAMPLES = 50


class Located(dict[str, Any]):
    """An object of a document, with the line it begins at."""

    line = 1


class Record(NamedTuple):
    """One record of a file: its value and, in an object of records, its key; or why it has none, in `aside`."""

    line: int
    value: Any
    key: str | None = None
    aside: Raw | None = None


def records(lines: Iterable[str], path: Path, is_record: Callable[[Any], bool]) -> Iterator[Record]:
    """Yield the records of JSON lines, or of a document: a list, an object of lists or of objects, or just one.

    Raises
    ------
    DataError
        A document that is not JSON.
    """
    if json_rows.is_lines(lines):
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text:
                continue
            try:
                yield Record(number, json.loads(text))
            except ValueError as error:
                yield Record(number, None, aside=Raw(number, None, f"not JSON: {_what(error)}", text))
            except RecursionError:
                yield Record(number, None, aside=Raw(number, None, "not JSON: nested too deeply", text))
        return
    for key, value in _spread(_document("".join(lines), path.name), is_record):
        yield Record(line_of(value), value, key)


def line_of(value: Any, otherwise: int = 1) -> int:
    """Return the line at which a value of a document begins, if it is an object that knows."""
    return value.line if isinstance(value, Located) else otherwise


def others(record: dict[str, Any], used: Iterable[str], key: str | None = None) -> dict[str, Any]:
    """Return the plain values of a record that a format has no use for, which become columns of their own."""
    taken = {*used}
    plain = {k: v for k, v in record.items() if k not in taken and not isinstance(v, dict | list) and v is not None}
    return plain if key is None or "key" in plain else {"key": key, **plain}


def samples(start: str, is_record: Callable[[Any], bool]) -> list[Any]:
    """Return the first records of a file, the last one as far as the start shows it."""
    if start.lstrip()[:1] not in ("{", "["):
        return []
    try:
        value, rest = _begun(start)
        if rest is None or not rest.strip():
            return [value for _, value in _spread(value, is_record)][:_SAMPLES]
    except (ValueError, RecursionError):
        pass  # a broken first line of JSON lines: the next ones tell
    found = []
    for line in start.split("\n")[:_SAMPLES]:
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return found


def _spread(value: Any, is_record: Callable[[Any], bool]) -> Iterator[tuple[str | None, Any]]:
    """Yield the records of a document, with their keys where it is an object of several."""
    if isinstance(value, list):
        yield from ((None, item) for item in value)
        return
    if not isinstance(value, dict) or is_record(value):
        yield None, value
        return
    lists = {k: v for k, v in value.items() if isinstance(v, list) and v and any(isinstance(i, dict) for i in v)}
    if lists:
        for key, items in lists.items():
            yield from ((key if len(lists) > 1 else None, item) for item in items)
    elif value and all(isinstance(v, dict) for v in value.values()):
        yield from value.items()
    else:
        yield None, value


def _begun(start: str) -> tuple[Any, str | None]:
    """Return the first JSON value of a text, closed where the text breaks off, and what follows if it does not."""
    closers: list[str] = []
    whole, open_there = 0, ""
    at = 0
    while found := _TOKEN.match(start, at):
        token, at = found[1], found.end()
        if token in ("[", "{"):
            closers.append("]" if token == "[" else "}")
        elif token in ("]", "}") and closers:
            closers.pop()
        elif token == ",":
            whole, open_there = found.start(1), "".join(reversed(closers))
            continue
        else:
            continue
        whole, open_there = at, "".join(reversed(closers))
        if not closers:
            return json.loads(start[:at]), start[at:]
    return json.loads(start[:whole] + open_there), None


class _Decoder(json.JSONDecoder):
    """Reads objects as `Located`; the scanner in Python, as the one in C tells nobody where it is."""

    def __init__(self) -> None:
        super().__init__()
        self._at, self._line = 0, 1
        self.parse_object = self._located
        self.scan_once = py_make_scanner(self)

    def _located(self, where: tuple[str, int], *rest: Any) -> tuple[Located, int]:
        text, at = where
        self._line += text.count("\n", self._at, at)
        self._at, line = at, self._line
        value, end = JSONObject(where, *rest)
        located = Located(value)
        located.line = line
        return located, end


def _document(text: str, file: str) -> Any:
    try:
        return _Decoder().decode(text)
    except RecursionError as error:
        raise DataError("JSON that is nested too deeply.", where=file, fix="Repair the file.") from error
    except ValueError as error:
        where = f"{file}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else file
        raise DataError(f"not JSON: {_what(error)}.", where=where, fix="Repair the file.") from error


def _what(error: ValueError) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)
