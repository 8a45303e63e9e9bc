"""After warm-up the rate falls in a straight line to 0.

    rate = 1 - done        with done the share of the steps after warm-up that are over

Source: Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, 2019, arXiv:1810.04805, appendix A.2.
"""

from __future__ import annotations

from typing import Any

from weitiao.training.schedule import Schedule, Scores, WarmUp

__all__ = ["Linear"]


class Linear(Schedule):
    """A straight line down."""

    class Settings(WarmUp):
        """Of the warm-up."""

    settings: Settings

    def factor(self, step: int, total: int, scores: Scores) -> float:
        """Return the share of the highest rate."""
        return self.settings.rise(step, total) * (1.0 - self.settings.done(step, total))

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and two other warm-ups."""
        return {"settings": {}, "variants": [{"warmup_share": 0.3}, {"warmup_steps": 7}]}
