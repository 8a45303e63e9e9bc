"""Several models on the same rows: which is best, which are not measurably worse, and which of those is cheapest.

Source: paired percentile bootstrap as in `weitiao.evaluation.comparison` (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 16); quality is told together with its cost as in Dodge, Gururangan, Card, Schwartz and
Smith, Show Your Work: Improved Reporting of Experimental Results, 2019 (arXiv:1909.03004).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from weitiao.errors import DataError
from weitiao.evaluation.comparison import Difference, Interval, difference_of, outcome
from weitiao.evaluation.document import MetricInfo, Sentence
from weitiao.files import write_json, write_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Comparison", "Cost", "Entry", "Measured", "rank"]


@dataclass(frozen=True)
class Cost:
    """What a model took: numbers that train, bytes on the disk, seconds, and the largest memory of its process in MiB.

    `training_seconds` is the training alone, `seconds` all of the run. `peak_gpu_mib` is ``None`` without a GPU.
    """

    trainable_parameters: int
    total_parameters: int
    bundle_bytes: int
    training_seconds: float
    seconds: float
    peak_mib: float
    peak_gpu_mib: float | None = None


@dataclass(frozen=True)
class Entry:
    """A line of the table.

    `reason` says why it was refused or failed; `left_out` names settings of the recipe that could not hold for it;
    `difference` is its main metric minus that of the best, and `outcome` what that shows (of the best itself
    ``"best"``).
    """

    name: str
    state: Literal["done", "refused", "failed"]
    reason: str = ""
    left_out: tuple[str, ...] = ()
    score: Interval | None = None
    difference: Difference | None = None
    outcome: Literal["best", "better", "unclear", "worse"] | None = None
    cost: Cost | None = None


@dataclass(frozen=True)
class Measured:
    """A model that is done: its main metric on test, the same in each resample ``(resamples,)``, and its cost."""

    score: Interval
    draws: np.ndarray
    cost: Cost
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The table: entries best first, those without a result last, and the one that is recommended."""

    title: str
    metric: MetricInfo | None  # none where nothing is done
    rows: int
    resamples: int
    entries: tuple[Entry, ...]
    best: str | None
    recommended: str | None
    advice: Sentence

    @property
    def done(self) -> tuple[Entry, ...]:
        """The entries with a result, best first."""
        return tuple(entry for entry in self.entries if entry.state == "done")

    def to_json(self) -> dict[str, Any]:
        """Return the whole comparison as JSON values."""
        from pydantic import TypeAdapter

        return TypeAdapter(Comparison).dump_python(self, mode="json")

    def to_html(self) -> str:
        """Return it as one HTML page that needs nothing from outside."""
        from weitiao.evaluation.scoreboard import render

        return render(self)

    def write(self, folder: Path) -> None:
        """Write ``comparison.json`` and ``comparison.html``, each whole or not at all."""
        write_json(folder / "comparison.json", self.to_json())
        write_text(folder / "comparison.html", self.to_html())

    def show(self, console: Console | None = None) -> None:
        """Print the table and the recommendation."""
        from weitiao.evaluation.scoreboard import show

        show(self, console)


def rank(
    title: str, measured: Mapping[str, Measured], others: Sequence[Entry], metric: MetricInfo | None = None
) -> Comparison:
    """Put what is done in order, hold each against the best, and say which is recommended.

    Parameters
    ----------
    measured
        By name; draws of all are on the same resamples of the same rows.
    others
        Entries without a result, as they are to be shown.
    metric
        The main metric; only left out where nothing was measured.

    Raises
    ------
    DataError
        They were not measured on as many rows, or not in as many resamples.
    """
    if metric is None or not measured:
        nothing = Sentence("No method has a result, so none is recommended.", "没有任何方法得出结果，因此无从推荐。")
        return Comparison(title, None, 0, 0, tuple(others), None, None, nothing)
    if len({(one.score.n, len(one.draws)) for one in measured.values()}) > 1:
        raise DataError("models are compared on the same rows and resamples, and these were measured on others.")
    sign = -1 if metric.higher_is_better else 1
    names = sorted(measured, key=lambda name: (sign * measured[name].score.value, measured[name].cost.seconds))
    best = measured[names[0]]
    entries = [_entry(name, measured[name], None if name == names[0] else best, metric) for name in names]
    near = [entry for entry in entries if entry.outcome != "worse"]
    chosen = min(near, key=lambda entry: measured[entry.name].cost.seconds)
    advice = _advice(entries, chosen, metric)
    every = (*entries, *others)
    return Comparison(title, metric, best.score.n, len(best.draws), every, names[0], chosen.name, advice)


def _entry(name: str, one: Measured, best: Measured | None, metric: MetricInfo) -> Entry:
    if best is None:
        return Entry(name, "done", "", one.left_out, one.score, None, "best", one.cost)
    difference = difference_of(one.score, best.score, one.draws, best.draws)
    found = outcome(difference, higher_is_better=metric.higher_is_better)
    return Entry(name, "done", "", one.left_out, one.score, difference, found, one.cost)


def _advice(entries: Sequence[Entry], chosen: Entry, metric: MetricInfo) -> Sentence:
    """Say which is recommended and why: the cheapest that is not measurably worse than the best."""
    best, took = entries[0], chosen.cost.seconds if chosen.cost else 0.0
    score, n = f"{metric.title} {chosen.score}", f"{best.score.n if best.score else 0:,}"
    zh = f"{metric.title_zh} {chosen.score}"
    if chosen is not best:
        slower = best.cost.seconds if best.cost else 0.0
        return Sentence(
            f"Recommended: {chosen.name}. Of the methods that are not measurably worse than the best, {best.name}, it "
            f"is the cheapest: {took:,.0f} s against {slower:,.0f} s; {score}, difference {chosen.difference} (n={n}).",
            f"推荐 {chosen.name}：在与最好的 {best.name} 没有可测出差距的方法中，它最省时（{took:,.0f} 秒，"
            f"{best.name} 用了 {slower:,.0f} 秒）；{zh}，相差 {chosen.difference}（n={n}）。",
        )
    if len(entries) == 1:
        return Sentence(
            f"Recommended: {best.name}, the only method with a result: {score} (n={n}).",
            f"推荐 {best.name}：只有它得出了结果，{zh}（n={n}）。",
        )
    cheaper = any(entry.cost and entry.cost.seconds < took for entry in entries)
    why = "what is cheaper is measurably worse" if cheaper else "nothing is cheaper"
    why_zh = "更省时的方法都明显更差" if cheaper else "也没有更省时的方法"
    return Sentence(
        f"Recommended: {best.name}. It is the best, and {why}: {score} in {took:,.0f} s (n={n}).",
        f"推荐 {best.name}：它最好，{why_zh}；{zh}，用时 {took:,.0f} 秒（n={n}）。",
    )
