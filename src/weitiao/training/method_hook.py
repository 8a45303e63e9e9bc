"""A method's own part in each step, at the seams of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from weitiao.methods.base import Method
from weitiao.training.hook import Hook
from weitiao.training.loop import Loop

__all__ = ["MethodHook", "method_hooks"]


class MethodHook(Hook):
    """Calls `Method.before_step` and `Method.after_step`, and keeps the method's state for a resumed run."""

    name = "method"
    whole_weights: ClassVar[bool] = True

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method
        self.name = f"the method {method.name}"  # type: ignore[misc]
        self._model: Any = None
        self._state: Mapping[str, torch.Tensor] | None = None

    def begin(self, loop: Loop) -> None:
        """Keep the model, and give the method its state back."""
        self._model = loop.accelerator.unwrap_model(loop.model)
        if self._state:
            self.method.load_state_dict(self._model, self._state)

    def before_step(self, loop: Loop) -> None:
        """Let the method see the gradient."""
        self.method.before_step(self._model, loop.position.step, loop.total_steps)

    def after_step(self, loop: Loop) -> None:
        """Let the method see the new weights."""
        self.method.after_step(self._model, loop.position.step, loop.total_steps)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the method's."""
        return {} if self._model is None else self.method.state_dict(self._model)

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Keep it until the loop begins."""
        self._state = state


class _WithPenalty(MethodHook):
    def loss(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        return self.method.penalty(self._model)


def method_hooks(method: Method) -> list[Hook]:
    """Return the hook a method needs in the loop; none for most."""
    own = {name for name in ("penalty", "before_step", "after_step") if _has(method, name)}
    if not own:
        return []
    return [_WithPenalty(method) if "penalty" in own else MethodHook(method)]


def _has(method: Method, seam: str) -> bool:
    return getattr(type(method), seam) is not getattr(Method, seam)
