"""What every regularizer must do; the loop they run in is the real one."""

from __future__ import annotations

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
from weitiao.training.checkpoint import Checkpoints
from weitiao.training.hook import SEAMS, Hook
from weitiao.training.loop import Outside

NAMES = plugins.names("regularizers")
TASK = "classification"
every_regularizer = pytest.mark.parametrize("name", NAMES)


class SameMasks(nn.Dropout):
    """Dropout of whole features, two masks in turn: what it does to a row does not depend on the rows beside it."""

    def __init__(self, width: int) -> None:
        super().__init__(0.5)
        generator = torch.Generator().manual_seed(0)
        self.masks = 2.0 * torch.randint(0, 2, (2, width), generator=generator)
        self.calls = 0

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # torch calls it so
        if not self.training:
            return input
        self.calls += 1
        return input * self.masks[self.calls % 2]


def model_for(hook: Hook, at: Trial) -> nn.Module:
    """Return a model on which chance has no part: without dropout, or with fixed masks if the hook needs some."""
    model = without_dropout(at.build()).requires_grad_(True)
    if hook.suits(model, at.task):
        model.dropout = SameMasks(model.config.hidden_size)
    assert hook.suits(model, at.task) is None
    return model


def trained(name: str, at: Trial, settings: Any = None, **training: Any) -> torch.Tensor:
    hook = make("regularizers", name, settings)
    model = model_for(hook, at)
    train(model, at, hooks=[hook], **{"optimizer": "sgd", "momentum": 0.0} | training)
    return weights(model)


@pytest.fixture
def at(tiny_bert: Path) -> Trial:
    return trial(TASK, tiny_bert)


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
    train(plain, at, optimizer="sgd", momentum=0.0)
    outcomes = [weights(plain), *(trained(name, at, settings) for settings in cases("regularizers", name))]
    assert all(outcome.isfinite().all() for outcome in outcomes)
    for one, other in combinations(outcomes, 2):
        assert not torch.allclose(one, other, rtol=0, atol=1e-7)


@every_regularizer
@pytest.mark.parametrize("micro", [1, 2, 5])
def test_micro_batches_change_nothing(name: str, micro: int, at: Trial) -> None:
    """The window law: nine rows whole, or cut into micro-batches of unequal size."""
    whole, cut = trained(name, at), trained(name, at, micro_batch_size=micro)
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-6)


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


@every_regularizer
@pytest.mark.parametrize("step", [1, 3])
def test_a_killed_run_ends_with_the_same_bits(name: str, step: int, at: Trial, tmp_path: Path) -> None:
    def go(folder: Path, die_at: int = 0) -> torch.Tensor:
        def report(event: dict[str, Any]) -> None:
            if event["event"] == "step" and event["step"] == die_at:
                raise Killed

        model = at.build().requires_grad_(True)  # with its dropout: the random state has to come back too
        outside = Outside(checkpoints=Checkpoints(folder), report=report)
        hooks = [make("regularizers", name)]
        train(model, at, hooks=hooks, outside=outside, batch_size=4, epochs=2, checkpoint_seconds=0)
        return weights(model)

    whole = go(tmp_path / "whole")
    with pytest.raises(Killed):
        go(tmp_path / "killed", die_at=step + 1)
    assert torch.equal(go(tmp_path / "killed"), whole)


@pytest.mark.parametrize(("one", "other"), list(combinations(NAMES, 2)))
def test_runs_with_every_other(one: str, other: str, at: Trial) -> None:
    model = at.build().requires_grad_(True)
    before = weights(model)
    loop = train(model, at, hooks=[make("regularizers", one), make("regularizers", other)], epochs=2)
    assert np.isfinite(loop.position.loss)
    assert weights(model).isfinite().all()
    assert not torch.equal(weights(model), before)


@every_regularizer
@pytest.mark.parametrize("task", plugins.names("tasks"))
def test_works_with_every_task(name: str, task: str, tiny_bert: Path) -> None:
    at, hook = trial(task, tiny_bert), make("regularizers", name)
    model = at.build().requires_grad_(True)
    assert hook.suits(model, at.task) is None
    assert np.isfinite(train(model, at, hooks=[hook], epochs=2).position.loss)
