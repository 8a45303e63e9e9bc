"""Cutting a step into micro-batches changes nothing beyond rounding."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made
from weitiao.plugins import find
from weitiao.training.loop import Loop
from weitiao.training.settings import TrainingSettings


def _train(tmp_path: Path, tiny_bert: Path, micro: int | None, **task: Any) -> dict[str, torch.Tensor]:
    folder = made.without_dropout(tiny_bert, tmp_path / "still")
    classification, features, build = made.training(folder, 44, **task)
    model = find("methods", "full")().apply(build(), seed=0)
    smoothing = find("regularizers", "label_smoothing")
    # SGD: its step is linear in the gradient, so that a gradient k times too large cannot hide as it does in Adam
    settings = TrainingSettings(batch_size=16, micro_batch_size=micro, optimizer="sgd", learning_rate=0.05, epochs=2)
    Loop(model, classification, features, settings, 0, [smoothing()]).run()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("task", [{}, {"class_weights": {"positive": 3.0}}, {"loss": "focal"}], ids=str)
def test_micro_batches_give_the_weights_of_the_whole_batch(
    tmp_path: Path, tiny_bert: Path, task: dict[str, Any], record_property: Any
) -> None:
    whole = _train(tmp_path, tiny_bert, None, **task)
    for micro in (1, 3, 8):  # 16 = 8 + 8, uneven cuts of 3, and a last step of 12 rows
        cut = _train(tmp_path, tiny_bert, micro, **task)
        gap = max(float((whole[name] - cut[name]).abs().max()) for name in whole)
        assert gap < 1e-6, f"micro-batches of {micro}: largest difference {gap}"


def test_the_law_can_fail(tmp_path: Path, tiny_bert: Path) -> None:
    """A loss that is a mean over the micro-batch, as in stock models, breaks the law by far."""
    folder = made.without_dropout(tiny_bert, tmp_path / "still")
    weights = []
    for micro in (None, 3):
        task, features, build = made.training(folder, 44)
        total = task.loss
        task.loss = lambda outputs, batch, total=total, task=task: total(outputs, batch) / task.items(batch)
        model = find("methods", "full")().apply(build(), seed=0)
        settings = TrainingSettings(
            batch_size=16, micro_batch_size=micro, optimizer="sgd", learning_rate=0.05, clip_norm=None, epochs=1
        )
        Loop(model, task, features, settings).run()
        weights.append(model.classifier.weight.detach().clone())
    assert float((weights[0] - weights[1]).abs().max()) > 1e-6


def test_the_loop_draws_rows_as_it_is_told(tiny_bert: Path) -> None:
    task, features, build = made.training(tiny_bert, 24)
    classes = task.classes(features.inputs)
    rare = [i for i in range(len(features)) if classes[i] != 0][:2]
    few = dataclasses.replace(features, inputs=[features.inputs[i] for i in [*np.flatnonzero(classes == 0), *rare]])

    def drawn(sampling: str) -> np.ndarray:
        loop = Loop(build(), task, few, TrainingSettings(batch_size=4, sampling=sampling))
        return task.classes(few.inputs)[np.concatenate(loop.order(0))]

    assert sorted(drawn("shuffled")) == sorted(task.classes(few.inputs))
    assert (drawn("balanced") != 0).sum() > (drawn("square_root") != 0).sum() > (drawn("shuffled") != 0).sum()
