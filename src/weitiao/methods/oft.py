"""Learn to turn what enters a layer, block by block, and change no length and no angle.

A weight W becomes W R with R orthogonal: blocks of a fixed size on its diagonal, each the Cayley transform of a
skew-symmetric matrix that starts at zero, so that the model starts where it was. The angles between the weight vectors,
which carry what pretraining knows, stay as they are.

Source: Qiu et al., Controlling Text-to-Image Diffusion by Orthogonal Finetuning, 2023, arXiv:2306.07280; turning the
input in place of the weight: Qiu et al., Orthogonal Finetuning Made Scalable, 2025, arXiv:2506.19847.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.methods._peft import PeftMethod, Placed, has_only_linear

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Oft"]


class Oft(PeftMethod):
    """Rotations of what attention weights read, and the head."""

    class Settings(Placed):
        """Size and place of the rotations."""

        block_size: int = Field(32, ge=2, description="coordinates turned together; divides the width of every layer")

    what: ClassVar[str] = "OFT"
    settings: Settings

    def why_not(self, model: nn.Module, layers: Mapping[str, nn.Module]) -> str | None:
        """Refuse layers that are not linear ones, and those that cannot be cut into such blocks."""
        if not has_only_linear(layers):
            return f"the layers of {type(model).__name__} are Conv1D, which it cannot turn; use lora"
        size = self.settings.block_size
        for path, layer in layers.items():
            if layer.in_features % size:  # type: ignore[operator]
                return f"{path} reads {layer.in_features} coordinates, which blocks of {size} do not divide"
        return None

    def config(self, model: nn.Module, targets: list[str], *, seed: int) -> Any:
        """Return PEFT's configuration of OFT, with the exact transform and not its series."""
        from peft import OFTConfig

        return OFTConfig(oft_block_size=self.settings.block_size, target_modules=targets, use_cayley_neumann=False)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return small blocks, and one variant a setting."""
        variants: list[dict[str, Any]] = [{"block_size": 4}]
        variants += [{"block_size": 8} | v for v in ({"target_modules": "all"}, {"last_layers": 1}, {"merge": True})]
        return {"settings": {"block_size": 8}, "variants": variants}
