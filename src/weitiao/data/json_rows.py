"""Rows out of JSON: one object a line, or one document in any of the shapes data sets come in.

Shapes of a document: a list of objects, of lists or of texts; an object whose values are such lists
(each item is a row and the key is kept in a column ``key``); ``{"data": [...]}``; an object of objects;
an object of equally long lists of plain values (columns). A list of pieces ``{"text": ...}`` under
``data`` is one sentence cut into slots, and is joined to one ``text``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from weitiao.data.delimited import Raw
from weitiao.errors import DataError

__all__ = ["document_rows", "is_lines", "line_rows", "plain"]

_CONTAINERS = ("data", "rows", "items", "examples", "records", "instances", "results")
_WHITE = " \t\r\n"
_DECODER = json.JSONDecoder()


def is_lines(lines: Iterable[str]) -> bool:
    """Whether a file is JSON lines rather than one document: its first filled line is whole, and not the last."""
    filled = (line for line in lines if line.strip())
    first = next(filled, "")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        # A broken first line of JSON lines: the next one tells.
        return first.lstrip().startswith("{") and next(filled, "").lstrip().startswith('{"')
    return isinstance(value, dict | list) and next(filled, None) is not None


def line_rows(lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
    """Yield a row for each line that is an object or a list; the others with their reason."""
    blank, width = 0, None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            blank += 1
            continue
        try:
            value = json.loads(text)
        except ValueError as error:
            yield Raw(number, None, f"not JSON: {getattr(error, 'msg', error)}", text)
            continue
        except RecursionError:
            yield Raw(number, None, "not JSON that can be read: nested too deeply", text)
            continue
        row = _row(number, value, text, width)
        width = len(value) if width is None and isinstance(value, list) else width
        yield row
    if blank:
        note(f"{blank} blank lines skipped")


def document_rows(text: str, file: str, note: Callable[[str], None]) -> Iterator[Raw]:
    """Yield the rows of a whole JSON document, each with the line it begins at."""
    items, kind = _items(text, file)
    if kind == "object" and _is_columns(items):
        names = [str(key) for key, _, _ in items]
        for values in zip(*(value for _, _, value in items), strict=True):
            yield Raw(items[0][1], dict(zip(names, values, strict=True)))
        return
    width: int | None = None
    for key, line, value in _rows_of(items, kind, text, file, note):
        row = _row(line, value, "", width)
        if width is None and isinstance(value, list):
            width = len(value)
        if key is not None and row.values is not None:
            name = "key"
            while name in row.values:
                name = f"_{name}"
            row = row._replace(values={**row.values, name: key})
        yield row


def plain(value: Any) -> Any:
    """Return a value a column can hold: nested ones become JSON text."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else value


def _row(line: int, value: Any, content: str, width: int | None) -> Raw:
    content = content or json.dumps(value, ensure_ascii=False)[:200]
    if isinstance(value, list):
        if width is not None and len(value) != width:
            return Raw(line, None, f"{len(value)} values where {width} are expected", content)
        value = {f"column_{i + 1}": item for i, item in enumerate(value)}
    elif isinstance(value, str):
        value = {"text": value}
    elif not isinstance(value, dict):
        return Raw(line, None, f"{json.dumps(value)} is not a row", content)
    if not value:
        return Raw(line, None, "an empty object", content)
    joined = {k: v for k, v in value.items() if k != "data"}
    if "text" not in value and (pieces := _pieces(value.get("data"))) is not None:
        value = {"text": pieces, **joined}
    return Raw(line, {str(k): plain(v) for k, v in value.items()}, "", content)


def _pieces(value: Any) -> str | None:
    if isinstance(value, list) and value and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in value):
        return "".join(p["text"] for p in value)
    return None


Item = tuple[str | None, int, Any]


