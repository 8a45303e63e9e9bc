"""TF-IDF of words, or of characters where words have no spaces between them, with logistic regression.

Source: Salton and Buckley, Term-weighting approaches in automatic text retrieval, 1988; Wang and Manning, Baselines and
Bigrams: Simple, Good Sentiment and Topic Classification, 2012.
"""

from __future__ import annotations

from typing import Any

from weitiao.evaluation.baselines.base import Baseline, Told
from weitiao.evaluation.linear import tfidf


class TfIdf(Baseline):
    """What can be had in seconds without a pretrained model."""

    title, title_zh = "TF-IDF", "TF-IDF"
    fits = ("probabilities",)

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Learn from the training rows."""
        answers = tfidf(
            told.texts(told.train),
            told.train_targets,
            told.texts(told.test),
            classes=len(told.task.labels),
            seed=told.seed,
        )
        return answers, "TF-IDF of 1-2-grams with logistic regression (C=10)."

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return rows whose words give the label away."""
        rows = [{"text": f"好 不错 {i}", "label": "a"} for i in range(6)]
        rows += [{"text": f"差 太慢 {i}", "label": "b"} for i in range(6)]
        return {"train": rows, "test": rows, "least": 1.0}
