"""The optimizer, its parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from weitiao.training.settings import TrainingSettings

__all__ = ["build_optimizer", "rate_factor", "set_rate"]


def build_optimizer(model: nn.Module, settings: TrainingSettings, learning_rate: float) -> torch.optim.Optimizer:
    """Return the optimizer over the parameters that train.

    Weight decay goes to matrices alone: biases and norms have one dimension, and shrinking them towards zero
    fits worse (Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, arXiv:1711.05101).
    """
    training = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in training if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in training if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=learning_rate)


def rate_factor(step: int, total: int, settings: TrainingSettings) -> float:
    """Return the share of the highest learning rate at `step`, counted from 0, of `total` steps."""
    warmup = math.ceil(settings.warmup_share * total)
    if step < warmup:
        return step / warmup
    if settings.schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    return 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
