"""Train keys and values that stand before those of every layer, made by a small network while they train.

Each prefix token has a vector; one network, shared by all layers but for its last step, makes of it the keys and values
of each attention. That trains more steadily than the keys and values themselves, which alone are kept in the end.

Source: Li and Liang, Prefix-Tuning: Optimizing Continuous Prompts for Generation, 2021, arXiv:2101.00190.
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

__all__ = ["PrefixTuning"]


class PrefixTuning(Prefixed):
    """Reparametrized keys and values in each attention, and the head."""

    class Settings(Options):
        """Size of the prefix, and of the network that makes it."""

        tokens: int = Field(16, ge=1, description="how many trained keys and values each attention has")
        hidden: int = Field(256, ge=1, description="width of the network that makes them; it is not kept")

    learning_rate: ClassVar[float] = 1e-3
    head_learning_rate: ClassVar[float | None] = 3e-3
    settings: Settings

    def make(self, body: nn.Module, where: list[Place], seed: int) -> dict[str, nn.Module]:
        """Return a network's outputs, one of its last steps a place."""
        from weitiao.models.prefixes import MadePrefix, PrefixSource

        config: Any = body.config
        width, hidden = config.get_text_config().hidden_size, self.settings.hidden
        with torch_seed(seed, "prefix_tuning"):
            source = PrefixSource(self.settings.tokens, width, hidden)
            made: dict[str, nn.Module] = {place.name: MadePrefix(source, place, hidden) for place in where}
        body.register_module("prefix_source", source.to(next(body.parameters()).device))
        return made

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return a few tokens, fewer, and a narrower network."""
        few = {"tokens": 4, "hidden": 16}
        return {"settings": few, "variants": [few | {"tokens": 2}, few | {"hidden": 8}]}
