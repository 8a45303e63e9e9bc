"""A loss that is not finite stops the run and names the rows; what was finished is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

import made
from weitiao.errors import TrainingError
from weitiao.plugins import find
from weitiao.training.loop import Loop
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
    rows = loop._order(0)[2]
    assert features.places[rows[0]] in str(caught.value)
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert all(bool(p.isfinite().all()) for p in before.values())
