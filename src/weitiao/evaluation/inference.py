"""Run a model over encoded rows: no gradients, rows of like length together, answers in the order asked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from weitiao.data.batch import longest_first
from weitiao.memory import in_memory
from weitiao.tasks.base import Features, Task

__all__ = ["predict_logits"]


def predict_logits(
    model: nn.Module,
    task: Task,
    features: Features,
    *,
    batch_size: int = 64,
    progress: Callable[[int], None] = lambda rows: None,
) -> np.ndarray:
    """Return logits ``(rows, classes)``, float32; the model is left in the mode it was in.

    Parameters
    ----------
    batch_size
        Rows a forward pass; fewer where memory runs out.
    progress
        Called after each batch with its number of rows.
    """
    device = next(model.parameters()).device
    batches, back = longest_first(features.lengths, batch_size)
    parts: list[np.ndarray] = []
    was_training = model.training

    def say(rows: np.ndarray) -> np.ndarray:
        batch = {key: value.to(device) for key, value in features.batch(rows).items()}
        return task.logits(model(**task.model_inputs(batch)), batch).float().cpu().numpy()

    model.eval()
    with torch.inference_mode():
        for rows, said in in_memory(batches, say):
            parts.append(said)
            progress(len(rows))
    model.train(was_training)
    return np.concatenate(parts)[back]
