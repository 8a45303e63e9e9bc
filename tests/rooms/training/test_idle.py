"""What only the loop can know to be idle, or too much, is refused before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest

from trial import train, trial
from weitiao.errors import RecipeError


def test_a_warm_up_as_long_as_the_training(tiny_bert: Path) -> None:
    at = trial("classification", tiny_bert)
    longer = {"name": "linear", "warmup_steps": 3}
    with pytest.raises(RecipeError, match=r"warmup_steps is 3, but the training has 3 steps"):
        train(at.build(), at, schedule=longer)
    train(at.build(), at, schedule=longer, epochs=4)


@pytest.mark.parametrize("settings", [{"class_weights": "balanced"}, {"logit_adjustment": 1.0}])
def test_rare_classes_made_up_for_twice(tiny_bert: Path, settings: dict[str, object]) -> None:
    at = trial("classification", tiny_bert, settings)
    with pytest.raises(RecipeError, match=rf"sampling is balanced, and task.{next(iter(settings))}"):
        train(at.build(), at, sampling="balanced")


def test_drawing_by_classes_that_are_not_there(tiny_bert: Path) -> None:
    at = trial("ner", tiny_bert)
    with pytest.raises(RecipeError, match="rows of the task ner have no one class"):
        train(at.build(), at, sampling="balanced")
