"""Which format of the family a source is in, if it is in one: then its rows, else it is a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from weitiao.data import tabular
from weitiao.data.delimited import Raw
from weitiao.data.encoding import Lines
from weitiao.data.formats.base import Format
from weitiao.data.tabular import Report
from weitiao.plugins import find

if TYPE_CHECKING:
    from weitiao.data.read import ReadOptions

__all__ = ["OF_ANY_TEXT", "is_saved_set", "joined", "recognized"]

OF_ANY_TEXT = ("format", "encoding")  # options that concern every format of text
_START = 1 << 16  # characters by which a format is recognized


def joined(path: Path) -> list[Path]:
    """Return the files that a source names: itself, or those that a ``+`` joins."""
    first, *more = str(path).split("+")
    if not more or path.exists() or not Path(first).is_file():
        return [path]
    near = Path(first).parent
    return [Path(first), *(near / name if (near / name).exists() else Path(name) for name in more)]


def recognized(
    path: Path, files: list[Path], options: ReadOptions, formats: Sequence[str]
) -> tuple[Iterator[Raw], Report] | None:
    """Return the rows of a source that is in one of the formats; ``None`` when it is read as a table."""
    if options.format is not None:
        formats = (options.format,)
    elif any(value is not None for name, value in options if name not in OF_ANY_TEXT):
        return None  # what the user says of it is said of a table
    if not formats or (path.is_file() and tabular.binary_kind(path)):
        return None
    if path.is_dir() and is_saved_set(path):
        return None
    together = path if len(files) == 1 else Path("+".join(map(str, files)))
    report = Report("+".join(file.name for file in files), "")
    lines: Sequence[str] | Lines = [] if files[0].is_dir() else tabular.open_lines(files[0], options, report)
    start = _start(lines)
    for name in formats:
        member: Format = find("formats", name)(None, lambda file: tabular.open_lines(file, options, report))
        if len(files) > 1 and not member.joins:
            continue
        if options.format is None and not member.recognizes(together, start):
            continue
        report.format = member.name
        return tabular.sound(member.rows(together, lines, report.notes.append), report), report
    return None


def _start(lines: Iterable[str]) -> str:
    taken, size = [], 0
    for line in lines:
        taken.append(line)
        size += len(line)
        if size >= _START:
            break
    return "".join(taken)[:_START]


def is_saved_set(path: Path) -> bool:
    """Whether a folder is what the datasets library saves."""
    return any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
