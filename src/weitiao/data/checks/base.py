"""What a check is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from weitiao.data.near import normalise
from weitiao.data.table import Table
from weitiao.findings import Finding
from weitiao.plugins import Named, Options

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Check", "CheckInput", "excerpt", "how_equal", "num_rows", "of", "places", "share"]

T = TypeVar("T")
_BETWEEN_FIELDS = " \u241e "  # "symbol for record separator": no text holds it, and it is not punctuation


@dataclass(frozen=True)
class CheckInput:
    """All that a check may look at.

    Parameters
    ----------
    tables
        Split name (``train``, ``dev``, ``test``, or ``all`` before splitting) to its rows, with the
        task's fields already under their standard names (``text``, ``text_pair``, ``label``).
    text_fields, label_field
        Which of those columns hold text, and which the label (``None`` without one).
    tokenizer, max_length
        Of the chosen model; ``None`` when no model was chosen, and checks that need it say nothing.
    """

    tables: Mapping[str, Table]
    text_fields: tuple[str, ...]
    label_field: str | None
    tokenizer: PreTrainedTokenizerBase | None = None
    max_length: int | None = None
    cache: dict[str, Any] = field(default_factory=dict)  # work two checks share, by name

    @property
    def learning(self) -> str | None:
        """The split a model would learn from: ``train``, else ``all``, else the only one there is."""
        for name in ("train", "all"):
            if name in self.tables:
                return name
        return next(iter(self.tables)) if len(self.tables) == 1 else None

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what `make` gives, made once for all checks."""
        if name not in self.cache:
            self.cache[name] = make()
        return self.cache[name]

    def texts(self, split: str) -> list[str]:
        """One text a row: the text fields of a split, joined where there are several."""
        return self.once(f"texts {split}", lambda: self._texts(split))

    def normalised(self, split: str) -> list[str]:
        """Return `texts` in the form in which texts are compared."""
        return self.once(f"normalised {split}", lambda: [normalise(text) for text in self.texts(split)])

    def labels(self, split: str) -> list[str | None]:
        """One label a row, as text; all ``None`` where there is no label."""
        return self.once(f"labels {split}", lambda: self._labels(split))

    def tokens(self, split: str) -> list[list[int]]:
        """Token ids of every row as the model would get them, special tokens included, nothing cut off."""
        return self.once(f"tokens {split}", lambda: self._tokens(split))

    def _texts(self, split: str) -> list[str]:
        return [_BETWEEN_FIELDS.join(row) for row in zip(*self._columns(split), strict=True)]

    def _columns(self, split: str) -> list[list[str]]:
        table = self.tables[split]
        names = [name for name in self.text_fields if name in table.column_names]
        return [["" if v is None else str(v) for v in table.column(name)] for name in names]

    def _labels(self, split: str) -> list[str | None]:
        table = self.tables[split]
        if self.label_field is None or self.label_field not in table.column_names:
            return [None] * len(table)
        return [None if v is None else str(v) for v in table.column(self.label_field)]

    def _tokens(self, split: str) -> list[list[int]]:
        columns = self._columns(split)
        if self.tokenizer is None or not columns or not columns[0]:
            return []
        # verbose: transformers would warn of texts longer than the model takes, which is what we count
        return self.tokenizer(*columns[:2], add_special_tokens=True, truncation=False, verbose=False)["input_ids"]


class Check(Named):
    """Look at the data, say what was noticed. One file in this folder is one check."""

    class Settings(Options):
        """A check without settings."""

    def __init__(self, settings: Options | None = None) -> None:
        self.settings = settings or self.Settings()

    def run(self, data: CheckInput) -> Iterator[Finding]:
        """Yield findings, the gravest first."""
        raise NotImplementedError

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the smallest faulty and the smallest faultless input.

        ``{"faulty": {split: [row, ...]}, "clean": {split: [row, ...]}}``; the contract tests demand a
        finding on the first and none of severity error on the second. An input that rows alone
        cannot say is given as a `CheckInput`.
        """
        raise NotImplementedError


def places(table: Table, indices: Sequence[int], *, limit: int = 20) -> tuple[str, ...]:
    """Return ``file:line`` of the first rows among `indices`."""
    return tuple(str(table.places[i]) for i in indices[:limit])


def excerpt(text: str, length: int = 100) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length else line[: length - 1] + "…"


def num_rows(count: int, split: str, *, among: int | None = None) -> str:
    """Return a count of rows with where they are: ``"1 row of dev"``, ``"12 of 1,200 rows of test"``."""
    number = f"{count:,}" if among is None else f"{count:,} of {among:,}"
    return f"{number} {'row' if (among or count) == 1 else 'rows'}{of(split)}"


def of(split: str) -> str:
    """Return ``" of dev"``; nothing before splitting, when there is nothing to tell apart."""
    return "" if split == "all" else f" of {split}"


def how_equal(verbatim: int, loosely: int, *, texts: int | None = None) -> str:
    """Say in what way rows are equal: word for word, or only when case, spacing and punctuation are ignored."""
    if not verbatim:
        return "but for case, spacing or punctuation"
    different = "" if texts is None else f" ({texts:,} different texts)"
    return f"word for word{different}" + (
        f", and {loosely:,} more but for case, spacing or punctuation" if loosely else ""
    )


def share(part: float, whole: float) -> str:
    """Return a share as people read it: ``"2.8%"``, ``"under 0.1%"``."""
    percent = 100 * part / whole if whole else 0.0
    return "under 0.1%" if 0 < percent < 0.1 else f"{percent:.1f}%"
