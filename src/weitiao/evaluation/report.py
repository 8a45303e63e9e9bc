"""Build the honest account of a tuned model from its answers on the test rows.

Every contender meets the same rows; every number gets an interval from the same resamples; the tuned model is
compared, row by row, with the model before tuning and with everything cheaper.

Source: Dodge et al., Show Your Work: Improved Reporting of Experimental Results, 2019; Mitchell et al., Model Cards for
Model Reporting, 2019. Intervals and tests: see `weitiao.evaluation.comparison`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weitiao import plugins
from weitiao.data.table import Table
from weitiao.errors import DataError, RecipeError, WeitiaoError, did_you_mean
from weitiao.evaluation.breakdown import mistakes, slices
from weitiao.evaluation.comparison import (
    Difference,
    Resamples,
    difference_of,
    gives,
    interval_of,
    mcnemar,
    outcome,
    suited,
    verdict,
)
from weitiao.evaluation.document import (
    Comparison,
    Counts,
    MetricInfo,
    Report,
    Seeds,
    Sentence,
    Standing,
    Training,
    line,
)
from weitiao.evaluation.metrics.base import Metric
from weitiao.evaluation.panels import CurvePanel, calibration_panel
from weitiao.findings import Finding
from weitiao.tasks.base import Task

__all__ = ["Contender", "Counts", "Report", "ReportInput", "Temperature", "Training", "build_report", "line"]


@dataclass(frozen=True)
class Contender:
    """One model's answers on the test rows.

    Parameters
    ----------
    key
        Short and unique: ``tuned``, ``before``, ...
    title, title_zh
        As read in a sentence, after "than": ``the model before tuning``, ``TF-IDF``.
    answers
        To each test row, as `Task.answer` gives them: probabilities ``(rows, classes)``, say; for the tuned model as
        served, that is calibrated.
    note
        How the answers were made, a sentence.
    """

    key: str
    title: str
    answers: Any
    note: str = ""
    title_zh: str = ""


@dataclass(frozen=True)
class Temperature:
    """The tuned model's temperature, fitted on dev, and its test probabilities ``(rows, classes)`` without it."""

    value: float
    uncalibrated: np.ndarray


@dataclass(frozen=True)
class ReportInput:
    """All that a report is made of.

    Parameters
    ----------
    title
        What was tuned on what, a line.
    table
        The test rows, in the order of `targets`.
    text_fields
        The columns of `table` that hold text.
    task
        Says what an answer is, and when it is right.
    targets
        ``(rows,)``, what is true of each row, as `Task.truth` gives it.
    contenders
        The tuned model first.
    metrics, main_metric
        Names of metrics, in the order to be shown; the main one is among them.
    counts
        Where all rows went.
    before
        Key of the contender that is the model before tuning; ``None`` without one.
    temperature
        Without it, confidences are reported as not calibrated.
    training, seeds_scores, findings, recipe
        As they are to be shown; `seeds_scores` is the main metric of each seed.
    slices
        Columns of `table` with 2 to 12 different values; text length is always a slice.
    seed, resamples
        Of the bootstrap.
    """

    title: str
    table: Table
    text_fields: tuple[str, ...]
    task: Task
    targets: np.ndarray
    contenders: Sequence[Contender]
    metrics: Sequence[str]
    main_metric: str
    counts: Counts
    before: str | None = None
    temperature: Temperature | None = None
    training: Training | None = None
    seeds_scores: Sequence[float] = ()
    findings: Sequence[Finding] = ()
    recipe: str = ""
    slices: Sequence[str] = ()
    seed: int = 0
    resamples: int = 1000
    confidence: float = field(default=0.95)

    @property
    def labels(self) -> Sequence[str]:
        """Names of the classes, in order; none where answers are no classes."""
        return self.task.labels


def build_report(data: ReportInput) -> Report:
    """Compute every number of the report.

    Raises
    ------
    DataError
        There are no test rows, or a contender's answers are not one a row, or not finite.
    WeitiaoError
        Two contenders of one key, or none of the key `before`.
    RecipeError
        A slice column that is not there or has too many values, or a main metric that is not measured.
    """
    _check(data)
    metrics = {name: plugins.find("metrics", name)() for name in data.metrics}
    infos = tuple(_info(name, metric) for name, metric in metrics.items())
    standings, comparisons = _contest(data, metrics, infos)
    tuned = data.contenders[0].answers
    wrong = np.flatnonzero(~data.task.right(data.targets, tuned))
    drawn = (
        metric.panels(suited(metric, data.targets, data.labels), suited(metric, tuned, data.labels), data.labels)
        for metric in metrics.values()
    )
    return Report(
        title=data.title,
        headline_=_headline(data, standings, comparisons, infos),
        main_metric=data.main_metric,
        metrics=infos,
        before=data.before,
        standings=standings,
        comparisons=comparisons,
        panels=tuple(panel for panels in drawn for panel in panels),
        calibration=_calibration(data),
        temperature=data.temperature.value if data.temperature else None,
        slices=slices(data, metrics[data.main_metric]),
        mistakes=mistakes(data, wrong),
        wrong=len(wrong),
        counts=data.counts,
        training=data.training,
        seeds=_seeds(data.seeds_scores),
        findings=tuple(data.findings),
        recipe=data.recipe,
        seed=data.seed,
        resamples=data.resamples,
    )


