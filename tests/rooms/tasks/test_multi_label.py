"""The loss is the binary cross-entropy; thresholds are those of F1 where rows are many; labels are read as written."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import f1_score
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

import weitiao
from trial import make
from weitiao import plugins
from weitiao.data.fields import map_fields
from weitiao.data.read import read
from weitiao.data.table import Table
from weitiao.errors import DataError
from weitiao.evaluation.baselines.base import Told
from weitiao.evaluation.baselines.tfidf_labels import TfIdfLabels
from weitiao.models.load import open_saved
from weitiao.predict import predict_file
from weitiao.tasks.multi_label import MultiLabel, _threshold

TINY = plugins.find("tasks", "multi_label").tiny()["rows"]


def table(*values: Any) -> Table:
    return Table.from_rows([{"text": f"文本 {i}", "labels": value} for i, value in enumerate(values)])


def learned(*values: Any, **settings: Any) -> MultiLabel:
    task = MultiLabel(MultiLabel.Settings(**settings))
    task.learn(table(*values))
    return task


def sets(task: MultiLabel, *values: Any) -> list[list[str]]:
    truth = task.truth(list(table(*values)))
    return [[label for label, there in zip(task.labels, row, strict=True) if there] for row in truth]


# --- the loss ---


def test_loss_is_torchs_and_that_of_its_two_class_items():
    task = learned('["a", "b"]', '["b"]', "[]", '["c"]')
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batch, outputs = {"labels": torch.randint(2, (5, 3))}, SimpleNamespace(logits=z)
    expected = binary_cross_entropy_with_logits(z, batch["labels"].double(), reduction="sum")
    torch.testing.assert_close(task.loss(outputs, batch), expected)
    logits, targets = task.logits(outputs, batch), task.targets(batch)
    torch.testing.assert_close(cross_entropy(logits, targets, reduction="sum"), expected)
    assert task.items(batch) == len(logits) == 15


def test_balanced_weights_are_negatives_over_positives():
    task = learned('["a"]', '["a", "b"]', '["a"]', '["a"]', positive_weight="balanced")
    assert task.state["weights"] == pytest.approx([1.0, 3.0])  # every row has a: nothing to weigh it against
    z, y = torch.zeros(1, 2), torch.tensor([[0, 1]])
    value = task.loss(SimpleNamespace(logits=z), {"labels": y}).item()
    assert value == pytest.approx(np.log(2) + 3 * np.log(2))


# --- thresholds ---


def test_a_threshold_of_many_rows_is_the_one_of_best_f1():
    random = np.random.default_rng(0)
    true = random.random(4000) < 0.2
    z = random.normal(size=4000) + np.where(true, -0.5, -2.5)  # a model that says too little
    limit = _threshold(z, true)
    reached = f1_score(true, 1 / (1 + np.exp(-z)) > limit)
    best = max(f1_score(true, z > each) for each in np.linspace(-4, 2, 200))
    assert reached == pytest.approx(best, abs=0.005)
    assert limit < 0.4


def test_few_rows_move_a_threshold_little():
    assert _threshold(np.array([-3.0, -6.0]), np.array([True, False])) == 0.5  # logit -4.5 for one row: no
    assert _threshold(np.array([-0.5, -1.5]), np.array([True, False])) < 0.3  # logit -1: near enough
    assert _threshold(np.array([1.0, -1.0]), np.array([False, False])) == 0.5


@given(st.lists(st.tuples(st.floats(-30, 30), st.booleans()), min_size=1, max_size=30))
def test_a_threshold_is_a_probability(rows: list[tuple[float, bool]]):
    z, true = np.array([z for z, _ in rows]), np.array([there for _, there in rows])
    assert 0 < _threshold(z, true) < 1


def test_thresholds_are_kept_by_label_and_used():
    task = learned('["好", "差"]', '["好"]')
    said = [np.array([0.5, -0.5])]
    assert task.decode(said, [{}], {})[0].answer == [sorted(["好", "差"])[0]]
    moved = {f"threshold/{task.labels[0]}": 0.9, f"threshold/{task.labels[1]}": 0.1}
    (said_now,) = task.decode(said, [{}], moved)
    assert said_now.answer == [task.labels[1]]
    assert set(said_now.to_json()["probabilities"]) == {"好", "差"}
    assert set(task.calibrate([np.array([1.0, 1.0])], list(table('["好"]')))) == set(moved)


# --- labels as they are written ---


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ('["b", "a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),  # as pandas writes it
        ("a, b ,", ["a", "b"]),
        ("a", ["a"]),
        ("[]", []),
        ("[1, 2.0]", ["1", "2"]),
    ],
)
def test_ways_to_write_labels(value: str, labels: list[str]):
    task = learned("a,b", "[1, 2]")
    assert sets(task, value) == [labels]


def test_separators_are_found_or_given():
    assert learned("价格、动力", "价格").labels == sorted(["价格", "动力"])
    assert learned("a|b", "a", "b|c").labels == ["a", "b", "c"]
    assert learned("home/garden", "home", separator="/").labels == ["garden", "home"]
    assert learned('["home, garden"]').labels == ["home, garden"]  # in a list nothing is taken apart


def test_rows_that_cannot_be_used_are_named():
    task = learned("good,cheap", "good")
    reasons = task.accepts(table("god", "[broken", '[["a"]]', "good", "[]"))
    assert reasons[0] == "a label that is not among the task's: 'god'. Did you mean 'good'?"
    assert "JSON list" in reasons[1]
    assert "JSON list" in reasons[2]
    assert set(reasons) == {0, 1, 2}


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(value: str):
    reasons = MultiLabel().accepts(table(value, "a"))
    assert set(reasons) <= {0}


def test_nothing_to_learn_and_labels_twice_are_refused():
    with pytest.raises(DataError, match="no training row has a label"):
        learned("[]", "[]")
    with pytest.raises(ValidationError, match="each be named once"):
        MultiLabel.Settings(labels=("a", "a"))


def test_one_label_a_row_and_repeated_texts_are_found(real_data: Path):
    """The car reviews have a row for each subject of a text."""
    cars = map_fields(read([str(next((real_data / "classification/bdci_car_2018").glob("train*")))]), MultiLabel.fields)
    messages = [finding.message for finding in MultiLabel().findings({"all": cars})]
    assert any("No row has more than one label" in message for message in messages)
    assert any("stand in several rows with different labels" in message for message in messages)


def test_how_labels_were_taken_apart_is_said():
    findings = list(MultiLabel().findings({"train": table("a、b", "b")}))
    assert "taken apart at '、'" in findings[0].message


# --- the whole ---


def test_its_baseline_learns_words():
    rows = TfIdfLabels.tiny()["train"]
    whole, task = Table.from_rows(rows), make("tasks", "multi_label")
    task.learn(whole)
    told = Told(task, whole, whole, ("text",), {}, lambda: None)
    answers = TfIdfLabels().answer(told)
    assert answers is not None
    np.testing.assert_array_equal(answers[0]["label_sets"], task.truth(rows))


@pytest.mark.parametrize("method", ["full", "lora", "top_layers"])
def test_from_file_to_answer(method: str, tiny_bert: Path, tmp_path: Path):
    rows = [row | {"text": f"{row['text']} {word}"} for row in TINY for word in ("room", "film", "card")]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    recipe = weitiao.Recipe(
        data={"train": str(data), "split": {"by": "random"}},
        model=str(tiny_bert),
        task={"name": "multi_label"},
        method=method,
        training={"epochs": 2, "learning_rate": 1e-2},
        evaluation={"resamples": 100},
    )
    bundle = weitiao.run(recipe, tmp_path / "run", show=False)
    assert bundle.verified is not None
    assert set(bundle.calibration) == {f"threshold/{label}" for label in bundle.task.labels}
    one, batch, file = bundle.predict(rows[0]), bundle.predict(rows), list(predict_file(bundle, data))
    assert one.answer == batch[0].answer == file[0]["answer"]
    if method == "full":
        assert open_saved(bundle.folder / "model").config.problem_type == "multi_label_classification"
