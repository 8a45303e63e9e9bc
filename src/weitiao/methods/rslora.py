"""Learn low-rank updates whose scale falls with the root of their rank, so that large ranks learn as well.

A weight W becomes W + alpha / sqrt(rank) * B A. With LoRA's alpha / rank the gradient that reaches an update shrinks
as the rank grows, and ranks above some tens gain nothing; with the root it keeps its size.

Source: Kalajdzievski, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, 2023, arXiv:2312.03732.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.methods._peft import LowRank, PeftMethod

if TYPE_CHECKING:
    from torch import nn

__all__ = ["RsLora"]


class RsLora(PeftMethod):
    """Low-rank updates of a large rank, scaled by its root."""

    class Settings(LowRank):
        """Size and place of the updates."""

        rank: int = Field(64, ge=1, description="rank of an update")
        alpha: float = Field(16.0, gt=0, description="scale: an update counts alpha / sqrt(rank)")

    what: ClassVar[str] = "rsLoRA"
    settings: Settings

    def config(self, model: nn.Module, targets: list[str], *, seed: int) -> Any:
        """Return PEFT's configuration of LoRA with the scale of rsLoRA."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.settings.rank,
            lora_alpha=self.settings.alpha,  # type: ignore[arg-type]  # peft divides it; a float is right
            lora_dropout=self.settings.dropout,
            target_modules=targets,
            use_rslora=True,
        )
