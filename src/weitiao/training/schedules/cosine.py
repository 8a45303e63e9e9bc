"""After warm-up the rate falls along half a cosine: slowly, then fast, then slowly.

    rate = end_share + (1 - end_share) (1 + cos(pi done)) / 2

Source: Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, arXiv:1608.03983, equation 5.
Differs: no restarts.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field

from weitiao.training.schedule import Schedule, Scores, WarmUp

__all__ = ["Cosine"]


class Cosine(Schedule):
    """Half a cosine down."""

    class Settings(WarmUp):
        """Where it ends."""

        end_share: float = Field(default=0.0, ge=0, lt=1, description="rate at the end, as a share of the highest")

    settings: Settings

    def factor(self, step: int, total: int, scores: Scores) -> float:
        """Return the share of the highest rate."""
        own = self.settings
        fall = 0.5 * (1.0 + math.cos(math.pi * own.done(step, total)))
        return own.rise(step, total) * (own.end_share + (1.0 - own.end_share) * fall)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, two other warm-ups and another end."""
        return {"settings": {}, "variants": [{"warmup_share": 0.3}, {"warmup_steps": 7}, {"end_share": 0.1}]}
