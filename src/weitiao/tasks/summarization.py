"""A short text that says what a long one says.

What was written is compared with the text that was read: words and numbers that stand nowhere in it come with the
answer as a warning, for they may be made up.

Source: Rush et al., A Neural Attention Model for Abstractive Sentence Summarization, 2015, arXiv:1509.00685; coverage
and density: Grusky et al., Newsroom, 2018, arXiv:1804.11283; the prefix: Raffel et al., Exploring the Limits of
Transfer Learning with a Unified Text-to-Text Transformer, 2019, arXiv:1910.10683.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field as Setting

from weitiao.data.checks.base import excerpt, num_rows, of, places, share
from weitiao.data.fields import Field
from weitiao.data.sentences import as_text, words
from weitiao.data.table import Table
from weitiao.findings import Finding
from weitiao.tasks._extracts import Extract, extract
from weitiao.tasks._writing import Writing, WritingSettings, first_reference
from weitiao.tasks.base import Prediction, Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["Summarization", "SummaryPrediction"]

_LOW = 0.5  # coverage under which most of a summary is not in its text
_LOOKED_AT = 2000  # rows of a split that are compared with their texts


@dataclass(frozen=True, init=False)
class SummaryPrediction(Prediction):
    """A summary, and how far the text bears it out."""

    coverage: float
    warning: str | None

    def __init__(self, text: str, found: Extract) -> None:
        super().__init__(text)
        object.__setattr__(self, "coverage", found.coverage)
        object.__setattr__(self, "warning", _warning(found))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        warned = {} if self.warning is None else {"warning": self.warning}
        return {**super().to_json(), "coverage": self.coverage, **warned}


def _warning(found: Extract) -> str | None:
    said = []
    if found.novel_numbers:
        said.append(f"numbers that are not in the text: {', '.join(found.novel_numbers)}")
    others = [word for word in found.novel if word not in found.novel_numbers]
    if others:
        said.append(f"words that are not in the text: {', '.join(others[:10])}{'…' if len(others) > 10 else ''}")
    return "; ".join(said) or None


class Summarization(Writing):
    """Write a summary of a text."""

    class Settings(WritingSettings):
        """How long a summary is, how it is asked for, and searched for."""

        max_words: int | None = Setting(
            None, ge=1, description="words (of Chinese: characters) at most, as the prompt and the search are told"
        )

    settings: Settings
    target: ClassVar[str] = "summary"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", "text", True, ("text", "document", "article", "source", "abstract", "body", "content", "正文",
                                     "原文", "文章", "内容")),
        Field("summary", "target", True, ("summary", "target", "summaries", "highlights", "tldr", "title", "headline",
                                          "摘要", "标题", "概要")),
    )  # fmt: skip
    metrics: ClassVar[tuple[str, ...]] = ("rouge_l", "rouge1", "rouge2", "perplexity")
    main_metric: ClassVar[str] = "rouge_l"
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "lead")

    @property
    def long(self) -> str:
        """The field that loses its end where a row is too long."""
        return "text"

    def template(self) -> str:
        """Return a sentence in the language of the texts."""
        most = self.settings.max_words
        if self.state["chinese"]:
            return f"{{text}}\n{f'用不超过{most}个字概括' if most else '概括'}："
        return f"{{text}}\nSummary{f' in at most {most} words' if most else ''}:"

    def prefixed(self) -> str:
        """Return the prefix that T5 was pretrained with."""
        return "summarize: {text}"

    def meet(self, pretrained: Pretrained) -> None:
        """Also find out how many tokens the words of a summary are."""
        from weitiao.models.load import load_tokenizer

        super().meet(pretrained)
        most = self.settings.max_words
        if most is None or self.settings.max_new_tokens is not None:
            return
        count = sum(len(words(text)) for text in self._longest)
        each = sum(self.count_tokens(load_tokenizer(pretrained), self._longest)) / count if count else 2.0
        self.state["max_new_tokens"] = min(self.state["max_new_tokens"], math.ceil(each * most) + 1)

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Also read a text that is given as a list of sentences."""
        return super().encode([_joined(row) for row in rows], tokenizer, max_length)

    def decode(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Return the summaries, with what in them the texts do not have."""
        pairs = zip(said, rows, strict=True)
        return [SummaryPrediction(one.text, extract(as_text(row["text"]), one.text)) for one, row in pairs]

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Find summaries that are longer than their texts, copies of them, or not about them."""
        for split, table in tables.items():
            if "summary" not in table.column_names or not len(table):
                continue
            rows = table.column("text")[:_LOOKED_AT], table.column("summary")[:_LOOKED_AT]
            pairs = [(as_text(str(text or "")), first_reference(value)) for text, value in zip(*rows, strict=True)]
            found = [extract(*pair) for pair in pairs]
            yield from _too_long(table, split, pairs)
            yield from _copied(table, split, pairs)
            yield from _not_in_text(table, split, pairs, found)
            yield _statistics(split, found)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return eight texts and what they come to."""
        pairs = {
            "the room is clean and the hotel is great": "great hotel", "the food is bad and cold": "bad food",
            "i like the film and the book": "i like it", "the service is very slow": "slow service",
            "the phone is broken and the battery is dead": "broken phone", "it was cheap and good": "cheap",
            "i hate the staff": "bad staff", "the order arrived very late": "late",
        }  # fmt: skip
        rows = [{"text": text, "summary": summary} for text, summary in pairs.items()]
        return {
            "rows": rows,
            "settings": {},
            "variants": [{"max_words": 1}, *cls.tiny_variants("text")],
            "family": "gpt2",
        }


def _joined(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**row, "text": as_text(row["text"])} if isinstance(row.get("text"), str) else row


def _too_long(table: Table, split: str, pairs: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    wrong = [i for i, (text, summary) in enumerate(pairs) if len(summary.strip()) > len(text.strip())]
    if wrong:
        yield Finding(
            "long_summaries",
            "warning",
            f"{num_rows(len(wrong), split, among=len(pairs))} ({share(len(wrong), len(pairs))}) have a summary that is "
            "longer than the text.",
            "See whether the columns are swapped, or the texts were cut off.",
            places=places(table, wrong),
            count=len(wrong),
            evidence={"examples": [{"text": excerpt(pairs[i][0]), "summary": excerpt(pairs[i][1])} for i in wrong[:5]]},
        )


def _copied(table: Table, split: str, pairs: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    flat = [(" ".join(text.split()), " ".join(summary.split())) for text, summary in pairs]
    wrong = [i for i, (text, summary) in enumerate(flat) if summary and summary in text]
    if wrong:
        yield Finding(
            "copied_summaries",
            "info",
            f"{num_rows(len(wrong), split, among=len(pairs))} ({share(len(wrong), len(pairs))}) have a summary that "
            "stands word for word in the text.",
            "Nothing to do if summaries are meant to be extracts; if not, a model learns to copy.",
            places=places(table, wrong),
            count=len(wrong),
            evidence={"examples": [{"summary": excerpt(pairs[i][1])} for i in wrong[:5]]},
        )


def _not_in_text(
    table: Table, split: str, pairs: Sequence[tuple[str, str]], found: Sequence[Extract]
) -> Iterator[Finding]:
    wrong = [i for i, one in enumerate(found) if one.coverage < _LOW]
    numbers = sum(bool(one.novel_numbers) for one in found)
    if not wrong and not numbers:
        return
    yield Finding(
        "invented_content",
        "warning" if len(wrong) + numbers >= 0.05 * len(pairs) else "info",
        f"{num_rows(len(wrong), split, among=len(pairs))} ({share(len(wrong), len(pairs))}) have a summary of which "
        f"most words are not in the text, and {numbers:,} have a number that is not: a model learns from them to make "
        "up what it has not read.",
        "See whether texts were cut off before what the summary is about; take out what no text bears out.",
        places=places(table, wrong),
        count=len(wrong),
        evidence={
            "with_new_numbers": numbers,
            "examples": [
                {"text": excerpt(pairs[i][0]), "summary": excerpt(pairs[i][1]), "coverage": round(found[i].coverage, 3)}
                for i in sorted(wrong, key=lambda i: found[i].coverage)[:5]
            ],
        },
    )


def _statistics(split: str, found: Sequence[Extract]) -> Finding:
    coverage = float(np.mean([one.coverage for one in found]))
    density = float(np.mean([one.density for one in found]))
    return Finding(
        "extractiveness",
        "info",
        f"{coverage:.0%} of the words of summaries{of(split)} are in their texts, in runs of "
        f"{density:.1f} words on average (coverage and density).",
        "Nothing to do: runs of ten words and more are extracts, of one or two are the author's own words.",
        count=len(found),
        evidence={"coverage": coverage, "density": density},
    )
