"""What a training's own numbers say about it: gradients that explode, a loss that does not fall, steps left out.

`watch` is told of every step and keeps a few numbers in a plain mapping, which a checkpoint holds; `findings` says
at the end, in sentences, what they mean.
"""

from __future__ import annotations

import math
from typing import Any

from weitiao.findings import Finding

__all__ = ["findings", "overflowed", "watch"]

_CHECK = "training"
_EXPLODES = 30.0  # times the usual norm of a gradient
_SETTLED = 20  # steps until a usual norm is known
_FEW = 50  # steps
_FALLS = 0.98  # of the loss at the start: what is above did not fall
_HOPELESS = 2.0**-10  # a scale of the loss below which it is the model that overflows
_KEPT = 10  # alarms


def watch(health: dict[str, Any], step: int, loss: float, norm: float, *, scale: float | None = None) -> None:
    """Note a step.

    Parameters
    ----------
    health
        Changed in place; empty at the start of a training.
    step
        Counted from 1.
    loss, norm
        Mean loss of the step, and norm of its gradient before clipping.
    scale
        Of the loss, where float16 needs one.
    """
    seen = health["steps"] = health.get("steps", 0) + 1
    weight = max(1 / seen, 0.02)
    usual = health.get("usual_norm", norm)
    if seen > _SETTLED and norm > _EXPLODES * usual:
        health.setdefault("exploded", []).append([step, norm, usual])
        del health["exploded"][_KEPT:]
        norm = usual  # one outlier does not make the next look usual
    health["usual_norm"] = usual + weight * (norm - usual)
    if seen <= _SETTLED:
        health["first_loss"] = health.get("first_loss", loss) + (loss - health.get("first_loss", loss)) / seen
    recent = health.get("recent_loss", loss)
    health["recent_loss"] = recent + max(1 / seen, 0.05) * (loss - recent)
    if scale is not None:
        health["smallest_scale"] = min(scale, health.get("smallest_scale", math.inf))


def overflowed(health: dict[str, Any], scale: float | None) -> bool:
    """Note a step whose gradient was too large for float16; whether a smaller scale of the loss can still help."""
    if scale is None:
        return False
    health["smallest_scale"] = min(scale, health.get("smallest_scale", math.inf))
    return scale > _HOPELESS


def findings(health: dict[str, Any], skipped: list[dict[str, Any]]) -> list[Finding]:
    """Return what is worth saying of a training that ended.

    Parameters
    ----------
    skipped
        Steps that were left out for a loss or gradient that was not finite: ``step``, ``loss``, ``rows``.
    """
    found = []
    if skipped:
        places = tuple(dict.fromkeys(place for step in skipped for place in step["rows"]))
        found.append(
            Finding(
                _CHECK,
                "warning",
                f"{len(skipped)} step{'s' if len(skipped) > 1 else ''} left out: loss or gradient not finite.",
                "Look at the rows of these steps; a lower training.learning_rate may help.",
                places=places[:20],
                count=len(skipped),
                evidence={"steps": [step["step"] for step in skipped]},
            )
        )
    if 0 < health.get("steps", 0) < _FEW:
        found.append(
            Finding(
                _CHECK,
                "warning",
                f"The training took only {health['steps']} steps, which is few to learn from.",
                "Raise training.epochs or lower training.batch_size; a head that is solved needs no steps.",
                evidence={"steps": health["steps"]},
            )
        )
    if exploded := health.get("exploded"):
        step, norm, usual = max(exploded, key=lambda alarm: alarm[1])
        found.append(
            Finding(
                _CHECK,
                "warning",
                f"The gradient exploded: at step {step} its norm was {norm:.3g}, where {usual:.3g} was usual.",
                "Lower training.learning_rate, or set training.clip_norm lower.",
                count=len(exploded),
                evidence={"steps": [alarm[0] for alarm in exploded]},
            )
        )
    first, last = health.get("first_loss"), health.get("recent_loss")
    if first is not None and last is not None and health["steps"] > 2 * _SETTLED and last > _FALLS * first:
        way = "rose" if last > first / _FALLS else "did not fall"
        found.append(
            Finding(
                _CHECK,
                "warning",
                f"The training loss {way}: {first:.4g} at the start, {last:.4g} at the end.",
                "Try a lower training.learning_rate." if way == "rose" else "Try a higher training.learning_rate.",
                evidence={"start": first, "end": last},
            )
        )
    if health.get("smallest_scale", math.inf) < 1.0:
        found.append(
            Finding(
                _CHECK,
                "warning",
                f"float16 overflowed again and again: the scale of the loss fell to {health['smallest_scale']:.2g}.",
                "Set training.precision to bfloat16 or float32.",
                evidence={"scale": health["smallest_scale"]},
            )
        )
    return found
