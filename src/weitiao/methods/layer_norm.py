"""Train the norms' scales and shifts and the head, freeze all else.

It reaches models without biases too: a norm of any architecture has at least a scale.

Source: Zhao, Tu, Wei, Mei and Xie, Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning, 2023,
arXiv:2312.11420; Frankle, Schwab and Morcos, Training BatchNorm and Only BatchNorm, 2020, arXiv:2003.00152.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from weitiao.methods._difference import Selective
from weitiao.models import parts, selected

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LayerNorm"]


class LayerNorm(Selective):
    """Train the scales and shifts of all norms, and the head."""

    learning_rate: ClassVar[float] = 3e-3
    head_learning_rate: ClassVar[float | None] = 1e-2

    def suits(self, model: nn.Module) -> str | None:
        """Refuse a backbone whose norms have no weights."""
        if selected.norms(model) - parts.head_parameters(model):
            return None
        return f"{type(parts.backbone(model)).__name__} has no norm with a scale to train"

    def tuned(self, model: nn.Module) -> set[str]:
        """Return the scales and shifts, and all that is new."""
        return selected.norms(model) | parts.head_parameters(model)
