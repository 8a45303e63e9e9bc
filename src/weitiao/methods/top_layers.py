"""Train the last layers and the head, freeze what is below.

Source: Howard and Ruder, Universal Language Model Fine-tuning for Text Classification, 2018, arXiv:1801.06146;
Lee et al., What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning, 2019, arXiv:1911.03090.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.methods.base import Method
from weitiao.models import parts
from weitiao.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TopLayers"]


class TopLayers(Method):
    """Train the last k layers, what follows them, and the head."""

    class Settings(Options):
        """How many layers."""

        k: int = Field(1, ge=1, description="how many of the last layers train")

    learning_rate: ClassVar[float] = 5e-4
    head_learning_rate: ClassVar[float | None] = 3e-3
    settings: Settings

    def suits(self, model: nn.Module) -> str | None:
        """Refuse more layers than there are below the embeddings."""
        count = len(parts.layers(model))
        if self.settings.k > count:
            return f"k is {self.settings.k}, but the model has {count} layers"
        return None

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Freeze the embeddings and all but the last k layers."""
        model.requires_grad_(False)
        last = list(parts.layers(model))[-self.settings.k :]
        inside = {id(p) for layer in last for p in layer.parameters()}
        chosen = parts.head_parameters(model) | parts.after_layers(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen or id(parameter) in inside)
        return model

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return one layer, and two."""
        return {"settings": {}, "variants": [{"k": 2}]}
