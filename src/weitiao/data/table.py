"""A table: rows that remember the file and line they came from.

Every row has a place (``reviews.csv:412``) and an id: a hash of its content as it was read and of
how often that content came before, which never changes again. Rows that cannot be used are never
dropped: they are set aside with a reason, so that ``rows_in == len(table) + len(table.set_aside)``
always holds.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

__all__ = ["Place", "Row", "SetAside", "Source", "Table", "join_columns"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: the file's name and its line (for sheets and binary files, its row), from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row that was read but is not used, and why."""

    place: Place
    reason: str
    content: str = ""  # an excerpt, so that the row can be recognised


@dataclass(frozen=True, slots=True)
class Row(Mapping[str, Any]):
    """One row: a mapping from column to value, with its place and id."""

    values_: Mapping[str, Any]
    place: Place
    id: str

    def __getitem__(self, key: str) -> Any:
        return self.values_[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


@dataclass(frozen=True)
class Source:
    """A file that rows came from, and what had to be decided to read it.

    Parameters
    ----------
    file
        The file's name (or the set's, for a hub).
    format
        ``csv``, ``tsv``, ``lines``, ``pattern``, ``jsonl``, ``json``, ``parquet``, ``xlsx``, ``folder``, ``datasets``.
    encoding, delimiter, header
        As found or given; ``None`` where the format has no such thing.
    rows_in
        Rows read from it, those set aside included.
    sha256
        Of the file's bytes as they lie on the disk.
    notes
        What was out of the ordinary (``"not UTF-8: read as cp1252"``), a sentence each.
    """

    file: str
    format: str
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    rows_in: int = 0
    sha256: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows in Arrow columns, their places, and the rows set aside so far.

    Parameters
    ----------
    columns
        The user's columns; `num_rows` rows.
    places
        One `Place` a row, in order.
    set_aside
        Rows read but not used.
    sources
        The files the rows came from.
    known_ids
        The rows' ids where they are known already (a table made from another one keeps its ids).
    """

    columns: pa.Table
    places: Sequence[Place]
    set_aside: tuple[SetAside, ...] = field(default=())
    sources: tuple[Source, ...] = field(default=())
    known_ids: Sequence[str] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_rows(
        cls, rows: Sequence[Mapping[str, Any]], *, file: str = "memory", places: Sequence[Place] | None = None
    ) -> Table:
        """Make a table of plain mappings; rows are numbered from 1 unless `places` are given."""
        keys: dict[str, None] = {}
        for row in rows:
            keys.update(dict.fromkeys(row))
        columns = {key: _column([row.get(key) for row in rows]) for key in keys}
        return cls(pa.table(columns), places or [Place(file, i + 1) for i in range(len(rows))])

    @classmethod
    def concat(cls, tables: Sequence[Table]) -> Table:
        """Put tables one after the other; missing columns become null.

        Rows keep their ids; where two tables hold the same row, the later one is counted as one
        more occurrence, so that ids stay unique.
        """
        seen: Counter[str] = Counter()
        ids = []
        for id_ in (i for t in tables for i in t.ids):
            ids.append(_digest(f"{seen[id_]}{id_}") if seen[id_] else id_)
            seen[id_] += 1
        places = [p for t in tables for p in t.places]
        set_aside = tuple(s for t in tables for s in t.set_aside)
        sources = tuple(dict.fromkeys(s for t in tables for s in t.sources))
        return cls(join_columns([t.columns for t in tables]), places, set_aside, sources, ids)

    def __len__(self) -> int:
        return self.columns.num_rows

    def __getitem__(self, index: int) -> Row:
        values = {name: self.columns.column(name)[index].as_py() for name in self.column_names}
        return Row(values, self.places[index], self.ids[index])

    def __iter__(self) -> Iterator[Row]:
        for values, place, id_ in zip(self.columns.to_pylist(), self.places, self.ids, strict=True):
            yield Row(values, place, id_)

    @property
    def rows_in(self) -> int:
        """Rows that were read: those here and those set aside."""
        return len(self) + len(self.set_aside)

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self.columns.column_names)

    def column(self, name: str) -> list[Any]:
        """Return one column as Python values."""
        return self.columns.column(name).to_pylist()

    def take(self, indices: Sequence[int]) -> Table:
        """Return the rows at `indices`, in that order, with their ids; nothing is counted as set aside."""
        rows = self.columns.take(pa.array(indices, type=pa.int64()))
        ids = self.ids
        return Table(rows, [self.places[i] for i in indices], (), self.sources, [ids[i] for i in indices])

    def put_aside(self, reasons: Mapping[int, str]) -> Table:
        """Return the table without the rows in `reasons` (index to reason), which are set aside."""
        if not reasons:
            return self
        keep = [i for i in range(len(self)) if i not in reasons]
        gone = tuple(SetAside(self.places[i], why, self._excerpt(i)) for i, why in sorted(reasons.items()))
        return replace(self.take(keep), set_aside=self.set_aside + gone)

    def with_columns(self, columns: Mapping[str, Sequence[Any]]) -> Table:
        """Return the table with columns added, or replaced where the name exists; rows keep their ids."""
        rows = self.columns
        for name, values in columns.items():
            new = _column(list(values))
            at = rows.schema.get_field_index(name)
            rows = rows.append_column(name, new) if at < 0 else rows.set_column(at, name, new)
        return replace(self, columns=rows, known_ids=self.ids)

    def rename(self, names: Mapping[str, str]) -> Table:
        """Return the table with columns renamed (old name to new); rows keep their ids."""
        new = [names.get(name, name) for name in self.column_names]
        return replace(self, columns=self.columns.rename_columns(new), known_ids=self.ids)

    @cached_property
    def ids(self) -> Sequence[str]:
        """One id a row: 16 hex digits of a hash of its content and its occurrence."""
        if self.known_ids is not None:
            return self.known_ids
        seen: Counter[str] = Counter()
        ids = []
        for values in self.columns.to_pylist():
            content = json.dumps(values, ensure_ascii=False, sort_keys=True, default=str)
            ids.append(_digest(f"{seen[content]}{content}"))
            seen[content] += 1
        return ids

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all rows in their order: equal tables have equal fingerprints."""
        return hashlib.sha256("".join(self.ids).encode()).hexdigest()

    def _excerpt(self, index: int) -> str:
        return json.dumps(self.columns.slice(index, 1).to_pylist()[0], ensure_ascii=False, default=str)[:120]


def join_columns(tables: Sequence[pa.Table]) -> pa.Table:
    """Put Arrow tables one after the other; a column whose types disagree becomes text."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        types: dict[str, set[pa.DataType]] = {}
        for schema_field in (f for t in tables for f in t.schema if not pat.is_null(f.type)):
            types.setdefault(schema_field.name, set()).add(schema_field.type)
        mixed = {name for name, found in types.items() if len(found) > 1}
        return pa.concat_tables([_as_text(t, mixed) for t in tables], promote_options="permissive")


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    for at, name in enumerate(table.column_names):
        if name in names:
            values = [None if v is None else str(v) for v in table.column(name).to_pylist()]
            table = table.set_column(at, name, pa.array(values, type=pa.string()))
    return table


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # mixed types: keep what people wrote, as text
        return pa.array([None if v is None else str(v) for v in values], type=pa.string())
