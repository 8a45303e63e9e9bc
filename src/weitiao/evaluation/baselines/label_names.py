"""Compare each row with the names of the labels, by the features of the untuned model.

Source: Yin, Hay and Roth, Benchmarking Zero-shot Text Classification, 2019, arXiv:1909.00161.
"""

from __future__ import annotations

from typing import Any

from weitiao.evaluation.baselines.base import Baseline, Told
from weitiao.evaluation.before import label_names


class LabelNames(Baseline):
    """What the pretrained model can do without a single labelled row."""

    title, title_zh = "label names alone", "仅用标签名判断"
    fits = ("probabilities",)
    pooled = True

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Give each row to the label with the nearest name."""
        if "labels" not in told.features:
            return None
        note = (
            "Each row goes to the label with the nearest name, by the untuned model's features; no row is learned from."
        )
        return label_names(told.features["labels"], told.features["test"]), note

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return rows that hold their label's name."""
        rows = [{"text": f"{name} {i}", "label": name} for name in ("refund", "card") for i in range(4)]
        return {"train": rows, "test": rows, "least": 1.0}
