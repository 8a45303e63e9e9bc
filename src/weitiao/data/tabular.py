"""The formats a plain table can have: a function each, from a file to `Raw` rows.

The readers of lines hold one row at a time; a JSON document, a sheet and a folder are read as they need.
What a reader decides or notices goes into the `Report` that it is given.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weitiao.data import delimited, dialect, json_rows
from weitiao.data.delimited import Raw
from weitiao.data.encoding import BAD, Lines, open_bytes, pieces, scan, sha256
from weitiao.data.table import Source
from weitiao.errors import DataError

if TYPE_CHECKING:
    from weitiao.data.read import ReadOptions

__all__ = ["BINARY", "TEXT", "Report", "binary_kind", "folder_rows", "named", "open_lines", "sound", "text_kind"]


@dataclass
class Report:
    """What is learnt about a source while it is read; `source()` is the finished account."""

    file: str
    format: str
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    sha256: str = ""
    notes: list[str] = field(default_factory=list)
    opened: list[Lines] = field(default_factory=list)  # what they clean is known when the last row was read

    def source(self, rows_in: int) -> Source:
        """Return the account, once all rows were read."""
        notes = tuple(dict.fromkeys((*self.notes, *(note for lines in self.opened for note in lines.notes))))
        return Source(self.file, self.format, self.encoding, self.delimiter, self.header, rows_in, self.sha256, notes)


Reader = Callable[[Path, "ReadOptions", Report], Iterator[Raw]]


def text_kind(path: Path, options: ReadOptions) -> str | None:
    """Tell the format of a text file by the options and its name (``.gz`` taken off); ``None`` if unknown."""
    suffix = _suffix(path)
    if options.pattern is not None:
        return "pattern"
    if suffix in (".json", ".jsonl", ".ndjson"):
        return "json"
    if suffix in (".csv", ".tsv", ".tab", ".txt") or options.delimiter is not None:
        return "delimited"
    return None


def binary_kind(path: Path) -> str | None:
    """Tell a Parquet file or an Excel workbook by its first bytes, whatever its name."""
    with open_bytes(path) as file:
        start = next(pieces(file, path), b"")[:4]
    if start == b"PAR1":
        return "parquet"
    if start == b"PK\x03\x04":
        return "xlsx"
    return None


def _delimited(path: Path, options: ReadOptions, report: Report) -> Iterator[Raw]:
    lines = open_lines(path, options, report)
    suffix = _suffix(path)
    found = dialect.sniff(lines, suffix, delimiter=options.delimiter, header=options.header)
    report.delimiter, report.header = found.delimiter, found.header
    report.format = {"\t": "tsv", None: "lines"}.get(found.delimiter, "csv")
    report.notes += found.notes
    if not found.quoting and found.delimiter in (",", ";", "|"):
        report.notes.append("quotes do not enclose values in this file; they were read as they stand")
    yield from sound(delimited.rows(lines, found, report.notes.append), report)


def _pattern(path: Path, options: ReadOptions, report: Report) -> Iterator[Raw]:
    pattern = re.compile(str(options.pattern))
    lines = open_lines(path, options, report)

    def rows() -> Iterator[Raw]:
        blank = 0
        for number, line in enumerate(lines, 1):
            body = line.rstrip("\r\n")
            if not body.strip():
                blank += 1
            elif match := pattern.fullmatch(body):
                yield Raw(number, match.groupdict(), "", body)
            else:
                yield Raw(number, None, "the line does not match the pattern", body)
        if blank:
            report.notes.append(f"{blank} blank lines skipped")

    yield from sound(rows(), report)


def _json(path: Path, options: ReadOptions, report: Report) -> Iterator[Raw]:
    lines = open_lines(path, options, report)
    if _suffix(path) in (".jsonl", ".ndjson") or json_rows.is_lines(lines):
        report.format = "jsonl"
        yield from sound(json_rows.line_rows(lines, report.notes.append), report)
    else:
        yield from sound(json_rows.document_rows("".join(lines), path.name, report.notes.append), report)


def _parquet(path: Path, options: ReadOptions, report: Report) -> Iterator[Raw]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    report.sha256 = sha256(path)
    try:
        with open_bytes(path) as file, pq.ParquetFile(io.BytesIO(file.read()) if _is_gz(path) else path) as parquet:
            names = _class_names(parquet.schema_arrow.metadata)
            number = 0
            for batch in parquet.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield Raw(number, {k: json_rows.plain(named(v, names.get(k))) for k, v in values.items()})
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, "Parquet", error) from error


def _xlsx(path: Path, options: ReadOptions, report: Report) -> Iterator[Raw]:
    from openpyxl import load_workbook

    report.sha256 = sha256(path)
    with open_bytes(path) as file:
        content = io.BytesIO(b"".join(pieces(file, path)))
    try:
        book = load_workbook(content, read_only=True, data_only=True)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise _broken(path, "Excel", error) from error
    try:
        yield from _sheet(book, path, options, report)
    finally:
        book.close()


def _sheet(book: Any, path: Path, options: ReadOptions, report: Report) -> Iterator[Raw]:
    names = book.sheetnames
    if options.sheet is not None and options.sheet not in names:
        raise DataError(f"there is no sheet {options.sheet!r}.", where=path.name, fix=f"Sheets: {', '.join(names)}.")
    chosen = options.sheet or names[0]
    if options.sheet is None and len(names) > 1:
        report.notes.append(f"sheet {chosen!r} was read; not read: {', '.join(n for n in names if n != chosen)}")
    filled = [
        (number, [_cell(c) for c in cells])
        for number, cells in enumerate(book[chosen].iter_rows(values_only=True), 1)
        if any(c not in (None, "") for c in cells)
    ]
    if not filled:
        return
    width = max(max(i + 1 for i, c in enumerate(cells) if c not in (None, "")) for _, cells in filled)
    texts = [["" if c is None else str(c) for c in cells[:width]] for _, cells in filled[:1000]]
    report.header = dialect.has_header(texts[0], texts[1:]) if options.header is None else options.header
    columns = (
        dialect.column_names(filled[0][1][:width], report.notes)
        if report.header
        else tuple(f"column_{i + 1}" for i in range(width))
    )
    for number, cells in filled[1 if report.header else 0 :]:
        yield Raw(number, dict(zip(columns, cells + [None] * (width - len(cells)), strict=False)))


def folder_rows(path: Path, options: ReadOptions, report: Report) -> Iterator[tuple[str, Raw]]:
    """Yield the text files of a folder per class, with the file each stands in.

    The layout is ``folder/label/*.txt``, or ``folder/split/label/*.txt``, which gives a column ``split``.
    """
    files = sorted(f for pattern in ("*/*.txt", "*/*.txt.gz", "*/*/*.txt", "*/*/*.txt.gz") for f in path.glob(pattern))
    if not files:
        others = sorted(p.name for p in path.iterdir())[:8]
        raise DataError(
            "a folder is read as one folder of .txt files per class, and this one holds none.",
            where=path,
            fix=f"It holds: {', '.join(others) or 'nothing'}. Name a file in it, or lay it out as folder/label/*.txt.",
        )
    encodings: dict[str, int] = {}
    for file in files:
        parts = file.relative_to(path).parts
        name = "/".join(parts)
        if not file.stat().st_size:
            yield name, Raw(1, None, "the file is empty")
            continue
        found = scan(file, options.encoding)
        encodings[found.encoding] = encodings.get(found.encoding, 0) + 1
        text = "".join(Lines(file, found.encoding)).replace("\r\n", "\n").replace("\r", "\n")
        values = {"text": text, "label": parts[-2], **({"split": parts[-3]} if len(parts) == 3 else {})}
        row = next(sound(iter([Raw(1, values, "", text)]), report))
        yield name, row
    report.encoding = ", ".join(encodings)
    if len(encodings) > 1 or "utf-8" not in encodings:
        report.notes.append("encodings found: " + ", ".join(f"{k} ({n} files)" for k, n in encodings.items()))


TEXT: dict[str, Reader] = {"pattern": _pattern, "json": _json, "delimited": _delimited}
BINARY: dict[str, Reader] = {"parquet": _parquet, "xlsx": _xlsx}


def open_lines(path: Path, options: ReadOptions, report: Report) -> Lines:
    """Find the encoding of a text file and return its lines; of several files the report knows all encodings."""
    found = scan(path, options.encoding)
    known = report.encoding.split(", ") if report.encoding else []
    report.encoding = ", ".join(dict.fromkeys((*known, found.encoding)))
    # What several files hold has one hash: that of their hashes, in the order they were opened.
    both = f"{report.sha256}{found.sha256}"
    report.sha256 = hashlib.sha256(both.encode()).hexdigest() if report.sha256 else found.sha256
    report.notes += found.notes
    lines = Lines(path, found.encoding)
    report.opened.append(lines)
    return lines


def sound(rows: Iterator[Raw], report: Report) -> Iterator[Raw]:
    """Put aside the rows that hold bytes or halves of characters that no text can hold."""
    for row in rows:
        texts = [v for v in row.values.values() if isinstance(v, str)] if row.values else []
        names = row.values or ()
        if any(not _is_text(t) for t in (*texts, *names)):
            content = row.content or json.dumps(row.values, ensure_ascii=False)
            why = f"bytes that are not {report.encoding}" if any(BAD in t for t in texts) else "half of a character"
            yield row._replace(values=None, reason=why, content=content)
        else:
            yield row


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _is_gz(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _cell(value: Any) -> Any:
    """Return a cell as people see it: dates as ISO text, everything else as it is."""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")
    return value.isoformat() if isinstance(value, date | time) else value


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the label names that the datasets library writes into a Parquet file's metadata."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {k: f["names"] for k, f in features.items() if isinstance(f, dict) and "names" in f}
    except (KeyError, ValueError, TypeError):
        return {}


def named(value: Any, names: list[str] | None) -> Any:
    """Return the name of a class number, where the set says its names."""
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value


def _broken(path: Path, kind: str, error: Exception) -> DataError:
    return DataError(f"the {kind} file cannot be read ({error}).", where=path.name, fix="Copy or export it again.")
