"""The one table of layer names: where a model's backbone, layers, head and dense layers are.

Almost everything is found by structure, so a new architecture needs no line here;
the exception is which dense layers make queries and values (`_QUERY_VALUE`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from weitiao.errors import ModelError

__all__ = [
    "POOLINGS",
    "Inserted",
    "Pooling",
    "adapter_targets",
    "after_layers",
    "backbone",
    "head_modules",
    "head_parameters",
    "in_eval",
    "input_layers",
    "inserted_parameters",
    "inside_last_layers",
    "layers",
    "linear_names",
    "module_events",
    "new_parameters",
    "pool",
    "solvable_parameters",
    "token_vectors",
    "unwrap",
    "why_not_solvable",
]

Pooling = Literal["cls", "mean", "last"]
POOLINGS: tuple[Pooling, ...] = ("cls", "mean", "last")

# What the projections to queries and values are called; the first that a model has in full is taken.
_QUERY_VALUE = (
    ("query", "value"),  # BERT, RoBERTa, ELECTRA, ALBERT
    ("query_proj", "value_proj"),  # DeBERTa
    ("q_proj", "v_proj"),  # Llama, Qwen, Gemma, Mistral, OPT
    ("q_lin", "v_lin"),  # DistilBERT, XLM
    ("q", "v"),  # MPNet, T5
    ("Wqkv",),  # ModernBERT, MPT
    ("c_attn",),  # GPT-2
    ("query_key_value",),  # BLOOM, Falcon, GPT-NeoX
    ("qkv_proj",),  # Phi-3
)


def token_vectors(model: Any) -> np.ndarray:
    """Return the vector of each token of the vocabulary, ``(vocabulary, width)``."""
    return model.get_input_embeddings().weight.detach().float().cpu().numpy()


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def backbone(model: nn.Module) -> nn.Module:
    """Return the pretrained part of a model: what lies under the head, or all, if its head was pretrained too.

    Sees through peft.
    """
    inner: Any = unwrap(model)
    if getattr(inner, "head_is_pretrained", False):
        return inner
    return getattr(inner, getattr(inner, "base_model_prefix", ""), inner)


def layers(model: nn.Module) -> nn.ModuleList:
    """Return the stack of equal blocks of the backbone, first to last; of an encoder-decoder, both stacks in turn.

    Raises
    ------
    ModelError
        The backbone has no such stack.
    """
    stacks = _stacks(model)
    if not stacks:
        raise ModelError(f"{type(backbone(model)).__name__} has no stack of equal layers.")
    config: Any = getattr(backbone(model), "config", None)
    if getattr(config, "is_encoder_decoder", False):
        return nn.ModuleList(block for stack in stacks for block in stack)
    return max(stacks, key=len)


def input_layers(model: nn.Module) -> nn.ModuleList:
    """Return the stack of layers that reads the input: of an encoder-decoder, the encoder's.

    Raises
    ------
    ModelError
        The backbone has no such stack.
    """
    config: Any = getattr(backbone(model), "config", None)
    if getattr(config, "is_encoder_decoder", False):
        return _stacks(model)[0]
    return layers(model)


class Inserted(nn.Module):
    """Base of what a method puts into a model: none of its weights was pretrained, and none is of the head."""


def inserted_parameters(model: nn.Module) -> set[str]:
    """Return the names of the parameters of all that is `Inserted`."""
    own = {id(p) for module in model.modules() if isinstance(module, Inserted) for p in module.parameters()}
    return {name for name, p in model.named_parameters() if id(p) in own}


def new_parameters(model: nn.Module) -> set[str]:
    """Return the names (in the unwrapped model) of parameters that the pretrained checkpoint did not have."""
    return set(getattr(unwrap(model), "new_parameters", ()))


def head_parameters(model: nn.Module) -> set[str]:
    """Return the names of all parameters to learn from nothing: outside the backbone, and new ones inside it.

    Under peft these are the trained copies; the frozen originals are left out.
    """
    inside = {id(p) for p in backbone(model).parameters()}
    fresh = new_parameters(model)
    return {
        name
        for name, parameter in model.named_parameters()
        if "original_module." not in name and (id(parameter) not in inside or _plain(name) in fresh)
    }


def solvable_parameters(model: nn.Module) -> set[str]:
    """Return the names to solve for on a frozen backbone: the new ones outside it, or all of these if none is new.

    What lies between backbone and classifier and came with the checkpoint (ModernBERT's dense layer) is a feature
    of the model like the backbone itself.
    """
    inside = {id(p) for p in backbone(model).parameters()}
    outside = {name for name, p in model.named_parameters() if id(p) not in inside}
    return outside & new_parameters(model) or outside


def why_not_solvable(model: nn.Module) -> str | None:
    """Return ``None`` if the best head on the frozen backbone is one linear layer's optimum, or why it is not.

    A backbone with weights that no checkpoint gave has random features; a head of several new layers is not
    a convex problem.
    """
    inside = {id(p) for p in backbone(model).parameters()}
    fresh = new_parameters(model)
    new = [name for name, p in model.named_parameters() if name in fresh and id(p) in inside]
    if new:
        return (
            f"the checkpoint has no weights for {', '.join(new)}, so the frozen backbone would give random "
            "features; set model.pooling to mean"
        )
    own = solvable_parameters(model)
    dense = [name.rpartition(".")[0] for name, p in model.named_parameters() if name in own and p.dim() > 1]
    if len(dense) > 1:
        from weitiao.models.load import native_pooling

        other = next(way for way in ("mean", "last", "cls") if way not in native_pooling(model.config))
        return (
            f"the head of {type(model).__name__} has {len(dense)} new layers ({', '.join(dense)}), so the problem "
            f"is not convex; set model.pooling to {other}, which puts one linear layer on the backbone"
        )
    return None


def head_modules(model: nn.Module) -> list[str]:
    """Return the names of modules that make the head, as peft's ``modules_to_save`` takes them.

    The top-level modules outside the backbone that hold parameters, then modules
    of the backbone of which every parameter is new (a pooler the checkpoint lacks).
    """
    inner, body = unwrap(model), backbone(model)
    if getattr(inner, "head_is_pretrained", False):  # a writer's head is a part of the backbone
        return []
    beside = [] if body is inner else list(inner.named_children())  # T5 finds spans with no backbone apart
    shared = {id(p) for p in body.parameters()}
    names = [path for n, child in beside if child is not body for path in _apart(n, child, shared)]
    fresh = new_parameters(model)
    known = {id(p) for n, p in inner.named_parameters() if _plain(n) not in fresh}
    for name, child in body.named_children():
        own = [id(p) for p in child.parameters()]
        if own and not known & set(own):
            names.append(name)
    return names


def after_layers(model: nn.Module) -> set[str]:
    """Return the names of backbone parameters that act after the last layer: a final norm, a pooler.

    Found by running two tokens through the backbone and watching which modules
    start after the last layer has ended: the order in which modules are declared
    would count DeBERTa's relative positions, which every layer uses.
    """
    body, last = backbone(model), layers(model)[-1]
    ids = torch.zeros(1, 2, dtype=torch.long, device=next(body.parameters()).device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(getattr(body, "config", None), "is_encoder_decoder", False) and len(_stacks(model)) > 1:
        inputs["decoder_input_ids"] = ids
    events = module_events(body, inputs)
    end = max(i for i, event in enumerate(events) if event == ("end", last))
    before = {id(p) for what, m in events[:end] if what == "start" for p in m.parameters(recurse=False)}
    after = {id(p) for what, m in events[end:] if what == "start" for p in m.parameters(recurse=False)} - before
    return {name for name, parameter in model.named_parameters() if id(parameter) in after}


def module_events(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[tuple[str, nn.Module]]:
    """Return which modules ``"start"`` and ``"end"``, in order, when the model reads `inputs`."""
    events: list[tuple[str, nn.Module]] = []
    hooks = []
    for module in model.modules():
        hooks.append(module.register_forward_pre_hook(lambda m, _: events.append(("start", m))))
        hooks.append(module.register_forward_hook(lambda m, _, __: events.append(("end", m))))
    try:
        with in_eval(model), torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return events


@contextmanager
def in_eval(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode inside the block, and each of its modules back into its own after it."""
    was = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in was.items():
            module.training = training


def linear_names(model: nn.Module, block: Literal["attention", "all"] = "attention") -> list[str]:
    """Return names of dense layers inside the backbone's layers, as suffixes that peft matches.

    Parameters
    ----------
    model
        Any model `layers` can see into.
    block
        ``"attention"``: those that make queries and values (of a fused projection, the whole);
        ``"all"``: every dense layer of a block.
    """
    paths = _dense_paths(model)
    if block == "all":
        ends = [path.rpartition(".")[2] for path in paths]
        return [end if ends.count(end) == 1 else path for path, end in zip(paths, ends, strict=True)]
    ends = list(dict.fromkeys(path.rpartition(".")[2] for path in paths))
    for wanted in _QUERY_VALUE:
        if all(name in ends for name in wanted):
            return list(wanted)
    return [path for path in paths if "att" in path.lower()] or paths


def adapter_targets(model: nn.Module, asked: Sequence[str] | None, *, method: str) -> list[str]:
    """Return the dense layers an adapter goes on: `asked`, checked, or queries and values.

    Raises
    ------
    ModelError
        A name in `asked` matches no dense layer; the message lists those there are.
    """
    name = type(backbone(model)).__name__
    there = linear_names(model, "all")
    if asked is None:
        return linear_names(model)
    paths = [f".{path}" for path in _dense_paths(model)]
    unknown = [target for target in asked if not any(path.endswith(f".{target}") for path in paths)]
    if unknown or not asked:
        short = " and ".join(linear_names(model))
        what = "matches nothing" if unknown == list(asked) else f"has names that match nothing: {', '.join(unknown)}"
        fits = f"fits no layer of {name}" if unknown == list(asked) else f"cannot be put on {name} as asked"
        raise ModelError(
            f"{method} {fits}: target_modules={list(asked)} {what}. Dense layers here: {', '.join(there)}.",
            fix=f"Leave target_modules out to take {short}.",
        )
    return list(asked)


def inside_last_layers(model: nn.Module, targets: Sequence[str], count: int) -> list[str]:
    """Return the full paths of the modules called one of `targets` in the last `count` layers."""
    last = [id(module) for block in list(layers(model))[-count:] for module in block.modules()]
    ends = tuple(f".{target}" for target in targets)
    return [path for path, module in model.named_modules() if id(module) in last and f".{path}".endswith(ends)]


def pool(last_hidden_state: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """One vector a row, from the vectors of its tokens.

    Padding may stand on either side; it never enters.

    Parameters
    ----------
    last_hidden_state
        (rows, length, hidden).
    attention_mask
        (rows, length), 1 for tokens and 0 for padding.
    pooling
        ``"cls"`` the first token, ``"last"`` the last one, ``"mean"`` their mean.

    Returns
    -------
    (rows, hidden)
    """
    mask = attention_mask.to(last_hidden_state.device)
    if pooling == "mean":
        weights = mask.unsqueeze(-1).to(last_hidden_state.dtype)  # (rows, length, 1)
        return (last_hidden_state * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    if pooling not in POOLINGS:
        raise ModelError(f"pooling={pooling!r} is not known.", fix=f"Take one of {', '.join(POOLINGS)}.")
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)  # from 1, so that padding is below every token
    score = places if pooling == "last" else places.flip(0)
    index = (mask.bool() * score).argmax(1)  # (rows,)
    return last_hidden_state[torch.arange(len(mask), device=mask.device), index]


def _stacks(model: nn.Module) -> list[nn.ModuleList]:
    return [s for s in _outer_lists(backbone(model)) if len({type(block) for block in s}) == 1]


def _outer_lists(module: nn.Module) -> list[nn.ModuleList]:
    """Return module lists not inside another one: the experts of a layer are not layers."""
    found: list[nn.ModuleList] = []
    for child in module.children():
        if isinstance(child, nn.ModuleList) and len(child):
            found.append(child)
        else:
            found += _outer_lists(child)
    return found


def _dense_paths(model: nn.Module) -> list[str]:
    """Return paths, inside a block, of the dense layers, in order; adapters already there are seen through."""
    from transformers.pytorch_utils import Conv1D

    paths = []
    for block in layers(model):
        for path, module in block.named_modules():
            inside_adapter = ".lora_" in path or path.endswith(".base_layer")
            if isinstance(getattr(module, "base_layer", module), nn.Linear | Conv1D) and path and not inside_adapter:
                paths.append(path)
    return list(dict.fromkeys(paths))


def _apart(path: str, module: nn.Module, shared: set[int]) -> list[str]:
    """Return the largest modules, from one down, that have parameters and share none of these.

    A head over the vocabulary is tied to the embeddings: a copy of the whole would tear them apart.
    """
    own = {id(p) for p in module.parameters()}
    if not own & shared:
        return [path] if own else []
    return [name for n, child in module.named_children() for name in _apart(f"{path}.{n}", child, shared)]


def _plain(name: str) -> str:
    """Return the name a parameter had before peft wrapped the model."""
    name = name.removeprefix("base_model.model.")
    return re.sub(r"(modules_to_save\.[^.]+|original_module|base_layer)\.", "", name)
