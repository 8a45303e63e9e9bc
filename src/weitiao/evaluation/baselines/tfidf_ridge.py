"""TF-IDF of words, or of characters where words have no spaces between them, with ridge regression.

Source: Salton and Buckley, Term-weighting approaches in automatic text retrieval, 1988; Hoerl and Kennard, Ridge
Regression: Biased Estimation for Nonorthogonal Problems, 1970.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weitiao.evaluation.baselines.base import Baseline, Told
from weitiao.evaluation.linear import ngrams

_MOST_ROWS = 100_000


class TfIdfRidge(Baseline):
    """What can be had in seconds without a pretrained model, where the answer is a number."""

    title, title_zh = "TF-IDF", "TF-IDF"
    fits = ("values",)

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Learn from the training rows; where no text has a feature, answer their mean."""
        from sklearn.linear_model import Ridge

        train, true = told.texts(told.train), told.train_targets
        if len(train) > _MOST_ROWS:
            chosen = np.sort(np.random.default_rng(told.seed).choice(len(train), _MOST_ROWS, replace=False))
            train, true = [train[i] for i in chosen], true[chosen]
        blocks = ngrams(train, told.texts(told.test)) if len(told.test) else None
        if blocks is None:
            return np.full(len(told.test), true.mean()), "No text has a feature: the mean."
        said = Ridge(alpha=1.0, solver="sparse_cg").fit(blocks[0], true).predict(blocks[1])
        return np.asarray(said, dtype=np.float64), "TF-IDF of 1-2-grams with ridge regression (alpha=1)."

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return rows whose words give the value away."""
        rows = [{"text": f"好 不错 {i}", "value": 5.0} for i in range(6)]
        rows += [{"text": f"差 太慢 {i}", "value": 1.0} for i in range(6)]
        return {"train": rows, "test": rows, "least": 1.0, "task": "regression"}
