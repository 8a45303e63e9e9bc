"""Which rows stay together, and in which split each such unit goes.

Every order in which units are dealt is the order of their hashes, so that the file's order plays no part.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weitiao.data.dates import instant
from weitiao.data.table import Table
from weitiao.errors import DataError, did_you_mean

__all__ = ["Unit", "by_chance", "by_time", "groups_of", "joined_texts", "must_have", "stratified", "units_of"]


@dataclass(frozen=True)
class Unit:
    """Rows that stay together, in an order that does not depend on the file's."""

    rows: tuple[int, ...]
    key: str  # a hash of the seed and of the rows: the unit's place in every order


def units_of(table: Table, group: str | None, text_fields: Sequence[str], seed: int) -> Iterator[Unit]:
    """Yield the units of a table: rows of one group, or of nearly the same text, directly or through others."""
    from weitiao.data.near import near_groups

    joined = list(near_groups(joined_texts(table, text_fields))) if text_fields else list(range(len(table)))
    parent = list(range(len(table)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    columns: list[Sequence[Any]] = [joined]
    if group is not None:
        columns.append(groups_of(table, group))
    for values in columns:
        first: dict[Any, int] = {}
        for i, value in enumerate(values):
            if value is not None:
                parent[root(i)] = root(first.setdefault(value, i))
    members: dict[int, list[int]] = defaultdict(list)
    for i in range(len(table)):
        members[root(i)].append(i)
    ids = table.ids
    for rows in members.values():
        rows.sort(key=lambda i: ids[i])
        # The smallest id names the unit, so that a unit which gains a row mostly keeps its place.
        yield Unit(tuple(rows), hashlib.sha256(f"{seed}:{ids[rows[0]]}".encode()).hexdigest())


def groups_of(table: Table, column: str) -> list[str | None]:
    """Return each row's group; an empty one is none: rows without a customer are not all one customer."""
    return [None if v is None or v == "" else str(v) for v in table.column(column)]


def by_chance(units: Sequence[Unit], shares: Mapping[str, float]) -> list[str]:
    """Put each unit where its own hash says, whatever the others are; one larger than a share stays in train.

    The other units then make up for it, so that dev and test have their shares of all rows.
    """
    total = sum(len(unit.rows) for unit in units)
    largest = max(1.0, min(shares.values()) * total)
    fits = [len(unit.rows) <= largest for unit in units]
    fitting = sum(len(unit.rows) for unit, fit in zip(units, fits, strict=True) if fit)
    scale = min(total / max(1, fitting), 1 / sum(shares.values()))
    of_fitting = {name: share * scale for name, share in shares.items()}
    slots = [_slot(int(unit.key[:13], 16) / 16**13, of_fitting) for unit in units]
    return [slot if fit else "train" for slot, fit in zip(slots, fits, strict=True)]


def _slot(position: float, shares: Mapping[str, float]) -> str:
    edge = 0.0
    for name, share in shares.items():
        edge += share
        if position < edge:
            return name
    return "train"


def stratified(
    table: Table, units: Sequence[Unit], shares: Mapping[str, float], label: str, *, strict: bool = True
) -> list[str]:
    """Deal the units of each class, in the order of their hashes, until each split has its share of rows.

    A class that has too few of them for every split is an error, or, not `strict`, stays in train whole.
    """
    labels = table.column(label)
    classes: dict[Any, list[int]] = defaultdict(list)
    for u, unit in enumerate(units):
        counts = Counter(labels[i] for i in unit.rows)
        rarest_first = sorted(counts, key=lambda value: (-counts[value], str(value)))
        classes[rarest_first[0]].append(u)
    needed = len(shares) + 1
    small = {value: len(own) for value, own in classes.items() if len(own) < needed}
    small |= dict.fromkeys(set(labels) - set(classes), 0)
    if small and strict:
        shown = ", ".join(f"{value!r} ({n})" for value, n in sorted(small.items(), key=lambda x: (x[1], str(x[0])))[:8])
        raise DataError(
            f"{len(small)} classes have too few different rows for {needed} splits: {shown}.",
            fix=f"Every class needs {needed} that are not near-duplicates or of one group: add rows, merge the "
            "classes, or set by: random.",
        )
    where = ["train"] * len(units)
    for own in (own for own in classes.values() if len(own) >= needed):
        own.sort(key=lambda u: units[u].key)
        total = sum(len(units[u].rows) for u in own)
        left = list(own)
        for place, (name, share) in enumerate(shares.items()):
            wanted, have = share * total, 0
            reserve = needed - 1 - place  # one unit at least for each split that comes after
            while len(left) > reserve:
                # a unit too large for what is still wanted is passed over; it stays in train
                u = next((u for u in left if have + len(units[u].rows) / 2 <= wanted), None)
                if u is None and have:
                    break
                if u is None:  # every split gets one of each class: the smallest, if none fits
                    u = min(left, key=lambda u: len(units[u].rows))
                left.remove(u)
                where[u] = name
                have += len(units[u].rows)
    return where


def by_time(table: Table, units: Sequence[Unit], shares: Mapping[str, float], column: str) -> list[str]:
    """Give the oldest units to train and the newest to test; a unit is as old as its newest row."""
    must_have(table, column, "time")
    times: list[float] = []
    for i, value in enumerate(table.column(column)):
        if (when := instant(value)) is None:
            raise DataError(
                f"{column} is {value!r}, which is not a date.",
                where=table.places[i],
                fix="Write dates as 2024-03-01, 2024-03-01 14:30, 2024年3月1日, or as numbers.",
            )
        times.append(when)
    newest = [max(times[i] for i in unit.rows) for unit in units]
    order = sorted(range(len(units)), key=lambda u: (newest[u], units[u].key), reverse=True)
    where = ["train"] * len(units)
    at = 0
    for place, (name, share) in enumerate(shares.items()):
        wanted, have = share * len(table), 0
        reserve = len(shares) - place
        while len(order) - at > reserve and (not have or have + len(units[order[at]].rows) / 2 <= wanted):
            where[order[at]] = name
            have += len(units[order[at]].rows)
            at += 1
    return where


def joined_texts(table: Table, text_fields: Sequence[str]) -> list[str]:
    """Return one text a row: its text columns, a line each."""
    columns = [table.column(name) for name in text_fields]
    return ["\n".join("" if v is None else str(v) for v in values) for values in zip(*columns, strict=True)]


def must_have(table: Table, column: str, setting: str) -> None:
    """Raise a `DataError` if there is no such column."""
    if column not in table.column_names:
        raise DataError(
            f"there is no column {column!r} (set as {setting}).{did_you_mean(column, table.column_names)}",
            fix=f"Columns: {', '.join(table.column_names)}.",
        )
