"""A query and the text that belongs to it, each read by itself by one encoder: what such tasks have in common.

For a batch of pairs with vectors q_i and d_j, the loss of pair i is that of a classifier that has to tell its own text
from those of the other pairs:

    -log( exp(c * q_i d_i) / sum_j exp(c * q_i d_j) )

c is `scale`. A text that equals the pair's own is left out of the sum: it is no wrong answer. The sources stand in
``retrieval.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field as Setting

from weitiao.errors import RecipeError
from weitiao.plugins import Options
from weitiao.tasks._ranks import candidates, ranks
from weitiao.tasks._texts import must_have, pad, tokenize
from weitiao.tasks.base import Prediction, Rows, Task, objects

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from weitiao.models.find import Pretrained

__all__ = ["BiEncoder"]


class BiEncoder(Task):
    """Find the text that belongs to a query among many."""

    class Settings(Options):
        """How sharply texts are told apart."""

        scale: float = Setting(20.0, gt=0, description="cosines are multiplied by it before the softmax")

    metrics: ClassVar[tuple[str, ...]] = ("mrr", "recall_at_1", "recall_at_10", "ndcg_at_10")
    main_metric: ClassVar[str] = "mrr"
    gives: ClassVar[tuple[str, ...]] = ("ranks",)
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "bm25")
    classes_are_targets: ClassVar[bool] = False
    one_sequence: bool = False
    couples_rows: ClassVar[bool] = True
    has_new_head: ClassVar[bool] = False
    settings: Settings

    def pairs(self, row: Mapping[str, Any]) -> list[tuple[str, str | None]]:
        """Return the queries of a row, each with the text that belongs to it; of the last one it may not be known.

        The last pair that is known is what the row is measured by, the last query what it is answered by.
        """
        raise NotImplementedError

    def measured(self, rows: Rows) -> list[dict[str, str]]:
        """Return what rows are measured by: of each the ``text`` that asks and the ``text_pair`` that belongs to it."""
        known = ([(query, text) for query, text in self.pairs(row) if text is not None][-1] for row in rows)
        return [{"text": query, "text_pair": text} for query, text in known]

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Tokenize each text by itself; one that is too long loses its end."""
        must_have(rows, [self.fields[0].name])
        pairs = [(i, *pair) for i, row in enumerate(rows) for pair in self.pairs(row)]
        encoded = tokenize([{"text": query} for _, query, _ in pairs], ("text",), tokenizer, max_length)
        known = [number for number, (_, _, text) in enumerate(pairs) if text is not None]
        second = [{"text_pair": pairs[number][2]} for number in known]
        texts = tokenize(second, ("text_pair",), tokenizer, max_length) if known else []
        for number, text in zip(known, texts, strict=True):
            encoded[number]["tokens_lost"] += text.pop("tokens_lost")
            encoded[number]["pair"] = text
        return [one | {"row": row} for one, (row, _, _) in zip(encoded, pairs, strict=True)]

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad all queries whose text is known, then all their texts: ``input_ids (2 pairs, length)``.

        ``labels (pairs,)`` numbers the texts; equal ones have one number. Without any known text only the queries.
        """
        import torch

        known = [one for one in inputs if "pair" in one]
        numbers: dict[tuple[int, ...], int] = {}
        own = [numbers.setdefault(tuple(one["pair"]["input_ids"]), len(numbers)) for one in known]
        sequences = [_query(one) for one in known or inputs] + [one["pair"] for one in known]
        return pad(sequences, tokenizer) | {"labels": torch.tensor(own, dtype=torch.long)}

    def ask(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad all queries, then the texts that are known; ``known (inputs,)`` says of which query they are."""
        import torch

        known = [one["pair"] for one in inputs if "pair" in one]
        batch = pad([*map(_query, inputs), *known], tokenizer)
        return batch | {"known": torch.tensor(["pair" in one for one in inputs])}

    def model_inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what the encoder reads."""
        return {key: value for key, value in batch.items() if key not in ("labels", "known")}

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
        """Return the sum over pairs of the cross-entropy of the query's own text."""
        if not len(batch["labels"]):  # only queries whose text is not known
            return outputs.pooler_output.sum() * 0.0
        return -self.logits(outputs, batch).log_softmax(-1).diagonal().sum()

    # --- answers ---

    def say(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Sequence[Any]:
        """Return the vectors of each input's texts, ``(texts, hidden)``: of two, or of the query alone."""
        vectors = model(**self.model_inputs(batch)).pooler_output.float().cpu().numpy()
        known = batch["known"].cpu().numpy()
        texts = iter(vectors[len(known) :])
        return [np.stack([query, next(texts)] if own else [query]) for query, own in zip(vectors, known, strict=False)]

    def join(self, said: Sequence[Any], inputs: Rows) -> Any:
        """Return the vector of the last query, then, where they are others, those of the last known pair."""
        pair = next((one for one in reversed(said) if len(one) > 1), said[-1])
        return pair if pair is said[-1] else np.concatenate([said[-1], pair])

    def truth(self, rows: Rows) -> np.ndarray:
        """Return what a perfect search gives for each row, ``(rows,)``: all that belongs to it, before all else."""
        return objects((1.0,) * len(own) for own in candidates(self.measured(rows))[1])

    def answer(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Return the relevances of the best candidates of each row, best first."""
        pairs = self.measured(rows)
        documents, relevant = candidates(pairs)
        places = {row["text_pair"]: i for i, row in enumerate(pairs)}
        queries = np.array([one[-2] for one in said])
        texts = np.array([said[places[document]][-1] for document in documents])
        return {"ranks": ranks(lambda some: queries[some] @ texts.T, relevant, len(documents))}

    def decode(self, said: Sequence[Any], rows: Rows, calibration: Mapping[str, float]) -> list[Prediction]:
        """Return the cosine of each row's last known pair, -1 to 1; 1 where only the query is known."""
        return [Prediction(round(float(one[-2:][0] @ one[-1]), 3)) for one in said]

    def right(self, targets: np.ndarray, answers: Any) -> np.ndarray:
        """Return whether the first text found belongs to the query."""
        return np.array([bool(found and found[0]) for found in answers["ranks"]], dtype=bool)

    def shown(self, value: Any) -> str:
        """Return at what rank the first text stands that belongs to the query."""
        return f"rank {value.index(1.0) + 1}" if 1.0 in value else "not found"


def _query(one: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key != "pair"}
