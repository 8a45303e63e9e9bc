"""Exact match: the share of answers that equal one of the references, but for case and punctuation.

By SQuAD's rules (also articles and spaces are left out), or CMRC 2018's where most words of the references are
Chinese. References that are empty, or become so, say that there is no answer: right is only an empty prediction.

Source: Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016, arXiv:1606.05250, and
Rajpurkar et al., Know What You Don't Know, 2018, arXiv:1806.03822 (no answer); Cui et al., A Span-Extraction Dataset
for Chinese Machine Reading Comprehension, 2019, arXiv:1810.07366.
"""

from __future__ import annotations

from typing import Any

from weitiao.evaluation.metrics._texts import AnswerMean, answers, cmrc_normal, squad_normal


class ExactMatch(AnswerMean):
    """Share of answers that say the same as a reference; an answer one word too long counts nothing."""

    title, title_zh = "exact match", "完全匹配"

    def squad(self, references: tuple[str, ...], prediction: str) -> float:
        """Return 1 where the normal forms are equal."""
        return float(squad_normal(prediction) in answers(references, squad_normal))

    def cmrc(self, references: tuple[str, ...], prediction: str) -> float:
        """Return 1 where the normal forms are equal."""
        return float(cmrc_normal(prediction) in answers(references, cmrc_normal))

    @classmethod
    def tiny(cls) -> list[dict[str, Any]]:
        """Return cases by hand: right, wrong, right to say nothing, wrong to say something; and Chinese."""
        return [
            {
                "targets": [("the U.S.", "America"), ("1998",), (), ("",)],
                "predictions": ["us", "in 1998", "", "Paris"], "classes": 0, "value": 0.5,
            },
            {
                "targets": [("《红楼梦》",), ("北京",), ("IBM",)], "predictions": ["红楼梦。", "北京市", "ibm"],
                "classes": 0, "value": 2 / 3,
            },
        ]  # fmt: skip
