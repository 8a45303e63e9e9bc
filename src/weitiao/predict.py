"""Predict a file row by row in constant memory; every row that was read gets a line of its own."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from weitiao.bundle import Bundle
from weitiao.data.fields import find_columns
from weitiao.data.read import Item, ReadOptions, stream
from weitiao.data.table import Table
from weitiao.errors import DataError
from weitiao.files import whole_file
from weitiao.tasks.base import Prediction

__all__ = ["answer_each", "predict_file", "write_csv", "write_file", "write_lines"]

_CHUNK = 1024  # rows in memory at a time
_OURS = ("place", "predicted", "confidence", "error")


def predict_file(
    bundle: Bundle,
    source: str | Path,
    fields: Mapping[str, str] | None = None,
    options: ReadOptions | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield one mapping a row, in the file's order: place, prediction (or why there is none), and the row.

    Parameters
    ----------
    bundle
        Answers.
    source
        A file or folder that `weitiao.data.read.stream` reads.
    fields
        Field of the task to column of the file; found by the first rows where left out.
    options
        How the file is read.

    Raises
    ------
    DataError
        The file cannot be read, or a text column cannot be found.
    """
    rows = stream(source, options, bundle.task.formats)
    columns: dict[str, str] | None = None
    while chunk := list(islice(rows, _CHUNK)):
        good = [item.values for item in chunk if item.values is not None]
        if columns is None and good:
            wanted = [replace(f, required=True) for f in bundle.task.fields if f.name in bundle.text_fields]
            table = Table.from_rows(good, file=str(source))
            learnt = {k: v for k, v in bundle.recipe.data.fields.items() if v in table.column_names}
            known = {field.name for field in wanted}
            columns = find_columns(table, wanted, {k: v for k, v in learnt.items() if k in known} | dict(fields or {}))
        yield from _answer(bundle, chunk, columns or {})


def _answer(bundle: Bundle, chunk: list[Item], columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    rows: dict[int, dict[str, str]] = {}
    errors: dict[int, str] = {}
    for i, item in enumerate(chunk):
        if item.values is None:
            errors[i] = item.reason
            continue
        row = {name: _text(item.values.get(column)) for name, column in columns.items()}
        empty = [columns[name] for name, text in row.items() if not text.strip()]
        if empty:
            errors[i] = f"empty {', '.join(empty)}"
        else:
            rows[i] = row
    answers = {}
    for i, answer in zip(rows, answer_each(bundle, list(rows.values())), strict=True):
        if isinstance(answer, str):
            errors[i] = answer
        else:
            answers[i] = answer
    for i, item in enumerate(chunk):
        said = answers[i].to_json() if i in answers else {"error": errors[i]}
        yield {"place": str(item.place), **said, "row": item.values or {}}


def answer_each(bundle: Bundle, rows: Sequence[Mapping[str, Any]]) -> list[Prediction | str]:
    """Return the answer to each row, or why there is none; a row that cannot be answered costs no other its answer."""
    try:
        return list(bundle.predict(rows))
    except DataError as error:
        if len(rows) == 1:
            return [error.what]
    half = len(rows) // 2
    return [*answer_each(bundle, rows[:half]), *answer_each(bundle, rows[half:])]


def _cell(answer: Any) -> Any:
    return json.dumps(answer, ensure_ascii=False) if isinstance(answer, list | dict) else answer


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    return text.encode("utf-8", "replace").decode()


def write_file(predictions: Iterator[dict[str, Any]], path: Path) -> tuple[int, int]:
    """Write predictions as ``.csv`` or ``.jsonl``, whole or not at all; return how many rows were answered, and not.

    A CSV begins with a byte order mark, so that spreadsheets read Chinese.

    Raises
    ------
    DataError
        The name ends in something else.
    """
    writers = {".csv": (write_csv, "utf-8-sig"), ".jsonl": (write_lines, "utf-8")}
    if path.suffix not in writers:
        raise DataError(
            f"{path.suffix or path.name!r} is not a kind of file that is written.",
            where=path,
            fix="Name it .csv or .jsonl.",
        )
    write, encoding = writers[path.suffix]
    with whole_file(path, encoding=encoding) as file:
        return write(predictions, file)


def write_lines(predictions: Iterable[dict[str, Any]], out: TextIO) -> tuple[int, int]:
    """Write predictions as JSON lines; return how many rows were answered, and how many not."""
    count = [0, 0]
    for prediction in predictions:
        count["error" in prediction] += 1
        out.write(json.dumps(prediction, ensure_ascii=False, default=str) + "\n")
    return count[0], count[1]


def write_csv(predictions: Iterator[dict[str, Any]], out: TextIO) -> tuple[int, int]:
    """Write predictions as CSV, the file's columns first; return how many rows were answered, and how many not.

    The columns are those of the first rows; a column that comes up later (in JSON lines) is left out. A column of
    the file that is called as one of ours keeps its name, and ours is put as ``weitiao_NAME``.
    """
    first: list[dict[str, Any]] = []
    for prediction in predictions:  # rows before the first readable one have no columns
        first.append(prediction)
        if len(first) >= _CHUNK and any(p["row"] for p in first):
            break
    own = list(dict.fromkeys(name for p in first for name in p["row"]))
    ours = {name: f"weitiao_{name}" if name in own else name for name in _OURS}
    table = csv.DictWriter(out, [*own, *ours.values()], extrasaction="ignore", restval="", lineterminator="\n")
    table.writeheader()
    count = [0, 0]
    for prediction in chain(first, predictions):
        count["error" in prediction] += 1
        said = {**prediction, "predicted": _cell(prediction.get("label", prediction.get("answer", "")))}
        table.writerow({**prediction["row"], **{ours[name]: said.get(name, "") for name in _OURS}})
    return count[0], count[1]
