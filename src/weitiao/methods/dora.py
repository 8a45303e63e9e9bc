"""Learn the length of each weight vector apart from its direction, and the direction by a low-rank update.

A weight W of shape (out, in) becomes m * (W + alpha / rank * B A) / |W + alpha / rank * B A|, lengths being those of
its rows: one number m an output, which starts at the row's own length. It moves closer to the way that full tuning
moves, for the cost of the lengths in each step.

Source: Liu et al., DoRA: Weight-Decomposed Low-Rank Adaptation, 2024, arXiv:2402.09353.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from weitiao.methods._peft import LowRank, PeftMethod, has_only_linear

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Dora"]


class Dora(PeftMethod):
    """Lengths and low-rank directions of attention weights, and the head."""

    class Settings(LowRank):
        """Size and place of the updates."""

    what: ClassVar[str] = "DoRA"
    settings: Settings

    def why_not(self, model: nn.Module, layers: Mapping[str, nn.Module]) -> str | None:
        """Refuse a weight vector of zeros, as pruning leaves it: it has no direction."""
        for path, layer in layers.items():
            weight: Any = layer.weight
            if not weight.detach().any(1 if has_only_linear({path: layer}) else 0).all():
                return f"{path} has a weight vector of zeros, which has no direction; use lora"
        return None

    def config(self, model: nn.Module, targets: list[str], *, seed: int) -> Any:
        """Return PEFT's configuration of LoRA with lengths of their own."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.settings.rank,
            lora_alpha=self.settings.alpha,  # type: ignore[arg-type]  # peft divides it; a float is right
            lora_dropout=self.settings.dropout,
            target_modules=targets,
            use_dora=True,
        )
