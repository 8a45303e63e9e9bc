"""Two dropout masks over the same batch should predict the same.

Adds, with p and q the predictions under the two masks,

    strength / 2 * (KL(p || q) + KL(q || p))

Costs a second forward and backward pass: about twice the time of a step.

Source: Liang et al., R-Drop: Regularized Dropout for Neural Networks, 2021, arXiv:2106.14448.
Differs: the task's own loss is taken under the first mask only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.hook import Hook

if TYPE_CHECKING:
    import torch
    from torch import nn

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop

__all__ = ["RDrop"]


class RDrop(Hook):
    """Predictions that do not depend on which units dropout took away."""

    class Settings(Options):
        """How much that counts."""

        strength: float = Field(1.0, gt=0, description="weight of the extra term; the paper uses 1 to 5")

    needs_classes: ClassVar[bool] = True
    settings: Settings

    def suits(self, model: nn.Module, task: Task) -> str | None:
        """Refuse a model without dropout: both passes would be equal."""
        from torch import nn

        if any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules()):
            return None
        return "the model has no dropout, so both passes would be equal; set model.dropout above 0"

    def loss(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return the symmetric divergence of two passes, a mean over items."""
        p = loop.task.logits(outputs, batch).log_softmax(-1)  # (items, classes)
        q = loop.task.logits(loop.forward(batch), batch).log_softmax(-1)
        both = ((p.exp() - q.exp()) * (p - q)).sum(-1)  # KL(p||q) + KL(q||p), by item
        return self.settings.strength / 2 * both.mean()

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default and a stronger one."""
        return {"settings": {}, "variants": [{"strength": 5.0}], "idle": [{"strength": 0.0}]}
