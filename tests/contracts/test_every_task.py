"""What every task must do; a new file in the folder is tested the moment it exists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trial import cases, check_introduction, check_variants, make, request, train, trial, without_dropout
from weitiao import plugins
from weitiao.data.fields import map_fields
from weitiao.data.table import Table
from weitiao.errors import DataError
from weitiao.evaluation.comparison import suited
from weitiao.evaluation.inference import mean_loss
from weitiao.models import parts
from weitiao.models.load import save

NAMES = plugins.names("tasks")
every_task = pytest.mark.parametrize("name", NAMES)
every_case = pytest.mark.parametrize(
    ("name", "case"), [pytest.param(n, i, id=f"{n}-{i}") for n in NAMES for i in range(len(cases("tasks", n)))]
)


@pytest.fixture
def folder(name: str, tiny_for: Any) -> Path:
    """The tiny model that a task's tiny case is for."""
    return tiny_for(name)


def has_labels(name: str) -> bool:
    return plugins.find("tasks", name).label_field() is not None


@every_task
def test_introduces_itself(name: str) -> None:
    check_introduction("tasks", name)
    task = plugins.find("tasks", name)
    assert task.main_metric in task.metrics
    for metric in task.metrics:
        needs = plugins.find("metrics", metric).needs
        forms = {"names": "labels", "named_probabilities": "probabilities"}
        assert needs in task.gives or forms.get(needs) in task.gives, metric
    for baseline in task.baselines:
        assert set(plugins.find("baselines", baseline).fits) & set(task.gives), baseline
    for each in task.formats:
        plugins.find("formats", each)
    assert any(field.is_input for field in task.fields)
    learns_what_it_reads = any(field.kind == "json" for field in task.fields) or task.gives == ("likelihood",)
    assert learns_what_it_reads or any(not field.is_input for field in task.fields)


@every_task
def test_overfits_its_rows_and_answers_them_right(name: str, folder: Path) -> None:
    at = trial(name, folder)
    assert len(at.rows) >= 8
    model = without_dropout(at.build())
    before = mean_loss(model, at.task, at.features)
    tiny = plugins.find("tasks", name).tiny()
    train(model, at, epochs=tiny.get("epochs", 60), learning_rate=tiny.get("learning_rate", 1e-2))
    assert mean_loss(model, at.task, at.features) < 0.2 * before
    said = at.said(model)
    answers = at.task.answer(said, at.rows, {})
    truth = at.task.truth(at.rows)
    metric = plugins.find("metrics", at.task.main_metric)()
    forms = (suited(metric, each, at.task.labels) for each in (truth, answers))
    reached, best = metric(*forms, classes=len(at.task.labels)), metric.range[metric.higher_is_better]
    assert abs(reached - best) <= 0.1 * (metric.range[1] - metric.range[0]), (reached, best)
    assert at.task.right(truth, answers).shape == (len(at.rows),)
    predictions = at.task.decode(said, at.rows, {})
    assert len(predictions) == len(at.rows)
    json.dumps([p.to_json() for p in predictions], allow_nan=False)
    assert all(p.confidence is None or 0 <= p.confidence <= 1 for p in predictions)
    for value in (truth[0], next(iter(answers.values()))[0] if isinstance(answers, dict) else answers[0]):
        assert isinstance(at.task.shown(value), str)


@every_task
def test_calibration_is_numbers_that_decode_takes(name: str, folder: Path) -> None:
    at = trial(name, folder)
    model = at.build()
    found = at.task.calibrate(at.said(model), at.rows)
    assert all(isinstance(value, float) and np.isfinite(value) for value in found.values())
    at.task.decode(at.said(model), at.rows, json.loads(json.dumps(found)))


