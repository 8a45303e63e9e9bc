"""Values come back in the units they were given in; regularizers that need classes are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import weitiao
from trial import trial
from weitiao import plugins
from weitiao.data.fields import map_fields
from weitiao.data.read import read
from weitiao.data.table import Table
from weitiao.errors import DataError
from weitiao.evaluation.baselines.base import Told
from weitiao.models.load import open_saved
from weitiao.predict import predict_file
from weitiao.tasks.regression import Regression
from weitiao.training.hook import why_not

TINY = plugins.find("tasks", "regression").tiny()["rows"]


def learned(values: list[float], **settings: Any) -> Regression:
    task = Regression(Regression.Settings(**settings))
    task.learn(Table.from_rows([{"text": f"文本 {i}", "value": value} for i, value in enumerate(values)]))
    return task


def test_loss_is_the_sum_of_squared_standardized_errors():
    task = learned([10.0, 20.0, 30.0])
    spread = math.sqrt(200 / 3)
    batch = {"labels": torch.tensor([task._standardized(10.0, 1), task._standardized(30.0, 2)])}
    assert batch["labels"].tolist() == pytest.approx([-10 / spread, 10 / spread])
    loss = task.loss(SimpleNamespace(logits=torch.tensor([[0.0], [1.0]])), batch)
    assert loss.item() == pytest.approx((10 / spread) ** 2 + (1 - 10 / spread) ** 2)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20).filter(lambda v: max(v) - min(v) > 1e-3))
def test_answers_are_in_the_units_of_the_data(values: list[float]):
    task = learned(values)
    said = [np.array([task._standardized(value, 1)]) for value in values]
    np.testing.assert_allclose(task.answer(said, [], {}), values, rtol=1e-9, atol=1e-6)


def test_ordinal_answers_are_steps_within_the_scale():
    task = learned([1.0, 2.0, 5.0], ordinal=True)
    answers = task.answer([np.array([z]) for z in (-9.0, 0.0, 0.2, 9.0)], [], {})
    assert answers.tolist() == [1.0, 3.0, 3.0, 5.0]
    assert [p.answer for p in task.decode([np.array([9.0])], [{}], {})] == [5]
    with pytest.raises(DataError, match=r"memory:2: 1 training rows have values that are no whole steps.*2.5"):
        learned([1.0, 2.5], ordinal=True)


def test_one_value_is_nothing_to_learn():
    with pytest.raises(DataError, match="all 2 training rows have the value 3"):
        learned([3.0, 3.0])


def test_right_is_near():
    task = learned([0.0, 10.0])  # a standard deviation of 5
    np.testing.assert_array_equal(task.right(np.array([1.0, 1.0]), np.array([3.0, 4.0])), [True, False])


def test_far_values_and_whole_steps_are_found():
    rows = [{"text": f"行 {i}", "value": float(i % 5)} for i in range(60)] + [{"text": "x", "value": 400.0}]
    far, steps = Regression().findings({"train": Table.from_rows(rows)})
    assert (far.severity, far.places) == ("warning", ("memory:61",))
    assert "0, 1, 2, 3, 4, 400" in steps.message


@pytest.mark.parametrize("name", ["label_smoothing", "r_drop", "smart", "supervised_contrastive"])
def test_regularizers_that_compare_classes_are_refused(name: str, tiny_bert: Path):
    hook = plugins.find("regularizers", name)()
    value, label = trial("regression", tiny_bert), trial("classification", tiny_bert)
    assert "no classes" in str(why_not(hook, value.build(), value.task))
    assert why_not(hook, label.build(), label.task) is None


def test_real_scores_find_their_columns(real_data: Path):
    table = map_fields(read([str(real_data / "pair_matching/sick2014/SICK_train.txt")]), Regression.fields)
    assert {"text", "text_pair", "value"} <= set(table.column_names)
    assert table[0]["value"] == 4.5
    assert "pair" in learned([1.0, 2.0]).state


def test_words_beat_the_mean():
    cases = plugins.find("baselines", "tfidf_ridge").tiny()
    task, table = Regression(), Table.from_rows(cases["train"])
    task.learn(table)
    told = Told(task, table, table, ("text",), {}, lambda: None)
    errors = []
    for name in ("tfidf_ridge", "mean"):
        answers, _ = plugins.find("baselines", name)().answer(told)
        errors.append(np.abs(answers - task.truth(list(table))).mean())
    assert errors[0] < 0.5 < errors[1]


@pytest.mark.parametrize("method", ["full", "lora", "top_layers", "head"])
def test_from_file_to_answer(method: str, tiny_bert: Path, tmp_path: Path):
    rows = [row | {"text": f"{row['text']} {word}"} for row in TINY for word in ("room", "film", "card")]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    how = {} if method == "head" else {"training": {"epochs": 1}}
    recipe = weitiao.Recipe(
        data={"train": str(data), "split": {"by": "random"}},
        model=str(tiny_bert),
        task="regression",
        method=method,
        evaluation={"resamples": 100},
        **how,
    )
    bundle = weitiao.run(recipe, tmp_path / "run", show=False)
    assert bundle.verified is not None
    one, batch, file = bundle.predict(rows[0]), bundle.predict(rows), list(predict_file(bundle, data))
    # another batch moves the last digits, and with them, now and then, the rounding
    assert one.answer == pytest.approx(batch[0].answer, abs=2e-3) == file[0]["answer"]
    assert 0 < one.answer < 6
    if method == "full":
        config = open_saved(bundle.folder / "model").config
        assert (config.problem_type, config.num_labels) == ("regression", 1)
