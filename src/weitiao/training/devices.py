"""Which device trains, and in which precision: what the hardware does fast, never what it merely can."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import convert_to_fp32
from torch import nn

from weitiao.errors import RecipeError
from weitiao.models import parts
from weitiao.training.processes import Processes

__all__ = ["Precision", "accelerator", "keep_fewer_activations", "precision"]


def accelerator() -> Accelerator:
    """Return accelerate's view of the devices and processes. Precision is not its business but `Precision`'s."""
    Processes()  # knows what the processes were started by, where accelerate does not ask
    return Accelerator(mixed_precision="no")


def precision(name: str, device: str | None = None) -> torch.dtype:
    """Return what a precision of the recipe is on a device, by default that which trains.

    ``auto`` is what is fast and loses nothing: bfloat16 on a GPU that has it, else float32; a CPU gets float32 always.

    Raises
    ------
    RecipeError
        It is not to be had, or would be slower than float32, on this device.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "auto":
        name = "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if device == "cpu" and name != "float32":
        slower = float("inf") if name == "float16" else _times_slower()
        if slower > 1:
            how = "cannot train in" if name == "float16" else f"is {slower:.1f} times slower in"
            raise RecipeError(
                f"training.precision is {name}, but this processor {how} it.",
                fix="Leave it out; float32 is the fastest here.",
            )
    return getattr(torch, name)


class Precision:
    """Forward passes in a precision; weights and what is measured stay float32.

    Parameters
    ----------
    dtype
        Of products; float16 brings a scale for the loss, so that small gradients do not vanish (Micikevicius et al.,
        Mixed Precision Training, 2018, arXiv:1710.03740).
    device
        Where they are.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)  # switched off, it passes on

    def forward(self, model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Call the model; what it says is float32."""
        if self.dtype == torch.float32:
            return model(**inputs)
        with torch.autocast(self.device.type, self.dtype):
            outputs = model(**inputs)
        return convert_to_fp32(outputs)

    @property
    def scale(self) -> float | None:
        """The scale of the loss, where there is one."""
        return self.scaler.get_scale() if self.scaler.is_enabled() else None

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return what a resumed run needs, tensors by name."""
        return {k: torch.tensor(v, dtype=torch.float64) for k, v in self.scaler.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take back what `state_dict` gave."""
        if state:
            whole = {"growth_interval", "_growth_tracker"}
            self.scaler.load_state_dict({k: int(v) if k in whole else v.item() for k, v in state.items()})


def keep_fewer_activations(model: nn.Module) -> None:
    """Let each layer compute its activations again in the backward pass.

    Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, arXiv:1604.06174.
    """
    body: Any = parts.backbone(model)
    enable = getattr(body, "activation_checkpointing_enable", None) or body.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    if hasattr(body, "disable_input_require_grads"):  # what only the reentrant way needs; it would wake frozen layers
        body.disable_input_require_grads()


def _times_slower() -> float:
    """Measure how much longer a bfloat16 product takes here than a float32 one: what flags say is not speed."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(256, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
        torch.mm(a, b)
        started = time.perf_counter()
        for _ in range(3):
            torch.mm(a, b)
        seconds[dtype] = time.perf_counter() - started
    return seconds[torch.bfloat16] / seconds[torch.float32]
