"""Learn two vectors a layer, between random projections that all layers share and nothing trains.

A weight W becomes W + diag(b) B diag(d) A, with A (rank, in) and B (out, rank) drawn once for the whole model; layers
of other shapes read the corner that fits. Only b and d train: b starts at zero, so that the model starts where it was.
Fewer numbers a layer than any LoRA; A and B are saved once, for another version of torch may draw them otherwise.

Source: Kopiczko et al., VeRA: Vector-based Random Matrix Adaptation, 2023, arXiv:2310.11454.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.methods._peft import PeftMethod, Placed
from weitiao.randomness import derive_seed

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Vera"]


class Vera(PeftMethod):
    """Scales of shared random projections, and the head."""

    class Settings(Placed):
        """Size, start and place of the updates."""

        rank: int = Field(256, ge=1, description="rank of the shared projections; far above LoRA's, for it is cheap")
        start: float = Field(0.1, gt=0, description="what the vector d starts at")
        dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of an update")

    what: ClassVar[str] = "VeRA"
    learning_rate: ClassVar[float] = 1e-2
    head_learning_rate: ClassVar[float | None] = 4e-3
    settings: Settings

    def config(self, model: nn.Module, targets: list[str], *, seed: int) -> Any:
        """Return PEFT's configuration of VeRA, the projections drawn from `seed` and saved with the adapter."""
        from peft import VeraConfig

        return VeraConfig(
            r=self.settings.rank,
            d_initial=self.settings.start,
            vera_dropout=self.settings.dropout,
            target_modules=targets,
            projection_prng_key=derive_seed(seed, "vera"),
            save_projection=True,
        )

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return a small rank, and one variant a setting."""
        variants: list[dict[str, Any]] = [{}, {"start": 0.5}, {"dropout": 0.5}, {"target_modules": "all"}]
        variants += [{"last_layers": 1}, {"merge": True}]
        return {"settings": {"rank": 16}, "variants": [{"rank": 16} | v if v else {"rank": 8} for v in variants]}
