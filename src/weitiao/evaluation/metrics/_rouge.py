"""What the ROUGE metrics share: the F-measure of an overlap, the best reference, and Google's implementation.

Source: Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004; Hyyrö, Bit-Parallel LCS-length
Computation Revisited, 2004 (`common_subsequence`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from weitiao.evaluation.metrics._texts import RowMean, ngrams, references_of, words

__all__ = ["Rouge", "RougeN", "common_subsequence", "google"]


class Rouge(RowMean):
    """F-measure of what a text and its best reference have in common, averaged over rows."""

    def overlap(self, reference: list[str], prediction: list[str]) -> tuple[int, int, int]:
        """Return how many units are in common, in the reference, and in the prediction."""
        raise NotImplementedError

    def row(self, references: tuple[str, ...], prediction: str) -> float:
        """Return the best reference's F-measure."""
        said = words(prediction)
        return max(_f_measure(*self.overlap(words(reference), said)) for reference in references)


class RougeN(Rouge):
    """ROUGE of n-grams: each counts as often as it occurs on both sides."""

    n: int

    def overlap(self, reference: list[str], prediction: list[str]) -> tuple[int, int, int]:
        """Return the numbers of n-grams: in common, in the reference, in the prediction."""
        ours, theirs = ngrams(prediction, self.n), ngrams(reference, self.n)
        return (ours & theirs).total(), theirs.total(), ours.total()


def _f_measure(common: int, wanted: int, said: int) -> float:
    return 2 * common / (wanted + said) if common else 0.0


def common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, a row of the table at a time as bits of one integer."""
    places: dict[str, int] = {}
    for i, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << i
    full = (1 << len(left)) - 1
    row = full  # a zero bit is a step up of the table's row
    for token in right:
        shared = row & places.get(token, 0)
        row = ((row + shared) | (row - shared)) & full
    return len(left) - row.bit_count()


def google(kind: str) -> Callable[[np.ndarray, np.ndarray, int], float]:
    """Return the mean F-measure of Google's ``rouge_score``, whose tokenizer is given our words.

    That ours are its own on English is a test of its own; on Chinese, its own finds no word at all.
    """
    from rouge_score.rouge_scorer import RougeScorer  # pyright: ignore[reportMissingImports]

    class Ours:
        def tokenize(self, text: str) -> list[str]:
            return words(text)

    scorer = RougeScorer([kind], tokenizer=Ours())

    def mean(targets: np.ndarray, predictions: np.ndarray, classes: int) -> float:
        rows = zip(targets, predictions, strict=True)
        return float(np.mean([scorer.score_multi(references_of(t), p)[kind].fmeasure for t, p in rows]))

    return mean
