"""What every method must do, on tiny models of several architectures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tiny import WRITERS
from trial import Trial, adapt, cases, check_introduction, check_variants, make, snapshot, trial
from weitiao import plugins
from weitiao.errors import ModelError, TrainingError
from weitiao.evaluation.inference import mean_loss
from weitiao.methods.base import parameter_counts
from weitiao.models import parts
from weitiao.models.load import save
from weitiao.recipe import with_task_defaults

NAMES = plugins.names("methods")
READS, WRITES = "classification", "summarization"
# family of tiny model, how its rows become vectors (None: as the model was made), and what it learns
MODELS = {
    "bert": ("bert", None, READS),
    "bert_mean": ("bert", "mean", READS),
    "roberta": ("roberta", None, READS),
    "modernbert": ("modernbert", None, READS),
    "llama": ("llama", None, READS),
    "gpt2": ("gpt2", None, READS),
    "llama_writes": ("llama", None, WRITES),
    "t5": ("t5", None, WRITES),
    "bart": ("bart", None, WRITES),
}
every_method = pytest.mark.parametrize("name", NAMES)
every_model = pytest.mark.parametrize("model", MODELS)
Make = Callable[..., Path]


def start(name: str, model: str, tiny_model: Make, settings: Any = None) -> tuple[Any, Trial, nn.Module]:
    """Return method, trial, and a fresh model the method suits; skips with the method's own reason."""
    family, pooling, task = MODELS[model]
    at, method = prepared(name, task, family, pooling, tiny_model), make("methods", name, settings)
    try:
        base = at.build()
    except ModelError as error:  # no head of its pretraining answers prompts
        assert method.task_defaults
        pytest.skip(f"{name} says: {error}")
    if method.trains in ("convex", "pairs") and not at.task.pooled:
        pytest.skip("a run says why not: there is no head alone to solve for")
    if reason := method.suits(base):
        assert len(reason.split()) > 3, "not a sentence"
        pytest.skip(f"{name} says: {reason}")
    return method, at, base


def prepared(name: str, task: str, family: str, pooling: str | None, tiny_model: Make) -> Trial:
    """Return a trial of a task as the method would have it: with prompts, the model has the head that answers them."""
    own = {"name": task, **plugins.find("tasks", task).tiny()["settings"]}
    asked = with_task_defaults(name, own)
    if task == WRITES or (asked != own and family in WRITERS):
        folder = tiny_model(family, writer=True)
    else:
        folder = tiny_model("bert_lm" if asked != own and family == "bert" else family)
    return trial(task, folder, {key: value for key, value in asked.items() if key != "name"}, pooling=pooling)


def answers(at: Trial, model: nn.Module) -> np.ndarray:
    """What the model says; of one that writes, at each place of the text that it should write."""
    if at.task.pooled:
        return at.logits(model)
    batch = at.batch()
    with parts.in_eval(model), torch.inference_mode():
        return at.task.logits(at.outputs(model, batch), batch).float().numpy()


@every_method
def test_introduces_itself(name: str) -> None:
    check_introduction("methods", name)
    method = plugins.find("methods", name)
    assert method.trains in ("gradient", "convex", "pairs", "nothing")
    assert method.learning_rate > 0


@every_method
def test_suits_an_encoder_as_it_is_mostly_used(name: str, tiny_model: Make) -> None:
    at, method = prepared(name, READS, "bert", "mean", tiny_model), make("methods", name)
    reason = method.suits(at.build())
    if reason and method.needs_device:
        pytest.skip(f"{name} says: {reason}")
    assert reason is None


@every_method
@every_model
def test_untrained_it_changes_no_output(name: str, model: str, tiny_model: Make) -> None:
    method, at, base = start(name, model, tiny_model)
    before = answers(at, base)
    after = answers(at, method.apply(base, seed=0))
    if method.starts_as_it_was:
        np.testing.assert_allclose(after, before, atol=1e-6)
    else:
        assert np.abs(after - before).max() > 1e-6, "it says that it changes the model, and does not"


@every_method
@every_model
def test_what_it_claims_moves_and_nothing_else(name: str, model: str, tiny_model: Make) -> None:
    method, at, base = start(name, model, tiny_model)
    if method.trains == "nothing":
        assert not any(p.requires_grad for p in method.apply(base, seed=0).parameters())
        return
    numbers = sum(p.numel() for p in base.parameters())
    applied = method.apply(base, seed=0)
    claimed = {key for key, p in applied.named_parameters() if p.requires_grad}
    trainable, total = parameter_counts(applied)
    assert trainable == sum(p.numel() for p in applied.parameters() if p.requires_grad)
    assert trainable <= total
    assert (trainable == 0) == (method.trains == "nothing")
    assert total >= numbers
    before = snapshot(applied)
    adapt(method, applied, at)
    after = snapshot(applied)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    # what a method sets back to where it began, ranks that fall to nothing, it reports
    gone = [path for path, rank in method.outcome(applied).get("ranks", {}).items() if not rank]
    assert {key for key in moved ^ claimed if not any(f".{path}." in key for path in gone)} == set()
    assert {key for key, p in applied.named_parameters() if p.requires_grad} == claimed


