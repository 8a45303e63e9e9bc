"""After warm-up the rate falls as a power of what is left: for powers above 1 fast at first, then slowly.

    rate = end_share + (1 - end_share) (1 - done)^power

Source: Chen et al., DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, 2017, arXiv:1606.00915 ("poly").
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from weitiao.training.schedule import Schedule, Scores, WarmUp

__all__ = ["Polynomial"]


class Polynomial(Schedule):
    """A power of what is left."""

    class Settings(WarmUp):
        """Which power, and where it ends."""

        power: float = Field(default=2.0, gt=0, description="1 is a straight line")
        end_share: float = Field(default=0.0, ge=0, lt=1, description="rate at the end, as a share of the highest")

    settings: Settings

    def factor(self, step: int, total: int, scores: Scores) -> float:
        """Return the share of the highest rate."""
        own = self.settings
        fall = (1.0 - own.done(step, total)) ** own.power
        return own.rise(step, total) * (own.end_share + (1.0 - own.end_share) * fall)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, two other warm-ups, another power and another end."""
        variants: list[dict[str, Any]] = [{"warmup_share": 0.3}, {"warmup_steps": 7}, {"power": 3.0}]
        return {"settings": {}, "variants": [*variants, {"end_share": 0.1}]}
