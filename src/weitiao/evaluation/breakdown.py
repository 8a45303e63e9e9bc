"""Where a model is good and where it fails: results by slice, and the mistakes it was surest of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from weitiao.data.table import Table
from weitiao.errors import RecipeError, did_you_mean
from weitiao.evaluation.comparison import Resamples, gives, interval_of, suited
from weitiao.evaluation.document import Mistake, Slice
from weitiao.evaluation.metrics.base import Metric
from weitiao.evaluation.plots import shorten

if TYPE_CHECKING:
    from weitiao.evaluation.report import ReportInput

__all__ = ["mistakes", "slice_rows", "slices"]

_MOST_MISTAKES = 20
_EXCERPT = 240  # columns of text shown of a mistake
_FEWEST_VALUES, _MOST_VALUES = 2, 12  # of a column that can be sliced by


def slices(data: ReportInput, metric: Metric) -> tuple[Slice, ...]:
    """Measure the rows of each third of text length, and of each value of the named columns."""
    groups = [("length", _thirds(data)), *((column, slice_rows(data.table, column)) for column in data.slices)]
    before = next((c for c in data.contenders if c.key == data.before), None)
    classes = len(data.labels)
    tuned, true = (suited(metric, each, data.labels) for each in (data.contenders[0].answers, data.targets))
    found = []
    for column, values in groups:
        for value, rows in values.items():
            targets = true[rows]
            (draws,) = Resamples(len(rows), data.seed, data.resamples).values(
                [(metric, targets, tuned[rows])], classes=classes
            )
            reached = metric(targets, tuned[rows], classes=classes)
            score = interval_of(reached, draws, len(rows), data.confidence, metric.range)
            old = None
            if before is not None and gives(before.answers, metric):
                old = metric(targets, suited(metric, before.answers, data.labels)[rows], classes=classes)
            found.append(Slice(column, value, score, old))
    return tuple(found)


def _thirds(data: ReportInput) -> dict[str, np.ndarray]:
    columns = [data.table.column(name) for name in data.text_fields]
    lengths = np.array([sum(len(str(text or "")) for text in row) for row in zip(*columns, strict=True)])
    low, high = (int(np.quantile(lengths, q)) for q in (1 / 3, 2 / 3))
    parts = {
        f"up to {low:,} characters": lengths <= low,
        f"{low + 1:,} to {high:,} characters": (lengths > low) & (lengths <= high),
        f"over {high:,} characters": lengths > high,
    }
    return {name: np.flatnonzero(inside) for name, inside in parts.items() if inside.any()}


def slice_rows(table: Table, column: str) -> dict[str, np.ndarray]:
    """Return the row numbers of each value of a column.

    Raises
    ------
    RecipeError
        There is no such column, or it has fewer than 2 or more than 12 values.
    """
    if column not in table.column_names:
        raise RecipeError(
            f"there is no column {column!r} to slice by.{did_you_mean(column, table.column_names)}",
            fix=f"Columns: {', '.join(table.column_names)}.",
        )
    values = np.array(["(empty)" if v is None else str(v) for v in table.column(column)], dtype=object)
    different = sorted(set(values))
    if not _FEWEST_VALUES <= len(different) <= _MOST_VALUES:
        raise RecipeError(
            f"column {column!r} has {len(different)} different values in test; "
            f"a slice needs {_FEWEST_VALUES} to {_MOST_VALUES}.",
            fix="Slice by a column of few categories, or leave it out.",
        )
    return {value: np.flatnonzero(values == value) for value in different}


def mistakes(data: ReportInput, wrong: np.ndarray) -> tuple[Mistake, ...]:
    """Take the wrong answers the model was surest of; where it cannot tell, the first."""
    task, answers = data.task, data.contenders[0].answers
    sure = task.sure(answers)
    worst = (wrong if sure is None else wrong[np.argsort(-sure[wrong], kind="stable")])[:_MOST_MISTAKES]
    columns = [data.table.column(name) for name in data.text_fields]
    said = next(iter(answers.values())) if isinstance(answers, Mapping) else answers
    return tuple(
        Mistake(
            str(data.table.places[i]),
            shorten(" ⏐ ".join(str(column[i] or "") for column in columns), _EXCERPT),
            shorten(task.shown(data.targets[i]), _EXCERPT),
            shorten(task.shown(said[i]), _EXCERPT),
            None if sure is None else float(sure[i]),
        )
        for i in worst.tolist()
    )
