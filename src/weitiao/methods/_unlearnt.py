"""Which weights no training has touched, and the modules an adapter keeps them in.

Where the rest of a model is frozen, such weights have to train whole, and to be saved: frozen they would stay random.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from weitiao.models import parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from torch import nn

__all__ = ["modules_that_hold", "modules_to_keep", "unlearnt_parameters"]


def unlearnt_parameters(model: nn.Module) -> frozenset[str]:
    """Return the names of parameters inside the backbone or beside it that nothing has trained.

    Those the checkpoint did not have; of two encoders put together to write, also those between them. A checkpoint of
    such a pair has them like any other weight, and what tells them is a bias of zeros, as they are made: training
    moves every one.

    Source: Rothe et al., Leveraging Pre-trained Checkpoints for Sequence Generation Tasks, 2020, arXiv:1907.12461.
    """
    from transformers import EncoderDecoderModel

    inner, names = parts.unwrap(model), parts.new_parameters(model)
    if not isinstance(inner, EncoderDecoderModel):
        return frozenset(names)
    reads, writes = cast("Any", inner.encoder), cast("Any", inner.decoder)
    body = parts.backbone(writes)
    there = {name for name, _ in parts.backbone(reads).named_modules()}
    copied = {id(module) for name, module in body.named_modules() if name in there}
    tied = {id(writes.get_input_embeddings().weight)}
    for path, module in writes.named_modules():
        own = dict(module.named_parameters(recurse=False))
        as_made = own.keys() == {"weight", "bias"} and not own["bias"].any()
        if as_made and id(module) not in copied and id(own["weight"]) not in tied:
            names |= {f"decoder.{path}.{name}" for name in own}
    return frozenset(names)


def modules_to_keep(model: nn.Module) -> list[str]:
    """Return the names of modules that train and are saved whole, as peft's ``modules_to_save`` takes them.

    The head, then whatever else holds weights that nothing has trained.
    """
    names = parts.head_modules(model)
    rest = {fresh for fresh in unlearnt_parameters(model) if not any(f".{name}." in f".{fresh}" for name in names)}
    return [*names, *modules_that_hold(model, rest)]


def modules_that_hold(model: nn.Module, fresh: Iterable[str]) -> list[str]:
    """Return the paths of modules that between them hold the parameters called `fresh`, each as large as can be.

    A module of which every parameter is among them is named whole; else the part that owns the parameter, with all it
    has. The empty path stands for the model itself, which peft cannot wrap.
    """
    inner, new = parts.unwrap(model), set(fresh)
    everything = {name for name, _ in inner.named_parameters()}
    return list(dict.fromkeys(_holder(inner, name, new, everything - new) for name in sorted(new)))


def _holder(model: nn.Module, parameter: str, new: Set[str], other: Set[str]) -> str:
    from torch import nn

    best, path = "", parameter.rpartition(".")[0]
    while path:
        has_others = any(name.startswith(f"{path}.") for name in other)
        container = nn.ModuleList | nn.ModuleDict | nn.ParameterList | nn.ParameterDict
        if not isinstance(model.get_submodule(path), container) and not (best and has_others):
            best = path
        if best and has_others:
            break
        path = path.rpartition(".")[0]
    return best
