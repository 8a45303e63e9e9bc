"""How the module that reads a model's tokens is to be called with vectors in their place, found by trying it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from weitiao.models import parts

__all__ = ["Form", "arguments", "embedded", "examine", "halves"]


@dataclass(frozen=True)
class Form:
    """How the module that reads tokens is to be called.

    Parameters
    ----------
    front
        The vectors stand before a row's first token; otherwise after it.
    positions
        The first token's position, if the module can be told positions.
    table
        Name of the module that has a row a position, or ``None``.
    scale
        What vectors of tokens are multiplied by outside their table.
    width
        Of such a vector.
    spread
        Their standard deviation.
    """

    front: bool
    positions: int | None
    table: str | None
    scale: float
    width: int
    spread: float


def embedded(reader: Any, ids: Tensor, scale: float) -> Tensor:
    """Return tokens as vectors, as the layers of the reader have them."""
    vectors = reader.get_input_embeddings()(ids)
    return vectors if scale == 1.0 else vectors * scale


def examine(model: nn.Module) -> Form | str:
    """Return how to call the module of `model` that reads tokens, found by trying, or why it takes no vectors."""
    reader, writer = halves(model)
    name = type(reader).__name__
    device = next(reader.parameters()).device
    ids = [i for i in range(3, 9) if i != _padding(reader)]
    plain, other = (torch.tensor([each], device=device) for each in (ids[:4], [*ids[:3], ids[4]]))
    try:
        with parts.in_eval(reader), torch.no_grad():
            usual = _says(reader, input_ids=plain)
            causal = torch.allclose(usual[:, 0], _says(reader, input_ids=other)[:, 0], atol=1e-6, rtol=0)
            scales = [1.0, getattr(reader, "embed_scale", 1.0)]
            vectors = {float(scale): embedded(reader, plain, scale) for scale in scales if isinstance(scale, float)}
            said = {scale: _says(reader, inputs_embeds=each) for scale, each in vectors.items()}
            scale = next((scale for scale, states in said.items() if torch.allclose(states, usual, atol=1e-4)), None)
            positions = _first_position(reader, plain, usual)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError):
        scale = positions = None
        causal, vectors = False, {}
    if scale is None:
        return f"{name} reads tokens only, and no vectors in their place"
    return Form(
        front=causal or writer is not None,
        positions=positions,
        table=_table(reader),
        scale=scale,
        width=vectors[scale].shape[-1],
        spread=_spread(reader, scale),
    )


def halves(model: nn.Module) -> tuple[Any, Any]:
    """Return what reads tokens, and of an encoder-decoder what writes."""
    body: Any = parts.backbone(model)
    if "decoder_input_ids" in arguments(body):
        return body.get_encoder(), body.get_decoder()
    return getattr(body, "base_model", body), None  # under the head of a writer


def arguments(module: nn.Module) -> list[str]:
    """Return what a module can be called with."""
    return list(inspect.signature(type(module).forward).parameters)[1:]


def _says(reader: Any, **inputs: Tensor) -> Tensor:
    mask = torch.ones(1, 4, dtype=torch.long, device=next(reader.parameters()).device)
    return reader(attention_mask=mask, **inputs).last_hidden_state


def _spread(reader: Any, scale: float) -> float:
    weight = reader.get_input_embeddings().weight
    ids = torch.linspace(0, len(weight) - 1, 100, device=weight.device).long()
    with torch.no_grad():
        return embedded(reader, ids[None], scale).std().item()


def _first_position(reader: Any, ids: Tensor, usual: Tensor) -> int | None:
    if "position_ids" not in arguments(reader):
        return None
    places = torch.arange(ids.shape[1], device=ids.device)[None]
    for first in (0, (_padding(reader) or 0) + 1):  # RoBERTa counts from behind the padding's number
        if torch.allclose(_says(reader, input_ids=ids, position_ids=places + first), usual, atol=1e-4):
            return first
    raise ValueError("positions that are told differ from those it counts")


def _table(reader: Any) -> str | None:
    """Return the name of the table of positions: one that has a row for each the config allows, and a few more."""
    most, words = getattr(reader.config, "max_position_embeddings", None), reader.get_input_embeddings()
    tables = {name: m for name, m in reader.named_modules() if isinstance(m, nn.Embedding) and m is not words}
    return next((name for name, m in tables.items() if most and 0 <= m.num_embeddings - most <= 4), None)


def _padding(reader: Any) -> int | None:
    config = reader.config
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(config, "pad_token_id", None)
