"""After warm-up the rate stays as it is.

Source: Goyal et al., Accurate, Large Minibatch SGD, 2017, arXiv:1706.02677, section 2.2, for the warm-up.
"""

from __future__ import annotations

from typing import Any

from weitiao.training.schedule import Schedule, Scores, WarmUp

__all__ = ["Constant"]


class Constant(Schedule):
    """One rate."""

    falls = False

    class Settings(WarmUp):
        """Of the warm-up."""

    settings: Settings

    def factor(self, step: int, total: int, scores: Scores) -> float:
        """Return the share of the highest rate."""
        return self.settings.rise(step, total)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and two other warm-ups."""
        return {"settings": {}, "variants": [{"warmup_share": 0.3}, {"warmup_steps": 7}]}
