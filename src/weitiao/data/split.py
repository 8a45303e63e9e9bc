"""Train, dev and test: cut so that nothing leaks, the same way every time.

Rows that say nearly the same, or share a value of the group column, are one unit and stay together.
Where a unit goes follows from the seed and a hash of its rows, not from their order in the file:

- the same rows in any order, with the same seed, give the same split;
- with ``random``, a unit's place depends on nothing but itself, so added rows move no old row (unless
  an added row joins two units into one);
- with ``stratified`` (and ``auto``, where there is a label), units of a class are dealt in the order of their hashes,
  so an added row moves at most the few old units of its class that stand at the boundaries between the splits;
- with ``time``, the boundaries are dates, and move as the newest rows do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from pydantic import Field, model_validator

from weitiao.data.table import Table
from weitiao.data.units import by_chance, by_time, groups_of, joined_texts, must_have, stratified, units_of
from weitiao.errors import DataError
from weitiao.plugins import Options

__all__ = ["SplitSettings", "Splits", "complete", "remove_leaks", "split"]

_NAMES = {
    "train": ("train", "training", "训练", "训练集"),
    "dev": ("dev", "valid", "val", "validation", "验证", "验证集", "开发集"),
    "test": ("test", "testing", "测试", "测试集"),
}


class SplitSettings(Options):
    """How to cut rows into train, dev and test."""

    dev: float = Field(default=0.1, gt=0, lt=1, description="share of the rows that choose the checkpoint (0-1)")
    test: float = Field(default=0.2, gt=0, lt=1, description="share of the rows that are met once, at the end (0-1)")
    by: Literal["auto", "stratified", "random", "time"] = Field(
        default="auto",
        description="stratified: keep class shares; random: by chance alone; time: the oldest for training; auto: keep "
        "class shares where there is a label, with classes that are too small for it left in train",
    )
    group: str | None = Field(default=None, description="a column no value of which may be in two splits")
    time: str | None = Field(default=None, description="the column of dates, for by: time")

    @model_validator(mode="after")
    def _makes_sense(self) -> SplitSettings:
        if self.dev + self.test >= 1:
            raise ValueError(f"dev ({self.dev}) and test ({self.test}) leave no rows for training")
        if self.by == "time" and self.time is None:
            raise ValueError("by: time needs the column of dates; set time")
        if self.by != "time" and self.time is not None:
            raise ValueError(f"time has no effect with by: {self.by}; leave it out or set by: time")
        return self


@dataclass(frozen=True)
class Splits:
    """The three parts of the rows. Rows set aside before the cut are in `train`'s account."""

    train: Table
    dev: Table
    test: Table

    @property
    def tables(self) -> dict[str, Table]:
        """The parts by name."""
        return {"train": self.train, "dev": self.dev, "test": self.test}

    @staticmethod
    def from_column(table: Table, column: str) -> dict[str, Table]:
        """Cut a table by a column that names each row's split; see `complete` for what it does not name.

        Parameters
        ----------
        table
            All rows.
        column
            Holds ``train``, ``dev`` (``valid``, ``validation``, ``val``) or ``test``, or 训练, 验证, 测试; case
            does not count.

        Raises
        ------
        DataError
            No such column, or a value that names no split (with its row).
        """
        must_have(table, column, "split")
        known = {word: name for name, words in _NAMES.items() for word in words}
        parts: dict[str, list[int]] = {}
        for i, value in enumerate(table.column(column)):
            name = known.get(str(value).strip().casefold())
            if name is None:
                raise DataError(
                    f"{column} is {value!r}, which names no split.",
                    where=table.places[i],
                    fix="Write train, dev or test (or 训练, 验证, 测试).",
                )
            parts.setdefault(name, []).append(i)
        ordered = {name: table.take(parts[name]) for name in _NAMES if name in parts}
        first = next(iter(ordered), None)
        if first is not None:
            ordered[first] = _with_aside(ordered[first], table)
        return ordered


def split(table: Table, settings: SplitSettings, *, label: str | None, text_fields: Sequence[str], seed: int) -> Splits:
    """Cut rows into train, dev and test.

    Parameters
    ----------
    table
        Rows with the standard field names.
    settings
        Shares and manner.
    label
        The label column; needed to stratify.
    text_fields
        The text columns; rows whose texts are near-duplicates stay together.
    seed
        Another seed, another split.

    Raises
    ------
    DataError
        Too few rows or units, a class of fewer than 3 units when stratifying, a missing column, or a date
        that cannot be read.
    """
    shares = {"test": settings.test, "dev": settings.dev}
    parts = _cut(table, settings, shares, label, text_fields, seed)
    train = _with_aside(table.take(parts["train"]), table)
    return Splits(train, table.take(parts["dev"]), table.take(parts["test"]))


