"""Predict the same for a row whose token vectors have moved a little, in the direction that changes most.

Adds, with f(v) the prediction for a row with token vectors v,

    strength * (KL(f(v) || f(v + d)) + KL(f(v + d) || f(v)))    where d starts at start * normal noise and takes steps
    d <- d + step_size * g / max|g|, each number cut to [-epsilon, epsilon],    g the gradient of that divergence at d

It needs no labels: it asks for smoothness, not for being right. Costs a forward pass and a backward pass through
activations alone for each of the steps, then a forward and a backward pass: about 2 + 2/3 `steps` times the time of a
step.

Source: Jiang et al., SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language Models through
Principled Regularized Optimization, 2020, arXiv:1911.03437, section 3.1 and algorithm 1.
Differs: the Bregman proximal part (section 3.2), which holds the weights near those of earlier steps, is left out; d is
on the vectors of the vocabulary's table; start and epsilon are 1e-4 and 1e-3 where the paper has 1e-5, as divergences
from so near drown in the rounding of float32; both predictions are under the same dropout masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from weitiao.plugins import Options
from weitiao.training.regularizers._token_vectors import OnTokenVectors, draw

if TYPE_CHECKING:
    import torch

    from weitiao.training.loop import Loop

__all__ = ["Smart"]


class Smart(OnTokenVectors):
    """Predictions that are smooth in the token vectors."""

    class Settings(Options):
        """How far, in how many steps, and how much that counts."""

        strength: float = Field(1.0, gt=0, description="weight of the extra term; the paper uses 1 to 5")
        epsilon: float = Field(1e-3, gt=0, description="most that one number of a token vector is moved")
        step_size: float = Field(1e-3, gt=0, description="most that one number is moved by one step")
        start: float = Field(1e-4, gt=0, description="standard deviation of the random move to begin with")
        steps: int = Field(1, ge=1, description="number of steps; each costs a forward and a backward pass")

        @model_validator(mode="after")
        def _no_idle_setting(self) -> Smart.Settings:
            if self.epsilon > self.steps * self.step_size * (1 + 1e-9):
                raise ValueError(
                    f"epsilon {self.epsilon:g} has no effect where {self.steps} steps of step_size "
                    f"{self.step_size:g} end before it; lower it, or raise step_size"
                )
            return self

    needs_classes: ClassVar[bool] = True
    settings: Settings

    def loss(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return the symmetric divergence between the row and the moved row, a mean over items."""
        p = loop.task.logits(outputs, batch).float().log_softmax(-1)  # (items, classes)
        by = self.move(loop, batch, p.detach())
        return self.settings.strength * self._divergences(loop, batch, p, by).mean()

    def move(self, loop: Loop, batch: dict[str, torch.Tensor], p: torch.Tensor) -> torch.Tensor:
        """Return (rows, length, hidden), what is added to the token vectors; no number is larger than epsilon."""
        import torch

        chosen = self.settings
        by = chosen.start * draw(loop, self.name, batch, self.seen(), "normal")
        for _ in range(chosen.steps):
            by = by.requires_grad_()
            (gradient,) = torch.autograd.grad(self._divergences(loop, batch, p, by).sum(), by)
            largest = gradient.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)  # (rows, 1, 1)
            by = (by.detach() + chosen.step_size * gradient / largest).clamp(-chosen.epsilon, chosen.epsilon)
        return by

    def _divergences(
        self, loop: Loop, batch: dict[str, torch.Tensor], p: torch.Tensor, by: torch.Tensor
    ) -> torch.Tensor:
        """Return KL(p||q) + KL(q||p) by item, with q the prediction for the moved row."""
        q = loop.task.logits(self.moved(loop, batch, by), batch).float().log_softmax(-1)
        return ((p.exp() - q.exp()) * (p - q)).sum(-1)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return moves large enough for a model of 32 numbers a token, and one variant a setting."""
        large = {"epsilon": 0.2, "step_size": 0.2, "start": 0.01}
        variants = [
            large | {"strength": 5.0},
            large | {"epsilon": 0.1},
            large | {"step_size": 0.4},
            large | {"start": 0.05},
            large | {"steps": 2},
        ]
        return {"settings": large, "variants": variants, "idle": [{"strength": 0.0}]}
