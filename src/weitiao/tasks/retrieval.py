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

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field as Setting

from weitiao.data.fields import TEXT, TEXT_PAIR, Field
from weitiao.data.table import Table
from weitiao.errors import RecipeError
from weitiao.plugins import Options
from weitiao.tasks._ranks import candidates, ranks
from weitiao.tasks._texts import pad, tokenize
from weitiao.tasks.base import Prediction, Rows, Task, objects

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["Retrieval"]

_NO = frozenset({"0", "0.0", "false", "no", "否"})


class Retrieval(Task):
    """Find the text that belongs to a text among many."""

    class Settings(Options):
        """How sharply texts are told apart."""

        scale: float = Setting(20.0, gt=0, description="cosines are multiplied by it before the softmax")

    fields: ClassVar[tuple[Field, ...]] = (
        TEXT,
        replace(TEXT_PAIR, required=True),
        Field("label", "target", False, ("label", "relevance", "relevant", "is_duplicate", "标签")),
    )
    metrics: ClassVar[tuple[str, ...]] = ("mrr", "recall_at_1", "recall_at_10", "ndcg_at_10")
    main_metric: ClassVar[str] = "mrr"
    gives: ClassVar[tuple[str, ...]] = ("ranks",)
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "bm25")
    classes_are_targets: ClassVar[bool] = False
    one_sequence: bool = False
    couples_rows: ClassVar[bool] = True
    has_new_head: ClassVar[bool] = False
    settings: Settings

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse pairs that are labeled as not belonging together."""
        if "label" not in table.column_names:
            return {}
        wrong = (i for i, label in enumerate(table.column("label")) if str(label).strip().lower() in _NO)
        return dict.fromkeys(wrong, "a pair that does not belong together: retrieval learns from those that do")

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Tokenize each text by itself; one that is too long loses its end. A row may lack the second text."""
        encoded = tokenize(rows, ("text",), tokenizer, max_length)
        if not rows or "text_pair" not in rows[0]:
            return encoded
        for row, pair in zip(encoded, tokenize(rows, ("text_pair",), tokenizer, max_length), strict=True):
            row["tokens_lost"] += pair.pop("tokens_lost")
            row["pair"] = pair
        return encoded

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad all first texts, then all second ones: ``input_ids (2 rows, length)``.

        ``labels (rows,)`` numbers the second texts; equal ones have one number.
        """
        import torch

        firsts = [{key: value for key, value in row.items() if key != "pair"} for row in inputs]
        if "pair" not in inputs[0]:
            return pad(firsts, tokenizer)
        numbers: dict[tuple[int, ...], int] = {}
        own = [numbers.setdefault(tuple(row["pair"]["input_ids"]), len(numbers)) for row in inputs]
        return pad([*firsts, *(row["pair"] for row in inputs)], tokenizer) | {"labels": torch.tensor(own)}

    # --- model and loss ---

    def build(self, pretrained: Pretrained, *, pooling: str, dropout: float | None, seed: int) -> nn.Module:
        """Return the encoder, with a vector of length 1 a text."""
        from weitiao.models.embedder import load_embedder

        if dropout is not None:
            raise RecipeError("model.dropout has no effect: there is no head.", fix="Leave it out.")
        return load_embedder(pretrained, pooling=pooling, seed=seed)

    def reopen(self, folder: Path) -> nn.Module:
        """Open a saved encoder."""
        from weitiao.models.embedder import open_embedder

        return open_embedder(folder)

    def logits(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return each query's scaled cosine with each second text, ``(rows, rows)``; of copies of its own, -inf."""
        import torch

        vectors = outputs.pooler_output.float() if outputs.pooler_output.itemsize < 4 else outputs.pooler_output
        queries, texts = vectors.chunk(2)
        numbers = batch["labels"]
        copies = (numbers[:, None] == numbers) & ~torch.eye(len(numbers), dtype=torch.bool, device=numbers.device)
        return (self.settings.scale * queries @ texts.T).masked_fill(copies, float("-inf"))

    def targets(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the place of each row's own text in the batch, ``(rows,)``."""
        import torch

        return torch.arange(len(batch["labels"]), device=batch["labels"].device)

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum over rows of the cross-entropy of the row's own text."""
        return -self.logits(outputs, batch).log_softmax(-1).diagonal().sum()

    # --- answers ---

    def say(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Sequence[Any]:
        """Return the vectors of each row's texts, ``(texts, hidden)``: of two, or of the only one."""
        vectors = model(**self.model_inputs(batch)).pooler_output.float().cpu().numpy()
        parts = np.split(vectors, 2) if "labels" in batch else [vectors]
        return list(np.stack(parts, axis=1))

    def truth(self, rows: Rows) -> np.ndarray:
        """Return what a perfect search gives for each row, ``(rows,)``: all that belongs to it, before all else."""
        return objects((1.0,) * len(own) for own in candidates(rows)[1])

    def answer(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Return the relevances of the best candidates of each row, best first."""
        documents, relevant = candidates(rows)
        places = {row["text_pair"]: i for i, row in enumerate(rows)}
        queries = np.array([one[0] for one in said])
        texts = np.array([said[places[document]][1] for document in documents])
        return {"ranks": ranks(lambda some: queries[some] @ texts.T, relevant, len(documents))}

    def decode(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Return the cosine of each row's two texts, -1 to 1."""
        return [Prediction(round(float(one[0] @ one[-1]), 3)) for one in said]

    def right(self, targets: np.ndarray, answers: Any) -> np.ndarray:
        """Return whether the first text found belongs to the query."""
        return np.array([bool(found and found[0]) for found in answers["ranks"]], dtype=bool)

    def shown(self, value: Any) -> str:
        """Return at what rank the first text stands that belongs to the query."""
        return f"rank {value.index(1.0) + 1}" if 1.0 in value else "not found"

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
