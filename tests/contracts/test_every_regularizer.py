"""What every regularizer must do; the loop they run in is the real one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from trial import Trial, cases, check_introduction, check_variants, make, train, trial, weights, without_dropout
from weitiao import plugins
from weitiao.errors import RecipeError
from weitiao.training.checkpoint import Checkpoints
from weitiao.training.hook import SEAMS, Hook, why_not
from weitiao.training.loop import Loop, Outside

NAMES = plugins.names("regularizers")
TASK = "classification"
SGD = {"name": "sgd", "momentum": 0.0}
every_regularizer = pytest.mark.parametrize("name", NAMES)


class Passes:
    """Counts forward passes of a model over one and the same batch, from 0."""

    def __init__(self) -> None:
        self.number = 0
        self._tokens: Any = None

    def __call__(self, model: nn.Module, args: Any, inputs: dict[str, Any]) -> None:
        tokens = inputs.get("input_ids")
        again = tokens is None or tokens is self._tokens
        self.number, self._tokens = self.number + 1 if again else 0, tokens


class SameMasks(nn.Dropout):
    """Dropout of whole features, with one mask for the first pass over a batch, one for the second, and so on.

    What it does to a row depends neither on chance nor on the rows beside it.
    """

    def __init__(self, passes: Passes) -> None:
        super().__init__(0.0)
        self.passes = passes

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # torch calls it so
        if not self.training or self.p == 0:
            return input
        generator = torch.Generator().manual_seed(self.passes.number)
        return input * (torch.rand(input.shape[-1], generator=generator) >= self.p) / (1 - self.p)


def without_chance(at: Trial) -> Any:
    """Return a model without dropout, of which every dropout would have the same masks again and again."""
    model, passes = without_dropout(at.build()).requires_grad_(True), Passes()
    model.register_forward_pre_hook(passes, with_kwargs=True)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, SameMasks(passes))
    return model


def model_for(hook: Hook, at: Trial) -> nn.Module:
    """Return a model on which chance has no part; without dropout, unless the hook needs some."""
    model = without_chance(at)
    if hook.suits(model, at.task):
        model.dropout.p = 0.5
    assert hook.suits(model, at.task) is None
    return model


def trained(name: str, at: Trial, settings: Any = None, **training: Any) -> torch.Tensor:
    hook = make("regularizers", name, settings)
    model = model_for(hook, at)
    train(model, at, hooks=[hook], **{"optimizer": {"name": "sgd", "momentum": 0.0}} | training)
    return weights(model)


@pytest.fixture(scope="module")
def at(tiny_bert: Path) -> Trial:
    made = trial(TASK, tiny_bert)
    model = made.build()
    made.build = lambda seed=0: copy.deepcopy(model)  # six times as quick as building it anew
    return made


@every_regularizer
def test_introduces_itself(name: str) -> None:
    check_introduction("regularizers", name)
    member = plugins.find("regularizers", name)
    assert any(getattr(member, seam) is not getattr(Hook, seam) for seam in SEAMS), "it stands at no seam"


@every_regularizer
def test_refuses_the_value_that_would_do_nothing(name: str) -> None:
    member = plugins.find("regularizers", name)
    idle = member.tiny()["idle"]
    assert idle or not member.Settings.model_fields
    for settings in idle:
        with pytest.raises(ValidationError):
            member.Settings(**settings)


@every_regularizer
def test_every_setting_changes_the_weights(name: str, at: Trial) -> None:
    check_variants("regularizers", name)
    plain = model_for(make("regularizers", name), at)
    train(plain, at, optimizer={"name": "sgd", "momentum": 0.0})
    outcomes = [weights(plain), *(trained(name, at, settings) for settings in cases("regularizers", name))]
    assert all(outcome.isfinite().all() for outcome in outcomes)
    for one, other in combinations(outcomes, 2):
        assert not torch.allclose(one, other, rtol=0, atol=1e-7)


@every_regularizer
def test_the_idle_value_changes_no_bit(name: str, at: Trial) -> None:
    """The strength that Settings refuses would have been a run without the regularizer."""
    member, plain = plugins.find("regularizers", name), without_chance(at)
    idle = member.tiny()["idle"]
    if not idle:
        pytest.skip("it has no such value")
    train(plain, at)
    for settings in idle:
        model = without_chance(at)
        train(model, at, hooks=[member(member.Settings.model_construct(**settings))])
        assert torch.equal(weights(model), weights(plain)), settings


@every_regularizer
def test_micro_batches_change_nothing_or_are_refused(name: str, at: Trial) -> None:
    """The window law: nine rows whole, or cut into micro-batches of unequal size."""
    whole = trained(name, at)
    assert torch.equal(trained(name, at, micro_batch_size=64), whole)
    for micro in (1, 5):
        if plugins.find("regularizers", name).couples_rows:
            with pytest.raises(RecipeError, match=name):
                trained(name, at, micro_batch_size=micro)
        else:
            torch.testing.assert_close(trained(name, at, micro_batch_size=micro), whole, rtol=0, atol=1e-6)


@every_regularizer
def test_its_state_survives_a_round_trip(name: str, at: Trial) -> None:
    hook, fresh = make("regularizers", name), make("regularizers", name)
    model = model_for(hook, at)
    train(model, at, hooks=[hook])
    state = hook.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    fresh.load_state_dict(state)
    torch.testing.assert_close(fresh.state_dict(), state, rtol=0, atol=0)


class Killed(Exception):
    """Stands for the power cut."""


class Watch(Hook):
    """Keeps the weights that train after every step, and can be asked which step it is."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.path = 0, []

    def after_step(self, loop: Loop) -> None:
        self.step = loop.position.step
        self.path.append(weights(loop.plain_model))