@every_method
@every_model
def test_gradients_reach_exactly_what_it_claims(name: str, model: str, tiny_model: Make) -> None:
    method, at, base = start(name, model, tiny_model)
    if method.trains == "nothing":
        return
    applied = method.apply(base, seed=0)
    with torch.no_grad():  # away from the start, where one factor of a product may be zero
        for parameter in applied.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    batch = at.batch()
    at.task.loss(at.outputs(applied.eval(), batch), batch).backward()
    for key, parameter in applied.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, key


@every_method
@every_model
def test_whole_and_saved_forms_answer_the_same(name: str, model: str, tiny_model: Make, tmp_path: Path) -> None:
    method, at, base = start(name, model, tiny_model)
    before = answers(at, base)
    applied = method.apply(base, seed=0)
    adapt(method, applied, at)
    trained, kept = answers(at, applied), snapshot(applied)
    if method.trains != "nothing" or at.task.pooled:
        assert np.abs(trained - before).max() > 1e-4
    if method.merges:
        whole = method.whole(applied)
        np.testing.assert_allclose(answers(at, whole), trained, atol=1e-5)
        save(whole, tmp_path / "model", at.tokenizer)
        np.testing.assert_allclose(answers(at, at.task.reopen(tmp_path / "model")), trained, atol=1e-5)
    else:
        assert method.part == "adapter"
    if method.part == "adapter":
        method.save(applied, tmp_path / "adapter")
        # the bundle builds its base with another seed than the training did
        opened = method.open(at.build(seed=1), tmp_path / "adapter")
        np.testing.assert_allclose(answers(at, opened), trained, atol=1e-6)
    after = snapshot(applied)
    assert all(torch.equal(kept[key], after[key]) for key in kept), "saving changed the model"


@every_method
def test_the_seed_decides_what_it_inserts(name: str, tiny_model: Make) -> None:
    said = []
    for seed in (0, 0, 1):
        method, _, base = start(name, "bert_mean", tiny_model)
        torch.manual_seed(len(said))  # the process's own random state has no part in it
        state = torch.get_rng_state()
        said.append(snapshot(method.apply(base, seed=seed)))
        assert torch.equal(torch.get_rng_state(), state), "it draws from the process's random state"
    assert all(torch.equal(said[0][key], said[1][key]) for key in said[0])
    inserted = sum(v.numel() for v in said[0].values()) > sum(v.numel() for v in snapshot(base).values())
    if inserted:
        assert any(not torch.equal(said[0][key], said[2][key]) for key in said[0])


@every_method
@pytest.mark.parametrize("task", plugins.names("tasks"))
def test_works_with_every_task_or_says_why_not(name: str, task: str, tiny_for: Any) -> None:
    at, method = trial(task, tiny_for(task), pooling="mean"), make("methods", name)
    if method.trains in ("convex", "pairs") and not at.task.pooled:
        return  # the run says why
    if reason := method.suits(at.build()):
        assert len(reason.split()) > 3, "not a sentence"
        pytest.skip(f"{name} says: {reason}")
    applied = method.apply(at.build(), seed=0)
    before, loss = at.logits(applied), mean_loss(applied, at.task, at.features)
    try:
        adapt(method, applied, at, steps=2)
    except TrainingError:
        if method.trains == "pairs":
            assert at.task.classes(at.features.inputs) is None, "only rows without a class are found out so late"
        else:
            assert method.trains == "nothing"
            assert at.task.label_rows() is None, "only names that say nothing are found out so late"
        return
    after = at.logits(applied)
    assert np.isfinite(after).all()
    if method.trains == "nothing" and not at.task.pooled:
        np.testing.assert_array_equal(after, before)  # it answers as it is
        return
    assert mean_loss(applied, at.task, at.features) != loss
    assert after.shape != before.shape or not np.allclose(after, before)


@every_method
def test_every_setting_does_something(name: str, tiny_model: Make) -> None:
    check_variants("methods", name)
    outcomes = []
    for settings in cases("methods", name):
        method, at, base = start(name, "bert_mean", tiny_model, settings)
        applied = method.apply(base, seed=0)
        adapt(method, applied, at)
        outcomes.append((method.part, parameter_counts(applied), at.logits(applied).tobytes()))
    assert len(set(outcomes)) == len(outcomes), "two variants come out the same"
