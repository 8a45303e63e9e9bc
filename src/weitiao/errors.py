"""Errors for people: what is wrong, where, and what to do about it.

Every class doubles as the builtin a programmer would expect to catch, so
``except ValueError`` around a recipe works. The text is the interface: no
codes, and each message is asserted by a test that reads its words.
"""

from __future__ import annotations

import copyreg
import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "BundleError",
    "DataError",
    "MissingExtra",
    "ModelError",
    "RecipeError",
    "TrainingError",
    "UnknownName",
    "WeitiaoError",
    "did_you_mean",
]


class WeitiaoError(Exception):
    """A reason for stopping that the user can act on.

    Parameters
    ----------
    what
        What is wrong, with the offending value; a sentence.
    where
        File and line, row, or setting (``"reviews.csv:412"``); put in front.
    fix
        What to do; a sentence, put last.
    """

    def __init__(self, what: str, *, where: object = None, fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        place = f"{where}: " if where is not None else ""
        super().__init__(f"{place}{what}{' ' + fix if fix else ''}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it travel between processes, whatever its constructor takes."""
        return copyreg.__newobj__, (type(self), str(self)), self.__dict__  # type: ignore[attr-defined]


class RecipeError(WeitiaoError, ValueError):
    """A recipe that cannot be run as it is written."""


class UnknownName(RecipeError, LookupError):
    """A task, method, metric, ... that no file provides."""


class DataError(WeitiaoError, ValueError):
    """Data that cannot be read, mapped or split as asked."""


class ModelError(WeitiaoError, ValueError):
    """A pretrained model that cannot be had, or does not fit."""


class TrainingError(WeitiaoError, RuntimeError):
    """A run that had to stop; what it had finished is kept."""


class BundleError(WeitiaoError, ValueError):
    """A bundle that is damaged, edited, or does not reproduce itself."""


class MissingExtra(WeitiaoError, ImportError):
    """An optional part that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed.",
            fix=f'Install it with: pip install "weitiao[{extra}]"',
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known name, else ``""``."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
