"""The order of an epoch: the same for the same arguments, every row once, or classes in the proportion asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weitiao.data.batch import epoch_order

LENGTHS = np.arange(10) % 4
KEPT = [[2, 6, 3], [8, 4, 0], [1, 9, 5], [7]]  # a run that was begun with an earlier version goes on in the same order


def rows(classes: np.ndarray, sampling: str, *, epoch: int = 0, batch_size: int = 4) -> np.ndarray:
    lengths = np.arange(len(classes)) % 7
    steps = epoch_order(lengths, batch_size, seed=0, epoch=epoch, classes=classes, sampling=sampling)  # type: ignore
    assert len(steps) == math.ceil(len(classes) / batch_size)
    return np.concatenate(steps)


def test_the_order_is_that_of_earlier_versions() -> None:
    for more in ({}, {"classes": LENGTHS}, {"sampling": "balanced"}):
        assert [step.tolist() for step in epoch_order(LENGTHS, 3, seed=1, epoch=2, **more)] == KEPT


@pytest.mark.parametrize(("sampling", "shares"), [("balanced", [1 / 3] * 3), ("square_root", [6 / 11, 3 / 11, 2 / 11])])
def test_classes_come_in_the_proportion_asked(sampling: str, shares: list[float]) -> None:
    classes = np.repeat([0, 1, 2], [36 * 2, 9 * 2, 4 * 2])
    counts = np.array([np.bincount(classes[rows(classes, sampling, epoch=e)]) for e in range(40)])
    assert (counts.sum(1) == len(classes)).all()
    wanted = len(classes) * np.array(shares)
    assert (np.abs(counts - wanted) < 1).all(), "rounded up or down, never further"
    np.testing.assert_allclose(counts.mean(0), wanted, atol=0.3)


def test_rows_of_a_class_are_used_evenly() -> None:
    classes = np.repeat([0, 1], [90, 10])
    times = np.bincount(rows(classes, "balanced"), minlength=100)
    assert times[:90].max() == 1
    assert set(times[90:]) == {5}
    over = sum(np.bincount(rows(classes, "balanced", epoch=e), minlength=100)[:90] for e in range(40))
    assert over.min() > 0, "another epoch draws other rows of the large class"


def test_balanced_classes_of_equal_size_are_a_shuffle() -> None:
    classes = np.arange(40) % 4
    assert sorted(rows(classes, "balanced")) == sorted(rows(classes, "square_root")) == list(range(40))


@given(
    classes=st.lists(st.integers(-2, 3), min_size=0, max_size=50),
    sampling=st.sampled_from(["shuffled", "balanced", "square_root"]),
    batch_size=st.integers(1, 9),
)
def test_any_classes_give_whole_steps(classes: list[int], sampling: str, batch_size: int) -> None:
    def order() -> list[np.ndarray]:
        own = np.array(classes, dtype=int)
        return epoch_order(np.zeros(len(own)), batch_size, seed=0, epoch=0, classes=own, sampling=sampling)  # type: ignore

    steps = order()
    starts = range(0, len(classes), batch_size)
    assert sorted(map(len, steps)) == sorted(min(batch_size, len(classes) - start) for start in starts)
    assert all((a == b).all() for a, b in zip(steps, order(), strict=True))
    if classes and sampling == "balanced":
        assert set(np.array(classes)[np.concatenate(steps)]) == set(classes)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=300), st.integers(8, 400), st.integers(0, 3))
def test_steps_of_so_many_tokens(lengths: list[int], budget: int, epoch: int) -> None:
    tokens = np.array(lengths)
    steps = epoch_order(tokens, 32, seed=0, epoch=epoch, batch_tokens=budget)
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(lengths))), "every row once"
    for rows in steps:
        assert len(rows) == 1 or tokens[rows].max() * len(rows) <= budget
    again = epoch_order(tokens, 1, seed=0, epoch=epoch, batch_tokens=budget)
    assert all(np.array_equal(a, b) for a, b in zip(steps, again, strict=True)), "batch_size plays no part"


def test_more_tokens_a_step_are_fewer_steps() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 500)
    counts = [len(epoch_order(lengths, 32, seed=0, epoch=0, batch_tokens=budget)) for budget in (100, 400, 1600)]
    assert counts[0] > counts[1] > counts[2]
