"""Adam's second moment kept as row and column means: a matrix of n by m numbers needs n + m of them.

With R and C the running means over rows and columns of the squared gradient, after t steps,

    beta2 = 1 - t^decay_rate        V = R C / mean(R)        u = g / sqrt(V)
    w = w - rate (u / max(1, rms(u) / clip_threshold) + decay w)

A vector keeps its squares whole. The state is a small share of the weights', unless beta1 is set.

Source: Shazeer and Stern, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, 2018, arXiv:1804.04235.
Differs: the rate is that of the recipe's schedule and not relative to the step; weight decay is decoupled. Equal to
transformers' Adafactor with relative_step off.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.optimizer import Optimizer

__all__ = ["Adafactor"]

_SMALLEST_SQUARE, _SMALLEST_WEIGHT = 1e-30, 1e-3  # the paper's epsilon 1 and 2


class Adafactor(Optimizer):
    """Adam in little memory."""

    whole_weights: ClassVar[bool] = True

    class Settings(Options):
        """How much it remembers."""

        decay_rate: float = Field(default=-0.8, lt=0, description="exponent: how fast squared gradients become old")
        clip_threshold: float = Field(default=1.0, gt=0, description="largest root mean square of a step, in rates")
        beta1: float | None = Field(
            default=None, gt=0, lt=1, description="share of the mean step kept; null: no mean, and no memory for it"
        )
        scale_by_weights: bool = Field(
            default=False, description="multiply a step by the size of the weights it goes to; needs a rate near 0.01"
        )

    settings: Settings

    @property
    def remembers(self) -> float:
        """Return 0: those of a matrix's rows and columns, next to nothing."""
        return 0.0

    def update(self, parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move one parameter."""
        own, gradient = self.settings, parameter.grad
        if gradient is None:
            return
        if not state:
            self._begin(parameter, state)
        state["step"] += 1
        beta2 = 1.0 - state["step"].item() ** own.decay_rate
        square = gradient.square().add_(_SMALLEST_SQUARE)
        if parameter.dim() > 1:
            rows, columns = state["rows"], state["columns"]
            rows.mul_(beta2).add_(square.mean(dim=-1), alpha=1.0 - beta2)
            columns.mul_(beta2).add_(square.mean(dim=-2), alpha=1.0 - beta2)
            inverse = (rows / rows.mean(dim=-1, keepdim=True)).rsqrt_().unsqueeze(-1)
            step = torch.mul(gradient, inverse, out=square).mul_(columns.unsqueeze(-2).rsqrt())
        else:
            state["squares"].mul_(beta2).add_(square, alpha=1.0 - beta2)
            step = torch.rsqrt(state["squares"], out=square).mul_(gradient)
        rate = group["lr"] * (max(_SMALLEST_WEIGHT, _size(parameter).item()) if own.scale_by_weights else 1.0)
        step.mul_(rate / (_size(step) / own.clip_threshold).clamp_(min=1.0))
        if own.beta1 is not None:
            step = state["mean"].mul_(own.beta1).add_(step, alpha=1.0 - own.beta1)
        parameter.mul_(1.0 - group["weight_decay"] * rate).sub_(step)

    def _begin(self, parameter: torch.Tensor, state: dict[str, Any]) -> None:
        state["step"] = torch.zeros(())
        if parameter.dim() > 1:
            state["rows"] = parameter.new_zeros(parameter.shape[:-1])
            state["columns"] = parameter.new_zeros(parameter.shape[:-2] + parameter.shape[-1:])
        else:
            state["squares"] = torch.zeros_like(parameter)
        if self.settings.beta1 is not None:
            state["mean"] = torch.zeros_like(parameter)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default; then another memory, smaller steps, their mean, and steps of the weights' size."""
        variants = [{"decay_rate": -0.3}, {"clip_threshold": 0.2}, {"beta1": 0.9}, {"scale_by_weights": True}]
        return {"settings": {}, "variants": variants, "learning_rate": 1e-2}


def _size(value: torch.Tensor) -> torch.Tensor:
    """Return the root mean square."""
    return value.norm(2) / value.numel() ** 0.5
