"""Move part of each target's weight to all classes alike, so that no row is ever learnt with certainty.

Adds, with p the predicted distribution over K classes and y the target,

    strength * (log p_y - 1/K sum_k log p_k)

to the cross-entropy, which is the cross-entropy to the target (1 - strength) * onehot + strength / K.

Source: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016, arXiv:1512.00567, section 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.hook import Hook

if TYPE_CHECKING:
    import torch

    from weitiao.training.loop import Loop

__all__ = ["LabelSmoothing"]


class LabelSmoothing(Hook):
    """Targets a little less than certain."""

    class Settings(Options):
        """How much less."""

        strength: float = Field(0.1, gt=0, lt=1, description="share of a target's weight that goes to all classes")

    needs_classes: ClassVar[bool] = True
    settings: Settings

    def loss(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return the difference between the smoothed and the plain cross-entropy, a mean over items."""
        log_p = loop.task.logits(outputs, batch).log_softmax(-1)  # (items, classes)
        own = log_p.gather(1, loop.task.targets(batch)[:, None])[:, 0]
        return self.settings.strength * (own - log_p.mean(-1)).mean()

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default and a stronger one."""
        return {"settings": {}, "variants": [{"strength": 0.5}], "idle": [{"strength": 0.0}]}
