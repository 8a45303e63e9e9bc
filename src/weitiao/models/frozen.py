"""Which layers of a model nothing trains, and how to run the model without them.

The layers below the first trained one say the same of a row in every epoch. `FrozenLayers.of` finds them by
watching one batch go through the model, so that no architecture needs a line here; `states` reads what the last of
them says; and inside `skipped` the model takes such states in their place when it is called with `STATES`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from weitiao.errors import ModelError
from weitiao.models import STATES, parts

__all__ = ["FrozenLayers", "call"]


class FrozenLayers:
    """The first layers of a model, below everything that trains.

    Parameters
    ----------
    model
        Whose layers they are; may be wrapped by peft.
    depth
        How many of its layers they are, from the first.
    """

    def __init__(self, model: nn.Module, depth: int) -> None:
        self.model, self.depth = model, depth
        self.blocks = list(parts.input_layers(model))[:depth] if depth else []
        self._current: Tensor | None = None
        self._shapes: list[Any] = [None] * depth  # of what each block returns besides its states
        self._extra: tuple[Any, ...] = ()

    @classmethod
    def of(cls, model: nn.Module, inputs: Mapping[str, Tensor]) -> FrozenLayers:
        """Return the frozen layers of `model`, found by watching it read `inputs`."""
        try:
            blocks = list(parts.input_layers(model))
        except ModelError:  # no stack of layers: none of it can be skipped
            return cls(model, 0)
        events = parts.module_events(model, inputs)
        ran = Counter(module for what, module in events if what == "start")
        depth, ended, trained = 0, [], _that_train(model, ran)
        for what, module in events:
            if what == "start" and module in trained:
                break
            if what == "end" and module in blocks:
                ended.append(module)
        while depth < len(blocks) and blocks[depth] in ended and ran[blocks[depth]] == 1:  # ALBERT runs one many times
            depth += 1
        return cls(model, depth)

    def quieten(self, inputs: Mapping[str, Tensor]) -> list[nn.Module]:
        """Return the modules that run only in or below these layers: with dropout off, they say the same always."""
        if not self.depth:
            return []
        events = parts.module_events(self.model, inputs)
        last = max(i for i, (what, m) in enumerate(events) if what == "end" and m is self.blocks[-1])
        later = {id(m) for _, m in events[last + 1 :]}
        early = dict.fromkeys(m for _, m in events[: last + 1] if id(m) not in later)
        return [m for m in early if not any(p.requires_grad for p in m.parameters())]

    def why_not(
        self, inputs: Mapping[str, Tensor], states: Tensor | None = None, *, tolerance: float = 1e-4
    ) -> str | None:
        """Return ``None`` if the model says the same of `inputs` with these layers skipped, or a sentence.

        Parameters
        ----------
        states
            What takes their place; what they say now when left out.
        tolerance
            Largest difference, as a share of the largest output.
        """
        name = type(parts.backbone(self.model)).__name__
        if not self.depth:
            return f"the first layer of {name}, or what is below it, trains"
        try:
            with parts.in_eval(self.model), torch.no_grad():
                with self.reading() as taken:
                    usual = self.model(**inputs)[0]
                    said = _only_tokens(taken()[0], inputs["attention_mask"])
                with self.skipped():
                    other = self.model(**inputs, **{STATES: said if states is None else states})[0]
            if usual.shape[:2] == inputs["attention_mask"].shape:  # what it says of padding nobody reads
                usual, other = (_only_tokens(each, inputs["attention_mask"]) for each in (usual, other))
            scale, far = max(1.0, usual.abs().max().item()), (usual - other).abs().max().item()
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            return f"{name} cannot be run without its first layers ({error})"
        if not far <= tolerance * scale:
            return f"{name} says something else without its first layers (difference {far:.2g})"
        return None

    @contextmanager
    def reading(self, *, stop: bool = False) -> Iterator[Callable[[], list[Tensor]]]:
        """Watch what the last of the layers says; the function given returns that of the last call, and forgets it.

        Parameters
        ----------
        stop
            Leave the model there; then it has to be called through `call`.
        """
        seen: list[Tensor] = []

        def note(_: nn.Module, __: Any, output: Any) -> None:
            seen[:] = [_states_of(output)]
            if stop:
                raise _Enough

        def take() -> list[Tensor]:
            taken = list(seen)
            seen.clear()
            return taken

        hooks = [block.register_forward_hook(self._note_shape(i)) for i, block in enumerate(self.blocks)]
        hooks.append(self.blocks[-1].register_forward_hook(note))
        try:
            yield take
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def skipped(self) -> Iterator[None]:
        """Let the model take `STATES` in place of these layers; called without, it is as ever."""

        def receive(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            self._current = kwargs.pop(STATES, None)
            return args, kwargs

        def forget(*_: Any) -> None:  # what writes a text calls the halves of a model by themselves
            self._current = None

        # on the model inside peft's wrapper: what generates text calls that one
        inner = parts.unwrap(self.model)
        taking = inner.register_forward_pre_hook(receive, with_kwargs=True, prepend=True)
        done = inner.register_forward_hook(forget, always_call=True)
        before = [vars(block).get("forward") for block in self.blocks]
        for i, block in enumerate(self.blocks):
            block.forward = self._stand_in(i, block.forward)
        try:
            yield
        finally:
            taking.remove()
            done.remove()
            self._current = None
            for block, own in zip(self.blocks, before, strict=True):
                del block.forward
                if own is not None:
                    block.forward = own

    def _stand_in(self, i: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if self._current is None:
                return forward(*args, **kwargs)
            shape = self._shapes[i]
            if shape is None:
                return self._current
            if i == 0 and any(shape):  # T5's first layer makes the position bias that all others are given
                with torch.no_grad():
                    self._extra = tuple(forward(*args, **kwargs)[1:])
            return (self._current, *(self._extra if any(shape) else [None] * len(shape)))

        return stand_in

    def _note_shape(self, i: int) -> Callable[..., None]:
        def note(_: nn.Module, __: Any, output: Any) -> None:
            self._shapes[i] = None if isinstance(output, Tensor) else [part is not None for part in output[1:]]

        return note


def _that_train(model: nn.Module, ran: Mapping[nn.Module, int]) -> set[nn.Module]:
    """Return the modules that train a number of their own, or one that lies in a part of them that never runs.

    Such parts are containers: of IA3, VeRA and AdaLoRA a layer's numbers lie in a ``ParameterDict``.
    """
    modules, found = dict(model.named_modules()), set()
    for path, module in modules.items():
        if any(p.requires_grad for p in module.parameters(recurse=False)):
            while path and modules[path] not in ran:
                path = path.rpartition(".")[0]
            found.add(modules[path])
    return found


class _Enough(Exception):
    """The layers asked for have run."""


def call(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """Call a model; ``None`` when `FrozenLayers.reading` stopped it on the way."""
    try:
        return model(**inputs)
    except _Enough:
        return None


def _states_of(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _only_tokens(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Return states with zeros in the place of padding, as stored ones have."""
    return states * attention_mask.view(*attention_mask.shape, *[1] * (states.dim() - 2)).to(states.dtype)
