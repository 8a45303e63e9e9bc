"""What the methods that PEFT provides share: where updates go, what trains beside them, and the adapter on the disk.

What is saved is PEFT's own format: plain PEFT opens it on a plain base model.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from weitiao.errors import ModelError
from weitiao.methods._unlearnt import modules_to_keep, unlearnt_parameters
from weitiao.methods.base import Method
from weitiao.models import parts
from weitiao.models.quiet import quiet
from weitiao.plugins import Options
from weitiao.randomness import torch_seed

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LastLayers", "LowRank", "PeftMethod", "Placed", "Sized", "has_only_linear"]


class LastLayers(Options):
    """On which layers, and what a bundle holds."""

    last_layers: int | None = Field(
        None, ge=1, description="updates on so many of the last layers; null: on all. Those below run once a row"
    )
    merge: bool = Field(False, description="write whole weights with the updates added, in place of an adapter")


class Placed(LastLayers):
    """Which dense layers get updates."""

    target_modules: tuple[str, ...] | Literal["attention", "all"] = Field(
        "attention", description="'attention' (query and value), 'all' linear layers, or names of layers"
    )


class Sized(Options):
    """Size of low-rank updates."""

    rank: int = Field(8, ge=1, description="rank of an update")
    alpha: float = Field(16.0, gt=0, description="scale: an update counts alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of an update")


class LowRank(Placed, Sized):
    """Size and place of the updates."""


class PeftMethod(Method):
    """Updates that PEFT puts on dense layers of the backbone; the head, and all that is new, trains whole.

    A member gives `config`, and where it cannot go everywhere `why_not`.

    Attributes
    ----------
    what
        What messages call the method.
    """

    what: ClassVar[str]
    learning_rate: ClassVar[float] = 1e-3
    head_learning_rate: ClassVar[float | None] = 3e-3
    settings: Any

    @property
    def part(self) -> Literal["model", "adapter"]:
        """An adapter, unless it is merged."""
        return "model" if self.merges and self.settings.merge else "adapter"

    def config(self, model: nn.Module, targets: list[str], *, seed: int) -> Any:
        """Return PEFT's configuration for updates on the layers called `targets`."""
        raise NotImplementedError

    def why_not(self, model: nn.Module, layers: Mapping[str, nn.Module]) -> str | None:
        """Return ``None`` if updates can go on these `layers` of the model, or a sentence that says why not."""
        return None

    def names(self, model: nn.Module) -> list[str]:
        """Return the names of the layers that updates are asked for, as peft matches them.

        Raises
        ------
        ModelError
            There is no such layer.
        """
        chosen = self.settings.target_modules
        if chosen in ("attention", "all"):
            return parts.linear_names(model, chosen)
        return parts.adapter_targets(model, chosen, method=self.what)

    def suits(self, model: nn.Module) -> str | None:
        """Refuse more layers than there are or all under another name, names of none, and what `why_not` refuses."""
        try:
            count = len(parts.layers(model))
        except ModelError:
            return "the backbone has no stack of equal layers for the updates to go on"
        if self.settings.last_layers is not None and self.settings.last_layers >= count:
            return f"last_layers is {self.settings.last_layers}, and the model has {count} layers; leave it out for all"
        try:
            layers = self._layers(model)
        except ModelError:
            there = ", ".join(parts.linear_names(model, "all"))
            asked = ", ".join(getattr(self.settings, "target_modules", ())) or "none"
            return f"target_modules has names of no dense layer: {asked}; there are {there}"
        if not layers:
            return "there is no dense layer for the updates to go on that the checkpoint has weights for"
        if "" in modules_to_keep(model):
            return "the checkpoint lacks weights that belong to no part of the model, which an adapter cannot hold"
        return self.why_not(model, layers)

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Wrap the target layers with PEFT, freeze the rest but the head and what is new."""
        from peft import get_peft_model

        model.new_parameters = unlearnt_parameters(model)  # type: ignore[assignment]
        targets = self.names(model) if self.settings.last_layers is None else list(self._layers(model))
        config = self.config(model, targets, seed=seed)
        config.modules_to_save = modules_to_keep(model)
        with quiet(), torch_seed(seed, self.name):
            return get_peft_model(model, config)  # type: ignore[arg-type]

    def whole(self, model: Any) -> nn.Module:
        """Return the model with the updates added to its weights."""
        from peft.utils import ModulesToSaveWrapper

        copied: Any = copy.deepcopy(model)
        inner = copied.get_base_model()
        for path, module in list(inner.named_modules()):
            if isinstance(module, ModulesToSaveWrapper):  # of most methods peft unwraps single layers only
                inner.set_submodule(path, module.modules_to_save[module.active_adapters[0]])
        return copied.merge_and_unload()

    def save(self, model: Any, folder: Path, *, base: str = "") -> None:
        """Write the adapter with its head, so that plain PEFT opens it on a plain base model."""
        with quiet():
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

    def _layers(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the layers that updates go on, by path; none inside a module that trains whole."""
        kept = [f".{name}." for name in modules_to_keep(model)]
        count = self.settings.last_layers or len(parts.layers(model))
        paths = parts.inside_last_layers(model, self.names(model), count)
        return {path: model.get_submodule(path) for path in paths if not any(k in f".{path}." for k in kept)}

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and one variant a setting."""
        variants: list[dict[str, Any]] = [{"rank": 4}, {"alpha": 4.0}, {"dropout": 0.5}, {"target_modules": "all"}]
        return {"settings": {}, "variants": [*variants, {"last_layers": 1}, {"merge": True}]}


def has_only_linear(layers: Mapping[str, nn.Module]) -> bool:
    """Return whether every layer is a plain linear one: GPT-2's are stored the other way round, as ``Conv1D``."""
    from torch import nn

    return all(isinstance(layer, nn.Linear) for layer in layers.values())
