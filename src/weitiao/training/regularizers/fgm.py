"""Learn each row a second time with its token vectors moved where the loss rises fastest.

Adds, with v a row's token vectors, g the gradient of the row's loss in them and L the task's loss,

    strength * L(v + epsilon * g / ||g||)

Costs a backward pass through activations alone, and a second forward and backward pass: over twice the time of a step.

Source: Miyato, Dai and Goodfellow, Adversarial Training Methods for Semi-Supervised Text Classification, 2017,
arXiv:1605.07725, section 3.
Differs: token vectors are not normalized over the vocabulary first, so that a pretrained model stays what it is; the
norm is a row's own, over its tokens and not the padding; both losses are under the same dropout masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.regularizers._token_vectors import OnTokenVectors, unit

if TYPE_CHECKING:
    import torch

    from weitiao.training.loop import Loop

__all__ = ["FGM"]


class FGM(OnTokenVectors):
    """One step against the model, of fixed length."""

    class Settings(Options):
        """How far, and how much that counts."""

        strength: float = Field(1.0, gt=0, description="weight of the loss on the moved row")
        epsilon: float = Field(1.0, gt=0, description="length of the move, over all token vectors of a row")

    track: ClassVar[bool] = True
    settings: Settings

    def loss(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return the task's loss on the moved rows, a mean over items."""
        return self.settings.strength * self.mean_loss(loop, batch, self.move(loop, batch, outputs))

    def move(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return (rows, length, hidden), what is added to the token vectors; each row has the norm epsilon."""
        import torch

        (gradient,) = torch.autograd.grad(loop.task.loss(outputs, batch), self.seen(), retain_graph=True)
        return self.settings.epsilon * unit(gradient)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, a shorter move, and a lighter one."""
        return {"settings": {}, "variants": [{"epsilon": 0.1}, {"strength": 0.3}], "idle": [{"strength": 0.0}]}