def complete(
    given: Mapping[str, Table],
    settings: SplitSettings,
    *,
    label: str | None,
    text_fields: Sequence[str],
    seed: int,
) -> Splits:
    """Make three splits of those that are given, cutting the missing ones from train.

    The shares of `settings` are of the rows of `train` as it was given.

    Raises
    ------
    DataError
        No train rows are given, or they cannot be cut (see `split`).
    """
    if "train" not in given:
        raise DataError("the rows for training are missing.", fix="Give train; the others can be cut from it.")
    train = given["train"]
    shares = {name: getattr(settings, name) for name in ("test", "dev") if name not in given}
    if not shares:
        return Splits(train, given["dev"], given["test"])
    if settings.group is not None:
        _must_not_share(given, settings.group)
    parts = _cut(train, settings, shares, label, text_fields, seed)
    made = {name: train.take(parts[name]) for name in shares}
    whole = {**given, **made, "train": _with_aside(train.take(parts["train"]), train)}
    return Splits(whole["train"], whole["dev"], whole["test"])


def _must_not_share(given: Mapping[str, Table], column: str) -> None:
    """Raise a `DataError` if a value of the group column stands in two given splits."""
    for table in given.values():
        must_have(table, column, "group")
    values = {name: {value for value in groups_of(table, column) if value is not None} for name, table in given.items()}
    for a, b in combinations(values, 2):
        if both := values[a] & values[b]:
            raise DataError(
                f"{len(both):,} values of {column} stand in both {a} and {b}, such as {min(both)!r}.",
                fix="Give files that share none, or give all rows as train and let them be cut.",
            )


def remove_leaks(splits: Splits, text_fields: Sequence[str]) -> Splits:
    """Set aside the train rows that stand, the same or nearly so, in dev or test.

    Dev rows that stand in test are set aside too: a checkpoint must not be chosen on test rows.
    """
    from weitiao.data.near import near_pairs_between

    texts = {name: joined_texts(table, text_fields) for name, table in splits.tables.items()}
    tables = dict(splits.tables)
    for name, others in (("train", ("test", "dev")), ("dev", ("test",))):
        reasons: dict[int, str] = {}
        for other in others:
            for i, j, similarity in near_pairs_between(texts[name], texts[other]):
                kind = "the same text" if similarity >= 1 else "nearly the same text"
                reasons.setdefault(i, f"{kind} stands in {other}: {tables[other].places[j]}")
        tables[name] = splits.tables[name].put_aside(reasons)
        if not len(tables[name]):
            raise DataError(f"every row of {name} stands in {' or '.join(others)} too.", fix="Give other files.")
    return Splits(tables["train"], tables["dev"], tables["test"])


def _cut(
    table: Table,
    settings: SplitSettings,
    shares: Mapping[str, float],
    label: str | None,
    text_fields: Sequence[str],
    seed: int,
) -> dict[str, list[int]]:
    if settings.group is not None:
        must_have(table, settings.group, "group")
    units = list(units_of(table, settings.group, text_fields, seed))
    if len(units) < len(shares) + 1:
        raise DataError(
            f"{len(table)} rows make {len(units)} units that must stay together (same group or nearly the same text), "
            f"which cannot be cut into {len(shares) + 1} splits.",
            fix="Give more rows, or another group column.",
        )
    if settings.by == "time":
        where = by_time(table, units, shares, str(settings.time))
    elif settings.by == "random" or label is None:
        if settings.by == "stratified":
            raise DataError("there is no label to stratify by.", fix="Leave split.by out.")
        where = by_chance(units, shares)
    else:
        where = stratified(table, units, shares, label, strict=settings.by == "stratified")
    parts: dict[str, list[int]] = {name: [] for name in ("train", *shares)}
    for unit, name in zip(units, where, strict=True):
        parts[name] += unit.rows
    if empty := [name for name, rows in parts.items() if not rows]:
        raise DataError(
            f"{' and '.join(empty)} would have no rows: {len(table)} rows in {len(units)} units are too few.",
            fix="Give more rows, or larger shares for dev and test.",
        )
    return {name: sorted(rows) for name, rows in parts.items()}


def _with_aside(part: Table, whole: Table) -> Table:
    """Let a part answer for the rows that were set aside before the cut."""
    return Table(part.columns, part.places, whole.set_aside, part.sources, part.ids)
