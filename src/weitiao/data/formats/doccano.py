"""Texts with labelled spans in JSON lines (doccano; also `entities` and `labels` of the same shape).

A span is `[start, end, type]`, or an object with `start_offset`, `end_offset` and `label`; relations go with those.

Source: Nakayama et al., doccano: Text Annotation Tool for Human, 2018 (software).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from weitiao.data import json_rows
from weitiao.data.delimited import Raw
from weitiao.data.formats._json import Record, others, records, samples
from weitiao.data.formats._spans import fits, relation, span
from weitiao.data.formats.base import Format

_SPANS, _TEXTS = ("label", "labels", "entities"), ("text", "data")


class Doccano(Format):
    """A text and its spans a record."""

    def recognizes(self, path: Path, start: str) -> bool:
        """Whether the first records hold a text, and one of them a span."""
        found = [value for value in samples(start, _has_spans) if isinstance(value, dict)]
        return any(_has_spans(value) and _first(value, _TEXTS, str) for value in found)

    def rows(self, path: Path, lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
        """Yield a row a record; one without text or with something else than spans is set aside."""
        for record in records(lines, path, _has_spans):
            yield record.aside or _row(record)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return a record of each kind, and a span that lies outside its text."""
        return {
            "files": {
                "a.jsonl": '{"id": 1, "text": "老王住在北京", "label": [[0, 2, "PER"], [4, 9, "LOC"]]}\n'
                '{"id": 2, "text": "Ada", "entities": [{"id": 7, "label": "PER", "start_offset": 0, "end_offset": 3}], '
                '"relations": [{"id": 1, "from_id": 7, "to_id": 7, "type": "is"}]}\n'
            },
            "open": "a.jsonl",
            "rows": [
                {
                    "text": "老王住在北京",
                    "entities": [{"start": 0, "end": 2, "type": "PER", "text": "老王"}],
                    "faults": "LOC: 4-9 lies outside the text",
                    "id": 1,
                },
                {
                    "text": "Ada",
                    "entities": [{"id": "7", "start": 0, "end": 3, "type": "PER", "text": "Ada"}],
                    "faults": "",
                    "relations": [relation("is", "7", "7", "1")],
                    "id": 2,
                },
            ],
            "faulty": {
                "files": {
                    "a.jsonl": '{"text": "ab", "label": [[0, 1, "X"]]}\n'
                    '{"text": "b", "label": ["pos"]}\n{"label": []}\n'
                    '{"text": "c"}\n[1]\n{"text": \n'
                },
                "rows": 1,
                "reasons": ["not a span: 'pos'", "no text", "no spans", "not an object", "not JSON: Expecting value"],
            },
            "others": [
                '{"text": "a", "label": ["pos"]}\n{"text": "b", "label": []}\n',
                '{"text": "a", "label": "x"}\n{"text": "c", "label": "d"}\n',
            ],
        }


def _first(record: dict[str, Any], keys: tuple[str, ...], kind: type) -> str | None:
    return next((key for key in keys if isinstance(record.get(key), kind)), None)


def _has_spans(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    key = _first(value, _SPANS, list)
    return key is not None and any(_span(item) is not None for item in value[key])


def _span(item: Any) -> tuple[Any, Any, str, str | None] | None:
    """Return start, end, type and id of a span, ``None`` if it is none."""
    if isinstance(item, dict):
        start, end = (item.get(f"{k}_offset", item.get(k)) for k in ("start", "end"))
        kind = item.get("label", item.get("type"))
        own = None if item.get("id") is None else str(item["id"])
    elif isinstance(item, list) and len(item) == 3:
        (start, end, kind), own = item, None
    else:
        return None
    return (start, end, kind, own) if type(start) is int and type(end) is int and isinstance(kind, str) else None


def _row(record: Record) -> Raw:
    value, content = record.value, str(json_rows.plain(record.value))[:200]
    if not isinstance(value, dict):
        return Raw(record.line, None, "not an object", content)
    text_key, key = _first(value, _TEXTS, str), _first(value, _SPANS, list)
    if text_key is None or key is None:
        return Raw(record.line, None, "no text" if text_key is None else "no spans", content)
    text, entities, faults = value[text_key], [], []
    for item in value[key]:
        found = _span(item)
        if found is None:
            return Raw(record.line, None, f"not a span: {item!r}"[:80], content)
        start, end, kind, own = found
        if fits(text, start, end):
            entities.append(span(start, end, kind, text[start:end], own))
        else:
            faults.append(f"{kind}: {start}-{end} lies outside the text")
    row: dict[str, Any] = {"text": text, "entities": json_rows.plain(entities)}
    if isinstance(value.get("relations"), list):
        row["relations"] = json_rows.plain(_relations(value["relations"], entities, faults))
    row["faults"] = "; ".join(faults)
    used = (text_key, key, "relations", "text", "entities", "faults")
    return Raw(record.line, {**row, **others(value, used, record.key)}, "", content)


def _relations(given: list[Any], entities: list[dict[str, Any]], faults: list[str]) -> list[dict[str, Any]]:
    known, found = {entity.get("id") for entity in entities}, []
    for item in given:
        ends = [str(item.get(key)) for key in ("from_id", "to_id")] if isinstance(item, dict) else []
        if not ends or not known.issuperset(ends):
            faults.append(f"a relation of {' and '.join(ends) or repr(item)[:40]}: no such entities")
            continue
        found.append(relation(str(item.get("type")), ends[0], ends[1], str(item.get("id"))))
    return found
