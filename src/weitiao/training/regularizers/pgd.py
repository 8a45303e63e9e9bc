"""Learn each row a second time with its token vectors moved to about the worst place within reach.

Adds, with v a row's token vectors, d a point of the ball of radius epsilon and L the task's loss,

    strength * L(v + d)    where d starts at random in the ball and takes `steps` steps
    d <- the nearest point of the ball to  d + step_size * g / ||g||,    g the gradient of the row's loss at v + d

Costs a forward pass and a backward pass through activations alone for each of the steps, then a forward and a
backward pass: about 2 + 2/3 `steps` times the time of a step.

Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018, arXiv:1706.06083, section 2.
Differs: the ball is Euclidean, in a row's token vectors in place of pixels; the plain loss is kept beside; all passes
of a micro-batch are under the same dropout masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.regularizers._token_vectors import OnTokenVectors, into_ball, unit

if TYPE_CHECKING:
    import torch

    from weitiao.training.loop import Loop

__all__ = ["PGD"]


class PGD(OnTokenVectors):
    """Several steps against the model, within a ball."""

    class Settings(Options):
        """How far, in how many steps, and how much that counts."""

        strength: float = Field(1.0, gt=0, description="weight of the loss on the moved row")
        epsilon: float = Field(1.0, gt=0, description="largest length of the move, over all token vectors of a row")
        step_size: float = Field(0.3, gt=0, description="length of one step")
        steps: int = Field(3, ge=1, description="number of steps; each costs a forward and a backward pass")

    settings: Settings

    def loss(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return the task's loss on the moved rows, a mean over items."""
        return self.settings.strength * self.mean_loss(loop, batch, self.move(loop, batch))

    def move(self, loop: Loop, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return (rows, length, hidden), what is added to the token vectors; no row is longer than epsilon."""
        import torch

        by = self.start_in_ball(loop, batch, self.settings.epsilon)
        for _ in range(self.settings.steps):
            by = by.requires_grad_()
            loss = loop.task.loss(self.moved(loop, batch, by), batch)
            (gradient,) = torch.autograd.grad(loss, by)
            by = into_ball(by.detach() + self.settings.step_size * unit(gradient), self.settings.epsilon)
        return by

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and one variant a setting."""
        variants = [{"strength": 0.3}, {"epsilon": 0.2}, {"step_size": 0.05}, {"steps": 1}]
        return {"settings": {}, "variants": variants, "idle": [{"strength": 0.0}]}
