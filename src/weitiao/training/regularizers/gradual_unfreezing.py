"""Train the head first, then one layer more at a time, from the last to the first, and the embeddings at the end.

Until its turn a layer's gradient is dropped before the step: its weights stay as they were, clipping does not count
it, and the optimizer knows nothing of it. The passes themselves are those of the whole model, so no time is saved.
With `every` left out, turns come at equal distances and the last one at half of the steps.

Source: Howard and Ruder, Universal Language Model Fine-tuning for Text Classification, 2018, arXiv:1801.06146,
section 3.3.
Differs: the paper takes one layer more each epoch, which is `every` at one divided by the number of epochs; a
transformer of twelve layers has more of them than a usual run has epochs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from weitiao.errors import ModelError
from weitiao.models import parts
from weitiao.plugins import Options
from weitiao.training.hook import Hook

if TYPE_CHECKING:
    from torch import nn

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop

__all__ = ["GradualUnfreezing"]


class GradualUnfreezing(Hook):
    """Layers that wait until what stands on them has learnt something."""

    whole_weights: ClassVar[bool] = True

    class Settings(Options):
        """How long."""

        every: float | None = Field(
            None,
            gt=0,
            lt=1,
            description="share of all steps from one layer's turn to the next; null: the last turn is at half of them",
        )

    settings: Settings

    def __init__(self, settings: Options | None = None) -> None:
        super().__init__(settings)
        self._turns: list[list[nn.Parameter]] = []

    def suits(self, model: nn.Module, task: Task) -> str | None:
        """Refuse a model without layers, or one of which a single part trains."""
        try:
            turns = _turns(model)
        except ModelError as error:
            return str(error).rstrip(".")
        return None if len(turns) > 1 else "only one part of the model trains, so nothing would wait"

    def begin(self, loop: Loop) -> None:
        """Find out whose turn comes when."""
        self._turns = _turns(loop.plain_model)

    def before_step(self, loop: Loop) -> None:
        """Drop the gradients of those who wait."""
        for waiting in self._turns[self._here(loop) :]:
            for parameter in waiting:
                parameter.grad = None

    def _here(self, loop: Loop) -> int:
        """Return how many have had their turn when the present step is taken."""
        share = 0.5 / max(1, len(self._turns) - 1) if self.settings.every is None else self.settings.every
        distance = share * loop.total_steps
        # the little more is for a distance that is whole but for its last bits
        return 1 + int(loop.position.step / distance + 1e-6) if distance > 0 else len(self._turns)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the default and a slower one."""
        return {"settings": {}, "variants": [{"every": 0.3}], "idle": [{"every": 0.0}]}


def _turns(model: nn.Module) -> list[list[nn.Parameter]]:
    """Return what trains, in the order of its turns: head, layers from the last to the first, the rest."""
    turn_of: dict[int, int] = {}
    stack = parts.layers(model)
    for index, block in enumerate(stack):
        turn_of |= {id(p): len(stack) - index for p in block.parameters()}
    first = parts.head_parameters(model) | parts.after_layers(model)
    turns: list[list[nn.Parameter]] = [[] for _ in range(len(stack) + 2)]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            turns[0 if name in first else turn_of.get(id(parameter), len(stack) + 1)].append(parameter)
    return [turn for turn in turns if turn]
