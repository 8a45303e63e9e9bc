"""Run a model over encoded rows: no gradients, inputs of like length together, answers in the order asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import nn

from weitiao.data.batch import longest_first
from weitiao.memory import in_memory
from weitiao.tasks.base import Features, Task

__all__ = ["ask", "mean_loss"]


def ask(
    model: nn.Module,
    task: Task,
    features: Features,
    *,
    batch_size: int = 64,
    progress: Callable[[int], None] = lambda inputs: None,
) -> list[Any]:
    """Return what the model says of each row, in their order; the model is left in the mode it was in.

    Parameters
    ----------
    batch_size
        Inputs a forward pass; fewer where memory runs out.
    progress
        Called after each batch with its number of inputs.
    """
    batches, back = longest_first(features.lengths, batch_size)
    said: list[Any] = []
    with _asking(model) as device:

        def say(numbers: np.ndarray) -> Any:
            batch = features.batch(numbers, asking=True)
            return task.say(model, {key: value.to(device) for key, value in batch.items()})

        for numbers, some in in_memory(batches, say):
            said += list(some)
            progress(len(numbers))
    in_order = [said[i] for i in back]
    owners = features.owners or range(len(features))
    return [
        task.join([in_order[i] for i in own], [features.inputs[i] for i in own])
        for own in (list(group) for _, group in groupby(range(len(features)), key=lambda i: owners[i]))
    ]


def mean_loss(model: nn.Module, task: Task, features: Features, *, batch_size: int = 64) -> float:
    """Return the task's loss on rows with targets, a mean over items."""
    batches, _ = longest_first(features.lengths, batch_size)
    with _asking(model) as device:

        def lose(numbers: np.ndarray) -> tuple[float, int]:
            batch = {key: value.to(device) for key, value in features.batch(numbers).items()}
            return task.loss(model(**task.model_inputs(batch)), batch).item(), task.items(batch)

        sums = [both for _, both in in_memory(batches, lose)]
    return sum(loss for loss, _ in sums) / max(1, sum(items for _, items in sums))


@contextmanager
def _asking(model: nn.Module) -> Iterator[torch.device]:
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield next(model.parameters()).device
    finally:
        model.train(was_training)
