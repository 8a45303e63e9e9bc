"""Schedules against those of transformers and torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trial import make
from weitiao.training.schedule import needs_scores, rate_factor
from weitiao.training.settings import TrainingSettings

TOTAL, WARMUP = 50, 6

CASES = [
    ("linear", {}, "linear", {}),
    ("cosine", {}, "cosine", {}),
    ("cosine", {"end_share": 0.1}, "cosine_with_min_lr", {"min_lr_rate": 0.1}),
    ("polynomial", {}, "polynomial", {"power": 2.0, "lr_end": 1e-12}),
    ("polynomial", {"power": 0.5, "end_share": 0.2}, "polynomial", {"power": 0.5, "lr_end": 0.2}),
    ("inverse_sqrt", {}, "inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 40}, "inverse_sqrt", {"timescale": 40}),
    ("constant", {}, "constant_with_warmup", {}),
]


def optimizer(rate: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)


def rates(scheduler: Any, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("warmup", [0, WARMUP])
@pytest.mark.parametrize(("name", "settings", "theirs", "arguments"), CASES)
def test_equal_to_transformers(
    name: str, settings: dict[str, Any], theirs: str, arguments: dict[str, Any], warmup: int
) -> None:
    from transformers import get_scheduler

    said = get_scheduler(theirs, optimizer(), warmup, TOTAL, scheduler_specific_kwargs=arguments)
    schedule = make("schedules", name, settings | ({"warmup_steps": warmup} if warmup else {"warmup_share": 0.0}))
    assert [schedule.factor(step, TOTAL, []) for step in range(TOTAL)] == pytest.approx(rates(said, TOTAL), abs=1e-9)


@pytest.mark.parametrize("shape", ["cosine", "linear"])
@pytest.mark.parametrize("share", [0.3, 0.55])
def test_one_cycle_is_that_of_torch(shape: str, share: float) -> None:
    short = {"cosine": "cos", "linear": "linear"}[shape]
    said = torch.optim.lr_scheduler.OneCycleLR(
        optimizer(), 1.0, total_steps=TOTAL + 1, pct_start=share, anneal_strategy=short, cycle_momentum=False
    )
    schedule = make("schedules", "one_cycle", {"rise_share": share, "shape": shape})
    ours = [schedule.factor(step, TOTAL + 1, []) for step in range(TOTAL)]
    assert ours == pytest.approx(rates(said, TOTAL), abs=1e-9)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_reduce_on_plateau_is_that_of_torch(patience: int) -> None:
    scores = [0.5, 0.6, 0.6, 0.55, 0.5, 0.7, 0.69, 0.6, 0.6, 0.6, 0.6, 0.71, 0.7]
    said = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer(), mode="max", factor=0.5, patience=patience - 1, threshold=0.0, threshold_mode="abs", eps=0.0
    )
    schedule = make("schedules", "reduce_on_plateau", {"patience": patience, "warmup_share": 0.0})
    for step, score in enumerate(scores, 1):
        said.step(score)
        known = [(i, s) for i, s in enumerate(scores[:step], 1)]
        assert schedule.factor(step, 100, known) == said.get_last_lr()[0]


def test_the_section_of_the_recipe_says_which() -> None:
    settings = TrainingSettings(schedule={"name": "polynomial", "power": 1.0, "warmup_share": 0.0})
    assert rate_factor(5, 10, settings, []) == 0.5
    assert not needs_scores(settings)
    assert needs_scores(TrainingSettings(schedule="reduce_on_plateau"))
