"""Adam with decoupled weight decay: each number's step is its mean gradient over its typical size.

With g the gradient, m and v its running mean and mean square, both corrected for their start at zero,

    m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
    w = w - rate (m / (sqrt(v) + epsilon) + decay w)

Takes 8 bytes of state a number that trains. Where torch has one kernel for the whole step (CPU and CUDA) it is
taken: for MiniLM's 22.6 million numbers on one CPU core 16 ms a step, where one operation after another takes 96.

Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, arXiv:1711.05101; torch.optim.AdamW.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.groups import Groups, can_fuse
from weitiao.training.optimizer import Optimizer

if TYPE_CHECKING:
    import torch

__all__ = ["AdamW"]


class AdamW(Optimizer):
    """Adam, with a weight decay that does not go through it."""

    class Settings(Options):
        """How long it remembers."""

        beta1: float = Field(default=0.9, ge=0, lt=1, description="share of the mean gradient kept from step to step")
        beta2: float = Field(default=0.999, ge=0, lt=1, description="likewise of the mean squared gradient")
        epsilon: float = Field(default=1e-8, gt=0, description="added to the typical size, so that none is zero")

    settings: Settings

    @property
    def remembers(self) -> float:
        """Return the two moments."""
        return 2.0

    def build(self, groups: Groups, learning_rate: float) -> torch.optim.Optimizer:
        """Return torch's own, fused where it can be."""
        import torch

        own = self.settings
        return torch.optim.AdamW(
            groups, lr=learning_rate, betas=(own.beta1, own.beta2), eps=own.epsilon, fused=can_fuse(groups) or None
        )

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and another memory."""
        variants = [{"beta1": 0.5}, {"beta2": 0.9}, {"epsilon": 1e-2}]
        return {"settings": {}, "variants": variants, "learning_rate": 1e-2}
