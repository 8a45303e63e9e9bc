"""What a tuned model has to beat: the same model before tuning, and everything cheaper."""

from __future__ import annotations

from collections.abc import Sequence

from weitiao.evaluation.baselines.base import Told
from weitiao.evaluation.report import Contender
from weitiao.plugins import find

__all__ = ["BEFORE", "contenders"]

BEFORE = "before"  # key of the model before tuning


def contenders(told: Told, others: Sequence[str] | None = None) -> list[Contender]:
    """Return the answers of baselines to the test rows, the model before tuning first.

    Parameters
    ----------
    others
        Compared with beside it; those of the task when left out.
    """
    before, *usual = told.task.baselines
    found = []
    for i, name in enumerate((before, *(usual if others is None else others))):
        baseline = find("baselines", name)()
        if (answered := baseline.answer(told)) is not None:
            answers, note = answered
            found.append(Contender(name if i else BEFORE, baseline.title, answers, note, baseline.title_zh))
    return found
