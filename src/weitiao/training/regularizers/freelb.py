"""Learn each row at every point of a climb from a random place near it to a worse one.

Adds, with v a row's token vectors, N how many numbers they are and L the task's loss,

    strength * 1/steps * sum over t < steps of L(v + d_t)
    d_0 = epsilon / sqrt(N) * u,    u uniform in [-1, 1]^N
    d_t = the nearest point of the ball of radius epsilon to  d_(t-1) + step_size * g / ||g||,
          g the gradient of the row's loss at v + d_(t-1)

No climbing step is without its share in what is learnt, as in PGD all but the last are. Costs `steps` forward and
backward passes, and one backward pass through activations alone less than that: about 2/3 + 4/3 `steps` times the
time of a step. The graphs of all points are kept until the backward pass: memory for 1 + `steps` micro-batches.

Source: Zhu et al., FreeLB: Enhanced Adversarial Training for Natural Language Understanding, 2020, arXiv:1909.11764,
algorithm 1, with its section 3.3 on keeping the dropout masks.
Differs: the plain loss is kept beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.regularizers._token_vectors import OnTokenVectors, into_ball, unit

if TYPE_CHECKING:
    import torch

    from weitiao.training.loop import Loop

__all__ = ["FreeLB"]


class FreeLB(OnTokenVectors):
    """A climb against the model that is learnt from all the way."""

    class Settings(Options):
        """How far, in how many steps, and how much that counts."""

        strength: float = Field(1.0, gt=0, description="weight of the mean loss along the climb")
        epsilon: float = Field(0.3, gt=0, description="largest length of a move, over all token vectors of a row")
        step_size: float = Field(0.1, gt=0, description="length of one step")
        steps: int = Field(3, ge=2, description="points of the climb; with one there would be no climb")

    settings: Settings

    def loss(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return the task's loss along the climb, a mean over points and items."""
        import torch

        chosen, along = self.settings, []
        by = self.start_in_ball(loop, batch, chosen.epsilon)
        for step in range(chosen.steps):
            by = by.requires_grad_()
            along.append(self.mean_loss(loop, batch, by))
            if step < chosen.steps - 1:
                (gradient,) = torch.autograd.grad(along[-1], by, retain_graph=True)
                by = into_ball(by.detach() + chosen.step_size * unit(gradient), chosen.epsilon)
        return chosen.strength * torch.stack(along).mean()

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and one variant a setting."""
        variants = [{"strength": 0.3}, {"epsilon": 0.05}, {"step_size": 0.3}, {"steps": 2}]
        return {"settings": {}, "variants": variants, "idle": [{"strength": 0.0}]}
