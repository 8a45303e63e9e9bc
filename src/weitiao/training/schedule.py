"""The learning rate as a pure function of the step: what a schedule is, and the warm-up that most of them share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from weitiao.plugins import Named, Options, find

if TYPE_CHECKING:
    from weitiao.training.settings import TrainingSettings

__all__ = ["Schedule", "Scores", "WarmUp", "needs_scores", "rate_factor"]

# (steps taken, score) of the measurements on dev so far, in order; a higher score is better
Scores = Sequence[tuple[int, float]]


class Schedule(Named):
    """How the learning rate changes from step to step. One file in ``training/schedules`` is one schedule.

    Attributes
    ----------
    falls
        Whether the rate becomes lower once it has risen. An optimizer that averages its weights takes no such schedule.
    measures
        Whether it looks at measurements on dev.
    """

    class Settings(Options):
        """Settings of the schedule in the recipe."""

    falls: ClassVar[bool] = True
    measures: ClassVar[bool] = False
    settings: Any

    def __init__(self, settings: Options | None = None) -> None:
        self.settings = settings or self.Settings()

    def suits(self, training: TrainingSettings) -> str | None:
        """Return ``None`` if the schedule does something beside these settings, or a sentence that says why not."""
        return None

    def factor(self, step: int, total: int, scores: Scores) -> float:
        """Return the share of the highest rate, in [0, 1], at `step`, counted from 0, of `total` steps.

        It remembers nothing: a resumed run has the same rates because this is a function of its arguments alone.
        """
        raise NotImplementedError

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return ``{"settings": {...}, "variants": [...]}``: variants give other rates, and name every setting."""
        return {"settings": {}, "variants": []}


class WarmUp(Options):
    """Settings of a schedule in which the rate first rises, in a straight line from 0."""

    warmup_share: float | None = Field(
        default=0.06, ge=0, lt=1, description="share of all steps in which the rate rises; null: warmup_steps says it"
    )
    warmup_steps: int | None = Field(default=None, ge=1, description="steps in which the rate rises, as a number")

    @model_validator(mode="before")
    @classmethod
    def _one_of_two(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        steps, share = given.get("warmup_steps"), given.get("warmup_share")
        if steps is not None and share is not None:
            raise ValueError("warmup_share and warmup_steps say the same thing; leave one of them out")
        if steps is None and share is None and "warmup_share" in given:
            raise ValueError("warmup_share is null and warmup_steps is not given; for no warm-up set warmup_share to 0")
        return given if steps is None else {**given, "warmup_share": None}

    def warmup(self, total: int) -> int:
        """Return the number of steps in which the rate rises."""
        return self.warmup_steps or math.ceil((self.warmup_share or 0.0) * total)

    def rise(self, step: int, total: int) -> float:
        """Return how far the rate has risen, from 0 to 1."""
        warmup = self.warmup(total)
        return step / warmup if step < warmup else 1.0

    def done(self, step: int, total: int) -> float:
        """Return the share of the steps after warm-up that are over, from 0 to 1."""
        warmup = self.warmup(total)
        return min(1.0, max(0, step - warmup) / max(1, total - warmup))


def rate_factor(step: int, total: int, settings: TrainingSettings, scores: Scores) -> float:
    """Return the share of the highest learning rate at `step`, counted from 0, of `total` steps.

    Parameters
    ----------
    scores
        (step, score) of the measurements on dev so far; a higher score is better.
    """
    return settings.schedule.make("schedules").factor(step, total, scores)


def needs_scores(settings: TrainingSettings) -> bool:
    """Whether the schedule looks at measurements on dev, and so cannot do without them."""
    return find("schedules", settings.schedule.name).measures
