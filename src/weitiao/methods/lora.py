"""Freeze the weights, learn low-rank updates of some of them.

A weight W of shape (out, in) becomes W + alpha / rank * B A with A (rank, in) and B (out, rank); B starts at
zero, so that the model starts where it was. The head trains whole.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv:2106.09685.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from weitiao.methods._peft import LowRank, PeftMethod

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Lora"]


class Lora(PeftMethod):
    """Low-rank updates of attention weights, and the head."""

    class Settings(LowRank):
        """Size and place of the updates."""

    what: ClassVar[str] = "LoRA"
    settings: Settings

    def config(self, model: nn.Module, targets: list[str], *, seed: int) -> Any:
        """Return PEFT's configuration of LoRA."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.settings.rank,
            lora_alpha=self.settings.alpha,  # type: ignore[arg-type]  # peft divides it; a float is right
            lora_dropout=self.settings.dropout,
            target_modules=targets,
        )
