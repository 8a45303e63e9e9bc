"""The report as a web page: one file, nothing from outside."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from weitiao.evaluation.document import Report
from weitiao.evaluation.panels import CurvePanel
from weitiao.evaluation.plots import Bar, Series, bars_svg, clean, number

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["render"]

# what a history can run over: epochs, steps, or the strengths that a solver tried
_AXES: dict[str, tuple[str, Callable[[float], float]]] = {
    "epoch": ("epoch", float),
    "step": ("step", float),
    "C": ("inverse regularization strength C, as a power of 10", math.log10),
}
_BADGES = {
    "better": ("Better", "更好"),
    "unclear": ("Not shown to be better", "不能断定更好"),
    "worse": ("Worse", "更差"),
}


def render(report: Report) -> str:
    """Return the page; every string of the user is escaped."""
    return _template().render(report=report, **_context(report))


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    source = files("weitiao.evaluation").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # `clean` escapes too, and takes out what no browser shows; finalize lets no string of ours or theirs past it
    environment.finalize = lambda value: value if isinstance(value, Markup) else Markup(clean(number(value)))
    environment.filters["p"] = lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}"
    environment.filters["duration"] = _duration
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    return environment.from_string(source)


def _context(report: Report) -> dict[str, Any]:
    from markupsafe import Markup

    first = report.comparisons[0] if report.comparisons else None
    panels = [Markup(panel.to_html()) for panel in report.panels]
    measured = [s for s in report.standings if report.main_metric in s.scores]
    return {
        "outcome": first.outcome if first else "unclear",
        "badge": _BADGES[first.outcome] if first else ("Measured", "已测量"),
        "first": first,
        "before": next((s for s in measured if s.key == report.before), None),
        "forest": Markup(_forest(report)),
        "panels": panels,
        "calibration": Markup(report.calibration.to_html()) if report.calibration else None,
        "curves": [Markup(panel.to_html()) for panel in _curves(report)],
        "slices": _grouped(report),
        "set_aside": sum(report.counts.set_aside.values()),
    }


def _forest(report: Report) -> str:
    bars = []
    for i, standing in enumerate(report.standings):
        if score := standing.scores.get(report.main_metric):
            bars.append(Bar(standing.title, score.value, score.low, score.high, strong=i == 0))
    return bars_svg(bars, title=f"{report.main_info.title} of each model with its interval")


def _curves(report: Report) -> list[CurvePanel]:
    """Return the training curves, loss and the main metric on dev, over the first axis that every point has."""
    if report.training is None:
        return []
    found = []
    chosen = f"{report.main_info.title} on dev"
    for key, title in (("loss", "Training loss"), ("score", chosen), ("dev_loss", "Loss on dev")):
        points = [point for point in report.training.history if key in point]
        axis = next((name for name in _AXES if all(name in point for point in points)), "")
        if len(points) > 1 and axis:
            label, place = _AXES[axis]
            line = sorted((place(point[axis]), point[key]) for point in points)
            series = Series(title, tuple(x for x, _ in line), tuple(y for _, y in line))
            found.append(CurvePanel(title, label, "", (series,)))
    return found


def _grouped(report: Report) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for one in report.slices:
        groups.setdefault(one.column, []).append(one)
    return groups


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
