"""Trained keys and values in front of those that attention computes, in any model whose attention can be exchanged.

transformers lets an attention function be registered under a name, and models look it up at each call. The one here
puts what a module's `PREFIX` gives before the keys and values, lets every token see it, and calls the function that
was there before. No position shifts, and the prefix never enters the cache of keys and values, so that a decoder
generates as ever.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from weitiao.errors import ModelError
from weitiao.models import parts

__all__ = ["PREFIX", "MadePrefix", "Place", "Prefix", "PrefixSource", "places", "prefixes", "put", "why_not"]

# The child of an attention module that gives its prefix: two tensors, ``(heads, tokens, width of a head)``.
PREFIX = "trained_prefix"
_NAME = "weitiao_prefix_"  # in front of the name of the attention function underneath


@dataclass(frozen=True)
class Place:
    """An attention module that takes a prefix.

    Parameters
    ----------
    name
        Of the module in the model.
    module
        The module itself.
    key, value
        ``(heads, width)`` of its keys and of its values.
    spread
        Standard deviations of its keys and of its values, as the model reads a few tokens.
    """

    name: str
    module: nn.Module
    key: tuple[int, int]
    value: tuple[int, int]
    spread: tuple[float, float]


class Prefix(parts.Inserted):
    """Keys and values as they are."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.key, self.value = nn.Parameter(key), nn.Parameter(value)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return both."""
        return self.key, self.value


class PrefixSource(parts.Inserted):
    """Vectors of the prefix tokens, and the step of the network that makes prefixes that all layers share."""

    def __init__(self, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(tokens, width))
        self.inner = nn.Linear(width, hidden)

    def forward(self) -> Tensor:
        """Return ``(tokens, hidden)``."""
        return torch.tanh(self.inner(self.vectors))


