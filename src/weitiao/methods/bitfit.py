"""Train the biases and the head, freeze every matrix.

About a thousandth of the weights of BERT are biases. Every one of them trains, from the embeddings' norm to the last
layer's, so nothing of the model can be run once and kept.

Source: Ben Zaken, Ravfogel and Goldberg, BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
Language-models, 2021, arXiv:2106.10199.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from weitiao.methods._difference import Selective
from weitiao.models import parts, selected

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BitFit"]


class BitFit(Selective):
    """Train the biases of the backbone, and the head."""

    learning_rate: ClassVar[float] = 1e-3
    head_learning_rate: ClassVar[float | None] = 1e-2

    def suits(self, model: nn.Module) -> str | None:
        """Refuse a backbone without biases, as Llama, Gemma, T5 and ModernBERT are."""
        if selected.biases(model) - parts.head_parameters(model):
            return None
        return f"{type(parts.backbone(model)).__name__} has no biases to train; the method layer_norm trains its norms"

    def tuned(self, model: nn.Module) -> set[str]:
        """Return the biases, and all that is new."""
        return selected.biases(model) | parts.head_parameters(model)
