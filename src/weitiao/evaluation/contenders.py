"""What a tuned classifier has to beat: the same model before tuning, and everything cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weitiao.data.table import Table
from weitiao.evaluation.baselines import majority, tfidf
from weitiao.evaluation.before import label_names, nearest
from weitiao.evaluation.report import Contender

__all__ = ["Untuned", "baselines", "before_tuning"]


@dataclass(frozen=True)
class Untuned:
    """Features of the model as it was before tuning, each ``(rows, hidden)``; `labels` are of the label names."""

    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray | None


def before_tuning(untuned: Untuned, train_targets: np.ndarray, *, classes: int, neighbors: int) -> list[Contender]:
    """Return what the untuned model can do: ask the nearest labelled rows, or compare with the label names."""
    votes = nearest(untuned.train, train_targets, untuned.test, classes=classes, k=neighbors)
    found = [
        Contender(
            "before",
            "the model before tuning",
            votes,
            f"The {min(neighbors, len(train_targets))} nearest training rows vote, by the untuned model's features.",
            "微调前的模型",
        )
    ]
    if untuned.labels is not None:
        named = label_names(untuned.labels, untuned.test)
        note = (
            "Each row goes to the label with the nearest name, by the untuned model's features; no row is learned from."
        )
        found.append(Contender("label_names", "label names alone", named, note, "仅用标签名判断"))
    return found


def baselines(
    train: Table, test: Table, text_fields: Sequence[str], train_targets: np.ndarray, *, classes: int, seed: int
) -> list[Contender]:
    """Return the majority class, and TF-IDF with logistic regression."""
    texts = [list(zip(*(table.column(name) for name in text_fields), strict=True)) for table in (train, test)]
    linear = tfidf(texts[0], train_targets, texts[1], classes=classes, seed=seed)
    return [
        Contender("tfidf", "TF-IDF", linear, "TF-IDF of 1-2-grams with logistic regression (C=10).", "TF-IDF"),
        Contender("majority", "the majority class", majority(train_targets, len(test), classes), "", "多数类"),
    ]
