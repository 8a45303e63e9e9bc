"""Perplexity: the exponential of the mean surprise at a token of the targets.

    exp(- sum over rows of log p(target) / number of tokens)

How many tokens a uniform guess would have to choose among to be as unsure. It depends on the vocabulary, so only
models with the same tokenizer can be compared.

Source: Jelinek, Mercer, Bahl and Baker, Perplexity: a measure of the difficulty of speech recognition tasks, 1977.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics.base import Summed

_IMPOSSIBLE = -1e200  # stands for minus infinity, which times a weight of 0 would not be 0


class Perplexity(Summed):
    """Exponential of the mean surprise a token: 1 is certainty, the size of the vocabulary a uniform guess."""

    title, title_zh = "perplexity", "困惑度"
    higher_is_better = False
    needs = "likelihood"
    range = (1.0, float("inf"))

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return each row's log-likelihood in nats and number of tokens; the targets are in them already."""
        sums = np.asarray(predictions, dtype=np.float64).copy()
        sums[:, 0] = np.maximum(sums[:, 0], _IMPOSSIBLE)
        return sums

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return the exponential; infinite where a token was impossible, not a number without any token."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return np.exp(-sums[..., 0] / sums[..., 1])

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return two to the power of the cross-entropy in bits."""

        def power(targets: np.ndarray, predictions: np.ndarray, classes: int) -> float:
            bits = sum(-nats / np.log(2) for nats, _ in predictions)
            return float(2 ** (bits / sum(tokens for _, tokens in predictions)))

        return power

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases by hand: one of 4 each time; and 3 tokens of two rows with 1/8 in all."""
        return [
            {"targets": [0], "predictions": [[2 * np.log(1 / 4), 2]], "classes": 0, "value": 4.0},
            {"targets": [0, 0], "predictions": [[np.log(1 / 8), 2], [0.0, 1]], "classes": 0, "value": 2.0},
        ]
