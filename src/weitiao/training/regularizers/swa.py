"""Measure and hand over the plain mean of weights from the last part of training instead of the last ones.

With s the step at `start_share` of all steps, the mean runs over the weights after steps s, s + every,
s + 2 * every, ... Before s the weights that train are measured. Training itself is unchanged. Costs one more copy of
the weights that train, two while measuring.

Source: Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, 2018, arXiv:1803.05407.
Differs: the learning rate stays the recipe's own; the paper holds it high or cyclic, as ``training.schedule: constant``
does. Models with batch normalization, whose statistics would have to be taken again, do not occur here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.averaging import Averaging

if TYPE_CHECKING:
    from weitiao.training.loop import Loop

__all__ = ["StochasticWeightAveraging"]


class StochasticWeightAveraging(Averaging):
    """The middle of where training has been at last."""

    class Settings(Options):
        """What the mean runs over."""

        start_share: float = Field(0.75, ge=0, lt=1, description="share of all steps before the first snapshot")
        every: int = Field(1, ge=1, description="steps from one snapshot to the next")

    settings: Settings

    def after_step(self, loop: Loop) -> None:
        """Take a snapshot into the mean if it is time."""
        start = max(1, int(self.settings.start_share * loop.total_steps))
        since = loop.position.step - start
        if since >= 0 and since % self.settings.every == 0:
            self.move(loop, 1.0 / (since // self.settings.every + 1))

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, one that starts with the first step, and one that leaves steps out."""
        return {
            "settings": {},
            "variants": [{"start_share": 0.0}, {"start_share": 0.0, "every": 2}],
            "idle": [{"start_share": 1.0}],
        }
