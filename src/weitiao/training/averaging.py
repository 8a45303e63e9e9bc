"""Weights beside the ones that train: measured, kept and handed over in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch

from weitiao.training.hook import Hook

if TYPE_CHECKING:
    from weitiao.plugins import Options
    from weitiao.training.loop import Loop

__all__ = ["Averaging"]


class Averaging(Hook):
    """Base of the regularizers that average the weights along the path of training.

    Training itself is not touched. `average` holds one tensor for every parameter that trains, by name, in float32
    or finer; while it is empty there is nothing to swap in.
    """

    whole_weights: ClassVar[bool] = True

    def __init__(self, settings: Options | None = None) -> None:
        super().__init__(settings)
        self.average: dict[str, torch.Tensor] = {}
        self._training: dict[str, torch.Tensor] = {}  # while the average is in its place

    def begin(self, loop: Loop) -> None:
        """Take what a checkpoint gave to the devices of the parameters."""
        here = self.training_weights(loop)
        self.average = {name: value.to(here[name].device) for name, value in self.average.items()}

    def training_weights(self, loop: Loop) -> dict[str, torch.Tensor]:
        """Return the parameters that train, by name."""
        return {name: p.detach() for name, p in loop.plain_model.named_parameters() if p.requires_grad}

    def move(self, loop: Loop, share: float) -> None:
        """Move the average by `share` of its distance to the present weights; 1 takes these as they are."""
        for name, weight in self.training_weights(loop).items():
            fine = weight.to(torch.promote_types(weight.dtype, torch.float32))
            if name in self.average:
                self.average[name].lerp_(fine, share)
            else:
                self.average[name] = fine.clone()

    def before_measure(self, loop: Loop) -> None:
        """Put the average in."""
        if self.average:
            self._training = {name: p.clone() for name, p in self.training_weights(loop).items()}
            self._put(loop, self.average)

    def after_measure(self, loop: Loop) -> None:
        """Put the weights that train back, bit by bit."""
        self._put(loop, self._training)
        self._training = {}

    def finish(self, loop: Loop) -> None:
        """Leave the average; where dev was measured, the loop then puts the best measured one in."""
        self._put(loop, self.average)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the average by name of parameter."""
        return dict(self.average)

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the average back."""
        self.average = {name: value.clone() for name, value in state.items()}

    def _put(self, loop: Loop, weights: Mapping[str, torch.Tensor]) -> None:
        here = self.training_weights(loop)
        for name, value in weights.items():
            here[name].copy_(value)
