"""What a training is said to need is near what it takes, and asking changes nothing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from trial import Trial, make, train, trial, weights
from weitiao.training.estimate import estimate
from weitiao.training.loop import Loop
from weitiao.training.settings import TrainingSettings


@pytest.fixture
def at(tiny_bert: Path) -> Trial:
    return trial("classification", tiny_bert)


def loop(at: Trial, method: str = "full", **settings: Any) -> Loop:
    model = make("methods", method).apply(at.build(), seed=0)
    return Loop(model, at.task, at.features, TrainingSettings(**{"epochs": 2, "batch_size": 4, **settings}))


def test_weights_gradients_and_optimizer_are_counted(at: Trial) -> None:
    ready = loop(at)
    size = sum(p.numel() for p in ready.plain_model.parameters()) * 4 / 2**20
    buffers = sum(b.numel() * b.element_size() for b in ready.plain_model.buffers()) / 2**20
    need = estimate(ready).memory
    assert need["weights"] == pytest.approx(size + buffers)
    assert need["gradients"] == pytest.approx(size)
    assert need["optimizer"] == pytest.approx(2 * size)
    frozen = estimate(loop(at, "top_layers")).memory
    assert frozen["weights"] == pytest.approx(need["weights"])
    assert frozen["gradients"] < 0.7 * size


def test_activations_grow_with_the_micro_batch_and_shrink_when_they_are_not_kept(at: Trial) -> None:
    whole = estimate(loop(at)).memory["activations"]
    assert whole > 0
    assert estimate(loop(at, micro_batch_size=1)).memory["activations"] == pytest.approx(whole / 4)
    assert estimate(loop(at, gradient_checkpointing=True)).memory["activations"] < 0.7 * whole
    assert estimate(loop(at, "top_layers")).memory["activations"] < 0.7 * whole


def test_more_steps_and_measurements_take_longer(at: Trial) -> None:
    one, ten = estimate(loop(at, epochs=1)), estimate(loop(at, epochs=20))
    assert 0 < one.seconds < ten.seconds
    assert one.free is None or one.free > 0


def test_asking_changes_no_bit(at: Trial) -> None:
    plain, asked = (at.build().requires_grad_(True) for _ in range(2))
    train(plain, at)
    settings = {"batch_size": 64, "learning_rate": 1e-2, "schedule": "constant", "weight_decay": 0, "clip_norm": None}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    ready = Loop(asked, at.task, at.features, TrainingSettings(**settings, epochs=3), 0)
    before = copy.deepcopy(weights(asked))
    estimate(ready)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights(asked), before)
    assert all(p.grad is None for p in asked.parameters())
