"""How sure a number is, and whether one model is better than another on the same rows.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 (percentile interval) and 16
(tests); McNemar, Note on the sampling error of the difference between correlated proportions or percentages, 1947;
Dror, Baumer, Shlomov and Reichart, The Hitchhiker's Guide to Testing Statistical Significance in NLP, 2018
(which test for which metric: paired bootstrap for any, McNemar for accuracy).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from weitiao.errors import DataError
from weitiao.evaluation.metrics.base import Metric
from weitiao.tasks.base import objects

__all__ = [
    "Difference",
    "Interval",
    "Resamples",
    "bootstrap",
    "difference_of",
    "gives",
    "interval_of",
    "mcnemar",
    "outcome",
    "paired_bootstrap",
    "suited",
    "verdict",
]

Outcome = Literal["better", "unclear", "worse"]
_BLOCK = 4_000_000  # numbers of a block of resamples: 32 MiB


@dataclass(frozen=True)
class Interval:
    """A value with its interval, from `n` rows."""

    value: float
    low: float
    high: float
    n: int
    confidence: float = 0.95

    def __str__(self) -> str:
        """Return ``0.913 [0.897, 0.928]``."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Difference:
    """The value of one model minus that of another on the same `n` rows; `p_value` is two-sided."""

    value: float
    low: float
    high: float
    p_value: float
    n: int
    confidence: float = 0.95

    def __str__(self) -> str:
        """Return ``+0.052 [+0.037, +0.068]``."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True)
class Resamples:
    """Draws of `rows` rows with replacement, `count` of them; equal seeds give equal draws.

    A draw is kept as how often each row is in it, so that metrics of many models become matrix products over
    the same draws, and the difference of two models is a difference draw by draw.
    """

    rows: int
    seed: int
    count: int = 1000

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield weights ``(draws, rows)``, some draws at a time, so that memory stays bounded."""
        if self.rows < 1 or self.count < 1:
            raise DataError(f"a bootstrap needs rows and resamples; got {self.rows} rows, {self.count} resamples.")
        generator = np.random.default_rng(self.seed)
        size = max(1, _BLOCK // self.rows)
        for start in range(0, self.count, size):
            draws = min(size, self.count - start)
            drawn = generator.integers(0, self.rows, size=(draws, self.rows))
            drawn += np.arange(draws)[:, None] * self.rows
            weights = np.bincount(drawn.ravel(), minlength=draws * self.rows)
            yield weights.reshape(draws, self.rows).astype(np.float64)

    def values(self, asked: Sequence[tuple[Metric, np.ndarray, np.ndarray]], *, classes: int) -> list[np.ndarray]:
        """Return ``(count,)`` values for each metric with targets and predictions to judge, all on the same draws."""
        parts: list[list[np.ndarray]] = [[] for _ in asked]
        for weights in self.blocks():
            for part, (metric, targets, predictions) in zip(parts, asked, strict=True):
                part.append(metric.weighted(targets, predictions, weights, classes=classes))
        return [np.concatenate(part) for part in parts]


def gives(answers: Any, metric: Metric) -> bool:
    """Return whether answers have the form that a metric needs: a contender may give some forms and not others."""
    return not isinstance(answers, Mapping) or metric.needs in answers


def suited(metric: Metric, answers: Any, labels: Sequence[str] = ()) -> np.ndarray:
    """Return answers, or targets, in the form the metric needs.

    Probabilities become class indices where it needs labels, both become names where it needs names, and probabilities
    get the names of their classes where it needs these.

    Raises
    ------
    DataError
        They have another form.
    """
    if isinstance(answers, Mapping):
        if metric.needs not in answers:
            raise DataError(f"{metric.name} needs {metric.needs}, but got {', '.join(answers)}.")
        return answers[metric.needs]
    answers = np.asarray(answers)
    if metric.needs in ("labels", "names") and answers.ndim == 2:
        answers = answers.argmax(axis=1)
    if metric.needs == "named_probabilities" and answers.ndim == 2:
        return objects(dict(zip(labels, row, strict=True)) for row in answers.tolist())
    if metric.needs in ("names", "named_probabilities") and answers.dtype != object:
        return objects(labels[i] for i in answers)
    return answers


def interval_of(
    value: float, draws: np.ndarray, n: int, confidence: float, ends: tuple[float, float] | None = None
) -> Interval:
    """Return the percentile interval of bootstrap values around the observed one.

    Differs: widened to hold the observed value, which a biased metric can leave outside on few rows. And where
    every draw is the best or the worst possible value (`ends`), as when all rows are right, the bootstrap would
    claim certainty from any number of rows; there the exact binomial bound is taken (Clopper and Pearson, 1934).
    """
    tail = (1 - confidence) / 2
    low, high = (float(q) for q in np.quantile(draws, [tail, 1 - tail]))
    low, high = min(low, value), max(high, value)
    if ends is not None and np.isfinite(ends).all() and low == high and value in ends:
        unseen = (ends[1] - ends[0]) * (1 - tail ** (1 / n))
        low, high = (value - unseen, value) if value == ends[1] else (value, value + unseen)
    return Interval(value, low, high, n, confidence)


def difference_of(a: Interval, b: Interval, draws_a: np.ndarray, draws_b: np.ndarray) -> Difference:
    """Return a minus b, from values of both on the same draws.

    The two-sided p is twice the smaller tail of the draws beyond 0, with one added above and below so
    that no finite number of draws claims certainty; it agrees with the percentile interval.
    """
    draws = draws_a - draws_b
    # models that agree on every row differ by rounding only; that is no difference
    draws[np.abs(draws) < 1e-12] = 0.0
    value = a.value - b.value if abs(a.value - b.value) >= 1e-12 else 0.0
    tail = 1 + min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    interval = interval_of(value, draws, a.n, a.confidence)
    p_value = min(1.0, 2 * tail / (1 + len(draws)))
    return Difference(value, interval.low, interval.high, p_value, a.n, a.confidence)


def bootstrap(
    metric: Metric,
    targets: np.ndarray,
    predictions: np.ndarray,
    *,
    classes: int,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Return a metric with its percentile bootstrap interval.

    Parameters
    ----------
    targets
        ``(rows,)``, class indices.
    predictions
        ``(rows,)`` class indices or ``(rows, classes)`` probabilities.
    resamples
        Draws of all rows with replacement; 1,000 settle the third digit.

    Raises
    ------
    DataError
        There are no rows, or the metric needs probabilities and did not get them.

    Source
    ------
    Efron and Tibshirani, 1993, section 13.3.
    """
    predictions = suited(metric, predictions)
    if metric.needs == "probabilities" and predictions.ndim != 2:
        raise DataError(f"{metric.name} needs probabilities (rows, classes), but got shape {predictions.shape}.")
    (draws,) = Resamples(len(targets), seed, resamples).values([(metric, targets, predictions)], classes=classes)
    return interval_of(metric(targets, predictions, classes=classes), draws, len(targets), confidence, metric.range)


def paired_bootstrap(
    metric: Metric,
    targets: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    *,
    classes: int,
    seed: int,
    resamples: int = 1000,
) -> Difference:
    """Return the metric of `a` minus that of `b`, with 95% interval and two-sided p, on shared resamples.

    Raises
    ------
    DataError
        There are no rows, or the metric needs probabilities and did not get them.

    Source
    ------
    Efron and Tibshirani, 1993, chapter 16; Dror et al., 2018, section 3.
    """
    a, b = suited(metric, a), suited(metric, b)
    drawer = Resamples(len(targets), seed, resamples)
    draws_a, draws_b = drawer.values([(metric, targets, a), (metric, targets, b)], classes=classes)
    of_a, of_b = (
        interval_of(metric(targets, x, classes=classes), draws, len(targets), 0.95, metric.range)
        for x, draws in ((a, draws_a), (b, draws_b))
    )
    return difference_of(of_a, of_b, draws_a, draws_b)


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """Return the exact two-sided p of McNemar's test: whether two models get different numbers of rows right.

    Only rows that exactly one of them gets right say anything; under no difference each model wins such
    a row with probability 1/2.

    Parameters
    ----------
    correct_a, correct_b
        ``(rows,)``, whether each model is right on the row.

    Source
    ------
    McNemar, 1947, in the exact (binomial) form.
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    if only_a + only_b == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def outcome(difference: Difference, *, higher_is_better: bool = True) -> Outcome:
    """Say whether a difference is for the better, for the worse, or not shown: its interval touches 0."""
    if difference.low <= 0 <= difference.high:
        return "unclear"
    return "better" if (difference.value > 0) == higher_is_better else "worse"


def verdict(
    difference: Difference,
    *,
    metric: str,
    against: str,
    higher_is_better: bool = True,
    language: Literal["en", "zh"] = "en",
) -> str:
    """Return one plain sentence: is it better, by how much, how sure.

    Parameters
    ----------
    difference
        Of the model in question minus the other.
    metric, against
        What is measured, and the other model, in words of that language.
    """
    found = outcome(difference, higher_is_better=higher_is_better)
    size, low, high = abs(difference.value), *sorted((abs(difference.low), abs(difference.high)))
    share, p, n = f"{difference.confidence:.0%}", difference.p_value, f"{difference.n:,}"
    p_text = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    signed = f"[{difference.low:+.3f}, {difference.high:+.3f}]"
    rises = difference.value > 0
    if language == "zh":
        against = f" {against} " if against.isascii() else against
        p_text = p_text.replace(" ", "")
        if found == "unclear" and low == high == 0:
            return f"与{against.rstrip()}相同：{metric}没有差别（n={n}）。"
        if found == "unclear":
            return (
                f"不能断定优于{against.rstrip()}：{metric}相差 {difference.value:+.3f}，"
                f"{share} 置信区间 {signed} 包含 0，可能只是偶然（{p_text}，n={n}）。"
            )
        better, moved = "优于" if found == "better" else "不如", "提高" if rises else "降低"
        return (
            f"{better}{against.rstrip()}：{metric}{moved} {size:.3f}，"
            f"{share} 置信区间 [{low:.3f}, {high:.3f}]（{p_text}，n={n}）。"
        )
    if found == "unclear" and low == high == 0:
        return f"The same as {against}: no difference in {metric} (n={n})."
    if found == "unclear":
        return (
            f"Not shown to be better than {against}: {metric} differs by {difference.value:+.3f}, and the "
            f"{share} interval {signed} includes 0, so it may be chance ({p_text}, n={n})."
        )
    return (
        f"{found.capitalize()} than {against}: {metric} {'rises' if rises else 'falls'} by {size:.3f}, "
        f"{share} interval [{low:.3f}, {high:.3f}] ({p_text}, n={n})."
    )
