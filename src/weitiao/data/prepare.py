"""From files to three splits of usable rows, with an account of every row that was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field as Setting
from pydantic import model_validator

from weitiao.data.fields import Field, map_fields
from weitiao.data.read import ReadOptions, must_exist, read
from weitiao.data.split import Splits, SplitSettings, complete, remove_leaks
from weitiao.data.table import SetAside, Source, Table
from weitiao.data.unlabeled import without_labels
from weitiao.errors import DataError
from weitiao.plugins import Options

__all__ = ["DataSettings", "Prepared", "prepare"]


class DataSettings(Options):
    """Which rows, and how they are read and split."""

    train: str | tuple[str, ...] = Setting(description="file or files, a folder of classes, or hub:NAME")
    dev: str | tuple[str, ...] | None = Setting(None, description="rows to choose by; null: cut from train")
    test: str | tuple[str, ...] | None = Setting(None, description="rows met once, at the end; null: cut from train")
    unlabeled: str | tuple[str, ...] | None = Setting(
        None, description="rows without labels, for what learns from them; null: there are none"
    )
    fields: dict[str, str] = Setting({}, description="field of the task to column of the file; found where left out")
    read: ReadOptions = Setting(ReadOptions(), description="how files are read; found out where left out")
    split: SplitSettings = Setting(SplitSettings(), description="how missing splits are cut from train")
    split_column: str | None = Setting(None, description="column that says train, dev or test")
    remove_leaks: bool = Setting(False, description="set aside training rows that also stand in dev or test")

    @model_validator(mode="after")
    def _no_idle_setting(self) -> DataSettings:
        if self.split_column and (self.dev or self.test):
            raise ValueError("split_column has no effect when dev or test is given")
        if self.dev and self.test and self.split != SplitSettings():
            raise ValueError("split has no effect when dev and test are both given")
        for name in ("dev", "test"):
            if getattr(self, name) and getattr(self.split, name) != getattr(SplitSettings(), name):
                raise ValueError(f"split.{name} has no effect when {name} is given")
        if self.remove_leaks and not (self.dev or self.test or self.split_column):
            raise ValueError("remove_leaks has no effect when dev and test are cut from train: that never leaks")
        return self

    def must_exist(self) -> None:
        """Raise `DataError` where a file is not there, before anything is read or loaded."""
        for source in (self.train, self.dev, self.test, self.unlabeled):
            if source is not None:
                must_exist(source)


@dataclass(frozen=True)
class Prepared:
    """Usable rows by split, and where all others went.

    ``rows_in == sum of the splits + len(set_aside)``, always; rows without labels are apart, and account for
    themselves.
    """

    splits: Splits
    set_aside: tuple[SetAside, ...]
    rows_in: int
    sources: tuple[Source, ...]
    unlabeled: Table | None = None

    @property
    def tables(self) -> Mapping[str, Table]:
        """The splits by name."""
        return self.splits.tables

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows were set aside for each reason (what follows a colon left out), the commonest first."""
        return dict(Counter(row.reason.partition(": ")[0] for row in self.set_aside).most_common())

    @property
    def fingerprints(self) -> dict[str, str]:
        """A hash of the rows of each split, and of those without labels."""
        more = {} if self.unlabeled is None else {"unlabeled": self.unlabeled}
        return {name: table.fingerprint for name, table in {**self.tables, **more}.items()}

    def without(self, refused: Callable[[Table], Mapping[int, str]]) -> Prepared:
        """Set aside the rows that `refused` names, index to reason, in each split and among those without labels."""
        kept, gone = {}, list(self.set_aside)
        for name, table in self.tables.items():
            left = table.put_aside(refused(table))
            kept[name] = left
            gone += left.set_aside[len(table.set_aside) :]
            _must_have_rows(name, left)
        rest = self.unlabeled
        if rest is not None:
            usual = kept["train"][0]  # what a row without label lacks is taken to be as it should
            lacks = {name: [value] * len(rest) for name, value in usual.items() if name not in rest.column_names}
            rest = rest.put_aside(refused(rest.with_columns(lacks)))
            _must_have_rows("unlabeled", rest)
        return Prepared(Splits(**kept), tuple(gone), self.rows_in, self.sources, rest)


def _must_have_rows(name: str, table: Table) -> None:
    if not len(table):
        why = Counter(row.reason for row in table.set_aside).most_common(1)
        raise DataError(
            f"no row of {name} is left" + (f"; most were set aside for: {why[0][0].rstrip('.')}." if why else "."),
            fix="Look at the file, or name its columns in data.fields.",
        )


def prepare(
    settings: DataSettings,
    fields: Sequence[Field],
    seed: int,
    refused: Callable[[Table], Mapping[int, str]] = lambda table: {},
    formats: Sequence[str] = (),
) -> Prepared:
    """Read the files, find the task's fields, and split.

    Parameters
    ----------
    refused
        Names the rows of a table that are set aside before it is split, index to reason.
    formats
        Names of formats to look for, in this order, before a file is read as a table.

    Raises
    ------
    DataError
        A file cannot be read, a field has no column, no row of a file is left, or the rows cannot be split as
        asked.
    """
    given: dict[str, Table] = {}
    for name in ("train", "dev", "test"):
        source = getattr(settings, name)
        if source is not None:
            paths = source if isinstance(source, str) else list(source)
            mapped = map_fields(read(paths, settings.read, formats), fields, settings.fields)
            given[name] = mapped.put_aside(refused(mapped))
            _must_have_rows(name, given[name])
    tables = list(given.values())
    aside = [row for table in tables for row in table.set_aside]
    rows_in = sum(table.rows_in for table in tables)
    if settings.split_column:
        given = Splits.from_column(given["train"], settings.split_column)
        if len(given) == 3 and settings.split != SplitSettings():
            raise DataError(
                f"split has no effect: {settings.split_column} names train, dev and test.", fix="Leave split out."
            )
    there = next(iter(given.values())).column_names  # of train; `complete` says so if it is missing
    text_fields = [f.name for f in fields if f.kind == "text" and f.name in there]
    label = next((f.name for f in fields if f.kind == "label"), None)
    splits = complete(given, settings.split, label=label, text_fields=text_fields, seed=seed)
    if settings.remove_leaks:
        before = {name: len(table.set_aside) for name, table in splits.tables.items()}
        splits = remove_leaks(splits, text_fields)
        aside += [row for name, table in splits.tables.items() for row in table.set_aside[before[name] :]]
    rest = None
    if settings.unlabeled is not None:
        paths = settings.unlabeled if isinstance(settings.unlabeled, str) else list(settings.unlabeled)
        rest = without_labels(read(paths, settings.read, formats), fields, settings.fields, splits)
        _must_have_rows("unlabeled", rest)
        tables.append(rest)
    return Prepared(splits, tuple(aside), rows_in, tuple(s for table in tables for s in table.sources), rest)
