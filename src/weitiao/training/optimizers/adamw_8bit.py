"""AdamW that keeps its two means in 8 bits each, in blocks with a scale of their own: a quarter of the memory.

The step is AdamW's; the state of a block of 256 numbers is quantized on a dynamic tree that is finer near zero.
Parameters of fewer than ``smallest`` numbers keep 32 bits. Takes 2 bytes of state a number that trains.

Needs a CUDA device and bitsandbytes. Written against bitsandbytes 0.50; steps, checkpoint and resume were run with its
kernels for CPUs, and nothing of it on a CUDA device yet.

Source: Dettmers et al., 8-bit Optimizers via Block-wise Quantization, 2022, arXiv:2110.02861; bitsandbytes' AdamW8bit.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.plugins import Options
from weitiao.training.optimizer import Groups, Optimizer

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["AdamW8Bit"]


class AdamW8Bit(Optimizer):
    """AdamW in a quarter of the memory."""

    whole_weights: ClassVar[bool] = True

    class Settings(Options):
        """How long it remembers, and what is too small to be worth it."""

        beta1: float = Field(default=0.9, ge=0, lt=1, description="share of the mean gradient kept from step to step")
        beta2: float = Field(default=0.999, ge=0, lt=1, description="likewise of the mean squared gradient")
        epsilon: float = Field(default=1e-8, gt=0, description="added to the typical size, so that none is zero")
        smallest: int = Field(default=4096, ge=1, description="numbers a parameter must have to be kept in 8 bits")

    settings: Settings

    @property
    def remembers(self) -> float:
        """Return the two moments, of a quarter of the size."""
        return 0.5

    def suits(self, model: nn.Module) -> str | None:
        """Refuse where it cannot run."""
        device = next(model.parameters()).device.type
        if device != "cuda":
            return f"it needs a CUDA device, and the model is on {device}"
        if find_spec("bitsandbytes") is None:
            return "it needs bitsandbytes, which is not installed: pip install bitsandbytes"
        return None

    def build(self, groups: Groups, learning_rate: float) -> torch.optim.Optimizer:
        """Return that of bitsandbytes, with a state that goes into a checkpoint and comes back out of it."""
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]

        class Resumable(AdamW8bit):
            def state_dict(self) -> dict[str, Any]:
                found = super().state_dict()
                return found | {"state": {index: _flat(values) for index, values in found["state"].items()}}

            def load_state_dict(self, state_dict: dict[str, Any], *args: Any, **named: Any) -> None:
                # its kernels take the number of the step as an int, and a checkpoint holds tensors
                state = {i: v | {"step": int(v["step"])} for i, v in state_dict["state"].items()}
                super().load_state_dict(state_dict | {"state": state}, *args, **named)

        own = self.settings
        return Resumable(
            groups,
            lr=learning_rate,
            betas=(own.beta1, own.beta2),
            eps=own.epsilon,
            min_8bit_size=own.smallest,
        )

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return one small enough for a tiny model; then another memory, and matrices kept in 32 bits."""
        variants: list[dict[str, Any]] = [{"beta1": 0.5}, {"beta2": 0.9}, {"epsilon": 1e-2}, {"smallest": 1_000_000}]
        variants = [{"smallest": 256} | variant for variant in variants]
        return {"settings": {"smallest": 256}, "variants": variants, "learning_rate": 1e-2}


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a parameter without the mapping in which bitsandbytes hides quantized parts from FSDP."""
    inner = {name: value for name, value in values.items() if isinstance(value, dict)}
    flat = {name: value for name, value in values.items() if name not in inner}
    for value in inner.values():
        flat |= value
    return flat
