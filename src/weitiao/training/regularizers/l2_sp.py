"""Hold pretrained weights near where they started, and new ones near zero.

Adds, with w the weights that came with the checkpoint, w0 their values before training, and v the new ones,

    strength / 2 * ||w - w0||^2 + head_strength / 2 * ||v||^2

to the mean loss of a step. The gradient, strength * (w - w0) and head_strength * v, is added once a step, so the
loss that is shown does not have the term. Set ``training.weight_decay`` to 0 to have this in its place rather than
beside it. Costs one more copy of the weights that train.

Source: Li et al., Explicit Inductive Bias for Transfer Learning with Convolutional Networks, 2018, arXiv:1802.01483.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.models import parts
from weitiao.plugins import Options
from weitiao.training.hook import Hook

if TYPE_CHECKING:
    import torch
    from torch import nn

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop

__all__ = ["L2StartingPoint"]


class L2StartingPoint(Hook):
    """Weight decay towards the pretrained weights."""

    whole_weights: ClassVar[bool] = True

    class Settings(Options):
        """How strongly."""

        strength: float = Field(0.01, gt=0, description="of pretrained weights towards their start; the paper's alpha")
        head_strength: float = Field(0.01, ge=0, description="of new weights towards zero; the paper's beta")

    settings: Settings

    def __init__(self, settings: Options | None = None) -> None:
        super().__init__(settings)
        self._start: dict[str, torch.Tensor] = {}

    def suits(self, model: nn.Module, task: Task) -> str | None:
        """Refuse a model of which nothing pretrained trains."""
        if _pretrained(model):
            return None
        return "no pretrained weight of the model trains; training.weight_decay draws the others towards zero"

    def begin(self, loop: Loop) -> None:
        """Note where the pretrained weights start, unless a checkpoint has told."""
        here = _pretrained(loop.plain_model)
        if not self._start:
            self._start = {name: parameter.detach().clone() for name, parameter in here.items()}
        self._start = {name: value.to(here[name].device) for name, value in self._start.items()}

    def before_step(self, loop: Loop) -> None:
        """Add the term's gradient."""
        for name, parameter in loop.plain_model.named_parameters():
            if parameter.grad is None:
                continue
            weight = parameter.detach()
            if name in self._start:
                parameter.grad.add_(weight - self._start[name], alpha=self.settings.strength)
            else:
                parameter.grad.add_(weight, alpha=self.settings.head_strength)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return where the pretrained weights started, by name."""
        return dict(self._start)

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take back where they started."""
        self._start = dict(state)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default and two stronger ones."""
        return {
            "settings": {},
            "variants": [{"strength": 0.5}, {"head_strength": 0.5}],
            "idle": [{"strength": 0.0, "head_strength": 0.0}],
        }


def _pretrained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that train and came with the checkpoint; inside a peft wrapper there are none."""
    if parts.unwrap(model) is not model:
        return {}
    fresh = parts.new_parameters(model) | parts.inserted_parameters(model)
    return {name: p for name, p in model.named_parameters() if p.requires_grad and name not in fresh}
