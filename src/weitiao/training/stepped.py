"""A torch optimizer around a member that says how one parameter moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from weitiao.training.optimizer import Optimizer

__all__ = ["Stepped"]


class Stepped(torch.optim.Optimizer):
    """Calls `Optimizer.update` for each parameter that has a gradient.

    Parameters
    ----------
    groups
        Parameter groups, each with its own ``lr``.
    member
        Moves the parameters; what it remembers of one is in the state of that parameter.
    """

    def __init__(self, groups: list[dict[str, Any]], member: Optimizer) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0})
        self.member = member

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter once."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.member.update(parameter, self.state[parameter], group)

    @contextmanager
    def measured_weights(self) -> Iterator[None]:
        """Put the weights to be measured in the place of those that train; then put these back, bit for bit."""
        kept = []
        with torch.no_grad():
            for parameter, state in self.state.items():
                if (other := self.member.measured(parameter, state)) is not None:
                    kept.append((parameter, parameter.clone()))
                    parameter.copy_(other)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in kept:
                    parameter.copy_(value)
