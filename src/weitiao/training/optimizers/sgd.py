"""Stochastic gradient descent, with momentum: a step against the gradient, and some of the steps before.

    m = momentum m + g + decay w        w = w - rate m

with nesterov the step is g + decay w + momentum m. Takes 4 bytes of state a number that trains, none without momentum.
It needs a rate some hundred times that of Adam. Where torch has one kernel for the whole step it is taken: a quarter
of the time on a CPU.

Source: Sutskever et al., On the importance of initialization and momentum in deep learning, 2013; torch.optim.SGD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from weitiao.plugins import Options
from weitiao.training.groups import Groups, can_fuse
from weitiao.training.optimizer import Optimizer

if TYPE_CHECKING:
    import torch

__all__ = ["SGD"]


class SGD(Optimizer):
    """Steps against the gradient."""

    class Settings(Options):
        """How much of the steps before."""

        momentum: float = Field(default=0.9, ge=0, lt=1, description="share of the last step that is taken again")
        nesterov: bool = Field(default=False, description="look ahead: the gradient counts a second time")

        @model_validator(mode="after")
        def _nesterov_looks_along_momentum(self) -> SGD.Settings:
            if self.nesterov and not self.momentum:
                raise ValueError("nesterov has no effect without momentum")
            return self

    settings: Settings

    @property
    def remembers(self) -> float:
        """Return 1, the last step; none without momentum."""
        return 1.0 if self.settings.momentum else 0.0

    def build(self, groups: Groups, learning_rate: float) -> torch.optim.Optimizer:
        """Return torch's own, fused where it can be."""
        import torch

        own = self.settings
        return torch.optim.SGD(
            groups,
            lr=learning_rate,
            momentum=own.momentum,
            nesterov=own.nesterov,
            fused=can_fuse(groups) or None,
        )

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, without momentum, and with a look ahead."""
        return {"settings": {}, "variants": [{"momentum": 0.0}, {"nesterov": True}], "learning_rate": 0.05}
