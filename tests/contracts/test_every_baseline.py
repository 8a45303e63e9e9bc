"""What every baseline must do; a new file in the folder is tested the moment it exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weitiao import plugins
from weitiao.data.fields import map_fields
from weitiao.data.table import Table
from weitiao.evaluation.baselines.base import Told
from weitiao.recipe import DEFAULTS

NAMES = plugins.names("baselines")
every_baseline = pytest.mark.parametrize("name", NAMES)


def words(table: Table, fields: tuple[str, ...], known: dict[str, int]) -> np.ndarray:
    """Features that stand for an untuned model's: which words a row has."""
    found = np.zeros((len(table), 256), dtype=np.float32)
    for i, row in enumerate(table):
        for word in " ".join(str(row[field]) for field in fields).replace("_", " ").split():
            found[i, known.setdefault(word, len(known)) % 256] = 1
    return found


def told(name: str, *, blind: bool = False) -> Told:
    """The tiny case of a baseline; `blind`, with other targets on its test rows."""
    case = plugins.find("baselines", name).tiny()
    task = plugins.find("tasks", case.get("task", DEFAULTS["task"]))()
    train, test = (map_fields(Table.from_rows(case[split]), task.fields) for split in ("train", "test"))
    task.learn(train)
    targets = [field.name for field in task.fields if not field.is_input and field.name in test.column_names]
    if blind:
        test = test.with_columns({target: test.column(target)[::-1] for target in targets})
    texts, known = task.text_fields(train.column_names), {}
    features = {split: words(table, texts, known) for split, table in (("train", train), ("test", test))}
    if (labels := task.label_rows()) is not None:
        features["labels"] = words(labels, texts, known)
    answers = np.full((len(test), max(1, len(task.labels))), 1 / max(1, len(task.labels)))
    return Told(task, train, test, texts, features, lambda: answers, 3, 0)


def answered(name: str, case: Told) -> Any:
    found = plugins.find("baselines", name)().answer(case)
    assert found is not None
    answers, note = found
    assert isinstance(note, str)
    assert not note or note.endswith(".")
    return answers


@every_baseline
def test_introduces_itself(name: str) -> None:
    baseline = plugins.find("baselines", name)
    assert baseline.name == name == Path(baseline.__module__.rpartition(".")[2]).name
    assert baseline.title
    assert baseline.title_zh
    assert baseline.fits
    assert plugins.summary("baselines", name).endswith(".")


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(list(map(str, answers)) == list(map(str, other[form])) for form, answers in one.items())
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


@every_baseline
def test_answers_every_row(name: str) -> None:
    case = told(name)
    answers = answered(name, case)
    for each in answers.values() if isinstance(answers, dict) else [answers]:
        assert len(each) == len(case.test)


@every_baseline
def test_answers_its_own_case_well(name: str) -> None:
    case = told(name)
    right = case.task.right(case.task.truth(list(case.test)), answered(name, case))
    assert right.mean() >= plugins.find("baselines", name).tiny()["least"]


@every_baseline
def test_answers_the_same_again(name: str) -> None:
    assert same(answered(name, told(name)), answered(name, told(name)))


@every_baseline
def test_does_not_look_at_what_is_true_of_the_rows(name: str) -> None:
    assert same(answered(name, told(name)), answered(name, told(name, blind=True)))