@pytest.mark.parametrize("name", [n for n in NAMES if "probabilities" in plugins.find("tasks", n).gives])
def test_a_temperature_changes_confidence_and_not_the_label(name: str, folder: Path) -> None:
    at = trial(name, folder)
    said = list(np.random.default_rng(0).normal(size=(len(at.rows), len(at.task.labels))).astype(np.float32))
    sharp, flat = (at.task.decode(said, at.rows, found) for found in ({}, {"temperature": 4.0}))
    assert [p.answer for p in sharp] == [p.answer for p in flat]
    assert all(a.confidence > b.confidence for a, b in zip(sharp, flat, strict=True))
    extreme = at.task.decode([1e4 * one for one in said], at.rows, {})
    assert all(np.isfinite(p.confidence) for p in extreme)


@every_case
def test_items_count_what_the_loss_sums(name: str, case: int, folder: Path) -> None:
    at = trial(name, folder, cases("tasks", name)[case])
    if getattr(at.task, "couples_rows", False):
        pytest.skip("what a row adds depends on the rows beside it")
    model = without_dropout(at.build())
    whole, inputs = at.batch(), [at.batch([i]) for i in range(len(at.features))]
    assert at.task.items(whole) == sum(at.task.items(one) for one in inputs)
    assert at.task.logits(at.outputs(model, whole), whole).shape[0] == at.task.items(whole)
    assert at.task.targets(whole).shape[0] == at.task.items(whole)
    with torch.no_grad():
        together = at.task.loss(at.outputs(model, whole), whole)
        one_by_one = sum(at.task.loss(at.outputs(model, one), one) for one in inputs)
    assert together.shape == ()
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-4)


@every_case
def test_gradient_equals_finite_differences(name: str, case: int, folder: Path) -> None:
    """In float64, along random directions through all weights."""
    at = trial(name, folder, cases("tasks", name)[case])
    model, batch = without_dropout(at.build()).double().eval(), at.batch()
    weights = list(model.parameters())
    at.task.loss(at.outputs(model, batch), batch).backward()
    gradient = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]

    def loss_at(step: float, direction: list[torch.Tensor]) -> float:
        with torch.no_grad():
            for w, d in zip(weights, direction, strict=True):
                w.add_(step * d)
            value = at.task.loss(at.outputs(model, batch), batch).item()
            for w, d in zip(weights, direction, strict=True):
                w.sub_(step * d)
        return value

    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        direction = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in weights]
        measured = (loss_at(1e-6, direction) - loss_at(-1e-6, direction)) / 2e-6
        told = sum((g * d).sum().item() for g, d in zip(gradient, direction, strict=True))
        assert told == pytest.approx(measured, rel=1e-5, abs=1e-6)


@every_task
def test_a_served_request_is_encoded_as_a_training_row(name: str, folder: Path) -> None:
    at = trial(name, folder)
    asked = [request(at, row) for row in at.rows]
    served = at.task.encode(asked, at.tokenizer, 64)
    trained = at.task.ask(at.features.inputs, at.tokenizer)
    batch = at.task.ask(served, at.tokenizer)
    model = at.build()
    both = []
    for inputs, asked_of in ((served, batch), (list(at.features.inputs), trained)):
        with torch.inference_mode():
            said = at.task.say(model, asked_of)
        both.append([at.task.numbers(at.task.join([one], [own])) for one, own in zip(said, inputs, strict=True)])
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert "labels" not in at.task.model_inputs(at.batch())
    assert all(isinstance(value, torch.Tensor) for value in at.task.model_inputs(at.batch()).values())


@every_task
def test_counts_the_tokens_it_cuts_off_or_reads_them_in_windows(name: str, folder: Path) -> None:
    at = trial(name, folder)
    longest = int(at.features.lengths.max())
    whole, cut = (at.task.encode(at.rows, at.tokenizer, length) for length in (64, longest - 1))
    assert not any(one["tokens_lost"] for one in whole)
    assert sum(one["tokens_lost"] for one in cut) > 0 or len(cut) > len(whole)
    assert all(len(one["input_ids"]) <= longest - 1 for one in cut)


