"""What a regularizer remembers of a micro-batch's own forward pass, so that it can run a second one like it.

Members share this; it is none itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["FirstPass", "mask_of"]


def mask_of(batch: Mapping[str, Any]) -> Tensor:
    """Return (rows, length), true for tokens and false for padding."""
    mask = batch.get("attention_mask")
    return batch["input_ids"] > -1 if mask is None else mask.bool()


class FirstPass:
    """Hooks on a model that know the inputs and the random state of the first training pass since `forget`.

    Other regularizers run passes of their own between the micro-batch's pass and its backward: only the first counts.
    """

    def __init__(self, model: nn.Module) -> None:
        self.inputs: Mapping[str, Any] = {}  # of the present pass
        self.first = False  # whether the present pass is the first
        self._random: tuple[Tensor, Tensor | None] | None = None  # before the first pass, on the CPU and the GPU
        self._handles: list[Any] = [model.register_forward_pre_hook(self._start, with_kwargs=True)]

    def forget(self) -> None:
        """Make the next training pass the first one."""
        self._random = None

    def remove(self) -> None:
        """Take the hooks off the model and let go of what was seen."""
        for handle in self._handles:
            handle.remove()
        self.inputs = {}
        self.forget()

    @contextmanager
    def same_masks(self) -> Iterator[None]:
        """Draw dropout inside as the first pass did; the random state outside is left as it was."""
        import torch

        if self._random is None:
            yield
            return
        cpu, device = self._random
        with torch.random.fork_rng(devices=[] if device is None else [torch.cuda.current_device()]):
            torch.set_rng_state(cpu)
            if device is not None:
                torch.cuda.set_rng_state(device)
            yield

    def _start(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        self.inputs = kwargs
        self.first = model.training and torch.is_grad_enabled() and self._random is None
        if self.first:
            on_gpu = next(model.parameters()).is_cuda
            self._random = torch.get_rng_state(), torch.cuda.get_rng_state() if on_gpu else None
