"""A text and the one that belongs to it: a question and its answer, a query and its document, found among many.

Both are read apart by one encoder (a bi-encoder), each to a vector of length 1, so that texts can be read once and
searched often. For a batch of pairs with vectors q_i and d_j, the loss of row i is that of a classifier that has to
tell its own text from those of the other rows:

    -log( exp(c * q_i d_i) / sum_j exp(c * q_i d_j) )

c is `scale`. A text that equals the row's own is left out of the sum: it is no wrong answer. As the other rows of the
batch are the wrong answers, a step can neither be cut nor shared, and a larger batch_size is a harder task.

Measured on all different second texts of the rows that are measured.

Source: Henderson et al., Efficient Natural Language Response Suggestion for Smart Reply, 2017, arXiv:1705.00652,
section 4.4 (the other rows as wrong answers); Reimers and Gurevych, Sentence-BERT, 2019, arXiv:1908.10084 (mean
pooling; c = 20 is that of sentence-transformers).
Differs: equal texts in a batch are no wrong answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from weitiao.data.fields import TEXT, TEXT_PAIR, Field
from weitiao.data.table import Table
from weitiao.tasks._bi_encoder import BiEncoder
from weitiao.tasks._ranks import RELEVANT, unrelated

__all__ = ["Retrieval"]


class Retrieval(BiEncoder):
    """Find the text that belongs to a text among many."""

    fields: ClassVar[tuple[Field, ...]] = (
        TEXT,
        replace(TEXT_PAIR, required=True),
        RELEVANT,
    )

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse pairs that are labeled as not belonging together."""
        return unrelated(table)

    def pairs(self, row: Mapping[str, Any]) -> list[tuple[str, str | None]]:
        """Return the row's two texts; the second may be missing."""
        return [(row["text"], row.get("text_pair"))]

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return eight questions with their answers."""
        pairs = [
            ("where is my card", "the card arrived"),
            ("how to pay", "money transfer"),
            ("is the room clean", "the room is clean"),
            ("房间干净吗", "房间很干净"),
            ("早餐好吃吗", "早餐非常好"),
            ("价格贵吗", "价格便宜"),
            ("phone broken", "the screen is broken"),
            ("film or book", "the book is great"),
        ]
        rows = [{"text": first, "text_pair": second} for first, second in pairs]
        return {"rows": rows, "settings": {}, "variants": [{"scale": 5.0}]}
