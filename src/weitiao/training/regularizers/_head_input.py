"""What a model's head reads of each row, within the reach of regularizers: seen in one pass, changed in another.

Members share this; it is none itself. The head is found by structure: the module outside the backbone, with parameters,
that a pass comes to first. Its input is one vector a row, or one a token of which it reads the last (a decoder, whose
head scores all) or the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from weitiao.training.regularizers._first_pass import FirstPass, mask_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop

__all__ = ["HeadInput", "why_no_head", "why_not_rows"]


def why_no_head(model: nn.Module) -> str | None:
    """Return ``None`` if the model has a head over a backbone, or a sentence that says it has not."""
    from weitiao.models.parts import unwrap

    return None if _heads(model) else f"{type(unwrap(model)).__name__} has no head that is apart from its backbone"


def why_not_rows(task: Task, batch: dict[str, Tensor]) -> str | None:
    """Return ``None`` if an item of the task is a row, or a sentence that says what it is."""
    items, rows = task.items(batch), len(batch["input_ids"])
    return None if items == rows else f"it works on whole rows, and here {rows} rows have {items} items"


class HeadInput(FirstPass):
    """The representations of the first pass, and the head again with them changed.

    Parameters
    ----------
    model
        As the loop has it, adapters and all.
    """

    def __init__(self, model: nn.Module) -> None:
        from weitiao.models.parts import backbone, unwrap

        super().__init__(model)
        self.seen: Tensor | None = None  # (rows, hidden), of the first pass, part of its graph
        self._below: Any = None  # what the backbone returned in the first pass
        self._change: Callable[[Tensor], Tensor] | None = None
        self._waiting = False
        self._backbone = backbone(model)
        self._reads_last = hasattr(unwrap(model), "score")  # as stock decoders call a head that scores every token
        self._handles.append(self._backbone.register_forward_hook(self._returned))
        self._handles += [head.register_forward_pre_hook(self._read) for head in _heads(model)]

    def forget(self) -> None:
        """Make the next training pass the first one."""
        super().forget()
        self.seen = self._below = None

    def forward(self, loop: Loop, batch: dict[str, Tensor], change: Callable[[Tensor], Tensor]) -> Any:
        """Return the model's outputs with the head's input changed, (rows, hidden) to (rows, hidden).

        The backbone does not run again: it gives what it gave in the first pass.
        """
        if self._below is None:
            raise RuntimeError("no forward pass has been seen since the last backward")
        below, before = self._below, vars(self._backbone).get("forward")
        self._change = change
        self._backbone.forward = lambda *_, **__: below  # type: ignore[method-assign]
        try:
            with self.same_masks():
                return loop.forward(batch)
        finally:
            self._change = None
            if before is None:
                del self._backbone.forward
            else:
                self._backbone.forward = before

    def _start(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super()._start(model, args, kwargs)
        self._waiting = True

    def _returned(self, body: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.first and self._below is None:
            self._below = output

    def _read(self, head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not self._waiting:
            return None
        self._waiting = False
        hidden = args[0]
        if self._change is not None:
            return (self._put(hidden, self._change(self._take(hidden))), *args[1:])
        if self.first:
            self.seen = self._take(hidden)
        return None

    def _take(self, hidden: Tensor) -> Tensor:
        """Return (rows, hidden) of what the head is given."""
        import torch

        if hidden.dim() == 2:
            return hidden
        return hidden[torch.arange(len(hidden), device=hidden.device), self._places()]

    def _put(self, hidden: Tensor, value: Tensor) -> Tensor:
        """Return `hidden` with `value`, (rows, hidden), where the head reads."""
        import torch

        if hidden.dim() == 2:
            return value
        there = torch.arange(hidden.shape[1], device=hidden.device) == self._places()[:, None]  # (rows, length)
        return torch.where(there[..., None], value[:, None].to(hidden.dtype), hidden)

    def _places(self) -> Tensor:
        """Return (rows,), the place the head reads of each row."""
        mask = mask_of(self.inputs).long()  # (rows, length)
        return (mask.cumsum(1) * mask if self._reads_last else mask).argmax(1)


def _heads(model: nn.Module) -> list[nn.Module]:
    from weitiao.models.parts import backbone, head_modules, unwrap

    inner, body = unwrap(model), backbone(model)
    if body is inner:
        return []
    names = set(head_modules(model))
    return [child for name, child in inner.named_children() if name in names]
