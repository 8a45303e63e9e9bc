"""Correlation of two columns of numbers as a function of sums over rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import divide

__all__ = ["correlation", "moments", "unless_constant"]

_ROUNDING = 1e-12  # a share of spread left over by sums that should cancel


def moments(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return 1, x, y, x², y² and xy of each row, ``(rows, 6)``, x and y moved and scaled.

    Correlation does not change by either. Moved to the median, a large offset cannot swallow the spread, and a
    column of one value is exactly 0; scaled, squares neither overflow nor vanish.
    """
    x, y = _centered(x), _centered(y)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def correlation(sums: np.ndarray) -> np.ndarray:
    """Return Pearson's r ``(...)`` of sums ``(..., 6)`` of `moments`; 0 where a column is constant."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = _spread(n, x, xx) * _spread(n, y, yy)
    return np.clip(divide(n * xy - x * y, np.sqrt(spread)), -1.0, 1.0)  # rounding can pass 1 by one ulp


def unless_constant(test: Callable[..., Any], x: np.ndarray, y: np.ndarray) -> float:
    """Return the statistic of a test of SciPy, or 0 where a column is constant and it has no answer."""
    return float(test(x, y).statistic) if np.ptp(x) and np.ptp(y) else 0.0


def _centered(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    values = values - np.median(values)
    return values / (np.abs(values).max() or 1.0)


def _spread(n: np.ndarray, total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    left = n * squares - total * total
    return np.where(left > _ROUNDING * n * squares, left, 0.0)
