"""chrF: the F-measure of character n-grams up to 6, over the whole corpus, with recall counting twice.

With P and R the precision and recall of n-grams, averaged over the orders that occur on both sides,

    chrF2 = 100 (1 + 4) P R / (4 P + R)

Spaces are left out. It needs no words, so it is the same measure for Chinese and for rich inflection. Of several
references, a row is counted against the one it is closest to. Equal to sacreBLEU's chrF2 by default.

Source: Popović, chrF: character n-gram F-score for automatic MT evaluation, 2015; chrF deconstructed, 2016 (that
recall counts twice); Post, A Call for Clarity in Reporting BLEU Scores, 2018, arXiv:1804.08771 (sacreBLEU).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import divide
from weitiao.evaluation.metrics._texts import ngrams, references_of, streams
from weitiao.evaluation.metrics.base import Summed

_ORDERS = range(1, 7)
_BETA_SQUARED = 4


class Chrf(Summed):
    """Overlap of characters in runs up to 6, from 0 to 100; kinder than BLEU to a right word in a wrong form."""

    title, title_zh = "chrF", "chrF"
    needs = "texts"
    range = (0.0, 100.0)

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return each row's n-grams, its reference's, and those in common, of each order in turn."""
        rows = zip(targets, predictions, strict=True)
        return np.array([self._best(references_of(t), p) for t, p in rows]).reshape(-1, 3 * len(_ORDERS))

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return the F-measure of the averaged precisions and recalls."""
        said, wanted, common = (sums[..., k::3] for k in range(3))
        both = (said > 0) & (wanted > 0)
        orders = both.sum(axis=-1).astype(np.float64)
        precision = divide((divide(common, said) * both).sum(axis=-1), orders)
        recall = divide((divide(common, wanted) * both).sum(axis=-1), orders)
        return 100 * divide((1 + _BETA_SQUARED) * precision * recall, _BETA_SQUARED * precision + recall)

    def _best(self, references: tuple[str, ...], prediction: str) -> np.ndarray:
        said = _characters(prediction)
        rows = np.array([_compare(said, _characters(reference)) for reference in references])
        return rows[0] if len(rows) == 1 else rows[int(np.argmax(self.of(rows)))]

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return sacreBLEU's score of the corpus."""
        from sacrebleu.metrics.chrf import CHRF

        return lambda targets, predictions, classes: CHRF().corpus_score(list(predictions), streams(targets)).score

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases by hand: precision 1 and recall 1/2 of one order; and a space that makes no difference."""
        return [
            {"targets": [("ab",)], "predictions": ["a"], "classes": 0, "value": 100 * 5 * 0.5 / 4.5},
            {"targets": [("小猫",), ("狗", "小狗")], "predictions": ["小 猫", "小狗"], "classes": 0, "value": 100.0},
        ]


def _characters(text: str) -> list[Counter[Any]]:
    joined = "".join(text.split())
    return [ngrams(joined, n) for n in _ORDERS]


def _compare(said: list[Counter[Any]], wanted: list[Counter[Any]]) -> list[float]:
    # what is said counts nothing where the reference has no n-gram of that order, as in sacreBLEU
    return [
        float(count)
        for ours, theirs in zip(said, wanted, strict=True)
        for count in (ours.total() if theirs else 0, theirs.total(), (ours & theirs).total())
    ]