def _check(data: ReportInput) -> None:
    rows = len(data.targets)
    if not rows or len(data.table) != rows:
        raise DataError(f"a report needs test rows, one target each; got {len(data.table)} rows, {rows} targets.")
    for one in data.contenders:
        for answers in one.answers.values() if isinstance(one.answers, Mapping) else (one.answers,):
            _check_answers(data, one.key, answers)
    keys = [one.key for one in data.contenders]
    if len(set(keys)) < len(keys) or (data.before is not None and data.before not in keys[1:]):
        raise WeitiaoError(
            f"the contenders {', '.join(keys)} need different keys, and {data.before!r} among those after the first."
        )
    if data.main_metric not in data.metrics:
        raise RecipeError(
            f"the main metric {data.main_metric!r} is not among the metrics measured: {', '.join(data.metrics)}.",
            fix=f"Add it to the metrics.{did_you_mean(data.main_metric, data.metrics)}",
        )


def _check_answers(data: ReportInput, key: str, answers: np.ndarray) -> None:
    rows = len(data.targets)
    wanted = (rows, len(data.labels)) if np.ndim(answers) == 2 and data.labels else (rows, *np.shape(answers)[1:])
    if np.shape(answers) != wanted:
        raise DataError(f"the answers of {key!r} have shape {np.shape(answers)}; {rows} test rows need {wanted}.")
    if answers.dtype == object:
        return
    broken = np.flatnonzero(~np.isfinite(answers.reshape(rows, -1)).all(axis=1))
    if len(broken):
        raise DataError(
            f"the answers of {key!r} are not finite in {len(broken):,} test rows.",
            where=data.table.places[int(broken[0])],
            fix="The model has diverged or its input is broken; no number made of these rows would be true.",
        )


def _info(name: str, metric: Metric) -> MetricInfo:
    title = metric.title or name.replace("_", " ")
    return MetricInfo(name, title, metric.title_zh or title, metric.higher_is_better)


def _contest(
    data: ReportInput, metrics: Mapping[str, Metric], infos: Sequence[MetricInfo]
) -> tuple[tuple[Standing, ...], tuple[Comparison, ...]]:
    """Measure all contenders on one set of resamples, and the tuned one against each of the others."""
    classes, rows = len(data.labels), len(data.targets)
    asked = {
        (i, name): (metric, suited(metric, data.targets, data.labels), suited(metric, one.answers, data.labels))
        for i, one in enumerate(data.contenders)
        for name, metric in metrics.items()
        if gives(one.answers, metric)
    }
    values = Resamples(rows, data.seed, data.resamples).values(list(asked.values()), classes=classes)
    drawn = dict(zip(asked, values, strict=True))
    intervals = {
        key: interval_of(metric(targets, answers, classes=classes), drawn[key], rows, data.confidence, metric.range)
        for key, (metric, targets, answers) in asked.items()
    }
    info = next(one for one in infos if one.name == data.main_metric)
    standings, comparisons = [], []
    for i, one in enumerate(data.contenders):
        scores = {name: intervals[i, name] for name in metrics if (i, name) in intervals}
        standings.append(Standing(one.key, one.title, one.title_zh or one.title, one.note, scores))
        if i and data.main_metric in scores:
            found = {
                name: difference_of(intervals[0, name], score, drawn[0, name], drawn[i, name])
                for name, score in scores.items()
            }
            comparisons.append(_comparison(data, one, found, info))
    comparisons.sort(key=lambda c: c.against != data.before)
    return tuple(standings), tuple(comparisons)


def _comparison(data: ReportInput, other: Contender, found: dict[str, Difference], info: MetricInfo) -> Comparison:
    right, right_other = (data.task.right(data.targets, c.answers) for c in (data.contenders[0], other))
    main, higher = found[data.main_metric], info.higher_is_better
    said = Sentence(
        verdict(main, metric=info.title, against=other.title, higher_is_better=higher),
        verdict(
            main, metric=info.title_zh, against=other.title_zh or other.title, higher_is_better=higher, language="zh"
        ),
    )
    judged = outcome(main, higher_is_better=higher)
    return Comparison(other.key, other.title, found, mcnemar(right, right_other), judged, said)


def _headline(
    data: ReportInput, standings: Sequence[Standing], comparisons: Sequence[Comparison], infos: Sequence[MetricInfo]
) -> Sentence:
    """Say before and after, then how the best of the other contenders compares."""
    info = next(m for m in infos if m.name == data.main_metric)
    score = {s.key: s.scores[data.main_metric] for s in standings if data.main_metric in s.scores}
    tuned = standings[0].scores[data.main_metric]
    change = f"{score[data.before].value:.3f} → {tuned}" if data.before in score else str(tuned)
    n, n_zh = (f" (n={tuned.n:,})", f"（n={tuned.n:,}）") if not comparisons else ("", "")  # else each verdict says it
    en = [f"{info.title[:1].upper()}{info.title[1:]} {change}{n}."]
    zh = [f"{info.title_zh} {change}{n_zh}。"]
    rivals = [c for c in comparisons if c.against != data.before]
    told = [c for c in comparisons if c.against == data.before]
    if rivals:
        sign = 1 if info.higher_is_better else -1
        told.append(max(rivals, key=lambda c: sign * score[c.against].value))
    en += [c.verdict.en for c in told]
    zh += [c.verdict.zh for c in told]
    return Sentence(" ".join(en), "".join(zh))


def _calibration(data: ReportInput) -> CurvePanel | None:
    if data.temperature is None:
        return None
    return calibration_panel(data.contenders[0].answers, data.targets, uncalibrated=data.temperature.uncalibrated)


def _seeds(scores: Sequence[float]) -> Seeds | None:
    if len(scores) < 2:
        return None
    return Seeds(tuple(float(s) for s in scores), float(np.mean(scores)), float(np.std(scores, ddof=1)))
