"""Keep the frozen weights in four bits, and learn low-rank updates of all linear layers on top.

The weights of the backbone's dense layers are quantised to NF4, whose 16 values are quantiles of a normal distribution,
with one scale for 64 weights, and the scales are quantised again: about 4.1 bits a weight in place of 32. They are
multiplied in bfloat16, the updates stay float32. Gradients pass through the four-bit weights and move the updates only.

Needs a CUDA device and bitsandbytes, to train and to open what was trained. The updates belong to the quantised
weights; merged into whole ones they would say something else, so a bundle holds the adapter.

Source: Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs, 2023, arXiv:2305.14314.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from weitiao.errors import ModelError
from weitiao.methods._peft import PeftMethod, Sized, has_only_linear
from weitiao.methods._unlearnt import modules_to_keep
from weitiao.models import parts

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["QLora"]


class QLora(PeftMethod):
    """Low-rank updates of all linear layers on four-bit weights, and the head."""

    class Settings(Sized):
        """Size and place of the updates."""

        target_modules: tuple[str, ...] | Literal["attention", "all"] = Field(
            "all", description="'all' linear layers, 'attention' (query and value), or names of layers"
        )
        last_layers: int | None = Field(None, ge=1, description="updates on so many of the last layers; null: on all")

    what: ClassVar[str] = "QLoRA"
    learning_rate: ClassVar[float] = 2e-4
    head_learning_rate: ClassVar[float | None] = 1e-3
    starts_as_it_was: ClassVar[bool] = False
    merges: ClassVar[bool] = False
    needs_device: ClassVar[str | None] = "cuda"
    settings: Settings

    def suits(self, model: nn.Module) -> str | None:
        """Refuse a machine without CUDA or bitsandbytes, and what any method of PEFT's refuses."""
        return _why_no_four_bits() or super().suits(model)

    def why_not(self, model: nn.Module, layers: Mapping[str, nn.Module]) -> str | None:
        """Refuse layers that are not linear ones."""
        if not has_only_linear(layers):
            return f"the layers of {type(model).__name__} are Conv1D, which have no four-bit form; use lora"
        return None

    def config(self, model: nn.Module, targets: list[str], *, seed: int) -> Any:
        """Return PEFT's configuration of LoRA."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.settings.rank,
            lora_alpha=self.settings.alpha,  # type: ignore[arg-type]  # peft divides it; a float is right
            lora_dropout=self.settings.dropout,
            target_modules=targets,
        )

    def apply(self, model: nn.Module, *, seed: int) -> nn.Module:
        """Move the model to the device, quantise its dense layers there, and put the updates on."""
        import torch

        _quantise(model, torch.device("cuda", torch.cuda.current_device()))
        with _marked(model):
            return super().apply(model, seed=seed)

    def open(self, base: nn.Module, folder: Path) -> nn.Module:
        """Quantise the base as it was for training, and put the adapter back.

        Raises
        ------
        ModelError
            There is no CUDA device here, or no bitsandbytes.
        """
        import torch

        if why := _why_no_four_bits():
            raise ModelError(f"the model cannot be opened here: {why.partition(';')[0]}.", where=folder)
        _quantise(base, torch.device("cuda", torch.cuda.current_device()))
        with _marked(base):
            return super().open(base, folder)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default, and one variant a setting."""
        variants = [{"rank": 4}, {"alpha": 4.0}, {"dropout": 0.5}, {"target_modules": "attention"}, {"last_layers": 1}]
        return {"settings": {}, "variants": variants}


def _why_no_four_bits() -> str | None:
    """Return ``None`` if this machine can work with four-bit weights, or a sentence."""
    import torch

    if not torch.cuda.is_available():
        return "four-bit weights need a CUDA device, and there is none here; use lora"
    if importlib.util.find_spec("bitsandbytes") is None:
        return "four-bit weights need the package bitsandbytes, which is not installed; use lora"
    return None


def _quantise(model: nn.Module, device: torch.device) -> None:
    """Put `model` on `device`, and the dense layers of its backbone in four bits.

    They go there one by one, so that the device never holds more than one of them whole. Left as they are: what trains
    whole, and layers that the architecture wants in float32.
    """
    import bitsandbytes  # pyright: ignore[reportMissingImports]
    import torch

    for path in _dense(model):
        plain: Any = model.get_submodule(path)
        packed = bitsandbytes.nn.Linear4bit(
            plain.in_features,
            plain.out_features,
            bias=False,
            compute_dtype=torch.bfloat16,
            compress_statistics=True,  # the scales are quantised too
            quant_type="nf4",
            device="meta",  # type: ignore[arg-type]
        )
        packed.weight = bitsandbytes.nn.Params4bit(
            plain.weight.detach(), requires_grad=False, compress_statistics=True, quant_type="nf4", module=packed
        )
        packed.bias = plain.bias
        packed.training = plain.training
        model.set_submodule(path, packed.to(device).requires_grad_(False))
    model.to(device)


def _dense(model: nn.Module) -> list[str]:
    """Return the paths of the layers to quantise."""
    from torch import nn

    fixed = {f".{name}." for module in model.modules() for name in _names(module)}
    whole = {f".{name}." for name in modules_to_keep(model)}
    inside = {id(module) for block in parts.layers(model) for module in block.modules()}
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and id(module) in inside
        and not any(name in f".{path}." for name in fixed | whole)
    ]


def _names(module: nn.Module) -> Iterable[str]:
    """Return the names of layers that an architecture wants in float32, whatever the others are in."""
    return [*(getattr(module, "_keep_in_fp32_modules", None) or ())]


@contextmanager
def _marked(model: nn.Module) -> Iterator[None]:
    """Let peft see, while it wraps layers, that they are in four bits."""
    inner: Any = model
    inner.is_loaded_in_4bit = True
    try:
        yield
    finally:
        del inner.is_loaded_in_4bit
