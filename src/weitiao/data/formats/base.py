"""What a file format is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from weitiao.data.delimited import Raw
from weitiao.data.encoding import Lines, scan
from weitiao.plugins import Named, Options

__all__ = ["Format"]


def _open_lines(path: Path) -> Iterable[str]:
    return Lines(path, scan(path).encoding)


class Format(Named):
    """A file format of some kind of task. One file in this folder is one format.

    Parameters
    ----------
    settings
        Of the format's own.
    open_lines
        Opens a further file that belongs to the one that was named (the other language, the annotations): its
        lines, in the encoding the user gave or that is found.
    """

    class Settings(Options):
        """A format without settings."""

    joins: ClassVar[bool] = False  # whether it reads several files that the user names as one: a+b

    def __init__(
        self, settings: Options | None = None, open_lines: Callable[[Path], Iterable[str]] = _open_lines
    ) -> None:
        self.settings = settings or self.Settings()
        self.open_lines = open_lines

    def recognizes(self, path: Path, start: str) -> bool:
        """Whether a file is of this format; rather no than a guess, as tables come in many shapes.

        Parameters
        ----------
        path
            The file or folder.
        start
            The first 64 thousand characters or so of the file's text, which may end anywhere; ``""`` for a folder.
        """
        raise NotImplementedError

    def rows(self, path: Path, lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
        """Yield every record of a file: its values, or the reason why it has none.

        Parameters
        ----------
        path
            The file or folder; ``a+b`` where the user named two and the format `joins`.
        lines
            The lines of the file with their ends, which can be gone through more than once; none for a folder.
        note
            Takes what was out of the ordinary, a sentence each.

        Raises
        ------
        DataError
            The file as a whole cannot be read.
        """
        raise NotImplementedError

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the smallest file of this format, and what must come of it.

        ``files`` (name to content), ``open`` (the name to be read, ``.`` for the folder), ``rows`` (the values
        expected; JSON text as what it says), ``faulty`` (content in the place of `open`'s, or of several files;
        its number of ``rows`` and the ``reasons`` of those set aside), ``others`` (contents that are not of this
        format though they look alike).
        """
        raise NotImplementedError
