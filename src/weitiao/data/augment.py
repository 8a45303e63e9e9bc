"""More training rows out of those there are: edits that should leave the label as it is.

Each augmentation is a member of its own and makes `copies` new rows of every training row, before training and
once. What it makes depends on the seed, its name, the row's id and the number of the copy, never on the order of
the rows. A new row keeps the place and all other columns of the row it came from. A text that an edit would
leave unchanged, empty, or equal to a row that is there already is tried again a few times, then left out and counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from pydantic import Field

from weitiao.data.table import Table
from weitiao.errors import DataError, RecipeError
from weitiao.plugins import Named, Options
from weitiao.randomness import generator

__all__ = ["Augmentation", "Context", "Rows", "Texts", "Translates", "augment"]

Texts = tuple[str, ...]  # the texts of one row, one a text field
Chance = Callable[[int], np.random.Generator]


class Translates(Protocol):
    """What a translation model can be asked."""

    def __call__(self, texts: Sequence[str], *, seed: int, sample_from: int, beams: int) -> list[str]:
        """Return one translation a text; `sample_from` 1 searches with `beams`, more draws from so many tokens."""
        ...


@dataclass(frozen=True)
class Context:
    """What an augmentation may use beside the rows.

    Parameters
    ----------
    tokenizer
        Of the recipe's model.
    vectors
        Gives the model's token vectors, ``(vocabulary, width)``; called only if they are needed.
    open_translator
        Opens a translation model by name.
    """

    tokenizer: Any = None
    vectors: Callable[[], np.ndarray] | None = None
    open_translator: Callable[[str], Translates] | None = None


@dataclass(frozen=True)
class Rows:
    """The training rows as augmentations see them; a missing text is empty."""

    texts: Sequence[Texts]
    labels: Sequence[str | None]  # None: without label
    ids: Sequence[str] = field(repr=False)


class Augmentation(Named):
    """A way to write a row again. One file in ``data/augmentations`` is one of them.

    Most define `edit`, one text in and one out. One that needs other rows, or works on many at once, defines
    `rewrite`.
    """

    class Settings(Options):
        """Settings of the augmentation in the recipe; the value that would do nothing is refused."""

        copies: int = Field(default=1, ge=1, description="new rows for each training row")

    settings: Any

    def __init__(self, settings: Options | None = None) -> None:
        self.settings = settings or self.Settings()

    @property
    def tries(self) -> int:
        """How often a row is tried before it is left out; 1 where a further try would give the same."""
        return 5

    def suits(self, context: Context) -> str | None:
        """Return ``None`` if it can work here, or a sentence that says why not."""
        return None

    def begin(self, rows: Rows, context: Context) -> None:
        """Look at the rows and the model once, before the first edit."""

    def edit(self, text: str, rng: np.random.Generator) -> str:
        """Return the text written again, or as it is where nothing can be changed."""
        raise NotImplementedError

    def rewrite(self, rows: Rows, numbers: Sequence[int], chance: Chance) -> list[Texts]:
        """Return new texts of the rows with these numbers.

        Parameters
        ----------
        rows
            All training rows.
        numbers
            Which of them to write again, in the order of their ids.
        chance
            Gives the stream of random numbers that belongs to a row.
        """
        made = []
        for i in numbers:
            rng = chance(i)
            made.append(tuple(self.edit(text, rng) if text.strip() else text for text in rows.texts[i]))
        return made

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the smallest case in which it does something.

        ``{"settings": {...}, "variants": [...], "idle": [...], "files": {...}}``: variants are other settings,
        each a whole one, that give other texts and together name every setting; idle ones would do nothing, and
        are refused; files are those that settings name, name to content.
        """
        raise NotImplementedError


