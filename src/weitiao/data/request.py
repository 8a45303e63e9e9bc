"""A row that somebody asks to be predicted: a text, or a mapping that holds the task's texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from weitiao.data.fields import Field
from weitiao.errors import DataError, did_you_mean

__all__ = ["ROWS_ARE", "request_texts"]

ROWS_ARE = 'Give a text, a mapping of fields such as {"text": ...}, or several of either.'


def request_texts(row: Any, number: int, names: Sequence[str], fields: Sequence[Field]) -> dict[str, str]:
    """Return the texts of a row; other keys of it are left alone.

    Parameters
    ----------
    row
        A text, or a mapping.
    number
        Of the row, from 1, for the message.
    names
        Fields that the model reads.
    fields
        All fields of the task; a text among them that the model does not read is refused, not ignored.

    Raises
    ------
    DataError
        The row lacks a text, or is something else.
    """
    where = f"row {number}"
    if isinstance(row, str):
        row = {names[0]: row}
    if not isinstance(row, Mapping):
        raise DataError(f"{type(row).__name__} is no kind of row.", where=where, fix=ROWS_ARE)
    row = {k: json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v for k, v in row.items()}
    own = {name: row[name] for name in names if isinstance(row.get(name), str) and row[name].strip()}
    optional = {field.name for field in fields if field.kind == "json" and not field.required}
    for name in names:
        if name not in own and name not in optional:
            near = did_you_mean(name, [key for key in row if isinstance(key, str)]) if name not in row else ""
            needs = f"Every row needs {' and '.join(names)}."
            raise DataError(f"{name} is empty or missing.{near}", where=where, fix=needs)
    for field in fields:
        if field.is_input and field.name not in own and row.get(field.name) is not None:
            raise DataError(
                f"has {field.name}, which this bundle does not read: it was trained on {', '.join(own)}.",
                where=where,
                fix="Leave it out.",
            )
    for name, text in own.items():
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise DataError(f"{name} holds half a character (a lone surrogate).", where=where, fix="Decode it anew.")
    return own
