"""Intervals that hold what they promise, and tests that know chance from skill."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from weitiao import plugins
from weitiao.errors import DataError
from weitiao.evaluation.comparison import (
    Difference,
    Resamples,
    bootstrap,
    mcnemar,
    outcome,
    paired_bootstrap,
    verdict,
)
from weitiao.evaluation.metrics.base import Metric

# of class answers; what other forms look like, and that all this holds for them, is in the contracts of metrics
NAMES = [n for n in plugins.names("metrics") if plugins.find("metrics", n).needs in ("labels", "probabilities")]


def metric(name: str = "accuracy") -> Metric:
    return plugins.find("metrics", name)()


def answers(rows: int, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 3, rows)
    return targets, np.where(generator.random(rows) < right, targets, (targets + 1) % 3)


@settings(max_examples=40)
@given(rows=st.integers(1, 60), seed=st.integers(0, 999), name=st.sampled_from(NAMES))
def test_an_interval_contains_its_value(rows: int, seed: int, name: str) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(4), rows)
    found = bootstrap(metric(name), generator.integers(0, 4, rows), probabilities, classes=4, seed=seed, resamples=50)
    assert found.low <= found.value <= found.high
    assert found.n == rows


def test_equal_seeds_give_equal_intervals_and_others_do_not() -> None:
    targets, said = answers(200, 0.8, 0)
    found = [bootstrap(metric(), targets, said, classes=3, seed=seed) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert (found[0].low, found[0].high) != (found[2].low, found[2].high) or found[0].value == found[2].value


def test_more_confidence_is_a_wider_interval() -> None:
    targets, said = answers(200, 0.8, 0)
    narrow, wide = (bootstrap(metric(), targets, said, classes=3, seed=0, confidence=c) for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_95_percent_interval_covers_the_truth_about_95_times_in_100() -> None:
    held, accuracy = 0, metric()
    for seed in range(300):
        targets, said = answers(120, 0.75, seed)
        found = bootstrap(accuracy, targets, said, classes=3, seed=seed, resamples=400)
        held += found.low <= 0.75 <= found.high
    assert 0.91 <= held / 300 <= 0.99


def test_all_rows_right_is_not_certainty() -> None:
    targets = np.zeros(20, dtype=np.int64)
    right, wrong = (bootstrap(metric(), targets, said, classes=2, seed=0) for said in (targets, 1 - targets))
    low, high = binomtest(20, 20).proportion_ci()
    assert (right.low, right.high) == pytest.approx((low, high))
    assert (wrong.low, wrong.high) == pytest.approx((0, 1 - low))


def test_memory_is_bounded_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, said = answers(50, 0.8, 0)
    (whole,) = Resamples(50, 0, 100).values([(metric(), targets, said)], classes=3)
    monkeypatch.setattr("weitiao.evaluation.comparison._BLOCK", 350)
    blocks = list(Resamples(50, 0, 100).blocks())
    assert max(len(block) for block in blocks) == 7
    assert all((block.sum(axis=1) == 50).all() for block in blocks)
    (parts,) = Resamples(50, 0, 100).values([(metric(), targets, said)], classes=3)
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("name", NAMES)
def test_equal_predictions_do_not_differ(name: str) -> None:
    generator = np.random.default_rng(0)
    targets, said = generator.integers(0, 4, 80), generator.dirichlet(np.ones(4), 80)
    found = paired_bootstrap(metric(name), targets, said, said.copy(), classes=4, seed=0)
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_paired_difference_has_the_sign_and_the_mirror_image() -> None:
    targets, good = answers(400, 0.9, 0)
    _, bad = answers(400, 0.6, 0)
    there, back = (paired_bootstrap(metric(), targets, a, b, classes=3, seed=0) for a, b in ((good, bad), (bad, good)))
    assert there.value == pytest.approx(np.mean(good == targets) - np.mean(bad == targets))
    assert there.low > 0
    assert there.p_value < 0.01
    assert (back.value, back.p_value) == (-there.value, there.p_value)


def test_p_values_of_no_difference_are_spread_evenly() -> None:
    small, accuracy = 0, metric()
    for seed in range(200):
        generator = np.random.default_rng(seed)
        targets = np.zeros(100, dtype=np.int64)
        a, b = (generator.random((2, 100)) < 0.3).astype(np.int64)
        small += paired_bootstrap(accuracy, targets, a, b, classes=2, seed=seed, resamples=200).p_value < 0.05
    assert small / 200 < 0.11


def test_mcnemar_is_the_exact_binomial_of_the_rows_that_differ() -> None:
    a = np.array([1] * 9 + [0] * 2 + [1] * 30)
    b = np.array([0] * 9 + [1] * 2 + [1] * 30)
    assert mcnemar(a, b) == pytest.approx(0.0654296875)  # by hand: 2 * (1 + 11 + 55) / 2**11
    assert mcnemar(a, a) == 1


@pytest.mark.parametrize(
    ("value", "low", "high", "higher", "expected"),
    [
        (0.1, 0.05, 0.15, True, "better"),
        (0.1, 0.05, 0.15, False, "worse"),
        (-0.1, -0.15, -0.05, False, "better"),
        (-0.1, -0.15, -0.05, True, "worse"),
        (0.1, -0.01, 0.2, True, "unclear"),
        (0.0, 0.0, 0.0, True, "unclear"),
    ],
)
def test_the_outcome_follows_the_interval_and_the_direction(
    value: float, low: float, high: float, higher: bool, expected: str
) -> None:
    assert outcome(Difference(value, low, high, 0.5, 9), higher_is_better=higher) == expected


def test_a_verdict_says_whether_how_much_and_how_sure() -> None:
    gain = Difference(0.0521, 0.0374, 0.0682, 0.002, 1200)
    assert verdict(gain, metric="accuracy", against="TF-IDF") == (
        "Better than TF-IDF: accuracy rises by 0.052, 95% interval [0.037, 0.068] (p = 0.002, n=1,200)."
    )
    assert verdict(gain, metric="准确率", against="TF-IDF", language="zh") == (
        "优于 TF-IDF：准确率提高 0.052，95% 置信区间 [0.037, 0.068]（p=0.002，n=1,200）。"
    )
    less_loss = Difference(-0.3, -0.4, -0.2, 0.0001, 50)
    assert verdict(less_loss, metric="log loss", against="it was", higher_is_better=False) == (
        "Better than it was: log loss falls by 0.300, 95% interval [0.200, 0.400] (p < 0.001, n=50)."
    )
    assert "不如微调前的模型：对数损失提高" in verdict(
        Difference(0.3, 0.2, 0.4, 0.01, 50),
        metric="对数损失",
        against="微调前的模型",
        higher_is_better=False,
        language="zh",
    )


def test_a_verdict_is_honest_when_the_interval_includes_0() -> None:
    maybe = Difference(0.0041, -0.0102, 0.0171, 0.61, 1200)
    assert verdict(maybe, metric="accuracy", against="TF-IDF") == (
        "Not shown to be better than TF-IDF: accuracy differs by +0.004, and the 95% interval [-0.010, +0.017] "
        "includes 0, so it may be chance (p = 0.610, n=1,200)."
    )
    assert "包含 0，可能只是偶然" in verdict(maybe, metric="准确率", against="微调前的模型", language="zh")


def test_without_rows_or_probabilities_it_says_so() -> None:
    none = np.zeros(0, dtype=np.int64)
    with pytest.raises(DataError, match="a bootstrap needs rows and resamples; got 0 rows"):
        bootstrap(metric(), none, none, classes=2, seed=0)
    with pytest.raises(DataError, match=r"log_loss needs probabilities \(rows, classes\), but got shape \(3,\)"):
        bootstrap(metric("log_loss"), np.zeros(3, dtype=np.int64), np.zeros(3), classes=2, seed=0)