def measured(watch: Watch, best: int) -> tuple[Callable[[nn.Module], dict[str, float]], dict[int, torch.Tensor]]:
    """Return a measure that finds the step `best` the best, and what it has seen by step."""
    seen: dict[int, torch.Tensor] = {}

    def measure(model: nn.Module) -> dict[str, float]:
        seen[watch.step] = weights(model)
        return {"score": -float(abs(watch.step - best))}

    return measure, seen


@every_regularizer
@pytest.mark.parametrize("measuring", [False, True])
def test_a_killed_run_ends_with_the_same_bits(name: str, measuring: bool, at: Trial, tmp_path: Path) -> None:
    """Killed twice, each time just after a checkpoint; the best weights are those of the second."""

    def go(checkpoints: Checkpoints | None = None, die_at: int = 0) -> torch.Tensor:
        def report(event: dict[str, Any]) -> None:
            if event["event"] == "step" and event["step"] == die_at:
                raise Killed

        model = at.build().requires_grad_(True)  # with its dropout: the random state has to come back too
        watch = Watch()
        measure = measured(watch, best=5)[0] if measuring else None
        outside = Outside(checkpoints=checkpoints, measure=measure, report=report)
        every = {"evaluate_steps": 1} if measuring else {}
        hooks = [make("regularizers", name), watch]
        train(model, at, hooks=hooks, outside=outside, batch_size=4, epochs=2, checkpoint_seconds=0, **every)
        return weights(model)

    for step in (3, 6):
        with pytest.raises(Killed):
            go(Checkpoints(tmp_path), die_at=step)
    assert torch.equal(go(Checkpoints(tmp_path)), go())


@every_regularizer
def test_measuring_changes_no_step_and_what_was_measured_is_kept(name: str, at: Trial) -> None:
    """Weights put in for the measurement are gone in the next step, and are those that the run ends with."""
    paths = []
    for measuring in (False, True):
        hook, watch = make("regularizers", name), Watch()
        model = model_for(hook, at)
        measure, seen = measured(watch, best=5)
        outside = Outside(measure=measure if measuring else None)
        train(model, at, hooks=[hook, watch], outside=outside, batch_size=4, epochs=2, evaluate_steps=1)
        paths.append(watch.path)
    assert all(torch.equal(one, other) for one, other in zip(*paths, strict=True))
    assert torch.equal(weights(model), seen[5])
    swaps = type(hook).before_measure is not Hook.before_measure
    assert torch.equal(seen[5], watch.path[4]) is not swaps


@every_regularizer
def test_a_run_without_measurement_ends_with_what_would_have_been_measured(name: str, at: Trial) -> None:
    outcomes = []
    for measuring in (False, True):
        hook, watch = make("regularizers", name), Watch()
        model = model_for(hook, at)
        outside = Outside(measure=measured(watch, best=6)[0] if measuring else None)
        train(model, at, hooks=[hook, watch], outside=outside, batch_size=4, epochs=2)
        outcomes.append(weights(model))
    assert torch.equal(*outcomes)


@pytest.mark.parametrize(("one", "other"), list(combinations(NAMES, 2)))
def test_runs_with_every_other(one: str, other: str, at: Trial) -> None:
    model = at.build().requires_grad_(True)
    before = weights(model)
    loop = train(model, at, hooks=[make("regularizers", one), make("regularizers", other)], epochs=1)
    assert np.isfinite(loop.position.loss)
    assert weights(model).isfinite().all()
    assert not torch.equal(weights(model), before)


@every_regularizer
@pytest.mark.parametrize("task", plugins.names("tasks"))
def test_works_with_every_task_or_says_why_not(name: str, task: str, tiny_for: Any) -> None:
    at, hook = trial(task, tiny_for(task)), make("regularizers", name)
    model = at.build().requires_grad_(True)
    if reason := why_not(hook, model, at.task):
        assert len(reason.split()) > 3, "not a sentence"
        assert task != TASK
        return
    assert np.isfinite(train(model, at, hooks=[hook], epochs=1).position.loss)
