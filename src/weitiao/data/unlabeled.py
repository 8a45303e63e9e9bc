"""Rows without labels: read as all others are, and kept apart from the rows that measure.

A text of dev or test must not be learnt from, with a label of the model's own or without one: such a row is set
aside, and so is one that only repeats another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from weitiao.data.fields import Field, map_fields
from weitiao.data.near import near_pairs_between, normalise
from weitiao.data.split import Splits
from weitiao.data.table import Table
from weitiao.data.units import joined_texts
from weitiao.errors import DataError
from weitiao.findings import Finding

__all__ = ["account", "without_labels"]

_LEAK = "of dev or test"


def without_labels(table: Table, fields: Sequence[Field], given: Mapping[str, str], splits: Splits) -> Table:
    """Return the rows with the fields that a request has, and no other column.

    Parameters
    ----------
    table
        As it was read; a label that stands in it is left out.
    given
        Field to column, from the user; what this file does not have is found.
    splits
        The other rows. One that says the same as a row of dev or test, or nearly so, is set aside; so is one that
        says the same as a training row or an earlier one.

    Raises
    ------
    DataError
        A column is missing.
    """
    inputs = [field for field in fields if field.is_input and field.name in splits.train.column_names]
    names = [field.name for field in inputs]
    here = {name: column for name, column in given.items() if name in names and column in table.column_names}
    mapped = map_fields(table, inputs, here, labels_required=False)
    if missing := [name for name in names if name not in mapped.column_names]:
        raise DataError(
            f"the rows without labels have no column for {', '.join(missing)}, and those for training have one.",
            where=", ".join(source.file for source in table.sources),
            fix="Name the column as in the other file.",
        )
    bare = Table(mapped.columns.select(names), mapped.places, mapped.set_aside, mapped.sources, mapped.ids)
    return bare.put_aside(_repeated(bare, splits, [field.name for field in inputs if field.kind == "text"]))


def _repeated(table: Table, splits: Splits, text_fields: Sequence[str]) -> dict[int, str]:
    """Return the rows that stand elsewhere, index to reason."""
    if not text_fields:
        return {}
    reasons: dict[int, str] = {}
    texts = joined_texts(table, text_fields)
    for name in ("test", "dev"):
        other = splits.tables[name]
        for i, j, similarity in near_pairs_between(joined_texts(other, text_fields), texts):
            kind = "the same text as a row" if similarity >= 1 else "nearly the same text as a row"
            reasons.setdefault(j, f"{kind} {_LEAK}: {other.places[i]}")
    seen = {normalise(text): "train" for text in joined_texts(splits.train, text_fields)}
    for j, text in enumerate(map(normalise, texts)):
        if text in seen:
            reasons.setdefault(j, f"the same text stands in {seen[text]}")
        seen.setdefault(text, "another such row")
    return reasons


def account(table: Table) -> Finding:
    """Say how many rows without labels there are, and why others are not used."""
    why = Counter(row.reason.partition(": ")[0] for row in table.set_aside)
    leaks = [row for row in table.set_aside if _LEAK in row.reason]
    told = "".join(f"; {n:,} left out: {reason}" for reason, n in why.most_common())
    return Finding(
        "unlabeled",
        "warning" if leaks else "info",
        f"{len(table):,} of {table.rows_in:,} rows without labels are used{told}.",
        "Nothing to do: what measures the model was not learnt from." if leaks else "Nothing to do.",
        places=tuple(str(row.place) for row in leaks[:10]),
        count=len(table),
        evidence={"used": len(table), "left_out": dict(why)},
    )