def _items(text: str, file: str) -> tuple[list[Item], str]:
    """Walk the top of a document: its items with key and line, and whether it is an array or an object."""
    at = _skip(text, 0)
    opening = text[at : at + 1]
    lines = _LineCounter(text)
    try:
        if opening == "[":
            return [(None, line, value) for line, value, _ in _array(text, at, lines)], "array"
        if opening == "{":
            return list(_object(text, at, lines)), "object"
        value, _ = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise DataError(
            f"not JSON: {error.msg} (column {error.colno}).", where=f"{file}:{error.lineno}", fix="Repair the file."
        ) from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"JSON that cannot be read: {error}.", where=file, fix="Repair the file.") from error
    raise DataError(f"{plain(value)!r} is not a list of rows.", where=file, fix="Give a list of objects.")


def _rows_of(items: list[Item], kind: str, text: str, file: str, note: Callable[[str], None]) -> Iterator[Item]:
    if kind == "array":
        yield from items
        return
    lists = [item for item in items if isinstance(item[2], list)]
    if lists and all(isinstance(v, list | dict | str) for _, _, value in lists for v in value):
        is_container = len(lists) == 1 and lists[0][0] in _CONTAINERS
        others = [str(key) for key, _, value in items if not isinstance(value, list)]
        if not others or is_container or not any(isinstance(v, str) for _, _, value in lists for v in value):
            if others:
                note(f"not rows, left out: {', '.join(others[:5])}")
            lines = _LineCounter(text)
            for (key, _, _), start in zip(lists, _starts(text, [str(k) for k, _, _ in lists]), strict=True):
                for line, value, _ in _array(text, start, lines):
                    yield (None if is_container else key), line, value
            return
    if items and all(isinstance(value, dict) for _, _, value in items):
        yield from items
        return
    whole = {key: value for key, _, value in items}
    yield None, items[0][1] if items else 1, whole


def _is_columns(items: list[Item]) -> bool:
    values = [value for _, _, value in items]
    if len(values) < 2 or not all(isinstance(v, list) and v for v in values):
        return False
    same = len({len(v) for v in values}) == 1
    return same and not any(isinstance(x, list | dict) for v in values for x in v)


def _starts(text: str, keys: list[str]) -> Iterator[int]:
    """Yield where the values of these keys of the document's object start, in the file's order."""
    wanted = set(keys)
    for key, start, _ in _members(text, _skip(text, 0)):
        if key in wanted:
            yield start


def _object(text: str, at: int, lines: _LineCounter) -> Iterator[Item]:
    for key, start, value in _members(text, at):
        yield key, lines.at(start), value


def _members(text: str, at: int) -> Iterator[tuple[str, int, Any]]:
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        return _end(text, at + 1)
    while True:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("a name in double quotes is expected", text, at)
        key, at = scanstring(text, at + 1, True)
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            raise json.JSONDecodeError("':' is expected", text, at)
        start = _skip(text, at + 1)
        value, at = _DECODER.raw_decode(text, start)
        yield key, start, value
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            return _end(text, at + 1)
        if text[at : at + 1] != ",":
            raise json.JSONDecodeError("',' or '}' is expected", text, at)
        at = _skip(text, at + 1)


def _array(text: str, at: int, lines: _LineCounter) -> Iterator[tuple[int, Any, int]]:
    whole = at == _skip(text, 0)
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        value, end = _DECODER.raw_decode(text, at)
        yield lines.at(at), value, end
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise json.JSONDecodeError("',' or ']' is expected", text, at)
    if whole:
        _end(text, at + 1)


def _end(text: str, at: int) -> None:
    if (at := _skip(text, at)) < len(text):
        raise json.JSONDecodeError("something follows the end of the document", text, at)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _WHITE:
        at += 1
    return at


class _LineCounter:
    """Line numbers of growing positions, without counting from the start each time."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._line = text, 0, 1

    def at(self, position: int) -> int:
        if position < self._at:
            self._at, self._line = 0, 1
        self._line += self._text.count("\n", self._at, position)
        self._at = position
        return self._line
