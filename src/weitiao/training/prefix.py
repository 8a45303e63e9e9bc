"""What a frozen backbone says of each row, computed once.

The states are what the head reads: the hidden state at the pooled position, and the pooler's output where the
architecture has one. A `StoredBackbone` in the backbone's place then gives them back, so that the stock model's
own code, whatever its head is, runs on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from weitiao.data.batch import longest_first
from weitiao.models import parts
from weitiao.tasks.base import Features, Task

__all__ = ["States", "StoredBackbone", "frozen_states"]


@dataclass(frozen=True)
class States:
    """Frozen features of rows, in their order.

    Parameters
    ----------
    hidden
        ``(rows, hidden)``, float32: the pooled last hidden state.
    pooler
        ``(rows, hidden)`` or ``None``: the output of the architecture's own pooler.
    """

    hidden: torch.Tensor
    pooler: torch.Tensor | None

    def output(self, rows: slice, dtype: torch.dtype) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """Return some rows as the backbone would, with one position each."""
        pooler = None if self.pooler is None else self.pooler[rows].to(dtype)
        hidden = self.hidden[rows, None].to(dtype)  # (rows, 1, hidden)
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=hidden,  # type: ignore[arg-type]
            pooler_output=pooler,  # type: ignore[arg-type]
        )  # of all such outputs the one with every entry that a stock head passes on


class StoredBackbone(nn.Module):
    """Stands where the backbone was and returns `current`, whatever it is called with."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.current: Any = None

    def forward(self, *_: Any, **__: Any) -> Any:
        """Return `current`."""
        return self.current


def frozen_states(
    model: nn.Module,
    task: Task,
    features: Features,
    *,
    pooling: str,
    batch_size: int = 64,
    progress: Callable[[int], None] = lambda rows: None,
) -> States:
    """Run the backbone once over the rows, without dropout, rows of like length together.

    Parameters
    ----------
    pooling
        Which position the head reads: ``cls``, ``mean`` or ``last``.
    progress
        Called after each batch with its number of rows.
    """
    backbone = parts.backbone(model)
    device = next(backbone.parameters()).device
    batches, back = longest_first(features.lengths, batch_size)
    hidden: list[torch.Tensor] = []
    pooler: list[torch.Tensor] = []
    was_training = backbone.training
    backbone.eval()
    with torch.inference_mode():
        for rows in batches:
            batch = features.batch(rows)
            inputs = {k: v.to(device) for k, v in task.model_inputs(batch).items()}
            out = backbone(**inputs)
            hidden.append(parts.pool(out.last_hidden_state, inputs["attention_mask"], pooling).float().cpu())
            if getattr(out, "pooler_output", None) is not None:
                pooler.append(out.pooler_output.float().cpu())
            progress(len(rows))
    backbone.train(was_training)
    index = torch.from_numpy(back)
    return States(torch.cat(hidden)[index].clone(), torch.cat(pooler)[index].clone() if pooler else None)
