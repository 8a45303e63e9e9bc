"""The rate rises for a good part of training, and then falls far below where it began.

It goes from 1 / start_divisor up to 1 in the first rise_share of the steps, then down to
1 / (start_divisor * end_divisor), along half a cosine each time or in straight lines.

Source: Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates, 2017,
arXiv:1708.07120.
Differs: momentum does not go the other way. The rates are those of torch's OneCycleLR.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.schedule import Schedule, Scores

__all__ = ["OneCycle"]


class OneCycle(Schedule):
    """Up, and further down."""

    class Settings(Options):
        """Where it begins, turns and ends."""

        rise_share: float = Field(default=0.3, gt=0, lt=1, description="share of all steps in which the rate rises")
        start_divisor: float = Field(default=25.0, ge=1, description="the highest rate over that of the first step")
        end_divisor: float = Field(default=1e4, ge=1, description="rate of the first step over that of the last")
        shape: Literal["cosine", "linear"] = Field(default="cosine", description="of the way up and the way down")

    settings: Settings

    def factor(self, step: int, total: int, scores: Scores) -> float:
        """Return the share of the highest rate."""
        start = 1.0 / self.settings.start_divisor
        turn = max(0.0, self.settings.rise_share * total - 1.0)  # OneCycleLR counts so
        if step < turn:
            return self._between(start, 1.0, step / turn)
        over = (step - turn) / max(1.0, total - 1.0 - turn)
        return self._between(1.0, start / self.settings.end_divisor, min(1.0, over))

    def _between(self, one: float, other: float, share: float) -> float:
        if self.settings.shape == "cosine":
            share = 0.5 * (1.0 - math.cos(math.pi * share))
        return one + (other - one) * share

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, another beginning, turn and end, and straight lines."""
        variants: list[dict[str, Any]] = [{"rise_share": 0.5}, {"start_divisor": 5.0}, {"end_divisor": 10.0}]
        return {"settings": {}, "variants": [*variants, {"shape": "linear"}]}
