"""Which small parts of a backbone can be trained by themselves: its biases, and its norms' scales and shifts.

Both are found by structure. A parameter that no output depends on (the pooler of an encoder that only feeds a decoder)
is none of them: it would be counted as trained, and never move.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from weitiao.models import parts

__all__ = ["biases", "norms", "two_tokens"]


def biases(model: nn.Module) -> set[str]:
    """Return the names of the backbone's biases, those of its norms among them."""
    inside = {id(p) for p in parts.backbone(model).parameters()}
    return _reached(model, {n for n, p in model.named_parameters() if id(p) in inside and n.endswith("bias")})


def norms(model: nn.Module, within: Iterable[nn.Module] | None = None) -> set[str]:
    """Return the names of the scales and shifts of the backbone's norms; of those inside `within`, if it is given.

    A norm is a module without parts whose weight is a vector: LayerNorm, and every architecture's RMSNorm.
    """
    places = [parts.backbone(model)] if within is None else within
    found = [module for place in places for module in place.modules() if _is_norm(module)]
    inside = {id(p) for module in found for p in module.parameters()}
    return _reached(model, {name for name, p in model.named_parameters() if id(p) in inside})


def two_tokens(model: nn.Module) -> dict[str, Tensor]:
    """Return the smallest input for the backbone: two tokens, and as many to write where it has a half that writes."""
    ids = torch.zeros(1, 2, dtype=torch.long, device=next(parts.backbone(model).parameters()).device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if len(parts.layers(model)) > len(parts.input_layers(model)):
        inputs["decoder_input_ids"] = ids
    return inputs


def _is_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    if not isinstance(weight, nn.Parameter) or isinstance(module, nn.PReLU) or any(True for _ in module.children()):
        return False
    return weight.dim() == 1 and all(p.shape == weight.shape for p in module.parameters())


def _reached(model: nn.Module, names: set[str]) -> set[str]:
    """Return those of `names`, parameters of the backbone, that its outputs depend on."""
    body = parts.backbone(model)
    chosen = {name: p for name, p in model.named_parameters() if name in names}
    if not chosen:
        return set()
    was = {name: p.requires_grad for name, p in chosen.items()}
    try:
        for parameter in chosen.values():
            parameter.requires_grad_(True)
        with parts.in_eval(body), torch.enable_grad():
            said = body(**two_tokens(model)).values()
            total = sum(each.float().sum() for each in said if isinstance(each, Tensor) and each.is_floating_point())
            slopes = torch.autograd.grad(total, list(chosen.values()), allow_unused=True)  # type: ignore[arg-type]
    finally:
        for name, parameter in chosen.items():
            parameter.requires_grad_(was[name])
    return {name for name, slope in zip(chosen, slopes, strict=True) if slope is not None}
