"""Matrices inside the layers move by their mean gradient made orthogonal; everything else by AdamW.

With m the running mean of the gradient, u = (1 - momentum) g + momentum m (nesterov) or m,

    w = w - rate (0.2 sqrt(max(rows, columns)) orthogonal(u) + decay w)

where orthogonal(u) is u with all singular values about 1, found by Newton-Schulz iterations of degree five. The
factor makes a step as large as AdamW's, so that one rate serves both. Embeddings, the head, norms and biases, for
which a spectral norm says little, go by AdamW inside the same object. The iterations are matrix products: on CPUs
they can cost as much as the rest of the step.

Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; the factor is that of Liu et al.,
Muon is Scalable for LLM Training, 2025, arXiv:2502.16982.
Differs: bfloat16 only on CUDA; elsewhere the products are in the precision of the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch.optim.adamw import adamw

from weitiao.plugins import Options
from weitiao.training.groups import inner_matrices
from weitiao.training.optimizer import Optimizer

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Muon"]

_A, _B, _C = 3.4445, -4.7750, 2.0315  # of Jordan's polynomial: the steepest at zero that still stays near one


class Muon(Optimizer):
    """Steps that are as large in every direction."""

    class Settings(Options):
        """Of the matrices, then of everything else."""

        momentum: float = Field(default=0.95, ge=0, lt=1, description="share of the mean gradient kept")
        nesterov: bool = Field(default=True, description="look ahead: the gradient counts a second time")
        iterations: int = Field(default=5, ge=1, le=20, description="of Newton-Schulz; more are nearer to orthogonal")
        beta1: float = Field(default=0.9, ge=0, lt=1, description="of AdamW, for what is no matrix inside a layer")
        beta2: float = Field(default=0.999, ge=0, lt=1, description="of AdamW, likewise")
        epsilon: float = Field(default=1e-8, gt=0, description="of AdamW, likewise")

    settings: Settings

    @property
    def remembers(self) -> float:
        """Return 2, those of AdamW; of the matrices inside the layers it is 1."""
        return 2.0

    def suits(self, model: nn.Module) -> str | None:
        """Refuse a model in which only a head, embeddings or vectors train: that would be AdamW alone."""
        if inner_matrices(model):
            return None
        return "no matrix inside the model's layers trains, and it moves nothing else"

    def update(self, parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move one parameter, as a matrix or by AdamW."""
        gradient, rate = parameter.grad, group["lr"]
        if gradient is None:
            return
        if not group["inner"]:
            self._adamw(parameter, gradient, state, group)
            return
        if not state:
            state["mean"] = torch.zeros_like(parameter)
        mean = state["mean"].lerp_(gradient, 1.0 - self.settings.momentum)
        step = gradient.lerp(mean, self.settings.momentum) if self.settings.nesterov else mean
        size = 0.2 * max(parameter.shape) ** 0.5
        parameter.mul_(1.0 - rate * group["weight_decay"])
        parameter.add_(orthogonal(step, self.settings.iterations), alpha=-rate * size)

    def _adamw(
        self, parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(parameter)}
            state["squares"] = torch.zeros_like(parameter)
        adamw(
            [parameter],
            [gradient],
            [state["mean"]],
            [state["squares"]],
            [],
            [state["step"]],
            fused=parameter.is_cpu,
            amsgrad=False,
            beta1=self.settings.beta1,
            beta2=self.settings.beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=self.settings.epsilon,
            maximize=False,
        )

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default; then another memory, no look ahead, more iterations, and other settings of AdamW."""
        variants: list[dict[str, Any]] = [{"momentum": 0.5}, {"nesterov": False}, {"iterations": 8}]
        variants += [{"beta1": 0.5}, {"beta2": 0.9}, {"epsilon": 1e-2}]
        return {"settings": {}, "variants": variants, "learning_rate": 1e-2}


def orthogonal(matrix: torch.Tensor, iterations: int) -> torch.Tensor:
    """Return the matrix with singular values of about 1, the directions as they were.

    Parameters
    ----------
    matrix
        (rows, columns).
    """
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    x = x.T if len(matrix) > matrix.shape[1] else x  # products of the smaller side are cheaper
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(iterations):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return (x.T if len(matrix) > matrix.shape[1] else x).to(matrix.dtype)
