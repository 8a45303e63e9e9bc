"""What every task must do; a new file in the folder is tested the moment it exists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trial import Trial, cases, check_introduction, check_variants, make, train, trial, without_dropout
from weitiao import plugins
from weitiao.data.table import Table
from weitiao.errors import DataError
from weitiao.models.load import save

NAMES = plugins.names("tasks")
every_task = pytest.mark.parametrize("name", NAMES)
every_case = pytest.mark.parametrize(
    ("name", "case"), [pytest.param(n, i, id=f"{n}-{i}") for n in NAMES for i in range(len(cases("tasks", n)))]
)


def label_field(at: Trial) -> str:
    return next(field.name for field in at.task.fields if field.kind == "label")


def without_label(at: Trial) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != label_field(at)} for row in at.rows]


@every_task
def test_introduces_itself(name: str) -> None:
    check_introduction("tasks", name)
    task = plugins.find("tasks", name)
    assert task.main_metric in task.metrics
    for metric in task.metrics:
        plugins.find("metrics", metric)
    assert {field.kind for field in task.fields} >= {"text"}


@every_task
def test_overfits_its_rows_and_decodes_the_labels_back(name: str, tiny_bert: Path) -> None:
    at = trial(name, tiny_bert)
    assert len(at.rows) >= 8
    model = without_dropout(at.build())
    loop = train(model, at, epochs=60)
    assert loop.position.loss < 0.1
    predictions = at.task.decode(at.logits(model))
    assert [p.label for p in predictions] == [row[label_field(at)] for row in at.rows]
    for prediction in predictions:
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert prediction.confidence == pytest.approx(max(prediction.probabilities.values()))
    json.dumps([p.to_json() for p in predictions], allow_nan=False)


@every_task
def test_a_temperature_changes_confidence_and_not_the_label(name: str, tiny_bert: Path) -> None:
    at = trial(name, tiny_bert)
    logits = np.random.default_rng(0).normal(size=(20, len(at.task.labels))).astype(np.float32)
    sharp, flat = at.task.decode(logits), at.task.decode(logits, temperature=4.0)
    assert [p.label for p in sharp] == [p.label for p in flat]
    assert all(a.confidence > b.confidence for a, b in zip(sharp, flat, strict=True))
    extreme = at.task.decode(1e4 * logits)
    assert all(np.isfinite(p.confidence) for p in extreme)


@every_case
def test_items_count_what_the_loss_sums(name: str, case: int, tiny_bert: Path) -> None:
    at = trial(name, tiny_bert, cases("tasks", name)[case])
    model = at.build()
    whole, rows = at.batch(), [at.batch([i]) for i in range(len(at.features))]
    assert at.task.items(whole) == sum(at.task.items(row) for row in rows)
    assert at.task.logits(at.outputs(model, whole), whole).shape[0] == at.task.items(whole)
    with torch.no_grad():
        together = at.task.loss(at.outputs(model, whole), whole)
        one_by_one = sum(at.task.loss(at.outputs(model, row), row) for row in rows)
    assert together.shape == ()
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-4)


@every_case
def test_gradient_equals_finite_differences(name: str, case: int, tiny_bert: Path) -> None:
    """In float64, along random directions through all weights."""
    at = trial(name, tiny_bert, cases("tasks", name)[case])
    model, batch = at.build().double().eval(), at.batch()
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
def test_a_served_request_is_encoded_as_a_training_row(name: str, tiny_bert: Path) -> None:
    at = trial(name, tiny_bert)
    trained = at.features.inputs
    served = at.task.encode(without_label(at), at.tokenizer, 64)
    assert any("labels" in row for row in trained)
    assert served == [{k: v for k, v in row.items() if k != "labels"} for row in trained]
    batch = at.task.collate(served, at.tokenizer)
    torch.testing.assert_close(at.task.model_inputs(batch), at.task.model_inputs(at.batch()))
    assert "labels" not in at.task.model_inputs(at.batch())


@every_task
def test_counts_the_tokens_it_cuts_off(name: str, tiny_bert: Path) -> None:
    at = trial(name, tiny_bert)
    longest = int(at.features.lengths.max())
    whole, cut = (at.task.encode(at.rows, at.tokenizer, length) for length in (64, longest - 1))
    assert not any(row["tokens_lost"] for row in whole)
    assert sum(row["tokens_lost"] for row in cut) > 0
    for before, after in zip(whole, cut, strict=True):
        assert len(after["input_ids"]) + after["tokens_lost"] == len(before["input_ids"])


@every_task
def test_names_an_unknown_label(name: str, tiny_bert: Path) -> None:
    at = trial(name, tiny_bert)
    rows = [at.rows[0], at.rows[1] | {label_field(at): "no such label"}]
    refused = at.task.accepts(Table.from_rows(rows))
    assert list(refused) == [1]
    assert "no such label" in refused[1]
    with pytest.raises(DataError, match=r"row 2.*no such label"):
        at.task.encode(rows, at.tokenizer, 64)


@every_task
@pytest.mark.parametrize("empty", [None, "", "  \n"])
def test_names_a_row_without_text(name: str, empty: str | None, tiny_bert: Path) -> None:
    at = trial(name, tiny_bert)
    text = next(field.name for field in at.task.fields if field.kind == "text" and field.required)
    with pytest.raises(DataError, match=rf"row 2.*{text}"):
        at.task.encode([at.rows[0], at.rows[1] | {text: empty}], at.tokenizer, 64)


@every_case
def test_rebuilt_from_its_state_it_behaves_the_same(name: str, case: int, tiny_bert: Path) -> None:
    settings = cases("tasks", name)[case]
    at = trial(name, tiny_bert, settings)
    state = json.loads(json.dumps(at.task.state, allow_nan=False))
    assert state == at.task.state
    again = type(at.task)(at.task.settings, state)
    assert again.labels == at.task.labels
    assert again.encode(at.rows, at.tokenizer, 64) == list(at.features.inputs)
    model, batch = at.build(), at.batch()
    assert torch.equal(again.loss(at.outputs(model, batch), batch), at.task.loss(at.outputs(model, batch), batch))
    assert again.decode(at.logits(model)) == at.task.decode(at.logits(model))


@every_task
def test_the_seed_decides_the_head(name: str, tiny_bert: Path) -> None:
    at = trial(name, tiny_bert)
    first, same, other = (at.logits(at.build(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert not np.allclose(first, other)


@every_task
def test_reopens_what_was_saved(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    at = trial(name, tiny_bert)
    model = at.build()
    save(model, tmp_path / "model", at.tokenizer)
    np.testing.assert_array_equal(at.logits(at.task.reopen(tmp_path / "model")), at.logits(model))


@every_task
def test_every_setting_does_something(name: str, tiny_bert: Path) -> None:
    check_variants("tasks", name)
    outcomes = []
    for settings in cases("tasks", name):
        at = trial(name, tiny_bert, settings)
        model, batch = at.build(), at.batch()
        with torch.no_grad():  # an outcome knows nothing of the state that is kept, only of what it does
            loss = at.task.loss(at.outputs(model, batch), batch).item()
        said = [p.to_json() for p in at.task.decode(at.logits(model))]
        outcomes.append(json.dumps([round(loss, 9), said, [list(row["input_ids"]) for row in at.features.inputs]]))
    assert len(set(outcomes)) == len(outcomes), "two variants come out the same"


@every_task
def test_label_rows_are_what_it_can_encode(name: str, tiny_bert: Path) -> None:
    at = trial(name, tiny_bert)
    names = at.task.label_rows()
    if names is not None:
        assert len(names) == len(at.task.labels)
        at.task.encode(list(names), at.tokenizer, 64)


@every_task
def test_learns_from_nothing_but_what_it_is_given(name: str) -> None:
    """Another task of the same settings knows nothing of it: no state is kept on the class."""
    task, other = make("tasks", name), make("tasks", name)
    task.learn(Table.from_rows(plugins.find("tasks", name).tiny()["rows"]))
    assert not other.state
