"""The rate is multiplied by a factor each time the measurements on dev have not become better for a while.

After `patience` measurements without a new best, and again after as many more:

    rate = factor^reductions

Source: Bengio, Practical recommendations for gradient-based training of deep architectures, 2012, arXiv:1206.5533,
section 3.1.1; torch's ReduceLROnPlateau.
Differs: any new best counts, however small, as it does for training.patience.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from weitiao.training.schedule import Schedule, Scores, WarmUp

if TYPE_CHECKING:
    from weitiao.training.settings import TrainingSettings

__all__ = ["ReduceOnPlateau"]


class ReduceOnPlateau(Schedule):
    """A fall where nothing gets better."""

    measures = True

    class Settings(WarmUp):
        """How soon, and how far."""

        factor: float = Field(default=0.5, gt=0, lt=1, description="the rate is multiplied by it")
        patience: int = Field(default=1, ge=1, description="measurements on dev without a new best before it falls")

    settings: Settings

    def suits(self, training: TrainingSettings) -> str | None:
        """Refuse what ends before the rate could fall."""
        patience = self.settings.patience
        if training.patience is not None and training.patience <= patience:
            return (
                f"training stops after {training.patience} measurements without a new best (patience), and the rate "
                f"would fall after {patience} (schedule.patience)"
            )
        if training.evaluate_steps is None and training.epochs < patience + 2:
            return (
                f"{training.epochs} epochs, measured once each, end before {patience} measurements after the first "
                "could lower the rate; set evaluate_steps, or more epochs"
            )
        return None

    def factor(self, step: int, total: int, scores: Scores) -> float:
        """Return the share of the highest rate."""
        best, bad, reductions = float("-inf"), 0, 0
        for measured_at, score in scores:
            if measured_at > step:
                break
            best, bad = (score, 0) if score > best else (best, bad + 1)
            if bad == self.settings.patience:
                bad, reductions = 0, reductions + 1
        return self.settings.rise(step, total) * self.settings.factor**reductions

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, two other warm-ups, a smaller factor and more patience."""
        variants: list[dict[str, Any]] = [{"warmup_share": 0.3}, {"warmup_steps": 7}, {"factor": 0.1}]
        return {"settings": {}, "variants": [*variants, {"patience": 2}]}
