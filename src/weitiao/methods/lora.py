"""Freeze the weights, learn low-rank updates of some of them.

A weight W of shape (out, in) becomes W + alpha / rank * B A with A (rank, in) and B (out, rank); B starts at
zero, so that the model starts where it was. The head trains whole.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv:2106.09685.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from weitiao.methods.base import Method
from weitiao.models import parts
from weitiao.models.quiet import quiet
from weitiao.plugins import Options
from weitiao.randomness import torch_seed

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Lora"]


class Lora(Method):
    """Low-rank updates of attention weights, and the head."""

    class Settings(Options):
        """Size and place of the updates."""

        rank: int = Field(8, ge=1, description="rank of an update")
        alpha: float = Field(16.0, gt=0, description="scale: an update counts alpha / rank")
        dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of an update")
        target_modules: tuple[str, ...] | Literal["attention", "all"] = Field(
            "attention", description="'attention' (query and value), 'all' linear layers, or names of layers"
        )
        last_layers: int | None = Field(
            None, ge=1, description="updates on so many of the last layers; null: on all. Those below run once a row"
        )
        merge: bool = Field(False, description="write whole weights with the updates added, in place of an adapter")

    learning_rate: ClassVar[float] = 1e-3
    settings: Settings

    @property
    def part(self) -> Literal["model", "adapter"]:
        """An adapter, unless it is merged."""
        return "model" if self.settings.merge else "adapter"

    def suits(self, model: nn.Module) -> str | None:
        """Refuse more layers than there are, or all of them under another name."""
        count = len(parts.layers(model))
        if self.settings.last_layers is not None and self.settings.last_layers >= count:
            return f"last_layers is {self.settings.last_layers}, and the model has {count} layers; leave it out for all"
        return None

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Wrap the target layers with PEFT, freeze the rest but the head."""
        from peft import LoraConfig, get_peft_model

        chosen = self.settings.target_modules
        targets = (
            parts.linear_names(model, chosen)
            if chosen in ("attention", "all")
            else parts.adapter_targets(model, chosen, method="LoRA")
        )
        if self.settings.last_layers is not None:
            targets = parts.inside_last_layers(model, targets, self.settings.last_layers)
        config = LoraConfig(
            r=self.settings.rank,
            lora_alpha=self.settings.alpha,  # type: ignore[arg-type]  # peft divides it; a float is right
            lora_dropout=self.settings.dropout,
            target_modules=targets,
            modules_to_save=parts.head_modules(model),
        )
        with quiet(), torch_seed(seed, "lora"):
            return get_peft_model(model, config)  # type: ignore[arg-type]

    def whole(self, model: Any) -> nn.Module:
        """Return the model with the updates added to its weights."""
        return copy.deepcopy(model).merge_and_unload()

    def save(self, model: Any, folder: Path, *, base: str = "") -> None:
        """Write the adapter with its head, so that plain PEFT opens it on a plain base model."""
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # a form to be filled in; the bundle has a card of its own
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base or None  # as the user named it, not where it lies on this machine
        if "ForSequenceClassification" in type(model.get_base_model()).__name__:
            config["task_type"] = "SEQ_CLS"
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def open(self, base: nn.Module, folder: Path) -> nn.Module:
        """Put the adapter back."""
        from peft import PeftModel

        with quiet():
            return PeftModel.from_pretrained(base, folder)  # type: ignore[arg-type]

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and one variant a setting."""
        variants = [{"rank": 4}, {"alpha": 4.0}, {"dropout": 0.5}, {"target_modules": "all"}]
        variants += [{"last_layers": 1}, {"merge": True}]
        return {"settings": {}, "variants": variants}
