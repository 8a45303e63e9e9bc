"""Entities as spans of a text, relations between them, and what can be wrong with them."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["fits", "holds", "relation", "span"]


def fits(text: str, start: object, end: object) -> bool:
    """Whether two offsets are whole numbers that mark a part of the text."""
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in (start, end))
    return whole and 0 <= start < end <= len(text)  # type: ignore[operator]


def holds(text: str, start: int, end: int, said: str) -> bool:
    """Whether the text holds at these offsets what is said to be there; a line end counts as a space."""
    return " ".join(text[start:end].splitlines()) == " ".join(said.splitlines())


def span(start: int, end: int, kind: str, said: str, name: str | None = None) -> dict[str, Any]:
    """Return an entity as it stands in a column, its fields in one order."""
    named = {} if name is None else {"id": name}
    return {**named, "start": start, "end": end, "type": kind, "text": said}


class _Relation(NamedTuple):
    type: str
    head: str
    tail: str


def relation(kind: str, head: str, tail: str, name: str | None = None) -> dict[str, Any]:
    """Return a relation between two entities, given by their ids, as it stands in a column."""
    return {**({} if name is None else {"id": name}), **_Relation(kind, head, tail)._asdict()}
