"""The report as a document: what is in it, how it is kept, read back and shown."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from weitiao.errors import BundleError, WeitiaoError
from weitiao.evaluation.comparison import Difference, Interval
from weitiao.evaluation.panels import BarsPanel, CurvePanel, HeatmapPanel, TablePanel
from weitiao.findings import Finding

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "FORMAT_VERSION",
    "Comparison",
    "Counts",
    "MetricInfo",
    "Mistake",
    "Report",
    "Seeds",
    "Sentence",
    "Slice",
    "Standing",
    "Training",
    "line",
]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Sentence:
    """The same sentence in English and Chinese."""

    en: str
    zh: str


@dataclass(frozen=True)
class MetricInfo:
    """A metric's name, what people read, and its direction."""

    name: str
    title: str
    title_zh: str
    higher_is_better: bool


@dataclass(frozen=True)
class Standing:
    """One contender: each metric, by name, with its interval."""

    key: str
    title: str
    title_zh: str
    note: str
    scores: dict[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """The tuned model against another one, on the same rows.

    `differences` holds tuned minus other by metric name; `mcnemar_p` compares which rows are right; `outcome` and
    `verdict` speak of the main metric.
    """

    against: str
    title: str
    differences: dict[str, Difference]
    mcnemar_p: float
    outcome: Literal["better", "unclear", "worse"]
    verdict: Sentence


@dataclass(frozen=True)
class Slice:
    """The main metric on the rows that share a value, for the tuned model and for the one before tuning."""

    column: str
    value: str
    score: Interval
    before: float | None = None


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: where the row stands, an excerpt, what is true, what was said, how sure the model was."""

    place: str
    text: str
    true: str
    predicted: str
    confidence: float | None


@dataclass(frozen=True)
class Counts:
    """Where the rows went: those read are those of the splits and those set aside, by reason.

    Raises
    ------
    WeitiaoError
        The numbers do not add up.
    """

    rows_in: int
    splits: dict[str, int]
    set_aside: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers that do not add up."""
        used, aside = sum(self.splits.values()), sum(self.set_aside.values())
        if self.rows_in != used + aside:
            raise WeitiaoError(
                f"row counts do not add up: {self.rows_in:,} read, but {used:,} used and {aside:,} set aside.",
                fix="A row was lost or counted twice between reading and splitting; the report will not hide it.",
            )


@dataclass(frozen=True)
class Training:
    """How the tuned model was trained.

    `history` has one mapping a measurement on dev: ``step`` or ``epoch``, and any of ``loss`` (of training) and
    ``score`` (the main metric on dev).
    """

    method: str
    model: str
    trainable_parameters: int
    total_parameters: int
    epochs: float
    seconds: float
    history: tuple[dict[str, float], ...] = ()


@dataclass(frozen=True)
class Seeds:
    """The main metric on test of runs that differ in nothing but their seed; `spread` is the standard deviation."""

    scores: tuple[float, ...]
    mean: float
    spread: float


@dataclass(frozen=True)
class Report:
    """The honest account of a model: is it better, by how much, how sure, and where it still fails.

    `standings` are the contenders, the tuned model first; `comparisons` the tuned model against each other one, the
    model before tuning (whose key is `before`) first. Everything shown in any form is in here, so `to_json` is the
    whole report.
    """

    title: str
    headline_: Sentence
    main_metric: str
    metrics: tuple[MetricInfo, ...]
    before: str | None
    standings: tuple[Standing, ...]
    comparisons: tuple[Comparison, ...]
    panels: tuple[TablePanel | HeatmapPanel | CurvePanel | BarsPanel, ...]
    calibration: CurvePanel | None
    temperature: float | None
    slices: tuple[Slice, ...]
    mistakes: tuple[Mistake, ...]
    wrong: int
    counts: Counts
    training: Training | None
    seeds: Seeds | None
    findings: tuple[Finding, ...]
    recipe: str
    seed: int
    resamples: int
    format_version: int = FORMAT_VERSION

    @property
    def headline(self) -> str:
        """The first sentence: before and after, the interval, and how sure."""
        return self.headline_.en

    @property
    def headline_zh(self) -> str:
        """The same in Chinese."""
        return self.headline_.zh

    @property
    def main(self) -> Interval:
        """The main metric of the tuned model on test, with its interval."""
        return self.standings[0].scores[self.main_metric]

    @property
    def main_info(self) -> MetricInfo:
        """What the main metric is called."""
        return next(m for m in self.metrics if m.name == self.main_metric)

    @property
    def line(self) -> str:
        """The number line, with the model before tuning and the strongest other contender to hold it against."""
        others = {"before" if s.key == self.before else s.title: s for s in self.standings[1:]}
        sign = 1 if self.main_info.higher_is_better else -1
        values = {n: s.scores[self.main_metric].value for n, s in others.items() if self.main_metric in s.scores}
        rivals = sorted((name for name in values if name != "before"), key=lambda name: -sign * values[name])
        shown = [name for name in ("before", *rivals[:1]) if name in values]
        return line(self.main_info.title, self.main, {name: values[name] for name in shown})

    def to_json(self) -> dict[str, Any]:
        """Return the whole report as JSON values."""
        from pydantic import TypeAdapter

        return TypeAdapter(Report).dump_python(self, mode="json", fallback=str)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Read back what `to_json` gave.

        Raises
        ------
        BundleError
            A report of another format version, or one that is not whole.
        """
        if data.get("format_version") != FORMAT_VERSION:
            raise BundleError(
                f"the report has format version {data.get('format_version')!r}; this weitiao reads {FORMAT_VERSION}.",
                fix="Read it with the version of weitiao that wrote it.",
            )
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(dict(data))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"the report is not whole: {where}: {first['msg']}.", fix="Restore the file.") from error

    def write_json(self, path: str | Path) -> None:
        """Write ``report.json``, whole or not at all."""
        _write(Path(path), json.dumps(self.to_json(), ensure_ascii=False, indent=1, allow_nan=False))

    def to_html(self) -> str:
        """Return the report as one HTML page that needs nothing from outside."""
        from weitiao.evaluation.page import render

        return render(self)

    def write_html(self, path: str | Path) -> None:
        """Write ``report.html``, whole or not at all."""
        _write(Path(path), self.to_html())

    def show(self, console: Console | None = None) -> None:
        """Print the summary in the terminal."""
        from weitiao.evaluation.terminal import show

        show(self, console)


def line(metric: str, interval: Interval, references: Mapping[str, float]) -> str:
    """Return a number as people should read it: metric, interval, n, and what to hold it against."""
    others = "".join(f"; {name} {value:.3f}" for name, value in references.items())
    return f"{metric} {interval} (n={interval.n:,}{others})"


def _write(path: Path, text: str) -> None:
    """Write aside, flush to disk, rename: a crash leaves the old file or the new one."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "replace"))  # a lone surrogate of a broken row must not cost the report
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)  # mkstemp makes files that only their owner may read
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
