"""Which parameters an optimizer moves, at which rate, and with which decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weitiao.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from torch import nn

    from weitiao.training.settings import TrainingSettings

__all__ = ["Groups", "can_fuse", "inner_matrices", "parameter_groups"]

Groups = list[dict[str, Any]]


def parameter_groups(model: nn.Module, settings: TrainingSettings, learning_rate: float) -> Groups:
    """Return the parameters that train, those alike in one group.

    Weight decay goes to matrices alone: biases and norms have one dimension, and shrinking them towards zero
    fits worse (Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, arXiv:1711.05101); nor does it go
    to factors that a model names in ``without_decay``, which leave it as it was where they are 1. The rate of layers
    falls from the top down as Clark et al. have it (ELECTRA, 2020, arXiv:2003.10555, appendix B).

    Returns
    -------
    Groups with ``params``, ``lr``, ``weight_decay``, ``rate`` (its ``lr`` as a share of `learning_rate`) and ``inner``
    (they are matrices inside the model's layers).

    Raises
    ------
    RecipeError
        A setting of rates has no effect on what trains.
    """
    rates, inside = _rates(model, settings, learning_rate), inner_matrices(model)
    kept: Any = getattr(model, "without_decay", ())
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = settings.weight_decay if parameter.dim() > 1 and name not in kept else 0.0
        rate, inner = rates[name], name in inside
        new = {"params": [], "lr": rate * learning_rate, "weight_decay": decay, "rate": rate, "inner": inner}
        groups.setdefault((rate, decay, inner), new)["params"].append(parameter)
    return list(groups.values())


def _rates(model: nn.Module, settings: TrainingSettings, learning_rate: float) -> dict[str, float]:
    """Return the rate of each parameter that trains, by name, as a share of `learning_rate`."""
    from weitiao.models.parts import after_layers, head_parameters, layers

    names = {name for name, p in model.named_parameters() if p.requires_grad}
    head, rates = names & head_parameters(model), dict.fromkeys(names, 1.0)
    if settings.layer_decay is not None:
        stack = layers(model)
        depth = {id(p): len(stack) - 1 - i for i, block in enumerate(stack) for p in block.parameters()}
        top = head | after_layers(model)
        for name, p in model.named_parameters():
            if name in names - top:
                rates[name] = settings.layer_decay ** depth.get(id(p), len(stack))
        if set(rates.values()) <= {1.0}:
            raise RecipeError("training.layer_decay has no effect: nothing below the top layer trains.")
    if settings.head_learning_rate is not None:
        if not head:
            raise RecipeError("training.head_learning_rate has no effect: no parameter of the head trains.")
        rates |= dict.fromkeys(head, settings.head_learning_rate / learning_rate)
    return rates


def inner_matrices(model: nn.Module) -> set[str]:
    """Return the names of matrices that train inside the model's layers: of dense layers, not of embeddings."""
    from torch import nn

    from weitiao.models.parts import layers

    try:
        modules = [module for block in layers(model) for module in block.modules()]
    except ModelError:  # it has no layers
        return set()
    own = {id(p) for m in modules if not isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    return {n for n, p in model.named_parameters() if id(p) in own and p.dim() == 2 and p.requires_grad}


def can_fuse(groups: Groups) -> bool:
    """Whether torch has one kernel for the whole step where these parameters lie: several times as fast."""
    parameters = [p for group in groups for p in group["params"]]
    if any(hasattr(p, "full_tensor") for p in parameters):  # each process holds a part of it
        return False
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
