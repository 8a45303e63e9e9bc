"""What methods that train a few vectors beside a frozen model share: what trains, and the adapter on the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weitiao.errors import ModelError
from weitiao.models import parts

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["freeze_but_head", "read", "write"]

_WEIGHTS, _FACTS = "adapter.safetensors", "adapter.json"


def freeze_but_head(model: nn.Module) -> None:
    """Let the head train, and nothing else."""
    head = parts.head_parameters(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in head)


def write(model: nn.Module, folder: Path, own: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write what was learnt: the head of `model`, and tensors of the method's `own`."""
    from safetensors.torch import save_file

    head = parts.head_parameters(model)
    tensors = {f"head.{name}": p for name, p in model.named_parameters() if name in head} | dict(own)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(dict(facts) | {"head": sorted(head)}, ensure_ascii=False, indent=2, sort_keys=True)
    (folder / _FACTS).write_text(text + "\n", encoding="utf-8")


def read(model: nn.Module, folder: Path, method: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Put a saved head into `model`; return the method's own tensors.

    Parameters
    ----------
    shapes
        Of the method's own tensors, by name: what has to be there, and nothing else. The number of trained vectors
        is what is saved: a 0 fits any.

    Raises
    ------
    ModelError
        The adapter is another method's, or was made for another model.
    """
    import torch
    from safetensors.torch import load_file

    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        tensors = load_file(folder / _WEIGHTS)
    except (OSError, ValueError) as error:
        raise ModelError(f"the adapter cannot be opened: {error}", where=folder) from error
    if facts.get("method") != method:
        raise ModelError(f"the adapter is of the method {facts.get('method')}, not of {method}.", where=folder)
    head = parts.head_parameters(model)
    places = {f"head.{name}": p for name, p in model.named_parameters() if name in head}
    wanted = {name: tuple(p.shape) for name, p in places.items()} | dict(shapes)
    wrong = wanted.keys() ^ tensors.keys()
    wrong |= {name for name in wanted.keys() & tensors.keys() if not _fits(tensors[name].shape, wanted[name])}
    if wrong:
        raise ModelError(
            f"the adapter was made for another model: {', '.join(sorted(wrong)[:5])} is missing, too many, or of "
            "another shape.",
            where=folder,
            fix="Open it on the model it was trained on.",
        )
    with torch.no_grad():
        for name, parameter in places.items():
            parameter.copy_(tensors[name])
    return {name: tensors[name] for name in shapes}


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(b in (0, a) for a, b in zip(shape, wanted, strict=True))