@pytest.mark.parametrize("name", [n for n in NAMES if has_labels(n)])
def test_names_an_unknown_label(name: str, folder: Path) -> None:
    at, field = trial(name, folder), str(plugins.find("tasks", name).label_field())
    rows = [at.rows[0], at.rows[1] | {field: "no such label"}]
    refused = at.task.accepts(Table.from_rows(rows))
    assert list(refused) == [1]
    assert "no such label" in refused[1]
    with pytest.raises(DataError, match=r"row 2.*no such label"):
        at.task.encode(rows, at.tokenizer, 64)


@every_task
@pytest.mark.parametrize("empty", [None, "", "  \n"])
def test_names_a_row_without_text(name: str, empty: str | None, folder: Path) -> None:
    at = trial(name, folder)
    text = next(field.name for field in at.task.fields if field.is_input and field.required)
    with pytest.raises(DataError, match=rf"row 2.*{text}"):
        at.task.encode([at.rows[0], at.rows[1] | {text: empty}], at.tokenizer, 64)


@every_case
def test_rebuilt_from_its_state_it_behaves_the_same(name: str, case: int, folder: Path) -> None:
    settings = cases("tasks", name)[case]
    at = trial(name, folder, settings)
    state = json.loads(json.dumps(at.task.state, allow_nan=False))
    assert state == at.task.state
    again = type(at.task)(at.task.settings, state)
    assert again.labels == at.task.labels
    assert again.encode(at.rows, at.tokenizer, 64) == list(at.features.inputs)
    model = at.build()
    again.build(at.pretrained, pooling=at.pooling, dropout=None, seed=0)
    batch = at.batch()
    assert torch.equal(again.loss(at.outputs(model, batch), batch), at.task.loss(at.outputs(model, batch), batch))
    assert again.decode(at.said(model), at.rows, {}) == at.task.decode(at.said(model), at.rows, {})


@every_task
def test_the_seed_decides_the_head(name: str, folder: Path) -> None:
    at = trial(name, folder)
    if not parts.new_parameters(at.build()):
        pytest.skip("nothing of its model is new")
    first, same, other = (at.logits(at.build(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.allclose(first, other)


@every_task
def test_reopens_what_was_saved(name: str, folder: Path, tmp_path: Path) -> None:
    at = trial(name, folder)
    model = at.build()
    save(model, tmp_path / "model", at.tokenizer)
    again = at.task.reopen(tmp_path / "model")
    for one, other in zip(at.said(again), at.said(model), strict=True):
        np.testing.assert_array_equal(at.task.numbers(one), at.task.numbers(other))


@every_task
def test_every_setting_does_something(name: str, folder: Path) -> None:
    check_variants("tasks", name)
    outcomes = []
    for settings in cases("tasks", name):
        at = trial(name, folder, settings)
        model, batch = at.build(), at.batch()
        with torch.no_grad():  # an outcome knows nothing of the state that is kept, only of what it does
            loss = at.task.loss(at.outputs(model, batch), batch).item()
        shapes = {key: list(value.shape) for key, value in batch.items()}
        said = at.said(model)
        found = at.task.calibrate(said, at.rows)
        decoded = [p.to_json() for p in at.task.decode(said, at.rows, found)]
        read = [list(one["input_ids"]) for one in at.features.inputs]
        answers = repr(at.task.answer(said, at.rows, found))
        outcomes.append(json.dumps([round(loss, 9), decoded, read, found, shapes, answers]))
    assert len(set(outcomes)) == len(outcomes), "two variants come out the same"


@every_task
def test_label_rows_are_what_it_can_encode(name: str, folder: Path) -> None:
    at = trial(name, folder)
    names = at.task.label_rows()
    if names is not None:
        assert len(names) == len(at.task.labels)
        at.task.encode(list(names), at.tokenizer, 64)


@every_task
def test_learns_from_nothing_but_what_it_is_given(name: str) -> None:
    """Another task of the same settings knows nothing of it: no state is kept on the class."""
    task, other = make("tasks", name), make("tasks", name)
    task.learn(map_fields(Table.from_rows(plugins.find("tasks", name).tiny()["rows"]), task.fields))
    assert not other.state
