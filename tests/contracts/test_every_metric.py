"""What every metric must do; a new file in the folder is tested the moment it exists."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from weitiao import plugins
from weitiao.evaluation.metrics.base import Metric

every_metric = pytest.mark.parametrize("name", plugins.names("metrics"))


def make(name: str) -> Metric:
    return plugins.find("metrics", name)()


def draw(metric: Metric, *, rows: int = 400, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and predictions in the form the metric needs; the last class occurs on neither side."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes - 1, rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), targets] += 1
    logits[:, -1] = -9
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return targets, probabilities if metric.needs == "probabilities" else probabilities.argmax(axis=1)


def certain(metric: Metric, said: np.ndarray) -> np.ndarray:
    return np.eye(2)[said] if metric.needs == "probabilities" else said


@every_metric
def test_says_where_it_comes_from(name: str) -> None:
    module = inspect.getmodule(plugins.find("metrics", name))
    assert module is not None
    assert "Source:" in (module.__doc__ or "")
    assert plugins.summary("metrics", name)


@every_metric
def test_gives_the_known_values_of_its_tiny_cases(name: str) -> None:
    metric = make(name)
    cases = metric.tiny()
    assert cases
    for case in cases:
        value = metric(np.array(case["targets"]), np.array(case["predictions"]), classes=case["classes"])
        assert isinstance(value, float)
        assert value == pytest.approx(case["value"], abs=1e-12)


@every_metric
def test_perfect_and_worst_answers_are_the_ends_of_its_range(name: str) -> None:
    metric, targets = make(name), np.array([0, 1, 1, 0, 1])
    low, high = metric.range
    best, worst = (high, low) if metric.higher_is_better else (low, high)
    assert metric(targets, certain(metric, targets), classes=2) == pytest.approx(best, abs=1e-9)
    assert metric(targets, certain(metric, 1 - targets), classes=2) == pytest.approx(worst, abs=1e-9)


@every_metric
def test_stays_in_its_range(name: str) -> None:
    metric = make(name)
    for seed in range(20):
        targets, predictions = draw(metric, rows=7, seed=seed)
        assert metric.range[0] <= metric(targets, predictions, classes=5) <= metric.range[1]


@every_metric
def test_the_order_of_rows_changes_nothing(name: str) -> None:
    metric = make(name)
    targets, predictions = draw(metric)
    order = np.random.default_rng(1).permutation(len(targets))
    value = metric(targets[order], predictions[order], classes=5)
    assert value == pytest.approx(metric(targets, predictions, classes=5), abs=1e-12)


@every_metric
@pytest.mark.parametrize("rows", [4, 9, 400])
def test_equals_its_reference(name: str, rows: int) -> None:
    metric, reference = make(name), make(name).reference()
    if reference is None:
        pytest.skip("has no independent implementation")
    for seed in range(3):
        targets, predictions = draw(metric, rows=rows, seed=seed)
        assert metric(targets, predictions, classes=5) == pytest.approx(reference(targets, predictions, 5), abs=1e-9)


@every_metric
def test_many_resamples_at_once_equal_one_by_one(name: str) -> None:
    metric = make(name)
    targets, predictions = draw(metric, rows=40)
    weights = np.random.default_rng(2).multinomial(40, np.full(40, 1 / 40), size=25).astype(np.float64)
    together = metric.weighted(targets, predictions, weights, classes=5)
    one_by_one = Metric.weighted(metric, targets, predictions, weights, classes=5)
    np.testing.assert_allclose(together, one_by_one, atol=1e-12)
