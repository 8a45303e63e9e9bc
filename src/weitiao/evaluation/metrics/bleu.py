"""BLEU: how many n-grams of the predictions are in a reference, over the whole corpus, less a penalty for brevity.

    BLEU = 100 exp(min(0, 1 - r / c)) (p1 p2 p3 p4)^(1/4)

with p_n the share of n-grams that are matched, c the length of all predictions and r that of the references
closest to them in length. As sacreBLEU computes it by default: case kept, its ``13a`` tokenizer (its ``zh``
one where most words of the references are Chinese), and exponential smoothing where nothing of an order matches.
Comparable with scores published by sacreBLEU, not with those of pre-tokenized text.

Source: Papineni et al., BLEU: a Method for Automatic Evaluation of Machine Translation, 2002; Post, A Call for
Clarity in Reporting BLEU Scores, 2018, arXiv:1804.08771 (sacreBLEU).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._texts import is_chinese, references_of, streams
from weitiao.evaluation.metrics.base import Summed


class Bleu(Summed):
    """Share of n-grams up to 4 that a reference has, from 0 to 100: blind to meaning, so compare like with like."""

    title, title_zh = "BLEU", "BLEU"
    needs = "texts"
    range = (0.0, 100.0)

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return each row's length, its reference's, and the matched and all n-grams of four orders."""
        scorer = _scorer(targets)
        rows = np.zeros((len(targets), 10))
        for i, (references, prediction) in enumerate(zip(targets, predictions, strict=True)):
            found = scorer.corpus_score([prediction], [[text] for text in references_of(references)])
            rows[i] = [found.sys_len, found.ref_len, *found.counts, *found.totals]
        return rows

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return sacreBLEU's score of the summed counts."""
        from sacrebleu.metrics.bleu import BLEU

        def score(one: np.ndarray) -> float:
            said, wanted, *counts = one.tolist()
            found = BLEU.compute_bleu(counts[:4], counts[4:], said, wanted, smooth_method="exp")
            return min(found.score, 100.0)  # exp(log(100)) is a little more than 100

        return np.apply_along_axis(score, -1, np.rint(sums).astype(np.int64))

    @classmethod
    def reference(cls) -> Callable[[np.ndarray, np.ndarray, int], float]:
        """Return sacreBLEU's score of the corpus."""
        return lambda targets, predictions, classes: (
            _scorer(targets).corpus_score(list(predictions), streams(targets)).score
        )

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases by hand: precisions 4/5, 3/4, 2/3, 1/2; and the same in Chinese."""
        return [
            {
                "targets": [("a b c d e",)], "predictions": ["a b c d f"], "classes": 0,
                "value": 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25,
            },
            {
                "targets": [("今天天气很好",), ("我们走吧", "走")], "predictions": ["今天天气很好", "我们走吧"],
                "classes": 0, "value": 100.0,
            },
        ]  # fmt: skip


def _scorer(targets: np.ndarray) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize="zh" if is_chinese(targets) else "13a", force=True)  # force: no word on " ." at line ends
