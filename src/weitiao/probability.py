"""Probabilities out of logits, and the temperature that makes them mean what they say.

Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weitiao.errors import DataError

__all__ = ["fit_temperature", "softmax"]

_SMALLEST, _LARGEST = 0.05, 20.0
_SPREAD = 0.5  # of log T before any row is seen


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities ``(rows, classes)`` in float64 of ``logits / temperature``."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    np.exp(scaled, out=scaled)
    return scaled / scaled.sum(axis=-1, keepdims=True)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the temperature that makes the true classes most likely.

    Minimises the negative log-likelihood of ``softmax(logits / T)`` plus ``2 log(T)^2``: a normal prior on log T with
    a standard deviation of 0.5. A dozen rows that are all right would otherwise ask for a temperature of 0 and
    answers without doubt; hundreds of rows outweigh it. Dividing by one number moves no argmax: accuracy stays as
    it was.

    Parameters
    ----------
    logits
        ``(rows, classes)``, of rows the model was not trained on, and not the test rows.
    targets
        ``(rows,)``, class indices.

    Returns
    -------
    A temperature in [0.05, 20]; 1.0 without rows or with a single class.

    Raises
    ------
    DataError
        Logits that are not finite.

    Source
    ------
    Guo et al., 2017, section 4.2 (temperature scaling).
    """
    logits = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(logits).all():
        raise DataError("the logits to calibrate on are not all finite.", fix="Look for nan in the training log.")
    if logits.size == 0 or logits.shape[1] < 2:
        return 1.0
    from scipy.optimize import minimize_scalar

    centred = logits - logits.max(axis=1, keepdims=True)
    true = centred[np.arange(len(targets)), targets]

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        likelihood = np.sum(np.log(np.exp(centred * inverse).sum(axis=1)) - true * inverse)
        return float(likelihood + log_temperature**2 / (2 * _SPREAD**2))

    bounds = (np.log(_SMALLEST), np.log(_LARGEST))
    best: Any = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))
