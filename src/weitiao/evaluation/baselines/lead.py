"""Take the first sentences of a text for its summary: hard to beat on news.

Three of them, or fewer if they have more words than the summaries of the training rows on average.

Source: Nenkova, Automatic text summarization of newswire: lessons learned from the Document Understanding Conference,
2005; three sentences: See et al., Get To The Point, 2017, arXiv:1704.04368.
Differs: no longer than training summaries are, for those of one sentence.
"""

from __future__ import annotations

from typing import Any

from weitiao.data.sentences import as_text, sentences, words
from weitiao.evaluation.baselines.base import Baseline, Told
from weitiao.tasks.base import objects

_SENTENCES = 3


class Lead(Baseline):
    """What can be had by cutting the text off."""

    title, title_zh = "the first sentences", "开头几句"
    fits = ("texts",)

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Return the first sentence of each row, and two more while they are no longer than summaries usually are."""
        lengths = [len(words(references[0])) for references in told.train_targets]
        usual = sum(lengths) / max(1, len(lengths))
        said = [_lead(as_text(row[0]), usual) for row in told.texts(told.test)]
        return {"texts": objects(said)}, f"The first {_SENTENCES} sentences, or {usual:.0f} words."

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return texts that begin with what they say."""
        rows = [{"text": f"Unit {i} failed. Nobody knows why it did so. It rains.", "summary": f"Unit {i} failed."}
                for i in range(8)]  # fmt: skip
        return {"task": "summarization", "train": rows, "test": rows, "least": 1.0}


def _lead(text: str, usual: float) -> str:
    taken: list[str] = []
    for sentence in sentences(text)[:_SENTENCES]:
        if taken and sum(len(words(one)) for one in (*taken, sentence)) > usual:
            break
        taken.append(sentence)
    return " ".join(taken)
