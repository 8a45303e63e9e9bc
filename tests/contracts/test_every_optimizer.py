"""What every optimizer must do; the loop they run in is the real one."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trial import Trial, cases, check_introduction, check_variants, make, train, trial, weights, without_dropout
from weitiao import plugins
from weitiao.training.checkpoint import Checkpoints, optimizer_state
from weitiao.training.loop import Loop, Outside
from weitiao.training.optimizer import measured_weights

every_optimizer = pytest.mark.parametrize("name", plugins.names("optimizers"))


@pytest.fixture(scope="module")
def at(tiny_bert: Path) -> Trial:
    return trial("classification", tiny_bert)


def model_for(name: str, at: Trial) -> nn.Module:
    """Return a model on which chance has no part; skip if the optimizer cannot run on this machine."""
    model = without_dropout(at.build()).requires_grad_(True)
    if reason := make("optimizers", name).suits(model):
        pytest.skip(reason)
    return model


def trained(name: str, model: nn.Module, at: Trial, settings: Any = None, **training: Any) -> Loop:
    tiny = plugins.find("optimizers", name).tiny()
    chosen = {"name": name, **(tiny["settings"] if settings is None else settings)}
    return train(model, at, **{"optimizer": chosen, "learning_rate": tiny["learning_rate"]} | training)


@every_optimizer
def test_introduces_itself(name: str) -> None:
    check_introduction("optimizers", name)
    assert plugins.find("optimizers", name).tiny()["learning_rate"] > 0


@every_optimizer
def test_every_setting_changes_the_weights(name: str, at: Trial) -> None:
    check_variants("optimizers", name)
    outcomes = []
    for settings in cases("optimizers", name):
        model = model_for(name, at)
        trained(name, model, at, settings)
        outcomes.append(weights(model))
    assert all(outcome.isfinite().all() for outcome in outcomes)
    for one, other in combinations(outcomes, 2):
        assert not torch.allclose(one, other, rtol=0, atol=1e-7)


@every_optimizer
def test_weight_decay_and_rate_change_the_weights(name: str, at: Trial) -> None:
    outcomes = []
    for training in ({}, {"weight_decay": 0.5}, {"learning_rate": 2e-3}, {"clip_norm": 1e-12}):
        model = model_for(name, at)
        trained(name, model, at, **training)
        outcomes.append(weights(model))
    for one, other in combinations(outcomes, 2):
        assert not torch.allclose(one, other, rtol=0, atol=1e-7)


@every_optimizer
@pytest.mark.parametrize("micro", [2, 5])
def test_micro_batches_change_nothing(name: str, micro: int, at: Trial) -> None:
    """The window law, in float64 and on what the model says.

    A step may magnify a gradient that is zero but for rounding (an attention's key bias has no influence), so that
    weights which change nothing end up elsewhere.
    """
    said = []
    for size in (None, micro):
        model = model_for(name, at).double()
        trained(name, model, at, micro_batch_size=size)
        model.eval()
        with torch.no_grad():
            said.append(at.task.logits(at.outputs(model, at.batch()), at.batch()))
    torch.testing.assert_close(said[1], said[0], rtol=0, atol=1e-6)


@every_optimizer
def test_a_few_steps_lower_the_loss(name: str, at: Trial) -> None:
    losses: list[float] = []

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            losses.append(event["loss"])

    model = model_for(name, at)
    with torch.no_grad():  # weights so small that all rows look alike would keep plain descent waiting
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.dim() > 1 else 1.0)
    trained(name, model, at, epochs=35, outside=Outside(report=report))
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0], losses


@every_optimizer
def test_what_it_remembers_are_tensors(name: str, at: Trial) -> None:
    """A checkpoint keeps tensors of parameters; a number in a group would be lost."""
    loop = trained(name, model_for(name, at), at, epochs=2)
    flat = optimizer_state(loop.optimizer)
    assert all(isinstance(value, torch.Tensor) for value in flat.values())
    groups = [{k: v for k, v in g.items() if k not in ("params", "lr")} for g in loop.optimizer.param_groups]
    more = trained(name, model_for(name, at), at, epochs=4)
    assert groups == [{k: v for k, v in g.items() if k not in ("params", "lr")} for g in more.optimizer.param_groups]


@every_optimizer
def test_measured_weights_come_and_go(name: str, at: Trial) -> None:
    model = model_for(name, at)
    loop = trained(name, model, at, epochs=1)
    loop.update(np.arange(4))
    before = weights(model)
    with measured_weights(loop.optimizer):
        inside = weights(model)
    assert torch.equal(weights(model), before)
    assert torch.equal(inside, before) is not plugins.find("optimizers", name).averages


class Killed(Exception):
    """Stands for the power cut."""


@every_optimizer
@pytest.mark.parametrize("step", [1, 4])
def test_a_killed_run_ends_with_the_same_bits(name: str, step: int, at: Trial, tmp_path: Path) -> None:
    def go(folder: Path, die_at: int = 0) -> torch.Tensor:
        def report(event: dict[str, Any]) -> None:
            if event["event"] == "step" and event["step"] == die_at:
                raise Killed

        model_for(name, at)
        model = at.build().requires_grad_(True)  # with its dropout: the random state has to come back too
        outside = Outside(checkpoints=Checkpoints(folder), report=report)
        schedule = {"name": "constant", "warmup_share": 0.5}
        trained(
            name, model, at, outside=outside, batch_size=4, epochs=2, checkpoint_seconds=0, schedule=schedule,
            weight_decay=0.1, layer_decay=0.8, head_learning_rate=0.02,
        )  # fmt: skip
        return weights(model)

    whole = go(tmp_path / "whole")
    with pytest.raises(Killed):
        go(tmp_path / "killed", die_at=step + 1)
    assert torch.equal(go(tmp_path / "killed"), whole)


@every_optimizer
def test_it_remembers_as_much_as_it_says(name: str, at: Trial) -> None:
    model = model_for(name, at)
    loop = trained(name, model, at, epochs=1)
    kept = sum(value.numel() for value in optimizer_state(loop.optimizer).values() if value.dim())
    said = make("optimizers", name).remembers
    # what is kept of a matrix's rows and columns is next to nothing, but for matrices as small as these;
    # one that treats parameters in two ways says the larger
    assert said - 0.75 <= kept / weights(model).numel() <= said + 0.15
