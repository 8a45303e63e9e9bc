"""Precision: what trains in bfloat16 is measured, saved and served in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import made
import weitiao as wt
from trial import Trial, train, trial, weights, without_dropout
from weitiao.errors import RecipeError
from weitiao.training import devices
from weitiao.training.checkpoint import Checkpoints
from weitiao.training.loop import Outside


@pytest.fixture
def fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies bfloat16 fast; this one may not."""
    monkeypatch.setattr(devices, "_times_slower", lambda: 0.5)


@pytest.fixture
def at(tiny_bert: Path) -> Trial:
    return trial("classification", tiny_bert)


@pytest.mark.usefixtures("fast_bfloat16")
@pytest.mark.parametrize("method", ["full", "top_layers", "lora"])
def test_a_run_in_bfloat16_ends_with_a_bundle_that_reproduces_itself(
    method: str, tmp_path: Path, tiny_bert: Path
) -> None:
    data = made.write_csv(tmp_path / "rows.csv", made.rows(60))
    recipe = wt.Recipe(
        data=str(data),
        model=str(tiny_bert),
        method=method,
        training={"epochs": 1, "precision": "bfloat16"},
        evaluation={"resamples": 100},
    )
    assert wt.run(recipe, tmp_path / "run", show=False).verified <= 1e-3


@pytest.mark.usefixtures("fast_bfloat16")
def test_it_trains_to_near_the_same_and_not_to_equal_weights(at: Trial) -> None:
    models = {name: without_dropout(at.build()).requires_grad_(True) for name in ("float32", "bfloat16")}
    for name, model in models.items():
        loop = train(model, at, precision=name, optimizer={"name": "sgd", "momentum": 0.0})
        batch = at.batch()
        assert loop.forward(batch).logits.dtype == torch.float32
        assert at.outputs(model, batch).logits.dtype == torch.float32
        assert all(p.dtype == torch.float32 for p in model.parameters())
    exact, rounded = (weights(model) for model in models.values())
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=1e-2)


def test_what_is_slower_here_is_refused(at: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_times_slower", lambda: 30.0)
    with pytest.raises(RecipeError, match=r"precision is bfloat16, but this processor is 30\.0 times slower in it"):
        devices.precision("bfloat16", "cpu")
    with pytest.raises(RecipeError, match="cannot train in it"):
        devices.precision("float16", "cpu")
    assert devices.precision("auto", "cpu") == torch.float32


def test_the_scale_of_the_loss_survives_a_checkpoint() -> None:
    def scaled() -> devices.Precision:
        made = devices.Precision(torch.float32, torch.device("cpu"))
        made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**9, growth_interval=2)
        return made

    def step(precision: devices.Precision, gradient: float) -> float:
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=1.0)
        precision.scaler.scale((parameter * gradient).sum()).backward()
        precision.scaler.unscale_(optimizer)
        precision.scaler.step(optimizer)
        precision.scaler.update()
        return parameter.item()

    one = scaled()
    assert step(one, 3.0) == -3.0
    assert step(one, float("inf")) == 0.0, "a step that overflows is left out"
    assert step(one, 1.0) == -1.0
    other = scaled()
    other.load_state_dict(one.state_dict())
    assert other.scale == one.scale == 2.0**8
    for precision in (one, other):
        step(precision, 1.0)
    assert other.scale == one.scale == 2.0**9
    assert devices.Precision(torch.float32, torch.device("cpu")).state_dict() == {}


def test_gradients_too_large_for_float16_are_told(at: Trial) -> None:
    from weitiao.training import health

    seen: dict[str, Any] = {}
    assert not health.overflowed(seen, None)
    assert health.overflowed(seen, 512.0)
    assert not health.overflowed(seen, 2.0**-12)
    assert "float16 overflowed" in health.findings(seen, [])[0].message


@pytest.mark.usefixtures("fast_bfloat16")
def test_a_run_goes_on_in_the_precision_it_began_with(
    at: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Outside(checkpoints=Checkpoints(tmp_path))
    train(at.build(), at, outside=there, epochs=1, checkpoint_seconds=0, precision="bfloat16")
    on = train(at.build(), at, outside=Outside(checkpoints=Checkpoints(tmp_path)), epochs=1, precision="auto")
    assert on.precision.dtype == torch.bfloat16
