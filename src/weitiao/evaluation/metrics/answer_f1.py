"""Answer F1: how much of an answer and of its best reference is in common, averaged over questions.

By SQuAD's rules: the F-measure of words, without case, punctuation and articles, in any order. Where most words of
the references are Chinese, by CMRC 2018's: that of the longest run of segments (characters, and words between
them) that both contain. References that are empty, or become so, say that there is no answer: 1 for an empty
prediction and else 0.

Source: Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016, arXiv:1606.05250, and
Rajpurkar et al., Know What You Don't Know, 2018, arXiv:1806.03822 (no answer); Cui et al., A Span-Extraction Dataset
for Chinese Machine Reading Comprehension, 2019, arXiv:1810.07366.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from weitiao.evaluation.metrics._texts import AnswerMean, answers, cmrc_normal, cmrc_segments, squad_normal


class AnswerF1(AnswerMean):
    """F-measure of what an answer shares with its best reference; an answer a little too long still counts."""

    title, title_zh = "answer F1", "答案 F1"

    def squad(self, references: tuple[str, ...], prediction: str) -> float:
        """Return the best F-measure of shared words."""
        said = squad_normal(prediction).split()
        wanted = [form.split() for form in answers(references, squad_normal)]
        return max(_f1((Counter(said) & Counter(form)).total(), said, form) for form in wanted)

    def cmrc(self, references: tuple[str, ...], prediction: str) -> float:
        """Return the best F-measure of the longest shared run of segments."""
        said = cmrc_segments(prediction)
        wanted = [cmrc_segments(form) for form in answers(references, cmrc_normal)]
        return max(_f1(_longest_run(said, form), said, form) for form in wanted)

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases by hand: 2 words of 3 and 2, rightly and wrongly nothing; a run of 2 segments of 4 and 3."""
        return [
            {
                "targets": [("the Eiffel Tower", "a tower in Paris"), (), ("",)],
                "predictions": ["tall Tower Eiffel", "", "Paris"], "classes": 0, "value": (0.8 + 1 + 0) / 3,
            },
            {
                "targets": [("1998年，春",), ("北京",)], "predictions": ["春在1998年", "南"],
                "classes": 0, "value": 2 * 2 / (3 + 4) / 2,
            },
        ]  # fmt: skip


def _f1(common: int, said: list[str], wanted: list[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    return 2 * common / (len(said) + len(wanted))


def _longest_run(left: list[str], right: list[str]) -> int:
    best, above = 0, [0] * (len(right) + 1)
    for token in left:
        # entry j + 1: how long a common run ends at this token of the left and at entry j of the right
        above = [0, *(above[j] + 1 if token == other else 0 for j, other in enumerate(right))]
        best = max(best, *above)
    return best
