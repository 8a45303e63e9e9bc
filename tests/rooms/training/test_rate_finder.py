"""The learning-rate finder: what it suggests, and that it leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trial import Trial, trial, weights, without_dropout
from weitiao.errors import TrainingError
from weitiao.training.checkpoint import optimizer_state
from weitiao.training.loop import Loop, Outside
from weitiao.training.rate_finder import find_rate, suggest
from weitiao.training.settings import TrainingSettings


@pytest.fixture(scope="module")
def at(tiny_bert: Path) -> Trial:
    return trial("classification", tiny_bert)


def loop_for(at: Trial, report: Any = None, **settings: Any) -> Loop:
    model = without_dropout(at.build()).requires_grad_(True)
    with torch.no_grad():  # weights so small that all rows look alike would fall nowhere
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.dim() > 1 else 1.0)
    outside = Outside(report=report) if report else None
    return Loop(model, at.task, at.features, TrainingSettings(**{"learning_rate": 1e-3} | settings), 0, (), outside)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_loss_falls_fastest_at_the_suggestion_and_nothing_is_left(at: Trial, optimizer: str) -> None:
    seen: list[float] = []
    loop = loop_for(at, lambda event: seen.append(event["learning_rate"]), optimizer=optimizer)
    before, random = weights(loop.plain_model), torch.get_rng_state()
    curve = find_rate(loop, lowest=1e-6, highest=100.0, steps=60)
    assert 1e-6 < curve.suggestion < 10.0
    assert curve.suggestion in curve.rates
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) <= 60
    assert seen[: len(curve.rates)] == pytest.approx(curve.rates)
    at_best = curve.rates.index(curve.suggestion)
    assert np.diff(curve.smoothed)[max(0, at_best - 1) : at_best + 1].mean() < 0
    assert torch.equal(weights(loop.plain_model), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert optimizer_state(loop.optimizer) == {}
    assert (loop.position.step, loop.learning_rate) == (0, 1e-3)
    assert all(p.grad is None for p in loop.plain_model.parameters())


def test_a_training_after_it_has_the_same_bits(at: Trial) -> None:
    plain, searched = loop_for(at, epochs=2), loop_for(at, epochs=2)
    find_rate(searched, lowest=1e-6, highest=10.0, steps=30)
    plain.run()
    searched.run()
    assert torch.equal(weights(plain.plain_model), weights(searched.plain_model))


def test_it_is_the_same_each_time(at: Trial) -> None:
    assert find_rate(loop_for(at), steps=20) == find_rate(loop_for(at), steps=20)


def test_a_curve_made_by_hand() -> None:
    rates = [10.0 ** (-5 + i / 10) for i in range(40)]
    fall = [1.0 - 0.8 / (1.0 + np.exp(-(i - 20.0))) + 0.02 * max(0, i - 30) ** 2 for i in range(40)]
    assert suggest(rates, fall).suggestion == pytest.approx(rates[20], rel=0.3)
    noisy = [value + 0.05 * (-1) ** i for i, value in enumerate(fall)]
    assert suggest(rates, noisy).suggestion == pytest.approx(rates[20], rel=0.6)


def test_a_curve_that_says_nothing_is_refused() -> None:
    rates = [10.0 ** (-5 + i / 10) for i in range(40)]
    with pytest.raises(TrainingError, match=r"falls at no rate between 1e-05 and 0\.0794328\. Search from a lower"):
        suggest(rates, [1.0 + i for i in range(40)])
    with pytest.raises(TrainingError, match=r"diverged after 3 steps\. Search from a lower rate"):
        suggest(rates[:3], [1.0, 5.0, 9.0])
