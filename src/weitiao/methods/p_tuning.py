"""Train vectors that the frozen model reads among its tokens, made by a small network while they train.

Source: Liu et al., GPT Understands, Too, 2021, arXiv:2103.10385.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from weitiao.methods._prompted import Prompted
from weitiao.plugins import Options
from weitiao.randomness import torch_seed

if TYPE_CHECKING:
    from torch import nn

    from weitiao.models.reading import Form

__all__ = ["PTuning"]


class PTuning(Prompted):
    """Vectors at the input from a prompt encoder, and the head; the encoder is not kept."""

    class Settings(Options):
        """Number of vectors, and the network that makes them."""

        tokens: int = Field(20, ge=1, description="how many vectors are trained")
        encoder: Literal["lstm", "mlp"] = Field(
            "lstm", description="what makes them: an LSTM both ways and two dense layers, or these layers alone"
        )
        hidden: int = Field(256, ge=1, description="width of the encoder; it is not kept")

    learning_rate: ClassVar[float] = 5e-3
    head_learning_rate: ClassVar[float | None] = 3e-3
    settings: Settings

    def make(self, model: nn.Module, form: Form, seed: int) -> nn.Module:
        """Return the prompt encoder."""
        from weitiao.models.soft_prompt import PromptEncoder

        with torch_seed(seed, "p_tuning"):
            return PromptEncoder(self.settings.tokens, form, self.settings.encoder, self.settings.hidden)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return a few vectors, fewer, the other encoder, and a narrower one."""
        few = {"tokens": 4, "hidden": 16}
        return {"settings": few, "variants": [few | {"tokens": 2}, few | {"encoder": "mlp"}, few | {"hidden": 8}]}
