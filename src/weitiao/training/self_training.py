"""Learn from rows without labels: the model labels them, and trains again with those it is sure of.

Round 0 trains on the labeled rows alone. Before each later round, the model of the round before says what each row
without label is; rows whose calibrated probability reaches `confidence` get the likeliest label, the surest first, of
each class at most `balance` times an even share, and training starts anew from the pretrained weights on all of them.
Dev decides which round is kept, the first of several that are equal; test is met by that one alone.

Everything is a function of the models and the rows, so that a run that was killed goes on with the same result.

Source: Lee, Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks, 2013;
Xie et al., Self-training with Noisy Student improves ImageNet classification, 2020, arXiv:1911.04252.
Differs: labels are hard and confidences calibrated; no class is filled up with copies; the student is as large as the
teacher, and what is noisy about it are the dropout and the regularizers of the recipe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from pydantic import Field, model_validator

from weitiao.data.table import Table
from weitiao.findings import Finding
from weitiao.plugins import Options

__all__ = ["SelfTrainingSettings", "Steps", "choose", "self_train"]


class SelfTrainingSettings(Options):
    """Training again with labels that the model gave to rows without any."""

    rounds: int = Field(default=0, ge=0, description="trainings with labels of the model's own; 0: none")
    confidence: float = Field(default=0.9, gt=0, lt=1, description="calibrated probability from which a label is taken")
    balance: float | None = Field(
        default=1.0,
        gt=0,
        description="most rows of a class, as a multiple of an even share of the sure rows; null: all",
    )

    @model_validator(mode="after")
    def _no_idle_setting(self) -> SelfTrainingSettings:
        if not self.rounds and self != SelfTrainingSettings.model_construct():
            raise ValueError("confidence and balance have no effect with rounds 0; set rounds to 1 or more")
        return self


class Scored(Protocol):
    """What a training gives; the higher its score on dev, the better."""

    @property
    def score(self) -> float:
        """On dev."""
        ...


T = TypeVar("T", bound=Scored)
Chosen = list[tuple[int, int]]  # rows that get a label, each with its class


@dataclass(frozen=True)
class Steps(Generic[T]):
    """What a round is made of.

    Parameters
    ----------
    train
        Trains, given the round and the rows that are added, ``None`` in round 0. Gives ``None`` where this is not the
        main process.
    probabilities
        Of each row without label, ``(rows, classes)``, calibrated.
    shared
        Gives what the main process chooses to all processes.
    """

    train: Callable[[int, Table | None], T | None]
    probabilities: Callable[[T], np.ndarray]
    shared: Callable[[Callable[[], Chosen]], Chosen]


@dataclass(frozen=True)
class _Round:
    added: int
    by_class: dict[str, int]
    score: float


def self_train(
    settings: SelfTrainingSettings, unlabeled: Table, label_field: str, labels: Sequence[str], steps: Steps[T]
) -> tuple[T | None, Finding | None]:
    """Train in rounds; return the best training, and what there is to say about them.

    There are no more rounds where the model is sure of no row, or of the same rows with the same labels as before:
    the next would give the same model. Both are ``None`` where this is not the main process.
    """
    best: T | None = None
    told: list[_Round] = []
    chosen: Chosen = []
    kept = 0
    for number in range(settings.rounds + 1):
        added = unlabeled.take([i for i, _ in chosen]).with_columns({label_field: [labels[k] for _, k in chosen]})
        trained = steps.train(number, added if number else None)
        if trained is not None:
            counts = Counter(labels[k] for _, k in chosen)
            told.append(_Round(len(chosen), {name: counts[name] for name in labels}, trained.score))
            if best is None or trained.score > best.score:
                best, kept = trained, number
        if number == settings.rounds:
            break
        before, chosen = chosen, steps.shared(_choosing(settings, unlabeled, steps, trained))
        if not chosen or chosen == before:
            break
    return best, _account(settings, told, kept, len(unlabeled)) if told else None


def _choosing(
    settings: SelfTrainingSettings, unlabeled: Table, steps: Steps[T], trained: T | None
) -> Callable[[], Chosen]:
    return lambda: [] if trained is None else choose(steps.probabilities(trained), settings, unlabeled.ids)


def choose(probabilities: np.ndarray, settings: SelfTrainingSettings, ids: Sequence[str]) -> Chosen:
    """Return the rows that get a label, each with its class, in the order of the rows.

    Parameters
    ----------
    probabilities
        Of the rows, ``(rows, classes)``.
    ids
        One a row: they decide between rows that are as sure.
    """
    classes, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    enough = np.flatnonzero(sure >= settings.confidence)
    most = len(enough)
    if settings.balance is not None:
        most = max(1, round(settings.balance * len(enough) / probabilities.shape[1]))
    chosen: Chosen = []
    for k in range(probabilities.shape[1]):
        own = sorted((int(i) for i in enough if classes[i] == k), key=lambda i: (-sure[i], ids[i]))
        chosen += [(i, k) for i in own[:most]]
    return sorted(chosen)


def _account(settings: SelfTrainingSettings, told: Sequence[_Round], kept: int, rows: int) -> Finding:
    scores = f"score on dev by round, higher is better: {', '.join(f'{one.score:.4g}' for one in told)}"
    if len(told) == 1:
        message = f"The model was sure of none of {rows:,} rows without labels: nothing was added."
    elif kept:
        counts = ", ".join(f"{name} {n:,}" for name, n in told[kept].by_class.items())
        message = (
            f"Round {kept} is kept, with labels of the model's own for {told[kept].added:,} of {rows:,} rows "
            f"({counts}); {scores}."
        )
    else:
        message = f"Labels of the model's own for up to {max(one.added for one in told):,} of {rows:,} rows did not "
        message += f"help: the model trained without them is kept; {scores}."
    if 1 < len(told) <= settings.rounds:
        message += f" It ended after round {len(told) - 1}: the next would have had the same rows, or none."
    return Finding(
        "self_training",
        "info" if kept else "warning",
        message,
        "Nothing to do." if kept else "Leave self_training out, choose another confidence, or label more rows.",
        count=told[kept].added,
        evidence={"rounds": [asdict(one) for one in told], "kept": kept},
    )
