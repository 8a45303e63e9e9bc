"""Measure and hand over an exponential moving average of the weights instead of the last ones.

After step t, from the weights w that train,

    average = d_t * average + (1 - d_t) * w,    d_t = min(decay, (1 + t) / (10 + t))

starting from the weights before training. The warm-up of d_t lets a short run forget its start; without it d_t is
`decay` throughout. Training itself is unchanged. Costs one more copy of the weights that train, two while measuring.

Source: Tarvainen and Valpola, Mean teachers are better role models, 2017, arXiv:1703.01780, section 2 (average of
weights); the warm-up is that of TensorFlow's ExponentialMovingAverage.
Differs: the average teaches nothing, it is only measured and handed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.averaging import Averaging

if TYPE_CHECKING:
    from weitiao.training.loop import Loop

__all__ = ["ExponentialAverage"]


class ExponentialAverage(Averaging):
    """Weights that follow those that train at a distance."""

    class Settings(Options):
        """At what distance."""

        decay: float = Field(0.999, gt=0, lt=1, description="share of the average that a step leaves as it was")
        warmup: bool = Field(True, description="hold the decay after t steps at or below (1 + t) / (10 + t)")

    settings: Settings

    def begin(self, loop: Loop) -> None:
        """Start at the weights before training, unless a checkpoint has given an average."""
        super().begin(loop)
        if not self.average:
            self.move(loop, 1.0)

    def after_step(self, loop: Loop) -> None:
        """Move a little towards the present weights."""
        taken = loop.position.step
        decay = self.settings.decay
        if self.settings.warmup:
            decay = min(decay, (1 + taken) / (10 + taken))
        self.move(loop, 1.0 - decay)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, a shorter memory, and one without warm-up."""
        return {
            "settings": {},
            "variants": [{"decay": 0.1}, {"decay": 0.9, "warmup": False}],
            "idle": [{"decay": 0.0}],
        }
