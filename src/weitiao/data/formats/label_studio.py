"""Texts with labelled spans and relations as Label Studio exports them (JSON).

Label Studio counts offsets as JavaScript does, an emoji as two: they are counted anew where that is seen.

Source: Tkachenko et al., Label Studio: Data Labeling Software, 2020 (software).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from weitiao.data import json_rows
from weitiao.data.delimited import Raw
from weitiao.data.formats._json import Record, others, records, samples
from weitiao.data.formats._spans import fits, holds, relation, span
from weitiao.data.formats.base import Format

_ANNOTATIONS = ("annotations", "completions")


class LabelStudio(Format):
    """A text with what people marked in it a record."""

    def recognizes(self, path: Path, start: str) -> bool:
        """Whether the first records hold data and annotations, and what was marked there are spans."""
        found = [value for value in samples(start, _is_task) if _is_task(value)]
        results = [item for value in found for item in _result(value)]
        return bool(found) and (not results or any(_labels(item) for item in results))

    def rows(self, path: Path, lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
        """Yield a row a text, with its first annotation that was not cancelled; one without is set aside."""
        several = 0
        for record in records(lines, path, _is_task):
            if record.aside is None and _is_task(record.value):
                several += len(_given(record.value)) > 1
            yield record.aside or _row(record)
        if several:
            note(f"of several annotations the first was read, in {several:,} texts")

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return one text with an emoji, two entities and a relation."""
        return {
            "files": {
                "a.json": '[{"id": 3, "data": {"text": "👍 Ada in Rome"}, "annotations": [{"result": ['
                '{"id": "p", "type": "labels", "value": {"start": 3, "end": 6, "text": "Ada", "labels": ["PER"]}},\n'
                '{"id": "q", "type": "labels", "value": {"start": 10, "end": 14, "text": "Rome", "labels": ["LOC"]}},\n'
                '{"type": "relation", "from_id": "p", "to_id": "q", "labels": ["in"]}]}]}]'
            },
            "open": "a.json",
            "rows": [
                {
                    "text": "👍 Ada in Rome",
                    "entities": [
                        {"id": "p", "start": 2, "end": 5, "type": "PER", "text": "Ada"},
                        {"id": "q", "start": 9, "end": 13, "type": "LOC", "text": "Rome"},
                    ],
                    "relations": [relation("in", "p", "q")],
                    "faults": "",
                    "id": 3,
                }
            ],
            "faulty": {
                "files": {
                    "a.json": '[{"data": {"text": "ab"}, "annotations": [{"result": []}]}, {"data": {"text": "c"}, '
                    '"annotations": []}, {"data": {"image": 3}, "annotations": [{"result": []}]}, {"id": 1}]'
                },
                "rows": 1,
                "reasons": ["not annotated", "no text", "not a task of Label Studio"],
            },
            "others": [
                '[{"data": {"text": "a"}, "annotations": [{"result": [{"value": {"choices": ["x"]}}]}]}]',
                '[{"data": [{"text": "a"}]}]',
            ],
        }


def _is_task(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("data"), dict)
        and any(isinstance(value.get(key), list) for key in _ANNOTATIONS)
    )


def _given(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the annotations of a task that were not cancelled."""
    found = next(task[key] for key in _ANNOTATIONS if isinstance(task.get(key), list))
    return [
        a for a in found if isinstance(a, dict) and isinstance(a.get("result"), list) and not a.get("was_cancelled")
    ]


def _result(task: dict[str, Any]) -> list[dict[str, Any]]:
    given = _given(task)
    return [item for item in given[0]["result"] if isinstance(item, dict)] if given else []


def _labels(item: dict[str, Any]) -> list[str]:
    """Return the labels of a marked span; none where it is something else."""
    value = item.get("value")
    if not isinstance(value, dict) or "start" not in value or "end" not in value:
        return []
    labels = value.get("labels", value.get("hypertextlabels"))
    return [label for label in labels if isinstance(label, str)] if isinstance(labels, list) else []


def _row(record: Record) -> Raw:
    task, content = record.value, str(json_rows.plain(record.value))[:200]
    if not _is_task(task):
        return Raw(record.line, None, "not a task of Label Studio", content)
    texts = [v for v in task["data"].values() if isinstance(v, str)]
    text = task["data"].get("text", texts[0] if len(texts) == 1 else None)
    if not isinstance(text, str):
        return Raw(record.line, None, "no text", content)
    if not _given(task):
        return Raw(record.line, None, "not annotated", content)
    entities: list[dict[str, Any]] = []
    relations: list[dict[str, Any]] = []
    faults: list[str] = []
    for item in _result(task):
        for label in _labels(item):
            _place(text, item, label, entities, faults)
    known = {entity.get("id") for entity in entities}
    for item in _result(task):
        if item.get("type") != "relation":
            continue
        head, tail = str(item.get("from_id")), str(item.get("to_id"))
        labels = item.get("labels") if isinstance(item.get("labels"), list) else []
        if head in known and tail in known:
            relations += [relation(str(label), head, tail) for label in labels or ("relation",)]
        else:
            faults.append(f"a relation of {head} and {tail}: no such entities")
    values = {"text": text, "entities": entities, "relations": relations, "faults": "; ".join(faults)}
    extra = others(task, values, record.key)
    return Raw(record.line, {**{k: json_rows.plain(v) for k, v in values.items()}, **extra}, "", content)


def _place(text: str, item: dict[str, Any], label: str, entities: list[dict[str, Any]], faults: list[str]) -> None:
    value = item["value"]
    start, end, said = value["start"], value["end"], value.get("text")
    said = said if isinstance(said, str) else None
    own = str(item["id"]) if item.get("id") is not None else None
    if (not fits(text, start, end) or not holds(text, start, end, said or text[start:end])) and said:
        start, end = _in_characters(text, start, end, said)
    if not fits(text, start, end):
        faults.append(f"{label}: {start}-{end} lies outside the text")
        return
    if said is not None and not holds(text, start, end, said):
        faults.append(f"{label}: the text at {start}-{end} is {text[start:end]!r}, not {said!r}")
    else:
        said = text[start:end]
    entities.append(span(start, end, label, said, own))


def _in_characters(text: str, start: Any, end: Any, said: str) -> tuple[Any, Any]:
    """Return offsets in characters for those in units of UTF-16, if that is what they are."""
    units = text.encode("utf-16-le", "surrogatepass")
    if not fits("x" * (len(units) // 2), start, end):
        return start, end
    left = len(units[: 2 * start].decode("utf-16-le", "replace"))
    right = left + len(units[2 * start : 2 * end].decode("utf-16-le", "replace"))
    return (left, right) if fits(text, left, right) and holds(text, left, right, said) else (start, end)
