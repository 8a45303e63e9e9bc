"""Give every row the most frequent class of the training rows."""

from __future__ import annotations

from typing import Any

from weitiao.evaluation.baselines.base import Baseline, Told
from weitiao.evaluation.linear import majority


class Majority(Baseline):
    """What can be had without reading the text."""

    title, title_zh = "the majority class", "多数类"
    fits = ("probabilities",)

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Return the shares of the classes, for every row."""
        return majority(told.train_targets, len(told.test), len(told.task.labels)), ""

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return rows that are mostly of one class."""
        rows = [{"text": f"row {i}", "label": "b" if i % 4 == 0 else "a"} for i in range(12)]
        return {"train": rows, "test": rows, "least": 0.75}
