"""Nearest rows, by the cosine of vectors, and a model that answers by their votes.

Source: Cover and Hart, Nearest neighbor pattern classification, 1967; Dudani, The distance-weighted k-nearest-neighbor
rule, 1976.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from transformers.modeling_outputs import SequenceClassifierOutput

from weitiao.models import parts

__all__ = ["LABEL_SCALE", "NeighborModel", "unit", "vote"]

LABEL_SCALE = 20.0  # cosines with label names are multiplied by it: what sentence encoders are trained with
_CLOSEST = 1e-6  # cosine distance below which float32 cannot tell two rows apart


def unit(vectors: Tensor) -> Tensor:
    """Return vectors of length 1, float32; a row of zeros stays zeros: as near to one row as to another."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def vote(memory: Tensor, values: Tensor, queries: Tensor, k: int) -> Tensor:
    """Let the `k` nearest rows vote, each with the inverse of its cosine distance.

    Parameters
    ----------
    memory
        ``(rows, hidden)``, of length 1.
    values
        What each row votes for, ``(rows, outputs)``: 1 for its class and 0 for others, or its value.
    queries
        ``(queries, hidden)``, of length 1.
    k
        Neighbors asked; all rows where there are fewer.

    Returns
    -------
    The weighted mean of the neighbors' values, ``(queries, outputs)``.
    """
    similar, near = (queries @ memory.T).topk(min(k, len(memory)), dim=1)  # (queries, k)
    weight = 1.0 / (1.0 - similar).clamp(min=_CLOSEST)
    weight = weight / weight.sum(1, keepdim=True)
    found = torch.zeros(len(queries), values.shape[1], dtype=values.dtype, device=values.device)
    for rank in range(near.shape[1]):  # one neighbor at a time: all at once would be k times the memory
        found += weight[:, rank, None] * values[near[:, rank]]
    return found


class NeighborModel(nn.Module):
    """A classifier whose head is set aside: rows that it remembers answer, once there are any.

    Parameters
    ----------
    base
        A stock sequence classifier, or a `weitiao.models.pooled.SentenceClassifier`.
    k
        Neighbors asked.
    """

    how_to_open = """`adapter/` holds the vectors of the training rows and what they vote for, beside the base model
named above:

```python
import weitiao

model = weitiao.Bundle(".").model
```"""

    def __init__(self, base: nn.Module, *, k: int) -> None:
        super().__init__()
        inner: Any = base
        self.base, self.config, self.k = base, inner.config, k
        self.pooling: str = (
            getattr(inner, "pooling", None)
            or getattr(inner.config, "classifier_pooling", None)
            or ("last" if hasattr(inner, "score") else "cls")
        )
        self.register_buffer("memory", torch.zeros(0, 0))
        self.register_buffer("values", torch.zeros(0, 0))

    def get_base_model(self) -> nn.Module:
        """Return the classifier without its memory."""
        return self.base

    def remember(self, vectors: Tensor, targets: Tensor) -> None:
        """Keep rows: pooled vectors ``(rows, hidden)``, and classes or values ``(rows,)``."""
        by_class = not targets.is_floating_point()
        values = one_hot(targets, self.config.num_labels) if by_class else targets[:, None]
        device = next(self.base.parameters()).device
        self.memory, self.values = unit(vectors).to(device), values.float().to(device)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **kwargs: Any) -> SequenceClassifierOutput:
        """Return ``logits (rows, outputs)``: the logarithm of each class's share of the votes, or the mean value.

        One vote more is shared by all classes alike, so that none is impossible.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, **kwargs}
        if not len(self.memory):
            return self.base(**inputs)
        out = parts.backbone(self.base)(**inputs)
        vectors = unit(parts.pool(out.last_hidden_state, attention_mask, self.pooling))
        found = vote(self.memory, self.values, vectors, self.k)
        if self.config.problem_type != "regression":
            asked, classes = min(self.k, len(self.memory)), found.shape[1]
            found = ((asked * found + 1 / classes) / (asked + 1)).log()
        return SequenceClassifierOutput(logits=found)  # type: ignore[arg-type]
