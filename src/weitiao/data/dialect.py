"""How a delimited file is written: which delimiter, are quotes used as quotes, is there a header.

Quoting is decided for each file, because a reader with quoting on loses rows in files whose texts hold
bare quotes, and one with quoting off tears quoted line breaks apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from weitiao.data.delimited import Dialect, records
from weitiao.data.fields import is_known_name

__all__ = ["column_names", "has_header", "numbered_names", "sniff"]

_SAMPLE_LINES, _SAMPLE_CHARACTERS = 2000, 1 << 20
_ORDER = {".tsv": "\t,;|", ".tab": "\t,;|", ".txt": "\t,;|"}
_NAME = re.compile(r"[\w#][\w .#/()-]{0,39}")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*%?")


def sniff(lines: Iterable[str], suffix: str, *, delimiter: str | None = None, header: bool | None = None) -> Dialect:
    """Find out how a file is written, from its first lines.

    Parameters
    ----------
    lines
        The file's lines, from its start; as many are taken as are needed.
    suffix
        Of the file's name (``.csv``); decides between delimiters that fit equally well.
    delimiter, header
        Where the user knows.
    """
    sample, more = _sample(lines)
    candidates = delimiter or _ORDER.get(suffix, ",\t;|")
    fits = [
        fit for d in candidates if delimiter or any(d in line for line in sample) for fit in [_fit(sample, d, more)]
    ]
    needed = 0.9 if suffix not in (".csv", ".tsv", ".tab") and not delimiter else 0.0
    fits = [f for f in fits if delimiter or (f.width > 1 and f.share > needed)]
    if not fits:
        alone = _fit(sample, ",", more)
        quoted = alone.width == 1 and alone.share == 1.0 and alone.quoting and any('"' in line for line in sample)
        whole = _Fit(None, False, 1, 1.0, 0, 0, [[line.rstrip("\r\n")] for line in sample])
        best = alone if quoted and suffix == ".csv" else whole
    else:
        best = max(fits, key=lambda f: round(f.share, 2))  # the first of equals: the suffix's own order
    return _dialect(best, suffix, header)


def column_names(first: Sequence[object], notes: list[str]) -> tuple[str, ...]:
    """Make column names of a header's cells: trimmed, the empty ones numbered, repeats counted."""
    names: list[str] = []
    for at, cell in enumerate(first, 1):
        name = "" if cell is None else str(cell).strip()
        name = name or f"column_{at}"
        count, unique = 2, name
        while unique in names:
            unique, count = f"{name}_{count}", count + 1
        if unique != name:
            notes.append(f"column {name!r} occurs twice; the later one is called {unique!r}")
        names.append(unique)
    return tuple(names)


def has_header(first: Sequence[str], rest: Sequence[Sequence[str]], *, is_table: bool = True) -> bool:
    """Tell a header from a first row of data.

    Parameters
    ----------
    first
        The first record.
    rest
        Some records after it.
    is_table
        Whether the format is one that usually has a header (``.csv``, ``.tsv``, ``.xlsx``).
    """
    cells = [c.strip() for c in first]
    filled = [c for c in cells if c]
    if not filled or any(_NUMBER.fullmatch(c) for c in filled):
        return False
    columns = [[r[i].strip() for r in rest if i < len(r) and list(r) != list(first)] for i in range(len(cells))]
    if any(is_known_name(c) for c in filled):
        return all(len(c) <= 60 for c in filled)
    if (
        len(cells) == 1
        or len(set(filled)) < len(filled)
        or any(c and c in column for c, column in zip(cells, columns, strict=True))
    ):
        return False
    if not all(_NAME.fullmatch(c) for c in filled):
        return False
    return is_table or any(column and all(_NUMBER.fullmatch(v) for v in column) for column in columns)


def numbered_names(width: int) -> tuple[str, ...]:
    """Return names for columns that have none."""
    return tuple(f"column_{i + 1}" for i in range(width))


@dataclass(frozen=True)
class _Fit:
    delimiter: str | None
    quoting: bool
    width: int
    share: float  # of the records that have `width` fields
    bad: int  # records that have not
    enclosed: int  # records with a quote where a value begins, that can be told apart
    records: list[list[str]]


def _sample(lines: Iterable[str]) -> tuple[list[str], bool]:
    sample: list[str] = []
    size = 0
    source = iter(lines)
    for line in islice(source, _SAMPLE_LINES):
        sample.append(line)
        size += len(line)
        if size > _SAMPLE_CHARACTERS:
            break
    more = next(source, None) is not None
    return sample, more


def _fit(sample: list[str], delimiter: str, more: bool) -> _Fit:
    quoted, bare = (_measure(sample, delimiter, more, quoting=q) for q in (True, False))
    if delimiter != "\t":
        return quoted if quoted.bad <= max(bare.bad, 0.1 * quoted.enclosed) else bare
    # In tab-separated text quotes are mostly just quotes: they must prove that they enclose something.
    if quoted.bad < bare.bad or (quoted.bad <= bare.bad and _encloses(quoted, bare)):
        return quoted
    return bare


def _measure(sample: list[str], delimiter: str, more: bool, *, quoting: bool) -> _Fit:
    found = [r for r in records(sample, delimiter, quoting=quoting) if r.content]
    if more and found and found[-1].fields is None:
        found.pop()  # the sample ends inside a record
    good = [r.fields for r in found if r.fields is not None]
    if not good:
        return _Fit(delimiter, quoting, 0, 0.0, len(found), 0, [])
    widths = Counter(map(len, good))
    width = max(widths, key=lambda w: (widths[w], w))
    if width == 1 and len(good[0]) > 1:
        width = len(good[0])  # a header that is followed by broken rows
    opening = f'{delimiter}"'
    enclosed = sum(r.fields is not None and (r.content[0] == '"' or opening in r.content) for r in found)
    return _Fit(delimiter, quoting, width, widths[width] / len(found), len(found) - widths[width], enclosed, good)


def _encloses(quoted: _Fit, bare: _Fit) -> bool:
    special = ("\t", "\n", "\r")
    if any(mark in value for record in quoted.records for value in record for mark in special):
        return True
    for at in range(bare.width):
        column = [r[at] for r in bare.records[1:] if len(r) == bare.width and r[at]]
        if column and all(len(v) > 1 and v[0] == v[-1] == '"' for v in column):
            return True
    return False


def _dialect(fit: _Fit, suffix: str, header: bool | None) -> Dialect:
    found = fit.records
    notes: list[str] = []
    first = found[0] if found else []
    if header is None:
        header = has_header(first, found[1:1000], is_table=suffix in (".csv", ".tsv", ".tab"))
        if header and len(found) == 1 and fit.delimiter is None:
            header = False
    if not header:
        names = numbered_names(fit.width) if fit.width > 1 else ("text",)
        return Dialect(fit.delimiter, fit.quoting, False, names, tuple(notes))
    names = column_names(first, notes)
    if len(names) == fit.width - 1 and fit.share >= 0.9:  # R writes row names without naming their column
        names = column_names(["index", *first], notes)
        notes.append("the header names one column fewer than the rows have; the first is called 'index'")
    return Dialect(fit.delimiter, fit.quoting, True, names, tuple(notes))
