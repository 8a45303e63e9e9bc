"""AdamW without a falling rate: what is measured and kept is an average of all the steps so far.

With z where steps go, x their average, y between the two where gradients are taken, and weight c = rate^2 / sum rate^2,

    z = z - rate (g / sqrt(v) + decay y)        x = (1 - c) x + c z        y = (1 - beta1) z + beta1 x

The parameters hold y while they train, and x while they are measured and kept. Takes 8 bytes of state a number. No
schedule that falls is taken beside it, so that it does not have to be known when training ends; a warm-up is.

Source: Defazio et al., The Road Less Scheduled, 2024, arXiv:2405.15682, algorithm 1 with AdamW's second moment, and
the authors' AdamWScheduleFree.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.optimizer import Optimizer

__all__ = ["ScheduleFreeAdamW"]


class ScheduleFreeAdamW(Optimizer):
    """Averages instead of a schedule."""

    averages = True

    class Settings(Options):
        """How long it remembers."""

        beta1: float = Field(default=0.9, gt=0, lt=1, description="how near gradients are taken to the average")
        beta2: float = Field(default=0.999, ge=0, lt=1, description="share of the mean squared gradient kept")
        epsilon: float = Field(default=1e-8, gt=0, description="added to the typical size, so that none is zero")

    settings: Settings

    @property
    def remembers(self) -> float:
        """Return the two moments."""
        return 2.0

    def update(self, parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move one parameter: z first, then y after it."""
        own, gradient, rate = self.settings, parameter.grad, group["lr"]
        if gradient is None:
            return
        if not state:
            state |= {"z": parameter.clone(), "squares": torch.zeros_like(parameter)}
            # steps, highest rate so far, sum of weights: "step" is the one name whose type a checkpoint keeps
            state["step"] = torch.zeros(3, dtype=torch.float64)
        steps, highest, total = state["step"].tolist()
        steps, highest = steps + 1, max(highest, rate)
        total += highest**2
        state["step"].copy_(torch.tensor([steps, highest, total], dtype=torch.float64))
        c = highest**2 / total if total else 0.0  # in a warm-up the first rate is 0
        state["squares"].mul_(own.beta2).addcmul_(gradient, gradient, value=1.0 - own.beta2)
        size = state["squares"].div(1.0 - own.beta2**steps).sqrt_().add_(own.epsilon)
        step = torch.div(gradient, size, out=size).add_(parameter, alpha=group["weight_decay"])
        parameter.lerp_(state["z"], c).add_(step, alpha=rate * (own.beta1 * (1.0 - c) - 1.0))
        state["z"].sub_(step, alpha=rate)

    def measured(self, parameter: torch.Tensor, state: dict[str, Any]) -> torch.Tensor | None:
        """Return x, worked out from y and z."""
        return parameter.lerp(state["z"], 1.0 - 1.0 / self.settings.beta1)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and another memory."""
        variants = [{"beta1": 0.5}, {"beta2": 0.9}, {"epsilon": 1e-2}]
        return {"settings": {}, "variants": variants, "learning_rate": 1e-2}
