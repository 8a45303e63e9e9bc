"""A loss that is not finite stops the run and names the rows; what was finished is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import made
from weitiao.errors import TrainingError
from weitiao.plugins import find
from weitiao.training import health
from weitiao.training.loop import Loop, Outside
from weitiao.training.settings import TrainingSettings


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_rows(tiny_bert: Path, value: float) -> None:
    task, features, build = made.training(tiny_bert, 24)
    total = task.loss
    task.loss = lambda outputs, batch: total(outputs, batch) + (value if loop.position.step == 2 else 0.0)
    model = find("methods", "full")().apply(build(), seed=0)
    loop = Loop(model, task, features, TrainingSettings(batch_size=8))
    with pytest.raises(TrainingError, match=rf"loss is {value} at step 3 .*memory:\d+.*learning_rate") as caught:
        loop.run()
    rows = loop.order(0)[2]
    assert features.places[rows[0]] in str(caught.value)
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert all(bool(p.isfinite().all()) for p in before.values())


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_can_be_left_out_and_is_told(tiny_bert: Path, where: str) -> None:
    task, features, build = made.training(tiny_bert, 24)
    total, events = task.loss, []

    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        value = total(outputs, batch)
        if loop.position.step != 1:
            return value
        # 1e30 squared overflows on the way back alone
        return value + float("nan") if where == "loss" else value + 0 * (1e30 * outputs.logits.sum() * 1e30)

    task.loss = loss
    model = find("methods", "full")().apply(build(), seed=0)
    settings = TrainingSettings(batch_size=8, epochs=2, not_finite="skip", schedule="constant")
    loop = Loop(model, task, features, settings, outside=Outside(report=events.append))
    loop.run()
    assert [step["step"] for step in loop.position.skipped] == [2]
    assert [e["step"] for e in events if e["event"] == "skipped"] == [2]
    found = health.findings(loop.position.health, loop.position.skipped)
    assert "1 step" in found[0].message
    assert set(found[0].places) == {features.places[row] for row in loop.order(0)[1]}
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_a_step_left_out_moves_no_weight(tiny_bert: Path) -> None:
    task, features, build = made.training(tiny_bert, 24)
    task.loss = lambda outputs, batch: outputs.logits.sum() * float("nan")
    model = find("methods", "full")().apply(build(), seed=0)
    before = [p.detach().clone() for p in model.parameters()]
    loop = Loop(model, task, features, TrainingSettings(batch_size=8, not_finite="skip", epochs=10))
    with pytest.raises(TrainingError, match="the loss is nan at step 11"):
        loop.run()  # not for ever
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_what_goes_wrong_in_a_training_is_a_finding() -> None:
    seen: dict[str, Any] = {}
    for step in range(1, 101):
        health.watch(seen, step, loss=1.0, norm=500.0 if step == 60 else 1.0)
    exploded, flat = health.findings(seen, [])
    assert "at step 60 its norm was 500, where 1 was usual" in exploded.message
    assert "did not fall: 1 at the start, 1 at the end" in flat.message
    fine: dict[str, Any] = {}
    for step in range(1, 101):
        health.watch(fine, step, loss=1.0 / step, norm=1.0)
    assert health.findings(fine, []) == []
