"""A comparison as people see it: a table and a recommendation in the terminal, and a page with a plot."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from weitiao.evaluation.document import MetricInfo
from weitiao.evaluation.plots import Dot, clean, number, scatter_svg
from weitiao.evaluation.ranking import Comparison, Cost

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["render", "show"]

_WIDE = 124  # columns of a terminal that the whole table needs
_COLORS = {"best": "bold green", "better": "", "unclear": "green", "worse": ""}


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print the table, a line for each method without a result, and the recommendation."""
    console = console or Console()
    if comparison.metric is not None:
        console.print(_grid(comparison, comparison.metric, wide=console.width >= _WIDE))
    for entry in comparison.entries:
        if entry.state != "done":
            console.print(Text(f"{entry.name}: {entry.state}: because {entry.reason}"))
    for names, left_out in _by_left_out(comparison).items():
        console.print(Text(f"{names}: without {left_out}, which only a training loop reads"))
    console.print(Text(comparison.advice.en))
    console.print(Text(comparison.advice.zh, style="dim"))


def _grid(comparison: Comparison, metric: MetricInfo, *, wide: bool) -> Grid:
    """Return the table; in a narrow terminal intervals stand below their values, and two costs are left to the page."""
    title = f"{comparison.title}: the same {comparison.rows:,} test rows, best first"
    grid = Grid(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("method", no_wrap=True)
    down = "" if metric.higher_is_better else " ↓"
    for name in (f"{metric.title}{down}", "minus the best", *_cost(comparison, None, wide)):
        grid.add_column(Text(name), justify="right", no_wrap=True)
    for entry in comparison.done:
        difference = "best" if entry.difference is None else str(entry.difference)
        cells = [cell if wide else cell.replace(" [", "\n[") for cell in (str(entry.score), difference)]
        costs = _cost(comparison, entry.cost, wide).values()
        grid.add_row(*map(Text, (entry.name, *cells, *costs)), style=_COLORS[str(entry.outcome)])
    return grid


def _cost(comparison: Comparison, cost: Cost | None, wide: bool) -> dict[str, str]:
    """Return the cells of a cost by the names of their columns; of no cost, to have the names."""
    cost = cost or Cost(0, 0, 0, 0.0, 0.0, 0.0)
    cells = {
        "trained": f"{cost.trainable_parameters:,}",
        "bundle MiB": f"{cost.bundle_bytes / 2**20:,.1f}",
        "s training": f"{cost.training_seconds:,.1f}",
        "s all": f"{cost.seconds:,.1f}",
        "peak MiB": f"{cost.peak_mib:,.0f}",
    }
    if _on_gpu(comparison):
        cells["GPU MiB"] = "–" if cost.peak_gpu_mib is None else f"{cost.peak_gpu_mib:,.0f}"
    return {name: cell for name, cell in cells.items() if wide or name not in ("bundle MiB", "s training")}


def _on_gpu(comparison: Comparison) -> bool:
    return any(entry.cost is not None and entry.cost.peak_gpu_mib is not None for entry in comparison.done)


def _by_left_out(comparison: Comparison) -> dict[str, str]:
    """Return names of methods, joined, to the settings that were left out for them, joined."""
    found: dict[str, list[str]] = {}
    for entry in comparison.entries:
        if entry.left_out:
            found.setdefault(", ".join(entry.left_out), []).append(entry.name)
    return {", ".join(names): left_out for left_out, names in found.items()}


def render(comparison: Comparison) -> str:
    """Return the page; every string of the user is escaped."""
    from markupsafe import Markup

    return _template().render(
        comparison=comparison,
        metric=comparison.metric,
        plot=Markup(_plot(comparison)),
        gpu=_on_gpu(comparison),
        left_out=_by_left_out(comparison),
    )


def _plot(comparison: Comparison) -> str:
    if comparison.metric is None:
        return ""
    dots = [
        Dot(entry.name, entry.cost.seconds, entry.score.value, entry.score.low, entry.score.high, strong)
        for entry in comparison.done
        if entry.cost and entry.score
        for strong in [entry.name == comparison.recommended]
    ]
    title = f"{comparison.metric.title} of each method, with its interval, against the seconds of its run"
    axes = (
        "seconds of the whole run · 全程秒数 (log · 对数)",
        f"{comparison.metric.title} · {comparison.metric.title_zh}",
    )
    return scatter_svg(dots, title=title, axes=axes)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    source = files("weitiao.evaluation").joinpath("comparison.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.finalize = lambda value: value if isinstance(value, Markup) else Markup(clean(number(value)))
    return environment.from_string(source)
