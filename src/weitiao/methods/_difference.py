"""A method that trains some tensors of a model and keeps those alone: what differs from the base model.

Members share this; it is none itself. In a bundle the difference is two files, `difference.safetensors` with the
trained values and `difference.json` with their names and shapes, which are checked when it is put on a base model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from weitiao.errors import ModelError
from weitiao.files import write_json
from weitiao.methods.base import OWN_ADAPTER, Method
from weitiao.plugins import Options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Difference", "Selective", "open_difference", "save_difference"]

_WEIGHTS, _FACTS = "difference.safetensors", "difference.json"
_FORMAT = 1


class Difference(Method):
    """Base of methods whose adapter is the trained tensors by name."""

    how_to_open: ClassVar[str | None] = OWN_ADAPTER
    part: ClassVar[Literal["model", "adapter"]] = "adapter"  # type: ignore[assignment]

    def tuned(self, model: nn.Module) -> set[str]:
        """Return the names of the parameters that train, once the method is applied."""
        raise NotImplementedError

    def prepare(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Insert what the method inserts; nothing, for most."""
        return model

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Mark what trains, freeze all else."""
        model = self.prepare(model, seed=seed)
        chosen = self.tuned(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)
        return model

    def save(self, model: nn.Module, folder: Path, *, base: str = "") -> None:
        """Write the trained tensors."""
        save_difference(model, self.tuned(model), folder, base=base)

    def open(self, base: nn.Module, folder: Path) -> nn.Module:
        """Put the trained tensors into the base."""
        model = self.prepare(base, seed=0)  # what is inserted is read over
        open_difference(model, self.tuned(model), folder)
        return model


class Selective(Difference):
    """Base of methods that train some of the tensors a model has: what comes out is a plain model."""

    class Settings(Options):
        """What is written."""

        merge: bool = Field(False, description="write whole weights, in place of an adapter with what was trained")

    settings: Settings

    @property
    def part(self) -> Literal["model", "adapter"]:  # type: ignore[override]
        """An adapter, unless whole weights are asked for."""
        return "model" if self.settings.merge else "adapter"

    @classmethod
    def tiny(cls) -> dict[str, object]:
        """Return the default, and whole weights."""
        return {"settings": {}, "variants": [{"merge": True}]}


def save_difference(model: nn.Module, names: set[str], folder: Path, *, base: str = "") -> None:
    """Write the parameters of `model` called `names` into `folder`; `base` names the model they belong to."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n: p.detach().cpu().clone().contiguous() for n, p in model.named_parameters() if n in names}
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    shapes = {name: list(value.shape) for name, value in sorted(tensors.items())}
    write_json(folder / _FACTS, {"format_version": _FORMAT, "base": base or None, "tensors": shapes})


def open_difference(model: nn.Module, names: set[str], folder: Path) -> None:
    """Set the parameters of `model` called `names` to what `save_difference` wrote.

    Raises
    ------
    ModelError
        The files cannot be read, or are for other parameters than these.
    """
    here = {name: p for name, p in model.named_parameters() if name in names}
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        tensors, version = load_file(folder / _WEIGHTS), facts["format_version"]
        shapes = {name: tuple(shape) for name, shape in facts["tensors"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(f"the adapter cannot be opened: {error}", where=folder) from error
    if version != _FORMAT:
        raise ModelError(f"the adapter has format {version}; this weitiao reads {_FORMAT}.", where=folder)
    if shapes != {name: tuple(value.shape) for name, value in tensors.items()}:
        raise ModelError(f"{_WEIGHTS} holds other tensors than {_FACTS} says.", where=folder)
    wanted = {name: tuple(p.shape) for name, p in here.items()}
    if wrong := sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name)):
        raise ModelError(
            f"the adapter does not fit {type(model).__name__}: {wrong[0]} is {_shape(shapes.get(wrong[0]))} in it and "
            f"{_shape(wanted.get(wrong[0]))} in the model; tensors that differ: {len(wrong)}.",
            where=folder,
            fix="Open it on the base model, and with the settings, that it was trained with.",
        )
    with torch.no_grad():
        for name, parameter in here.items():
            parameter.copy_(tensors[name])


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a number"
