"""From a file, a folder or a hub to a `Table`, with every row that could not be read named.

`stream` gives one row at a time, in constant memory for CSV, TSV, JSON lines and plain lines; `read`
collects what `stream` gives. Both read what is right and give a reason for every row that is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import Field, field_validator

from weitiao.data import tabular
from weitiao.data.recognize import OF_ANY_TEXT, is_saved_set, joined, recognized
from weitiao.data.table import Place, SetAside, Table, join_columns
from weitiao.data.tabular import Report
from weitiao.errors import DataError, MissingExtra, did_you_mean
from weitiao.plugins import Options, names

__all__ = ["Item", "ReadOptions", "must_exist", "read", "stream"]

_CHUNK = 20_000  # rows that are turned into columns together
_EXCERPT = 120


class ReadOptions(Options):
    """How a file is to be read; whatever is left out is found out."""

    format: str | None = Field(
        default=None, description="name of a format such as conll or squad; left out, it is found"
    )
    encoding: str | None = Field(default=None, description="such as utf-8, gb18030, utf-16; left out, it is found")
    delimiter: str | None = Field(default=None, description="the character between fields; left out, it is found")
    header: bool | None = Field(default=None, description="whether the first line names the columns; else found")
    pattern: str | None = Field(
        default=None,
        description=r"a regular expression with named groups for a line: (?P<text>.*)@(?P<label>\w+)",
    )
    sheet: str | None = Field(default=None, description="the sheet of an Excel workbook; left out, the first")

    @field_validator("format")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        known = names("formats")
        if value is not None and value not in known and not value.endswith(".py"):
            raise ValueError(
                f"no format is called {value!r}.{did_you_mean(value, known)} Known: {', '.join(known)}; "
                "tables (CSV, TSV, JSON, Parquet, Excel) need no name"
            )
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        value = {"\\t": "\t", "tab": "\t"}.get(value or "", value)
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError("a delimiter is one character, and neither a quote nor a line end")
        return value

    @field_validator("pattern")
    @classmethod
    def _has_groups(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            groups = re.compile(value).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if not groups:
            raise ValueError("the pattern names no group; write (?P<text>...) and (?P<label>...)")
        return value


class Item(NamedTuple):
    """One row of a stream: its values, or the reason why there are none, and an excerpt to know it by."""

    place: Place
    values: dict[str, Any] | None
    reason: str
    content: str


def read(
    source: str | Path | Sequence[str | Path], options: ReadOptions | None = None, formats: Sequence[str] = ()
) -> Table:
    """Read rows into a table.

    Parameters
    ----------
    source
        A file (CSV, TSV, TXT, JSON, JSON lines, Parquet, Excel; any of them gzipped), a folder of text files
        per class, a folder that ``datasets`` saved, ``hub:NAME`` or ``hub:NAME:SPLIT``; a file or folder in one
        of `formats`, or two files that such a format reads together (``a+b``); or several of these.
    options
        What the user knows about the file; an option that does not concern its format is refused.
    formats
        Names of formats to look for, in this order, before the source is read as a table.

    Returns
    -------
    The rows that could be read; the others are in its `set_aside`, so that
    ``table.rows_in == len(table) + len(table.set_aside)``.

    Raises
    ------
    DataError
        There is no such file, it is empty or broken, its format is unknown, or no row of it can be read.
    MissingExtra
        A hub or a saved set without the ``datasets`` library.
    """
    if not isinstance(source, str | Path):
        if not source:
            raise DataError("no file was named.", fix="Name at least one.")
        return Table.concat([read(one, options, formats) for one in source])
    items, report = _open(source, options or ReadOptions(), formats)
    chunks: list[pa.Table] = []
    rows: list[dict[str, Any]] = []
    places: list[Place] = []
    set_aside: list[SetAside] = []
    for item in items:
        if item.values is None:
            set_aside.append(SetAside(item.place, item.reason, item.content))
            continue
        rows.append(item.values)
        places.append(item.place)
        if len(rows) >= _CHUNK:
            chunks.append(Table.from_rows(rows).columns)
            rows = []
    if rows:
        chunks.append(Table.from_rows(rows).columns)
    if not places:
        raise _nothing_read(report, set_aside)
    account = report.source(len(places) + len(set_aside))
    return Table(join_columns(chunks), places, tuple(set_aside), (account,))


def stream(source: str | Path, options: ReadOptions | None = None, formats: Sequence[str] = ()) -> Iterator[Item]:
    """Yield the rows of one file, good ones and others, in the file's order.

    Memory stays constant for CSV, TSV, JSON lines, patterns, plain lines and formats of lines. Raises as `read` does,
    except that a file without a readable row raises nothing: its items say why.
    """
    return _open(source, options or ReadOptions(), formats)[0]


def must_exist(source: str | Path | Sequence[str | Path]) -> None:
    """Raise as `read` does where there is no such file, and read nothing."""
    if not isinstance(source, str | Path):
        for one in source:
            must_exist(one)
    elif not str(source).startswith("hub:"):
        for file in joined(Path(source)):
            _must_exist(file)


def _open(source: str | Path, options: ReadOptions, formats: Sequence[str]) -> tuple[Iterator[Item], Report]:
    if isinstance(source, str) and source.startswith("hub:"):
        name, _, split = source.removeprefix("hub:").partition(":")
        report = Report(source, "datasets")
        _refuse(options, report.format, ())
        return _datasets_rows(_load_hub(name, split or None), report), report
    path = Path(source)
    files = joined(path)
    for file in files:
        _must_exist(file)
        if file.is_file() and not file.stat().st_size:
            raise DataError("the file is empty.", where=file.name, fix="Name a file that holds rows.")
    if (found := recognized(path, files, options, formats)) is not None:
        rows, report = found
        _refuse(options, report.format, OF_ANY_TEXT)
        return _placed(rows, files[0].name), report
    if len(files) > 1:
        raise DataError(
            f"{path.name!r} names two files that belong together, and nothing here reads such a pair.",
            fix="Name them as a list to read one after the other.",
        )
    if path.is_dir():
        return _open_folder(path, options)
    if kind := tabular.binary_kind(path):
        report = Report(path.name, kind)
        _refuse(options, kind, ("header", "sheet") if kind == "xlsx" else ())
        return _placed(tabular.BINARY[kind](path, options, report), path.name), report
    kind = tabular.text_kind(path, options)
    if kind is None:
        raise _unknown(path)
    report = Report(path.name, kind)
    allowed = {"delimited": ("encoding", "delimiter", "header"), "pattern": ("encoding", "pattern")}
    _refuse(options, kind, allowed.get(kind, ("encoding",)))
    return _placed(tabular.TEXT[kind](path, options, report), path.name), report


def _placed(rows: Iterator[tabular.Raw], file: str) -> Iterator[Item]:
    for line, values, reason, content, part in rows:
        # Half characters and marks of undecodable bytes must not reach a terminal or a file.
        excerpt = content[:_EXCERPT].encode("utf-8", "replace").decode() if values is None else ""
        yield Item(Place(part or file, line), values, reason, excerpt)


def _open_folder(path: Path, options: ReadOptions) -> tuple[Iterator[Item], Report]:
    if is_saved_set(path):
        report = Report(path.name, "datasets")
        _refuse(options, report.format, ())
        return _datasets_rows(_datasets(f"reading {path}").load_from_disk(str(path)), report), report
    report = Report(path.name, "folder")
    _refuse(options, report.format, ("encoding",))
    rows = tabular.folder_rows(path, options, report)
    return (item for file, row in rows for item in _placed(iter([row]), file)), report


def _datasets(purpose: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("datasets", "hub", purpose) from error
    return datasets


def _load_hub(name: str, split: str | None) -> Any:
    datasets = _datasets(f"reading hub:{name}")
    try:
        return datasets.load_dataset(name, split=split)
    except Exception as error:  # the library raises of every kind; whatever it is, the set cannot be had
        raise DataError(
            f"the set {name!r} cannot be had: {str(error).splitlines()[0] if str(error) else type(error).__name__}.",
            where=f"hub:{name}",
            fix="Check the name and the connection (HF_ENDPOINT names a mirror), or give a file.",
        ) from error


def _datasets_rows(found: Any, report: Report) -> Iterator[Item]:
    """Yield the rows of a `datasets` set; those of several splits get a column ``split``."""
    parts = dict(found) if isinstance(found, dict) else {"": found}
    for split, part in parts.items():
        labels = {k: f.names for k, f in part.features.items() if hasattr(f, "names") and hasattr(f, "int2str")}
        file = f"{report.file}:{split}" if split else report.file
        for number, values in enumerate(part, 1):
            row = {k: tabular.json_rows.plain(tabular.named(v, labels.get(k))) for k, v in values.items()}
            if split:
                row.setdefault("split", split)
            yield Item(Place(file, number), row, "", "")


def _must_exist(path: Path) -> None:
    if path.exists():
        return
    folder = path.parent
    near = did_you_mean(path.name, [p.name for p in folder.iterdir()]) if folder.is_dir() else ""
    where = f"The folder {folder} exists." if folder.is_dir() else f"The folder {folder} does not exist either."
    raise DataError(f"there is no file {str(path)!r}.{near}", fix=where if not near else "")


def _refuse(options: ReadOptions, kind: str, allowed: Sequence[str]) -> None:
    """Refuse options that would do nothing for this format."""
    idle = [name for name, value in options if value is not None and name not in allowed]
    if idle:
        raise DataError(f"{', '.join(idle)} would have no effect: the source is read as {kind}.", fix="Leave it out.")


def _unknown(path: Path) -> DataError:
    suffix = path.suffix or path.name
    if suffix == ".xls":
        return DataError("the old Excel format is not read.", where=path.name, fix="Save it as .xlsx.")
    return DataError(
        f"{suffix!r} is not an extension that is known.",
        where=path.name,
        fix="Known: .csv .tsv .txt .json .jsonl .parquet .xlsx, each also with .gz. For another text file, give a "
        "delimiter, or a pattern with named groups for its lines.",
    )


def _nothing_read(report: Report, set_aside: list[SetAside]) -> DataError:
    if not set_aside:
        return DataError("the file holds no rows.", where=report.file, fix="Name a file that holds rows.")
    shown = "; ".join(f"line {s.place.line}: {s.reason}" for s in set_aside[:3])
    return DataError(
        f"none of its {len(set_aside)} rows can be read: {shown}.",
        where=report.file,
        fix="Say how it is written: encoding, delimiter, header, pattern; or its format, if it is another one.",
    )
