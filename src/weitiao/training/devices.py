"""Which device trains, and in which precision: what the hardware does fast, never what it merely can."""

from __future__ import annotations

import time
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from weitiao.errors import RecipeError
from weitiao.models import parts

__all__ = ["accelerator", "fast_precision", "keep_fewer_activations"]

_NAMES = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def fast_precision() -> str:
    """Return the precision that is fast here and loses nothing: bfloat16 on a GPU that has it, else float32.

    A CPU gets float32 always: where it lacks units for bfloat16 a product takes 20 to 50 times as long.
    """
    return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"


def accelerator(precision: str) -> Accelerator:
    """Return accelerate's view of the devices, in a precision of the recipe.

    Raises
    ------
    RecipeError
        The precision is not to be had, or would be far slower than float32, on this device.
    """
    chosen = fast_precision() if precision == "auto" else precision
    made = Accelerator(mixed_precision=_NAMES[chosen])
    if made.device.type == "cpu" and chosen != "float32":
        slower = float("inf") if chosen == "float16" else _times_slower()
        if slower > 1:
            how = "cannot train in" if chosen == "float16" else f"is {slower:.0f} times slower in"
            raise RecipeError(
                f"training.precision is {chosen}, but this processor {how} it.",
                fix="Leave it out; float32 is the fastest here.",
            )
    return made


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
