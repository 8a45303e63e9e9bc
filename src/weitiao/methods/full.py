"""Train every weight.

Source: Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, 2019, arXiv:1810.04805, section 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from weitiao.methods.base import Method

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Full"]


class Full(Method):
    """Train every weight of backbone and head."""

    learning_rate: ClassVar[float] = 5e-5
    head_learning_rate: ClassVar[float | None] = 3e-3

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Mark everything as training."""
        return model.requires_grad_(True)
