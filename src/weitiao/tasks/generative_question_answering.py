"""An answer in the model's own words, from a context or from what it knows.

Source: Radford et al., Language Models are Unsupervised Multitask Learners, 2019 (a decoder that is given context and
question); Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, 2019,
arXiv:1910.10683 (T5's words for it); Roberts et al., How Much Knowledge Can You Pack Into the Parameters of a Language
Model?, 2020, arXiv:2002.08910 (without a context).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from weitiao.data.checks.base import excerpt, num_rows, places, share
from weitiao.data.fields import Field
from weitiao.data.near import normalise
from weitiao.data.table import Table
from weitiao.findings import Finding
from weitiao.tasks._writing import Writing, WritingSettings, references

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["GenerativeQuestionAnswering"]


class GenerativeQuestionAnswering(Writing):
    """Write the answer to a question; a row without an answer (an empty list) is answered with nothing."""

    class Settings(WritingSettings):
        """How an answer is asked for, and searched for."""

    settings: Settings
    target: ClassVar[str] = "answers"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("question", "text", True, ("question", "query", "instruction", "prompt", "input", "问题", "提问", "问")),
        Field("context", "text", False, ("context", "passage", "paragraph", "document", "background", "上下文", "材料",
                                         "背景", "段落")),
        Field("answers", "target", True, ("answers", "answer", "response", "output", "target", "回答", "答案", "答")),
    )  # fmt: skip
    formats: ClassVar[tuple[str, ...]] = ("squad",)
    metrics: ClassVar[tuple[str, ...]] = ("answer_f1", "exact_match", "perplexity")
    main_metric: ClassVar[str] = "answer_f1"

    @property
    def long(self) -> str:
        """The field that loses its end where a row is too long: the context, if there is one."""
        return "context" if "context" in self.state["read"] else "question"

    def template(self) -> str:
        """Return words in the language of what is read."""
        has_context = self.long == "context"
        if self.state["chinese"]:
            return "材料：{context}\n问：{question}\n答：" if has_context else "问：{question}\n答："
        asked = "Question: {question}\nAnswer:"
        return f"Context: {{context}}\n{asked}" if has_context else asked

    def prefixed(self) -> str:
        """Return the words that T5 was pretrained with."""
        return "question: {question} context: {context}" if self.long == "context" else "question: {question}"

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Take every row: no answer is an answer, too."""
        return {}

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Find answers that their contexts do not hold."""
        for split, table in tables.items():
            if not {"context", "answers"} <= set(table.column_names) or not len(table):
                continue
            contexts, answers = table.column("context"), [references(v) for v in table.column("answers")]
            wrong = [
                i
                for i, (context, several) in enumerate(zip(contexts, answers, strict=True))
                if any(several) and not any(normalise(one) in normalise(str(context or "")) for one in several if one)
            ]
            if wrong:
                yield Finding(
                    "answer_not_in_context",
                    "info",
                    f"{num_rows(len(wrong), split, among=len(table))} ({share(len(wrong), len(table))}) have an answer "
                    "that does not stand in the context.",
                    "Nothing to do if answers are in people's own words; if they are extracts, see what was cut off.",
                    places=places(table, wrong),
                    count=len(wrong),
                    evidence={
                        "examples": [
                            {"question": excerpt(str(table.column("question")[i])), "answer": excerpt(answers[i][0])}
                            for i in wrong[:5]
                        ]
                    },
                )

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return eight questions about short texts."""
        texts = {
            "the room is good": ("how is the room", "good"), "the food is bad": ("how is the food", "bad"),
            "the film is great": ("what is great", "film"), "the card is lost": ("what is lost", "card"),
            "i like the book": ("what do i like", "book"), "it is cheap": ("is it cheap", "yes"),
            "房间很好": ("房间怎么", "好"), "it is slow": ("where is it", ""),
        }  # fmt: skip
        rows = [
            {"question": question, "context": context, "answers": answer or "[]"}
            for context, (question, answer) in texts.items()
        ]
        return {"rows": rows, "settings": {}, "variants": cls.tiny_variants("context"), "family": "gpt2"}
