"""TF-IDF with one logistic regression a label, each answering on its own whether the label is there.

Source: Salton and Buckley, Term-weighting approaches in automatic text retrieval, 1988; Read et al., Classifier chains
for multi-label classification, 2011 (binary relevance).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from weitiao.evaluation.baselines.base import Baseline, Told
from weitiao.evaluation.linear import ngrams

_MOST_ROWS = 20_000  # there is a model for each label: seconds, not hours


class TfIdfLabels(Baseline):
    """What can be had in seconds without a pretrained model, where a row has several labels."""

    title, title_zh = "TF-IDF", "TF-IDF"
    fits = ("label_sets",)

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Learn from the training rows, label by label."""
        from sklearn.linear_model import LogisticRegression

        train, true = told.texts(told.train), told.train_targets
        if len(train) > _MOST_ROWS:
            chosen = np.sort(np.random.default_rng(told.seed).choice(len(train), _MOST_ROWS, replace=False))
            train, true = [train[i] for i in chosen], true[chosen]
        shares = true.mean(axis=0)
        found = np.tile(shares > 0.5, (len(told.test), 1))  # what is always there, or never
        blocks = ngrams(train, told.texts(told.test)) if len(told.test) else None
        if blocks is not None:
            for i in np.flatnonzero((shares > 0) & (shares < 1)):
                model = LogisticRegression(C=10.0, max_iter=1000).fit(blocks[0], true[:, i])
                found[:, i] = model.predict(blocks[1])
        return {"label_sets": found}, "TF-IDF of 1-2-grams with a logistic regression for each label (C=10)."

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return rows whose words give their labels away."""
        words = {"a": ["a"], "b": ["b"], "c": ["a", "b"], "d": []}
        rows = [
            {"text": f"{' '.join(f'word{name}' for name in labels)} row {i}", "labels": json.dumps(labels)}
            for labels in words.values()
            for i in range(4)
        ]
        return {"train": rows, "test": rows, "least": 1.0, "task": "multi_label"}
