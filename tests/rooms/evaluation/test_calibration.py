"""Confidences that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from weitiao.errors import DataError
from weitiao.evaluation.calibration import mean_gap, reliability
from weitiao.probability import fit_temperature, softmax


def sample(temperature: float, rows: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true temperature is known: targets are drawn from the softmax at it."""
    generator = np.random.default_rng(0)
    logits = 3 * generator.normal(size=(rows, 4))
    drawn = softmax(logits, temperature).cumsum(axis=1) > generator.random((rows, 1))
    return logits, drawn.argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_finds_the_temperature_that_made_the_data(temperature: float) -> None:
    assert fit_temperature(*sample(temperature)) == pytest.approx(temperature, rel=0.06)


def test_no_other_temperature_is_more_likely() -> None:
    logits, targets = sample(1.7, rows=300)

    def loss(temperature: float) -> float:
        prior = np.log(temperature) ** 2 / (2 * 0.5**2)
        return float(-np.log(softmax(logits, temperature)[np.arange(300), targets]).sum() + prior)

    found = fit_temperature(logits.astype(np.float32), targets)
    assert loss(found) <= min(loss(t) for t in np.geomspace(0.05, 20, 400)) + 1e-4


def test_a_few_rows_that_are_all_right_do_not_end_all_doubt() -> None:
    few, many = (np.tile(2.0 * np.eye(4), (n, 1)) for n in (3, 3000))
    right = np.tile(np.arange(4), 3)
    temperature = fit_temperature(few, right)
    assert 0.3 < temperature < 1
    assert softmax(few, temperature).max() < 0.999
    assert fit_temperature(many, np.tile(np.arange(4), 3000)) < 0.6 * temperature


def test_calibration_closes_the_gap_and_moves_no_answer() -> None:
    logits, targets = sample(2.5)
    raw, served = softmax(logits), softmax(logits, fit_temperature(logits, targets))
    np.testing.assert_array_equal(raw.argmax(axis=1), served.argmax(axis=1))
    before, after = (mean_gap(reliability(p, targets)) for p in (raw, served))
    assert after < 0.02 < 0.1 < before


def test_edges_stay_finite() -> None:
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int)) == 1
    assert fit_temperature(np.ones((5, 1)), np.zeros(5, dtype=int)) == 1
    assert 0.05 <= fit_temperature(1e4 * np.eye(3), np.arange(3)) <= 20
    assert fit_temperature(np.eye(3), (np.arange(3) + 1) % 3) > 1
    np.testing.assert_allclose(softmax(np.array([[1e5, 0.0]])), [[1, 0]])
    with pytest.raises(DataError, match="not all finite"):
        fit_temperature(np.array([[np.nan, 1.0]]), np.array([0]))


def test_the_reliability_table_counts_every_row_once() -> None:
    probabilities = np.array([[0.2, 0.8], [0.4, 0.6], [0.0, 1.0], [0.41, 0.59]])
    table = reliability(probabilities, np.array([1, 0, 1, 0]), bins=5)
    assert [b.n for b in table] == [0, 0, 2, 1, 1]  # 0.6 and 0.8 close their bins, as in the paper
    assert table[2].confidence == pytest.approx(0.595)
    assert table[2].accuracy == 0
    assert mean_gap(table) == pytest.approx((2 * 0.595 + 0.2 + 0) / 4)
