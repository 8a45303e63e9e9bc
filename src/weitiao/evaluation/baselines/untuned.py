"""The model as it was before tuning: it answers as the tuned one does, with the weights it came with."""

from __future__ import annotations

from typing import Any

from weitiao.evaluation.baselines.base import Baseline, Told


class Untuned(Baseline):
    """What the pretrained model answers by itself; a new head has random weights, and its answers are guesses."""

    title, title_zh = "the model before tuning", "微调前的模型"
    fits = ("probabilities", "label_sets", "values", "entities", "texts", "likelihood", "ranks", "names")

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Let the untuned model answer."""
        return told.untuned(), "The untuned model answers; what tuning would have to learn is still random in it."

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return rows; what an untuned model is right about is chance."""
        rows = [{"text": f"row {i}", "label": "ab"[i % 2]} for i in range(8)]
        return {"train": rows, "test": rows, "least": 0.0}
