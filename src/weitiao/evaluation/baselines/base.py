"""What a baseline is: answers to the test rows that a tuned model has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from weitiao.data.table import Table
from weitiao.plugins import Named
from weitiao.tasks.base import Task

__all__ = ["Baseline", "Told"]


@dataclass(frozen=True)
class Told:
    """What a baseline may look at: labelled training rows, test rows, and the model before tuning.

    Parameters
    ----------
    task
        Has learnt from the training rows.
    train, test
        Rows; of `test` only what a request would have.
    text_fields
        What the model reads of a row.
    features
        Pooled features of the untuned model, ``(rows, hidden)``, of ``train``, ``test`` and, where there are any, of
        the names of the ``labels``.
    untuned
        Lets the untuned model, with its new head if it has one, answer the test rows.
    neighbors
        How many labelled rows a baseline may look at for a row.
    seed
        For what is left to chance.
    """

    task: Task
    train: Table
    test: Table
    text_fields: tuple[str, ...]
    features: dict[str, np.ndarray]
    untuned: Callable[[], Any]
    neighbors: int = 5
    seed: int = 0

    @cached_property
    def train_targets(self) -> np.ndarray:
        """What is true of the training rows."""
        return self.task.truth(list(self.train))

    def texts(self, table: Table) -> list[tuple[str, ...]]:
        """Return the text fields of each row."""
        return list(zip(*(table.column(name) for name in self.text_fields), strict=True))


class Baseline(Named):
    """A way to answer without tuning. One file in this folder is one baseline.

    Attributes
    ----------
    title, title_zh
        As read in a sentence, after "than": ``the majority class``.
    fits
        Forms of answers (`Task.gives`) that it can give; a task that gives none of these cannot name it.
    pooled
        Whether it looks at pooled features, which there are only of tasks that are `pooled`.
    """

    title: ClassVar[str]
    title_zh: ClassVar[str]
    fits: ClassVar[Sequence[str]]
    pooled: ClassVar[bool] = False

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Return answers to the test rows, as `Task.answer` does, and a sentence on how they were made.

        ``None`` if there is nothing here to answer by.
        """
        raise NotImplementedError

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return a case it answers well: ``{"train": [row, ...], "test": [row, ...], "least": share}``.

        Rows have a text and a label, or the fields of the task that ``"task"`` names. The contract tests give it
        features made of the rows' words, and want `least` of the rows right.
        """
        raise NotImplementedError
