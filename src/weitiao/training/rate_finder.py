"""Find a learning rate: let it rise from step to step, and see where the loss falls fastest.

Source: Smith, Cyclical Learning Rates for Training Neural Networks, 2017, arXiv:1506.01186, section 3.3.
Differs: the rate rises exponentially and not in a straight line; what is suggested is where the loss falls fastest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from weitiao.errors import TrainingError
from weitiao.plugins import Options
from weitiao.randomness import torch_seed
from weitiao.training.checkpoint import load_optimizer, optimizer_state
from weitiao.training.loop import Loop
from weitiao.training.position import Position
from weitiao.training.schedule import Schedule, Scores

__all__ = ["RateCurve", "find_rate", "suggest"]

_DIVERGED = 3.0  # times the lowest loss
_FEWEST = 10  # steps that a curve needs


@dataclass(frozen=True)
class RateCurve:
    """What was found.

    Attributes
    ----------
    rates, losses
        Of each step, up to where the loss diverged.
    smoothed
        Mean losses of the steps around each, the nearest counting most.
    suggestion
        The rate at which the smoothed loss falls fastest: one to train with.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float


class _Rising(Schedule):
    """From the lowest rate to the highest, by the same factor at each step."""

    def __init__(self, lowest: float, highest: float, steps: int) -> None:
        super().__init__(Options())
        self.lowest, self.ratio = lowest, (highest / lowest) ** (1.0 / (steps - 1))

    def factor(self, step: int, total: int, scores: Scores) -> float:
        return self.lowest * self.ratio**step

    def make(self, family: str) -> Schedule:  # stands where the settings have a member chosen by name
        return self


def find_rate(loop: Loop, *, lowest: float = 1e-7, highest: float = 1.0, steps: int = 100) -> RateCurve:
    """Train for some steps, in the order of the data, with a rate that rises exponentially; then undo all of it.

    The loop is left as it was found: weights, buffers, the optimizer's state, torch's random state. Rates of layers
    and head keep their ratio to the rate that rises.

    Parameters
    ----------
    loop
        Not run yet. Its hooks take part.
    lowest, highest
        Rates of the first step, and of the last unless the loss diverges before.
    steps
        Optimizer steps, 10 at least.

    Raises
    ------
    TrainingError
        The loss falls at none of these rates, or diverges at once.
    """
    kept = {name: value.detach().clone() for name, value in loop.plain_model.state_dict().items()}
    state, settings, rate, position = optimizer_state(loop.optimizer), loop.settings, loop.learning_rate, loop.position
    loop.settings = settings.model_copy(update={"schedule": _Rising(lowest, highest, max(steps, _FEWEST))})
    loop.learning_rate, loop.position = 1.0, Position()
    try:
        with torch_seed(loop.seed, "rate"):
            losses = _sweep(loop, max(steps, _FEWEST))
    finally:
        loop.settings, loop.learning_rate, loop.position = settings, rate, position
        loop.plain_model.load_state_dict(kept)
        load_optimizer(loop.optimizer, state)
        loop.optimizer.zero_grad()
    rates = [lowest * (highest / lowest) ** (step / (max(steps, _FEWEST) - 1)) for step in range(len(losses))]
    return suggest(rates, losses)


def _sweep(loop: Loop, steps: int) -> list[float]:
    losses: list[float] = []
    loop.call("begin")
    try:
        while len(losses) < steps:
            loop.take_step()
            losses.append(loop.position.loss)
            recent = float(np.mean(losses[-3:]))
            if not math.isfinite(recent) or recent > _DIVERGED * min(losses[:_FEWEST] + losses[_FEWEST::3]):
                break
    except TrainingError:  # a loss that is not finite ends the search: the rate is far too high
        pass
    loop.call("finish")
    return [loss for loss in losses if math.isfinite(loss)]


def suggest(rates: Sequence[float], losses: Sequence[float]) -> RateCurve:
    """Return the curve with the rate at which the smoothed loss falls fastest, before its lowest point.

    Raises
    ------
    TrainingError
        There are too few losses, or they do not fall.
    """
    if len(losses) < _FEWEST:
        raise TrainingError(f"the loss diverged after {len(losses)} steps.", fix="Search from a lower rate.")
    reach = max(1, len(losses) // 15)
    weights = np.concatenate((np.arange(1, reach + 2), np.arange(reach, 0, -1)))  # a triangle, so that nothing lags
    values = np.asarray(losses, dtype=np.float64)
    smoothed = np.convolve(values, weights, "same") / np.convolve(np.ones(len(values)), weights, "same")
    lowest = int(smoothed.argmin())
    slope: Any = np.gradient(smoothed, np.log(rates))
    steepest = int(slope[: lowest + 1].argmin())
    if lowest == 0 or slope[steepest] >= 0:
        raise TrainingError(
            f"the loss falls at no rate between {rates[0]:g} and {rates[-1]:g}.",
            fix="Search from a lower rate, or with more steps.",
        )
    return RateCurve(tuple(rates), tuple(losses), tuple(smoothed.tolist()), float(rates[steepest]))