class MadePrefix(parts.Inserted):
    """The network's last step for one attention; nothing is kept between calls: they are as new as the weights."""

    def __init__(self, source: PrefixSource, place: Place, hidden: int) -> None:
        super().__init__()
        self._source = (source,)  # in a tuple: it is the backbone's child, and no second time this one's
        self._heads = (place.key[0], place.value[0])
        self.key = nn.Linear(hidden, place.key[0] * place.key[1])
        self.value = nn.Linear(hidden, place.value[0] * place.value[1])

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return both, ``(heads, tokens, width)``."""
        inner = self._source[0]()
        key, value = (last(inner) for last in (self.key, self.value))
        split = [each.unflatten(1, (heads, -1)) for each, heads in zip((key, value), self._heads, strict=True)]
        return split[0].transpose(0, 1), split[1].transpose(0, 1)


# What `places` collects while a model reads a few tokens: keys and values by attention module.
_watched: ContextVar[dict[nn.Module, tuple[Tensor, Tensor]] | None] = ContextVar("watched", default=None)


def places(model: nn.Module) -> list[Place]:
    """Return the attention modules of the backbone, found by letting it read a few tokens: self- and cross-attention.

    A module that several layers share is one place.
    """
    body, seen = parts.backbone(model), {}
    ids = torch.arange(4, 7, device=next(body.parameters()).device)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "decoder_input_ids" in inspect.signature(type(body).forward).parameters:
        inputs["decoder_input_ids"] = ids
    watching = _watched.set(seen)
    try:
        with _switched(body), parts.in_eval(body), torch.no_grad():
            body(**inputs)
    finally:
        _watched.reset(watching)
    names = {module: name for name, module in parts.unwrap(model).named_modules()}
    return [
        Place(names[module], module, _heads(key), _heads(value), (key.std().item(), value.std().item()))
        for module, (key, value) in seen.items()
    ]


def why_not(model: nn.Module) -> str | None:
    """Return ``None`` if every layer of the model takes a prefix, or a sentence that says why not."""
    name = type(parts.backbone(model)).__name__
    own = f"{name} computes attention by itself, so that nothing can be put before its keys and values"
    try:
        found = {place.module for place in places(model)}
        blocks = parts.layers(model)
    except ModelError as error:
        return str(error).rstrip(".")
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError):
        return own
    return None if all(found & set(block.modules()) for block in blocks) else own


def put(model: nn.Module, made: dict[str, nn.Module]) -> None:
    """Put prefixes into `model`: a module by the name of the attention module that it is for."""
    inner = parts.unwrap(model)
    for name, prefix in made.items():
        inner.get_submodule(name).register_module(PREFIX, prefix)
    _switch(parts.backbone(model))


def prefixes(model: nn.Module) -> dict[str, nn.Module]:
    """Return the prefixes in `model`, by the name of their attention module."""
    named = parts.unwrap(model).named_modules()
    return {name: module.get_submodule(PREFIX) for name, module in named if PREFIX in dict(module.named_children())}


def _heads(states: Tensor) -> tuple[int, int]:
    return states.shape[1], states.shape[3]


def _switch(body: nn.Module) -> list[tuple[Any, str]]:
    """Let all attention in `body` look for prefixes; return the configs changed, each with what it said."""
    changed = []
    for module in body.modules():
        config: Any = getattr(module, "config", None)
        was = getattr(config, "_attn_implementation", None)
        if was in _UNDERNEATH:
            # not its property's setter, which sets the parts of a config, too, whatever they said
            config._attn_implementation_internal = _NAME + was
            changed.append((config, was))
    return changed


@contextmanager
def _switched(body: nn.Module) -> Iterator[None]:
    changed = _switch(body)
    try:
        yield
    finally:
        for config, was in changed:
            config._attn_implementation_internal = was


def _attend(
    underneath: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> Any:
    """Attend with the module's prefix, if it has one, before all keys."""
    if (seen := _watched.get()) is not None:
        seen.setdefault(module, (key, value))
    own = getattr(module, PREFIX, None)
    if own is not None:
        before = [each.to(key.dtype).expand(len(key), *each.shape) for each in own()]
        count = before[0].shape[2]
        if attention_mask is None and query.shape[2] > 1 and _means_causal(underneath, module, kwargs):
            seen_by = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=key.device)
            attention_mask = seen_by.tril()[None, None]
        key, value = (torch.cat(both, dim=2) for both in zip(before, (key, value), strict=True))
        if attention_mask is not None:
            attention_mask = _widened(attention_mask, count, True if attention_mask.dtype == torch.bool else 0.0)
        if kwargs.get("position_bias") is not None:  # the prefix stands nowhere, so no distance counts
            kwargs["position_bias"] = _widened(kwargs["position_bias"], count, 0.0)
    return underneath(module, query, key, value, attention_mask, **kwargs)


def _means_causal(underneath: Callable[..., Any], module: nn.Module, kwargs: dict[str, Any]) -> bool:
    """Whether no mask stands for a causal one, as torch's own attention has it."""
    if underneath is _eager:
        return False
    told = kwargs.get("is_causal")
    return bool(getattr(module, "is_causal", True) if told is None else told)


def _widened(mask: Tensor, count: int, fill: bool | float) -> Tensor:
    return torch.cat([mask.new_full((*mask.shape[:-1], count), fill), mask], dim=-1)


def _eager(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Call the plain attention of the file that the module's class is from: each architecture has its own."""
    for kind in type(module).__mro__:
        plain = getattr(sys.modules[kind.__module__], "eager_attention_forward", None)
        if plain is not None:
            return plain(module, *args, **kwargs)
    raise ModelError(f"{type(module).__name__} has no plain attention.")


def _sdpa(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return AttentionInterface()["sdpa"](module, *args, **kwargs)


_UNDERNEATH: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sdpa": (_sdpa, sdpa_mask),
    "eager": (_eager, eager_mask),
}
for _name, (_function, _mask) in _UNDERNEATH.items():
    AttentionInterface.register(_NAME + _name, partial(_attend, _function))
    AttentionMaskInterface.register(_NAME + _name, _mask)
