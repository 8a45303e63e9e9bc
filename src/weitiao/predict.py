"""Predict a file row by row in constant memory; every row that was read gets a line of its own."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from weitiao.bundle import Bundle
from weitiao.data.fields import Field, find_columns
from weitiao.data.read import Item, ReadOptions, stream
from weitiao.data.table import Table

__all__ = ["predict_file", "write_predictions"]

_CHUNK = 1024  # rows in memory at a time
_LOOK = 200  # rows by whose content columns are found


def predict_file(
    bundle: Bundle,
    source: str | Path,
    fields: Mapping[str, str] | None = None,
    options: ReadOptions | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield one mapping a row, in the file's order: place, prediction (or why there is none), and the row.

    Parameters
    ----------
    fields
        Field of the task to column of the file; found where left out.

    Raises
    ------
    DataError
        The file cannot be read, or a text column cannot be found.
    """
    items = stream(source, options)
    first = list(islice(items, _LOOK))
    good = [item.values for item in first if item.values is not None]
    wanted = [Field(f.name, f.kind, f.required, f.synonyms) for f in bundle.task.fields if f.kind == "text"]
    columns = find_columns(Table.from_rows(good, file=str(source)), wanted, fields) if good else {}
    rest = chain(first, items)
    while chunk := list(islice(rest, _CHUNK)):
        yield from _answer(bundle, chunk, columns)


def _answer(bundle: Bundle, chunk: list[Item], columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    errors: dict[int, str] = {}
    for i, item in enumerate(chunk):
        if item.values is None:
            errors[i] = item.reason
            continue
        row = {name: item.values.get(column) for name, column in columns.items()}
        empty = [columns[name] for name, value in row.items() if value is None or not str(value).strip()]
        if empty:
            errors[i] = f"empty {', '.join(empty)}"
        else:
            rows[i] = {name: str(value) for name, value in row.items()}
    answers = dict(zip(rows, bundle.predict(list(rows.values())), strict=True))
    for i, item in enumerate(chunk):
        said = answers[i].to_json() if i in answers else {"error": errors[i]}
        yield {"place": str(item.place), **said, "row": item.values or {}}


def write_predictions(predictions: Iterator[dict[str, Any]], out: TextIO, *, as_csv: bool) -> tuple[int, int]:
    """Write predictions as JSON lines or CSV; return how many rows were answered, and how many not."""
    done = failed = 0
    table: Any = None
    for prediction in predictions:
        failed += "error" in prediction
        done += "error" not in prediction
        if not as_csv:
            out.write(json.dumps(prediction, ensure_ascii=False, default=str) + "\n")
            continue
        flat = {
            "place": prediction["place"],
            "predicted": prediction.get("label", ""),
            "confidence": prediction.get("confidence", ""),
            "error": prediction.get("error", ""),
        }
        if table is None:
            own = [name for name in prediction["row"] if name not in flat]
            table = csv.DictWriter(out, [*own, *flat], extrasaction="ignore", restval="")
            table.writeheader()
        table.writerow({**prediction["row"], **flat})
    return done, failed
