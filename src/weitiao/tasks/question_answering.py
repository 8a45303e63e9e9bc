"""The answer to a question, cut out of a text of any length, or word that there is none.

The model gives each token of a window (the question, and a part of the context) a logit s_i of starting the answer and
a logit e_j of ending it; both are learnt with the cross-entropy of the softmax over the window's context and its first
token, which stands for "no answer". The answer is the span of the largest s_i + e_j, i <= j < i + `max_answer_length`,
of all windows. There is none if the smallest s_0 + e_0 of any window is larger than that by more than a threshold,
which is tuned on dev. Confidence is the softmax over the best spans and "no answer".

Source: Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, 2018,
arXiv:1810.04805, sections 4.2 and 4.3; windows that hold no answer learn to say so: Clark and Gardner, Simple and
Effective Multi-Paragraph Reading Comprehension, 2017, arXiv:1710.10723 (the no-answer option); the threshold:
Rajpurkar et al., Know What You Don't Know: Unanswerable Questions for SQuAD, 2018, arXiv:1806.03822.
Differs: the threshold is the best for the share of characters that answer and reference have in common (an F1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Setting

from weitiao.data.fields import Field
from weitiao.data.table import Table
from weitiao.errors import DataError, ModelError
from weitiao.findings import Finding
from weitiao.plugins import Options
from weitiao.probability import softmax
from weitiao.tasks._answers import answer_findings, find_spans, read_answers
from weitiao.tasks._passages import Spans, aims, best_spans, cut_windows, pad_windows
from weitiao.tasks._texts import must_have
from weitiao.tasks.base import Prediction, Rows, Task, objects

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["AnswerPrediction", "QuestionAnswering"]

_QUESTION = Field("question", "text", True, ("question", "query", "问题", "提问", "问句"))
_CONTEXT = Field(
    "context", "text", True,
    ("context", "passage", "paragraph", "document", "article", "review", "text",
     "原文", "文章", "段落", "篇章", "上下文", "材料"),
)  # fmt: skip
_ANSWERS = Field("answers", "target", True, ("answers", "answer", "答案", "回答"))


@dataclass(frozen=True)
class AnswerPrediction(Prediction):
    """The text of an answer and its characters in the context, end exclusive; an empty text says there is none."""

    start: int | None = None
    end: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**super().to_json(), "start": self.start, "end": self.end}


class QuestionAnswering(Task):
    """Find the answer to a question in a text."""

    class Settings(Options):
        """How a context is read, and what counts as an answer."""

        stride: int = Setting(
            128, ge=1, description="tokens that two neighboring windows of a long context share; at most half a window"
        )
        max_answer_length: int = Setting(30, ge=1, description="tokens of the longest answer that is given")
        no_answer: Literal["auto"] | bool = Setting(
            "auto", description="whether a question may have no answer; auto: if training rows have none"
        )

    fields: ClassVar[tuple[Field, ...]] = (_QUESTION, _CONTEXT, _ANSWERS)
    metrics: ClassVar[tuple[str, ...]] = ("answer_f1", "exact_match")
    cuts_by_itself: ClassVar[bool] = True
    main_metric: ClassVar[str] = "answer_f1"
    gives: ClassVar[tuple[str, ...]] = ("texts",)
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "sliding_window")
    formats: ClassVar[tuple[str, ...]] = ("squad",)
    classes_are_targets: ClassVar[bool] = False  # each window has its own
    augments: ClassVar[bool] = False
    settings: Settings

    def learn(self, train: Table) -> None:
        """Keep whether a question may have no answer."""
        told = self.settings.no_answer
        any_empty = any(not read_answers(value) for value in train.column("answers"))
        self.state = {"no_answer": any_empty if told == "auto" else told}

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse rows with no answer that stands in the context, and those without answer if there has to be one."""
        if "answers" not in table.column_names:
            return {}
        reasons = {}
        for i, row in enumerate(table):
            answers = read_answers(row["answers"] or "[]")
            if not answers and self.settings.no_answer is False:
                reasons[i] = "has no answer, and no_answer is false"
            elif answers and not find_spans(row["context"], row["answers"]):
                reasons[i] = f"its answer does not stand in the context: {answers[0].text[:80]!r}"
        return reasons

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Say what is wrong with answers and their offsets, and which texts are long."""
        yield from answer_findings(self.name, tables)

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Cut each row into windows; `tokens_lost` says how much of a question was too long for half a window."""
        must_have(rows, ("question", "context"))
        texts = [[row[name] for row in rows] for name in ("question", "context")]
        windows = cut_windows(*texts, tokenizer=tokenizer, max_length=max_length, stride=self.settings.stride)
        for i, (row, own) in enumerate(zip(rows, windows, strict=True)):
            if row.get("answers") is not None:
                spans = find_spans(row["context"], row["answers"])
                if not spans and read_answers(row["answers"]):
                    raise DataError(
                        f"the answer does not stand in the context: {row['answers'][:80]!r}.",
                        where=f"row {i + 1}",
                        fix="Copy it from the context letter by letter.",
                    )
                for window, aim in zip(own, aims(own, spans[0] if spans else None), strict=True):
                    window["labels"] = list(aim)
        return [window for own in windows for window in own]

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad to the longest window: also ``can_be (windows, length)`` and ``labels (windows, 2)``."""
        return pad_windows(inputs, tokenizer)

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return the stock model for spans of this architecture."""
        from weitiao.models.heads import load_with_head
        from weitiao.models.parts import input_layers, new_parameters

        model = load_with_head(pretrained, "spans", labels=("start", "end"), seed=seed)
        of_layers = {id(p) for layer in input_layers(model) for p in layer.parameters()}
        missing = {name for name, p in model.named_parameters() if id(p) in of_layers} & new_parameters(model)
        if missing:
            raise ModelError(
                f"{pretrained.name} cannot find spans: {type(model).__name__} of transformers does not find "
                f"{len(missing)} of its weights ({min(missing)}, ...), and would start from nothing.",
                fix="Name another model, such as bert-base-chinese.",
            )
        return model

    def reopen(self, folder: Path) -> nn.Module:
        """Open a saved model for spans."""
        from weitiao.models.heads import open_with_head

        return open_with_head(folder, "spans")

    def model_inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what the model is called with."""
        return {key: value for key, value in batch.items() if key not in ("labels", "can_be")}

    def logits(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(2 * windows, length)``, start and end of each window; very negative where no answer can be."""
        import torch

        both = torch.stack([outputs.start_logits, outputs.end_logits], dim=1)  # (windows, 2, length)
        # finite, so that what is 0 times it is 0; within what float16 can say
        return both.masked_fill(~batch["can_be"][:, None], -1e4).flatten(0, 1)

    def targets(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return ``(2 * windows,)``, the tokens where the answers start and end."""
        return batch["labels"].flatten()

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum over starts and ends of the cross-entropy."""
        import torch

        return torch.nn.functional.cross_entropy(self.logits(outputs, batch), self.targets(batch), reduction="sum")

    def say(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Sequence[Any]:
        """Return the logits of start and end of each window, float32 ``(2, length)``."""
        import torch

        outputs = model(**self.model_inputs(batch))
        return list(torch.stack([outputs.start_logits, outputs.end_logits], dim=1).float().cpu().numpy())

    def join(self, said: Sequence[Any], inputs: Rows) -> Spans:
        """Return the best spans of all windows of a row."""
        return best_spans(said, inputs, self.settings.max_answer_length)

    def numbers(self, said: Spans) -> np.ndarray:
        """Return the logits of all tokens where an answer can be."""
        return said.logits.astype(np.float64)

    def truth(self, rows: Rows) -> np.ndarray:
        """Return the texts of each row's answers; none where there is no answer."""
        return objects(tuple(answer.text for answer in read_answers(row["answers"])) for row in rows)

    def calibrate(self, said: Sequence[Spans], rows: Rows) -> dict[str, float]:
        """Return by how much "no answer" has to score higher than any span to be said."""
        if not self.state["no_answer"]:
            return {}
        empty = np.array([not read_answers(row["answers"]) for row in rows], dtype=bool)
        if empty.all() or not empty.any():  # nothing to weigh against each other
            return {"no_answer_threshold": 0.0}
        shared = [_in_common(one, row) for one, row in zip(said, rows, strict=True)]
        return {"no_answer_threshold": _threshold(np.array([one.margin for one in said]), np.array(shared), empty)}

    def answer(self, said: Sequence[Spans], rows: Rows, calibration: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Return the text of each answer, as it stands in the context; empty if there is none."""
        return {"texts": objects(one.answer for one in self.decode(said, rows, calibration))}

    def decode(self, said: Sequence[Spans], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Return the likeliest answer to each question."""
        return [self._decode(one, row["context"], calibration) for one, row in zip(said, rows, strict=True)]

    def _decode(self, said: Spans, context: str, calibration: Mapping[str, float]) -> AnswerPrediction:
        scores = said.scores
        if self.state["no_answer"]:
            scores = np.append(scores, said.no_answer - calibration.get("no_answer_threshold", 0.0))
        if not len(scores):  # nothing but white space, to this tokenizer
            return AnswerPrediction("", 0.0)
        sure = softmax(scores[None])[0]
        best = int(scores.argmax())
        if best == len(said.places):
            return AnswerPrediction("", float(sure[best]))
        start, end = said.places[best].tolist()
        return AnswerPrediction(context[start:end], float(sure[best]), start, end)

    def right(self, targets: np.ndarray, answers: Any) -> np.ndarray:
        """Return whether each answer is one of the references, but for case and white space."""
        plain = [{" ".join(text.lower().split()) for text in references or ("",)} for references in targets]
        pairs = zip(plain, answers["texts"], strict=True)
        return np.array([" ".join(text.lower().split()) in references for references, text in pairs], dtype=bool)

    def shown(self, value: Any) -> str:
        """Return an answer, or all references."""
        texts = [value] if isinstance(value, str) else list(value)
        return " / ".join(filter(None, dict.fromkeys(texts))) or "(no answer)"

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return rows of both languages, one of several windows and two without answer."""
        hotel, phone = "the room is clean and the food is bad", "the screen is great"
        long = (
            "the staff of the hotel " * 15 + "is nice and good and the film is very cheap"
        )  # fills its windows of 64 tokens
        rows = [
            _tiny_row("how is the room", hotel, "clean"),
            _tiny_row("what is bad", hotel, "the food"),
            _tiny_row("how is the screen", phone, "great"),
            _tiny_row("where is my card", phone, ""),
            _tiny_row("how is the battery", "my battery is very slow", "very slow"),
            _tiny_row("房间怎么样", "房间很干净。", "很干净"),
            _tiny_row("服务怎么样", "我讨厌酒店，服务太慢。", "太慢"),
            _tiny_row("价格怎么样", "早餐不错", ""),
            _tiny_row("how is the film", long, "cheap"),
        ]
        variants: list[dict[str, Any]] = [{"stride": 8}, {"max_answer_length": 1}, {"no_answer": False}]
        return {"rows": rows, "settings": {}, "variants": variants}


def _tiny_row(question: str, context: str, answer: str) -> dict[str, str]:
    import json

    answers = [{"text": answer, "start": context.rindex(answer)}] if answer else []
    return {"question": question, "context": context, "answers": json.dumps(answers, ensure_ascii=False)}


def _in_common(said: Spans, row: Mapping[str, Any]) -> float:
    """Return the F1 of the characters of the best span and of the reference it shares most with."""
    if not len(said.places):
        return 0.0
    start, end = said.places[0].tolist()
    spans = find_spans(row["context"], row["answers"])
    return max((2 * max(0, min(end, b) - max(start, a)) / (end - start + b - a) for a, b in spans), default=0.0)


def _threshold(margins: np.ndarray, shared: np.ndarray, empty: np.ndarray) -> float:
    """Return the threshold x of the largest mean: rows with a margin over x get no answer, the others their best span.

    Parameters
    ----------
    margins
        Of each row, ``(rows,)``.
    shared, empty
        What its best span is worth, and whether "no answer" is right.
    """
    order = np.argsort(margins, kind="stable")
    margins, shared, empty = margins[order], shared[order], empty[order]
    # entry k: the first k rows are answered, the others not
    worth = np.append(0, np.cumsum(shared)) + np.append(np.cumsum(empty[::-1])[::-1], 0)
    edges = np.concatenate([[margins[0] - 1], (margins[1:] + margins[:-1]) / 2, [margins[-1] + 1]])
    splits = np.concatenate([[True], margins[1:] > margins[:-1], [True]])  # equal margins are not told apart
    best = np.flatnonzero(splits & (worth >= worth[splits].max() - 1e-9))
    return float(edges[best[np.abs(edges[best]).argmin()]])  # the one nearest to none at all
