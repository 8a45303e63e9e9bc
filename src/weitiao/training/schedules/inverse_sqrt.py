"""After warm-up the rate falls as one over the square root of the steps: it does not need to know when training ends.

    rate = 1 / sqrt(1 + (steps after warm-up) / timescale)

Source: Vaswani et al., Attention Is All You Need, 2017, arXiv:1706.03762, section 5.3, where the timescale is the
number of warm-up steps.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field

from weitiao.training.schedule import Schedule, Scores, WarmUp

__all__ = ["InverseSqrt"]

_NO_WARM_UP = 10_000  # steps; what transformers takes for a timescale when there is nothing to take it from


class InverseSqrt(Schedule):
    """One over a square root."""

    class Settings(WarmUp):
        """How soon it falls."""

        timescale: int | None = Field(
            default=None,
            ge=1,
            description="three times as many steps after warm-up the rate is half; null: the warm-up",
        )

    settings: Settings

    def factor(self, step: int, total: int, scores: Scores) -> float:
        """Return the share of the highest rate."""
        warmup = self.settings.warmup(total)
        timescale = self.settings.timescale or warmup or _NO_WARM_UP
        return self.settings.rise(step, total) / math.sqrt(1.0 + max(0, step - warmup) / timescale)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, two other warm-ups and a slower fall."""
        return {"settings": {}, "variants": [{"warmup_share": 0.3}, {"warmup_steps": 7}, {"timescale": 100}]}
