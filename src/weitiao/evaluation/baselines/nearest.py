"""Ask the nearest labelled rows, by the features of the untuned model.

Source: Cover and Hart, Nearest neighbor pattern classification, 1967; Dudani, The distance-weighted k-nearest-neighbor
rule, 1976.
"""

from __future__ import annotations

from typing import Any

from weitiao.evaluation.baselines.base import Baseline, Told
from weitiao.evaluation.before import nearest


class Nearest(Baseline):
    """What the pretrained model can do before its weights move: like rows have like labels."""

    title, title_zh = "the model before tuning", "微调前的模型"
    fits = ("probabilities",)
    pooled = True

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Let the nearest training rows vote."""
        votes = nearest(
            told.features["train"],
            told.train_targets,
            told.features["test"],
            classes=len(told.task.labels),
            k=told.neighbors,
        )
        count = min(told.neighbors, len(told.train_targets))
        return votes, f"The {count} nearest training rows vote, by the untuned model's features."

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return rows whose words give the label away."""
        rows = [{"text": f"good nice {i}", "label": "a"} for i in range(6)]
        rows += [{"text": f"bad poor {i}", "label": "b"} for i in range(6)]
        return {"train": rows, "test": rows[4:8], "least": 1.0}
