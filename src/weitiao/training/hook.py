"""A hook changes how numbers are moved, at the seams of the loop, with state of its own.

The loop, with every seam in its place::

    hook.begin(loop)
    for each epoch:
        for each step:
            for each micro-batch of the step's window:
                batch = hook.before_batch(loop, batch)
            for each micro-batch:
                outputs = model(batch)
                loss = task.loss(outputs, batch) / items of the window
                loss += (share of the window) * hook.loss(loop, batch, outputs)      # a mean over items
                backward
                hook.after_backward(loop, batch)
            hook.before_step(loop)              # gradients are whole, and not yet clipped
            clip, step
            hook.after_step(loop)
            now and then: hook.before_measure(loop); measure on dev, keep the best; hook.after_measure(loop)
        hook.after_epoch(loop)
    hook.finish(loop)

``before_*``, ``begin`` and ``loss`` run in the order of the recipe, ``after_*`` and ``finish`` in reverse, so
that what one hook wraps it unwraps. A seam a hook does not define costs nothing. A hook may return or add; it
does not replace the loop's model, its optimizer, or another hook.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from weitiao.plugins import Named, Options

if TYPE_CHECKING:
    import torch
    from torch import nn

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop
    from weitiao.training.supplies import Supplies

__all__ = ["SEAMS", "Hook", "why_not"]

SEAMS = (
    "begin",
    "before_batch",
    "loss",
    "after_backward",
    "before_step",
    "after_step",
    "after_epoch",
    "before_measure",
    "after_measure",
    "finish",
)


class Hook(Named):
    """A change to training. One file in ``training/regularizers`` is one regularizer, a hook chosen by name.

    Attributes
    ----------
    couples_rows
        What a row adds depends on the rows beside it in a forward pass, so that a step can be cut into neither
        micro-batches nor shares of several processes; both are refused.
    changes_frozen
        It works on token vectors or on layers that a frozen prefix would skip; then nothing is skipped.
    drops_frozen
        Frozen layers have dropout too, which they otherwise have not.
    needs_classes
        It reads a task's logits as those of classes, one of them the target; a task whose targets are something else
        is refused.
    needs_row_items
        It joins or compares rows with their targets, one a row; a task with other items is refused.
    needs_unlabeled
        It learns from rows without labels; a recipe that names none is refused.
    whole_weights
        It reads or writes weights by itself; refused where each process holds a part of them.
    """

    class Settings(Options):
        """Settings of the hook in the recipe; the value that would make it do nothing is refused."""

    couples_rows: ClassVar[bool] = False
    changes_frozen: ClassVar[bool] = False
    drops_frozen: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False
    needs_row_items: ClassVar[bool] = False
    needs_unlabeled: ClassVar[bool] = False
    whole_weights: ClassVar[bool] = False
    settings: Any

    def __init__(self, settings: Options | None = None) -> None:
        self.settings = settings or self.Settings()

    def suits(self, model: nn.Module, task: Task) -> str | None:
        """Return ``None`` if the hook does something here, or a sentence that says why not."""
        return None

    def look(self, supplies: Supplies, task: Task) -> None:
        """Look at what `begin` will need, before time is spent; raises a `WeitiaoError` if it cannot be had."""

    def begin(self, loop: Loop) -> None:
        """Start of training, after a resumed run has its weights back."""

    def before_batch(self, loop: Loop, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the micro-batch to train on."""
        return batch

    def loss(self, loop: Loop, batch: dict[str, torch.Tensor], outputs: Any) -> torch.Tensor:
        """Return an extra term, a mean over the items of `batch`."""
        raise NotImplementedError

    def after_backward(self, loop: Loop, batch: dict[str, torch.Tensor]) -> None:
        """Run after each micro-batch's backward pass."""

    def before_step(self, loop: Loop) -> None:
        """Run when the gradient of the whole window is there, before it is clipped."""

    def after_step(self, loop: Loop) -> None:
        """Run after the optimizer's step."""

    def after_epoch(self, loop: Loop) -> None:
        """Run after each epoch."""

    def before_measure(self, loop: Loop) -> None:
        """Put the weights to be measured, and kept if they are the best, in the place of those that train."""

    def after_measure(self, loop: Loop) -> None:
        """Put the weights that train back."""

    def finish(self, loop: Loop) -> None:
        """Run once, when training is over."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return what a resumed run needs, tensors by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take back what `state_dict` gave."""

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return the smallest case in which the hook does something.

        ``{"settings": {...}, "variants": [...], "idle": [...]}``: variants are other settings, each a whole one,
        that train to other weights and together name every setting; idle ones would do nothing, and are refused.
        """
        return {"settings": {}, "variants": [], "idle": []}


def why_not(hook: Hook, model: nn.Module, task: Task) -> str | None:
    """Return ``None`` if a hook does something on this model and for this task, or a sentence that says why not."""
    if hook.needs_classes and not task.classes_are_targets:
        return "it compares probabilities of classes, and the targets of this task are no classes"
    if hook.needs_row_items and not task.one_item_a_row:
        return "it needs one vector and one target a row, and a row of this task has others"
    return hook.suits(model, task)
