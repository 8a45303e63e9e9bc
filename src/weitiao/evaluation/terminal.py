"""The report in the terminal: the answer first, then who was compared, then where the rows went."""

from __future__ import annotations

from rich.console import Console, Group
from rich.panel import Panel as Box
from rich.table import Table as Grid
from rich.text import Text

from weitiao.evaluation.document import Report

__all__ = ["show"]

_COLORS = {"better": "green", "unclear": "yellow", "worse": "red"}


def show(report: Report, console: Console | None = None) -> None:
    """Print a summary; everything else is in the page."""
    console = console or Console()
    color = _COLORS[report.comparisons[0].outcome] if report.comparisons else "blue"
    answer = Group(Text(report.headline), Text(report.headline_zh, style="dim"))
    console.print(Box(answer, title=Text(report.title), border_style=color, padding=(1, 2)))
    console.print(_scores(report))
    if report.comparisons:
        console.print(_differences(report))
    counts = report.counts
    aside = ", ".join(f"{why} {n:,}" for why, n in counts.set_aside.items()) or "none"
    splits = ", ".join(f"{name} {n:,}" for name, n in counts.splits.items())
    console.print(Text(f"rows: {counts.rows_in:,} read = {splits}; set aside: {aside}"))
    if report.seeds:
        seeds = report.seeds
        console.print(Text(f"{len(seeds.scores)} seeds: {seeds.mean:.3f} ± {seeds.spread:.3f}"))
    for finding in report.findings:
        if finding.severity != "info":
            console.print(Text(f"{finding.severity}: {finding.message} {finding.remedy}"))


def _scores(report: Report) -> Grid:
    grid = Grid(title=f"On the same {report.main.n:,} test rows", title_justify="left")
    grid.add_column("")
    for metric in report.metrics:
        grid.add_column(Text(metric.title + ("" if metric.higher_is_better else " ↓")), justify="right")
    for i, standing in enumerate(report.standings):
        cells = [Text(str(standing.scores.get(m.name, "–"))) for m in report.metrics]
        grid.add_row(Text(standing.title), *cells, style="bold" if i == 0 else "")
    return grid


def _differences(report: Report) -> Grid:
    grid = Grid(title=f"{report.standings[0].title} minus …, {report.main_info.title}", title_justify="left")
    for name in ("", "difference", "p (bootstrap)", "p (McNemar)", ""):
        grid.add_column(name, justify="right" if name else "left")
    for one in report.comparisons:
        main = one.differences[report.main_metric]
        said = Text(one.outcome, style=_COLORS[one.outcome])
        grid.add_row(Text(one.title), Text(str(main)), f"{main.p_value:.3f}", f"{one.mcnemar_p:.3g}", said)
    return grid
