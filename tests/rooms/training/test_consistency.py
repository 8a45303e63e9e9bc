"""Rows without labels: which of them a labeled row draws, and what is learnt from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from trial import Trial, make, train, trial, without_dropout
from weitiao.data.table import Table
from weitiao.errors import RecipeError
from weitiao.training.loop import Loop, Outside
from weitiao.training.regularizers.consistency import Consistency


@pytest.fixture
def at(tiny_bert: Path) -> Trial:
    return trial("classification", tiny_bert)


class Watched(Consistency):
    """Notes which rows were drawn."""

    name = "consistency"

    def __init__(self, settings: Consistency.Settings) -> None:
        super().__init__(settings)
        self.seen: list[tuple[int, list[int]]] = []

    def loss(self, loop: Loop, *args: object) -> torch.Tensor:
        self.seen.append((loop.position.step, self._own(loop)[0].tolist()))
        return super().loss(loop, *args)  # type: ignore[arg-type]


def drawn(at: Trial, **settings: int) -> dict[int, list[int]]:
    hook = Watched(Consistency.Settings(confidence=0.0, ratio=2))
    train(without_dropout(at.build()), at, hooks=[hook], batch_size=6, epochs=2, **settings)
    steps: dict[int, list[int]] = {}
    for step, rows in hook.seen:
        steps.setdefault(step, []).extend(rows)
    return steps


def test_what_a_step_draws_depends_on_no_cut(at: Trial) -> None:
    whole, cut = drawn(at), drawn(at, micro_batch_size=4)
    assert whole == cut
    assert sorted(len(rows) for rows in whole.values()) == [6, 6, 12, 12]
    assert set(whole[0][:9]) <= set(range(9))
    assert len({tuple(rows) for rows in whole.values()}) == 4


def test_rows_below_the_confidence_teach_nothing(at: Trial) -> None:
    outcomes = []
    for hooks in ([], [make("regularizers", "consistency", {"confidence": 0.99})]):
        model = without_dropout(at.build())
        train(model, at, hooks=hooks, epochs=1)
        outcomes.append(at.logits(model))
    assert np.array_equal(*outcomes)


def test_augmentations_that_cannot_help_are_refused(at: Trial) -> None:
    hook = make("regularizers", "consistency", {"augmentations": ["mixing"]})
    with pytest.raises(RecipeError, match="change no row without label"):
        train(at.build(), at, hooks=[hook], epochs=1)
    for wrong, words in (
        (["deletoin"], "Did you mean 'deletion'"),
        ([], "at least 1"),
        ("deletion", "should be a list"),
        ([{"name": "deletion", "copies": 2}], "set views"),
        (["mine.py"], "mine.py"),
    ):
        with pytest.raises((ValidationError, RecipeError), match=words):
            Consistency.Settings(augmentations=wrong)  # type: ignore[arg-type]


def test_without_rows_it_says_so(at: Trial) -> None:
    bare = replace(at.supplies(), unlabeled=None)
    with pytest.raises(RecipeError, match="there are none"):
        train(at.build(), at, hooks=[make("regularizers", "consistency")], outside=Outside(supplies=bare))


def test_rows_written_again_are_answered_alike_after_training(at: Trial) -> None:
    """The gap between a row and its view shrinks, on rows that have no label."""
    rows = [{"text": f"the {thing} is {word} and i {verb} it"} for thing in ("room", "film", "card")
            for word in ("good", "bad") for verb in ("love", "hate")]  # fmt: skip
    supplies = replace(at.supplies(), unlabeled=Table.from_rows(rows))
    gaps = []
    for strength in (1e-6, 30.0):
        chosen = {"strength": strength, "confidence": 0.0, "temperature": 1.0, "augmentations": ["swap"]}
        model = without_dropout(at.build())
        hook = Consistency(Consistency.Settings(**chosen))
        train(model, at, hooks=[hook], outside=Outside(supplies=supplies), epochs=15, batch_size=4, learning_rate=3e-3)
        loop = train(at.build(), at, hooks=[hook], outside=Outside(supplies=supplies), epochs=1)
        loop.plain_model = loop.model = model.eval()
        with torch.no_grad():
            everything = [
                hook._logits(loop, part, np.arange(len(rows))).softmax(-1) for part in (hook._rows, hook._views)
            ]
        gaps.append((everything[0] - everything[1]).abs().mean().item())
    assert gaps[1] < gaps[0] / 2
