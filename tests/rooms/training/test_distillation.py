"""A teacher is asked once, by rows; the bundle that comes out does without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import weitiao
from trial import Trial, make, train, trial, without_dropout
from weitiao.data.table import Table
from weitiao.errors import RecipeError, TrainingError
from weitiao.recipe import Recipe


def recipe(folder: Path, model: Path, teacher: str, rows: list[dict[str, str]]) -> Recipe:
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Recipe(
        data=str(data),
        model=str(model),
        augmentation=["deletion"],
        regularizers=[{"name": "distillation", "teacher": teacher}],
        training={"epochs": 1},
        evaluation={"resamples": 100},
    )


@pytest.fixture
def at(tiny_bert: Path) -> Trial:
    return trial("classification", tiny_bert)


def test_the_student_comes_to_say_what_the_teacher_says(at: Trial) -> None:
    """With the teacher counting far more than the labels; the teacher's labels are in another order."""
    hook = make("regularizers", "distillation", {"teacher": "other", "strength": 100.0, "temperature": 1.0})
    student = without_dropout(at.build())
    train(student, at, hooks=[hook], epochs=60, batch_size=4, learning_rate=3e-3)
    said = at.supplies().logits_of("other", at.task.labels)
    wanted, got = (torch.from_numpy(x).softmax(-1) for x in (said, at.logits(student)))
    assert (wanted - got).abs().max() < 0.05
    assert np.allclose(said[:, ::-1], np.array(at.stranger("other").ask(at.rows)), atol=1e-4)


def test_other_labels_and_another_teacher_are_refused(at: Trial) -> None:
    other = at.stranger("teacher")
    other.task.state["labels"] = ["positive", "mixed"]
    with pytest.raises(RecipeError, match="it lacks negative and it has mixed too"):
        at.supplies().logits_of("teacher", at.task.labels)
    hook = make("regularizers", "distillation", {"teacher": "other"})
    train(at.build(), at, hooks=[hook], epochs=1)
    hook.load_state_dict({"teacher": hook.state_dict()["teacher"] + 1})
    with pytest.raises(TrainingError, match="another one than when this run began"):
        train(at.build(), at, hooks=[hook], epochs=1)


def test_a_bundle_teaches_and_is_not_needed_afterwards(
    tiny_bundle: Any, tiny_model: Any, tiny_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    """The teacher has a tokenizer of another kind; augmented rows are asked too."""
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_bundle(), teacher)
    done = weitiao.run(
        recipe(tmp_path, tiny_model("distilbert"), str(teacher), tiny_rows), tmp_path / "run", show=False
    )
    shutil.rmtree(teacher)
    assert weitiao.Bundle(done.folder).predict("the room is good").label in done.task.labels
    with pytest.raises(weitiao.errors.BundleError):
        weitiao.run(recipe(tmp_path, tiny_model("bert"), str(teacher), tiny_rows), tmp_path / "again", show=False)


def test_what_a_teacher_said_is_kept_for_the_same_rows_alone(at: Trial) -> None:
    supplies = at.supplies()
    first = supplies.logits_of("other", at.task.labels)
    assert supplies.logits_of("other", at.task.labels) is first
    assert len(supplies.answers) == 1
    assert supplies.rows.fingerprint == Table.from_rows(at.rows).fingerprint
