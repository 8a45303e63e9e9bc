"""What every schedule must do."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trial import cases, check_introduction, check_variants, make, train, trial, weights
from weitiao import plugins
from weitiao.training.loop import Outside
from weitiao.training.settings import TrainingSettings

every_schedule = pytest.mark.parametrize("name", plugins.names("schedules"))

# as a dev set gives them: better, then not
SCORES = [(10 + 5 * i, score) for i, score in enumerate([0.5, 0.7, 0.6, 0.7, 0.8, 0.8, 0.7, 0.6, 0.9, 0.8])]


def curve(name: str, settings: Any = None, total: int = 60) -> list[float]:
    schedule = make("schedules", name, settings)
    return [schedule.factor(step, total, [s for s in SCORES if s[0] <= step]) for step in range(total)]


@every_schedule
def test_introduces_itself(name: str) -> None:
    check_introduction("schedules", name)


@every_schedule
def test_every_setting_changes_the_rate(name: str) -> None:
    check_variants("schedules", name)
    outcomes = [curve(name, settings) for settings in cases("schedules", name)]
    for one, other in combinations(outcomes, 2):
        assert not np.allclose(one, other, rtol=0, atol=1e-6)


@every_schedule
def test_it_rises_to_one_and_then_never_rises_again(name: str) -> None:
    for settings in cases("schedules", name):
        rates = curve(name, settings)
        top = int(np.argmax(rates))
        assert rates[top] == pytest.approx(1.0, abs=0.02)  # a cycle may turn between two steps
        assert rates[: top + 1] == sorted(rates[: top + 1])
        assert rates[top:] == sorted(rates[top:], reverse=True)
        assert (rates[-1] < rates[top]) is plugins.find("schedules", name).falls


@every_schedule
def test_warm_up_rises_from_zero(name: str) -> None:
    schedule = plugins.find("schedules", name)
    if "warmup_steps" not in schedule.Settings.model_fields:
        assert curve(name)[0] < 0.5
        return
    for settings in ({"warmup_steps": 12}, {"warmup_share": 0.2}):
        rates = curve(name, settings)
        assert rates[:13] == pytest.approx([step / 12 for step in range(13)])
    assert curve(name, {"warmup_share": 0})[0] == 1.0


@every_schedule
@given(
    case=st.integers(0, 9),
    step=st.integers(0, 10_000),
    total=st.integers(1, 10_000),
    scores=st.lists(st.floats(-1e6, 1e6), max_size=20),
)
def test_it_is_a_share_whatever_comes(name: str, case: int, step: int, total: int, scores: list[float]) -> None:
    """Also beyond the end, and for a single step."""
    every = cases("schedules", name)
    schedule = make("schedules", name, every[case % len(every)])
    measured = [(i, score) for i, score in enumerate(scores, 1)]
    rate = schedule.factor(step, total, measured)
    assert math.isfinite(rate)
    assert 0.0 <= rate <= 1.0 + 1e-9
    fresh = make("schedules", name, every[case % len(every)])
    assert fresh.factor(step, total, list(measured)) == rate, "it remembers something"


@every_schedule
def test_measurements_to_come_change_nothing(name: str) -> None:
    schedule, later = make("schedules", name), [(step + 100, score) for step, score in SCORES]
    assert schedule.factor(30, 60, SCORES[:4] + later) == schedule.factor(30, 60, SCORES[:4])


@every_schedule
def test_it_drives_the_loop(name: str, tiny_bert: Path) -> None:
    at, seen = trial("classification", tiny_bert), []

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            seen.append(event["learning_rate"])

    chosen = {"name": name, **make("schedules", name).settings.model_dump()}
    settings: dict[str, Any] = {"epochs": 6, "batch_size": 4, "learning_rate": 1e-2, "schedule": chosen}
    assert make("schedules", name).suits(TrainingSettings(**settings)) is None
    model, scores = at.build().requires_grad_(True), iter([0.5, 0.4, 0.3, 0.2, 0.6, 0.5])
    measure = lambda model: {"accuracy": next(scores)}  # noqa: E731
    loop = train(model, at, outside=Outside(report=report, measure=measure), **settings)
    factor, total = make("schedules", name).factor, loop.total_steps
    known = [[s for s in loop.position.scores if s[0] <= step] for step in range(total)]
    assert seen == [1e-2 * factor(step, total, known[step]) for step in range(total)]
    assert weights(model).isfinite().all()