def augment(
    train: Table,
    members: Sequence[Augmentation],
    *,
    text_fields: Sequence[str],
    label_field: str | None,
    seed: int,
    context: Context | None = None,
) -> tuple[Table, dict[str, dict[str, int]]]:
    """Return the training rows followed by those that the members make of them.

    Parameters
    ----------
    train
        Training rows, and no others: nothing may be made of rows that measure.
    members
        Each sees the original rows only.
    text_fields, label_field
        Columns with the texts (those that are not there are passed over) and with the label.
    seed
        The recipe's.
    context
        The model's tokenizer and token vectors, and how translation models are opened.

    Returns
    -------
    The table, in which `rows_in` counts the new rows too; and by member how many rows were ``made``, and how
    many left out because they came out ``unchanged``, ``empty``, or ``repeated`` (equal to another row).

    Raises
    ------
    RecipeError
        A member cannot work here.
    DataError
        A member could change none of the rows.
    """
    context = context or Context()
    names = [name for name in text_fields if name in train.column_names]
    columns = [["" if v is None else str(v) for v in train.column(name)] for name in names]
    labels = [None] * len(train) if label_field is None else train.column(label_field)
    rows = Rows(list(zip(*columns, strict=True)), [None if v is None else str(v) for v in labels], train.ids)
    tables, counts = [train], {}
    seen = set(rows.texts)
    for number, member in enumerate(members):
        earlier = sum(other.name == member.name for other in members[:number])
        title = f"{member.name} {earlier + 1}" if earlier else member.name
        if reason := member.suits(context):
            raise RecipeError(f"the augmentation {title} cannot work here: {reason}.")
        member.begin(rows, context)
        made, count = _apply(member, rows, (seed, "augmentation", title), seen)
        if rows.texts and not made:
            raise DataError(
                f"the augmentation {title} could change none of the {len(train):,} training rows.",
                fix="It has no effect on these texts with these settings: leave it out, or change its settings.",
            )
        counts[title] = count
        tables.append(_table(train, names, title, made))
    return Table.concat(tables), counts


_Made = list[tuple[int, int, Texts]]  # row, copy, its texts


def _apply(member: Augmentation, rows: Rows, stream: tuple[Any, ...], seen: set[Texts]) -> tuple[_Made, dict[str, int]]:
    """Make the copies of all rows, trying again what came out wrong; `seen` grows by what was made."""
    made: _Made = []
    count = Counter(made=0, unchanged=0, empty=0, repeated=0)
    in_order = sorted(range(len(rows.texts)), key=lambda i: rows.ids[i])  # the file's order plays no part
    for copy in range(member.settings.copies):
        pending = [i for i in in_order if any(text.strip() for text in rows.texts[i])]
        count["empty"] += len(rows.texts) - len(pending)
        for attempt in range(member.tries):

            def chance(i: int, copy: int = copy, attempt: int = attempt) -> np.random.Generator:
                return generator(*stream, rows.ids[i], copy, attempt)

            wrong: dict[int, str] = {}
            for i, new in zip(pending, member.rewrite(rows, pending, chance), strict=True):
                if fault := _fault(rows.texts[i], new, seen):
                    wrong[i] = fault
                else:
                    seen.add(new)
                    made.append((i, copy, new))
            pending = list(wrong)
            if not pending or attempt == member.tries - 1:
                count.update(wrong.values())
                break
    count["made"] = len(made)
    return sorted(made, key=lambda item: (item[1], item[0])), dict(count)


def _fault(old: Texts, new: Texts, seen: set[Texts]) -> str | None:
    """Return what is wrong with new texts of a row, if anything is."""
    if any(before.strip() and not after.strip() for before, after in zip(old, new, strict=True)):
        return "empty"
    if [" ".join(text.split()) for text in old] == [" ".join(text.split()) for text in new]:
        return "unchanged"
    return "repeated" if new in seen else None


def _table(train: Table, names: Sequence[str], title: str, made: _Made) -> Table:
    """Return the rows that were made, with ids of their own and all other columns of the rows they came from."""
    table = train.take([i for i, _, _ in made])
    columns: dict[str, list[str | None]] = {}
    for at, name in enumerate(names):
        before = table.column(name)
        texts = [new[at] for _, _, new in made]
        columns[name] = [None if old is None else text for old, text in zip(before, texts, strict=True)]
    table = table.with_columns(columns)
    ids = [hashlib.sha256(f"{train.ids[i]}/{title}/{copy}".encode()).hexdigest()[:16] for i, copy, _ in made]
    return Table(table.columns, table.places, (), table.sources, ids)
