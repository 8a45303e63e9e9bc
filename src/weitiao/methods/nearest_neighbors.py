"""Train nothing: let the nearest training rows vote on each text.

The model as it was pretrained gives each row a vector; the k rows with the largest cosine vote, each with the inverse
of its distance. The logit of a class is the logarithm of its share of the votes, to which one vote is added that all
classes share; a number is the weighted mean of the neighbors' numbers. The rows' vectors travel with the bundle.

Source: Cover and Hart, Nearest neighbor pattern classification, 1967; Dudani, The distance-weighted k-nearest-neighbor
rule, 1976.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from weitiao.methods._classes import why_not_one_class
from weitiao.methods.base import Known, Method
from weitiao.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NearestNeighbors"]

_MEMORY, _CONFIG = "memory.safetensors", "config.json"


class NearestNeighbors(Method):
    """Classification, or regression, by the nearest training rows."""

    class Settings(Options):
        """How many rows are asked."""

        k: int = Field(5, ge=1, description="training rows that vote; all, if there are fewer")

    trains: ClassVar[Literal["gradient", "convex", "pairs", "nothing"]] = "nothing"
    merges: ClassVar[bool] = False
    settings: Settings

    @property
    def part(self) -> Literal["model", "adapter"]:
        """The rows that are remembered, beside the base model as it was."""
        return "adapter"

    def suits(self, model: nn.Module) -> str | None:
        """Refuse a model that does not read one vector a row, and several labels a row."""
        return why_not_one_class(model, or_value=True)

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Freeze everything, and make room for the memory."""
        from weitiao.models.neighbors import NeighborModel

        return NeighborModel(model.requires_grad_(False), k=self.settings.k)

    def fill(self, model: Any, known: Known) -> None:
        """Remember the training rows."""
        model.remember(known.train, known.targets)

    def save(self, model: Any, folder: Path, *, base: str = "") -> None:
        """Write the memory."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"memory": model.memory.cpu().contiguous(), "values": model.values.cpu().contiguous()}
        save_file(tensors, folder / _MEMORY, metadata={"format": "pt"})
        config = {"base_model_name_or_path": base or None, "k": model.k, "pooling": model.pooling}
        (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def open(self, base: nn.Module, folder: Path) -> nn.Module:
        """Give a freshly built model the memory back."""
        from safetensors.torch import load_file

        model: Any = self.apply(base, seed=0)
        kept = load_file(folder / _MEMORY)
        model.memory, model.values = kept["memory"], kept["values"]
        return model

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and the nearest row alone."""
        return {"settings": {}, "variants": [{"k": 1}]}
