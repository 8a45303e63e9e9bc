"""Train keys and values that stand before those of every layer, free of any reparametrization.

Source: Liu et al., P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning Universally Across Scales and Tasks,
2021, arXiv:2110.07602.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.methods._prefixed import Prefixed
from weitiao.plugins import Options
from weitiao.randomness import torch_seed

if TYPE_CHECKING:
    from torch import nn

    from weitiao.models.prefixes import Place

__all__ = ["PTuningV2"]


class PTuningV2(Prefixed):
    """Deep prompts: free keys and values in each attention, and the head.

    They begin as random as the model's own keys and values are, so that their scale is right in every layer.
    """

    class Settings(Options):
        """Size of the prompts."""

        tokens: int = Field(16, ge=1, description="how many trained keys and values each attention has")

    learning_rate: ClassVar[float] = 1e-2
    settings: Settings

    def make(self, body: nn.Module, where: list[Place], seed: int) -> dict[str, nn.Module]:
        """Return random keys and values."""
        import torch

        from weitiao.models.prefixes import Prefix

        made: dict[str, nn.Module] = {}
        count = self.settings.tokens
        with torch_seed(seed, "p_tuning_v2"):
            for place in where:
                shapes = [(heads, count, width) for heads, width in (place.key, place.value)]
                key, value = (torch.randn(s) * spread for s, spread in zip(shapes, place.spread, strict=True))
                made[place.name] = Prefix(key, value)
        return made

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return a few tokens, and fewer."""
        return {"settings": {"tokens": 4}, "variants": [{"tokens": 2}]}
