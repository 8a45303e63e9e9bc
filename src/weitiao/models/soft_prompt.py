"""Trained vectors among those of the tokens that a model reads, which nobody outside the backbone sees.

A hook before the module that reads tokens puts them in, with mask, positions and types; a hook after it takes their
places out again, so that a head finds every token where it was. They stand in front of a row's first token, or, in an
encoder, after it: what reads the first place (a pooler) still does. What a model is like is found by trying it.

No row loses room. Where positions are a table, its rows are not used up: the vectors all take the position they
begin at, and each token keeps its own. Where positions are relative or rotary, which
end nowhere, the tokens move on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from weitiao.models import parts
from weitiao.models.reading import Form, arguments, embedded, halves

__all__ = ["PromptEncoder", "SoftPrompt", "Vectors", "put", "soft_prompt"]

_CHILD = "soft_prompt"  # of the module that reads tokens


class Vectors(nn.Module):
    """Free vectors, ``(tokens, width)``."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors)

    def forward(self) -> Tensor:
        """Return them."""
        return self.vectors


class PromptEncoder(nn.Module):
    """A small network that makes the vectors, so that they hang together: with an LSTM both ways, or without.

    Parameters
    ----------
    count
        How many vectors.
    form
        Of the module that reads them; they come out as large as its tokens' are.
    kind
        ``"lstm"`` or ``"mlp"``.
    hidden
        Width inside.
    """

    def __init__(self, count: int, form: Form, kind: str, hidden: int) -> None:
        super().__init__()
        self.spread = form.spread
        self.places = nn.Parameter(torch.randn(count, form.width))
        wide = form.width
        self.lstm = None
        if kind == "lstm":
            self.lstm = nn.LSTM(form.width, hidden, num_layers=2, bidirectional=True, batch_first=True)
            wide = 2 * hidden
        self.mlp = nn.Sequential(nn.Linear(wide, hidden), nn.ReLU(), nn.Linear(hidden, form.width))

    def forward(self) -> Tensor:
        """Return the vectors, ``(count, width)``."""
        inner = self.places if self.lstm is None else self.lstm(self.places[None])[0][0]
        return self.spread * self.mlp(inner)


class SoftPrompt(parts.Inserted):
    """Puts vectors in before the module it is a child of, and takes their places out after it.

    Parameters
    ----------
    maker
        Gives the vectors when it is called.
    count
        How many.
    form
        Of the module.
    """

    def __init__(self, maker: nn.Module, count: int, form: Form) -> None:
        super().__init__()
        self.maker, self.count, self.form = maker, count, form
        self._at: int | Tensor | None = None  # where they are in the rows being read

    def forward(self) -> Tensor:
        """Return the vectors."""
        return self.maker()

    def insert(self, reader: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Change what the reader is called with."""
        call = dict(zip(arguments(reader), args, strict=False)) | kwargs
        ids, embeds, cache = (call.get(name) for name in ("input_ids", "inputs_embeds", "past_key_values"))
        read: Any = ids if embeds is None else embeds
        past = 0 if cache is None else int(cache.get_seq_length())
        first = _first(call.get("attention_mask"))
        at = first if self.form.front else first + 1
        if call.get("attention_mask") is not None:
            call["attention_mask"] = self._longer(call["attention_mask"], at, past)
        if self.form.positions is not None:
            call["position_ids"] = self._positions(call.get("position_ids"), read, first, past)
        self._at = None
        if past:  # the vectors were read before, and are in the cache
            return (), call
        if call.get("token_type_ids") is not None:
            types = call["token_type_ids"]
            call["token_type_ids"] = _put(types, _value(types, first).expand(-1, self.count), at)
        if embeds is None:
            embeds = embedded(reader, read, self.form.scale)
        vectors = self().to(embeds.dtype)
        call |= {"input_ids": None, "inputs_embeds": _put(embeds, vectors.expand(len(embeds), -1, -1), at)}
        self._at = at
        return (), call

    def remove(self, _: nn.Module, __: Any, output: Any) -> Any:
        """Take the places out of what the reader says."""
        at, self._at = self._at, None
        if at is None:
            return output
        if isinstance(output, tuple):
            return (_take(output[0], self.count, at), *output[1:])
        output.last_hidden_state = _take(output.last_hidden_state, self.count, at)
        if getattr(output, "hidden_states", None) is not None:
            output.hidden_states = tuple(_take(states, self.count, at) for states in output.hidden_states)
        return output

    def lengthen(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Let the writing half of an encoder-decoder see the vectors' places, which stay in what the encoder says."""
        mask, states = kwargs.get("encoder_attention_mask"), kwargs.get("encoder_hidden_states")
        if mask is not None and states is not None and states.shape[1] == mask.shape[1] + self.count:
            kwargs["encoder_attention_mask"] = self._longer(mask, _first(mask), 0)
        return args, kwargs

    def _longer(self, mask: Tensor, at: int | Tensor, past: int) -> Tensor:
        """Return a mask in which all tokens see the vectors."""
        if mask.dim() == 2:
            return _put(mask, mask.new_ones(len(mask), self.count), at)
        # one of blocks, (rows, 1, length, length): several rows in the place of one, and each sees the vectors
        seen, unseen = (True, False) if mask.dtype == torch.bool else (0.0, torch.finfo(mask.dtype).min)
        wider = torch.cat([mask.new_full((*mask.shape[:3], self.count), seen), mask], dim=3)
        if past:
            return wider
        own = torch.full((self.count, wider.shape[3]), seen, dtype=mask.dtype, device=mask.device)
        own = own.masked_fill(torch.ones_like(own, dtype=torch.bool).triu(1), unseen)
        return torch.cat([own.expand(*mask.shape[:2], -1, -1), wider], dim=2)

    def _positions(self, given: Tensor | None, read: Tensor, first: int | Tensor, past: int) -> Tensor | None:
        """Return the positions to tell; ``None`` where the reader counts right by itself."""
        if self.form.table is None and given is None:
            return None
        rows, length = read.shape[:2]
        if given is None:
            start = int(self.form.positions or 0) + max(0, past - self.count)
            given = torch.arange(start, start + length, device=read.device)[None]
        given, keeps = given.expand(rows, -1), self.form.table is not None  # with a table, each token keeps its own
        if past:
            return given if keeps else given + self.count
        behind = 0 if self.form.front else 1
        at, start = first + behind, _value(given, first) + behind
        if keeps:
            return _put(given, start.expand(-1, self.count), at)
        later = torch.arange(length, device=given.device) >= (at if isinstance(at, int) else at[:, None])
        steps = torch.arange(self.count, device=given.device)
        return _put(given + self.count * later, start + steps, at)


def put(model: nn.Module, maker: nn.Module, count: int, form: Form) -> None:
    """Let `model` read `count` vectors that `maker` gives when called."""
    reader, writer = halves(model)
    prompt = SoftPrompt(maker, count, form).to(next(reader.parameters()).device)
    if form.table is not None and form.positions is None:
        _stretch(reader.get_submodule(form.table), count, reader.config.max_position_embeddings, form.front)
    reader.register_module(_CHILD, prompt)
    # methods of a module, so that a copy of the model has hooks of its own
    reader.register_forward_pre_hook(prompt.insert, with_kwargs=True)
    if writer is None:
        reader.register_forward_hook(prompt.remove)
    else:
        writer.register_forward_pre_hook(prompt.lengthen, with_kwargs=True)


def soft_prompt(model: nn.Module) -> SoftPrompt:
    """Return what `put` put into `model`."""
    return halves(model)[0].get_submodule(_CHILD)


def _stretch(table: Any, count: int, places: int, front: bool) -> None:
    """Put `count` rows into a table of positions, each the one they stand before, where nothing can be told."""
    at = table.num_embeddings - places + (0 if front else 1)
    weight = table.weight.detach()
    longer = torch.cat([weight[:at], weight[at : at + 1].expand(count, -1), weight[at:]])
    table.weight = nn.Parameter(longer, requires_grad=table.weight.requires_grad)
    table.num_embeddings += count


def _first(mask: Tensor | None) -> int | Tensor:
    """Return the place of each row's first token; one number where no row is padded on the left."""
    if mask is None or mask.dim() != 2 or bool(mask[:, 0].all()):
        return 0
    falling = torch.arange(mask.shape[1], 0, -1, device=mask.device)
    return (mask.bool() * falling).argmax(1)


def _put(x: Tensor, block: Tensor, at: int | Tensor) -> Tensor:
    """Put ``block (rows, count, ...)`` into ``x (rows, length, ...)`` before the place `at` of each row."""
    if isinstance(at, int):
        return torch.cat([x[:, :at], block, x[:, at:]], dim=1)
    length, count = x.shape[1], block.shape[1]
    place = torch.arange(length + count, device=x.device) - at[:, None]
    index = torch.where(place < 0, place, torch.where(place < count, length + place - at[:, None], place - count))
    return _rows(torch.cat([x, block], dim=1), index + at[:, None])


def _take(x: Tensor, count: int, at: int | Tensor) -> Tensor:
    """Take `count` places away from the place `at` of each row on."""
    if isinstance(at, int):
        return torch.cat([x[:, :at], x[:, at + count :]], dim=1)
    place = torch.arange(x.shape[1] - count, device=x.device)
    return _rows(x, place + count * (place >= at[:, None]))


def _value(x: Tensor, at: int | Tensor) -> Tensor:
    """Return what stands at the place `at` of each row, ``(rows, 1)``."""
    return x[:, at : at + 1] if isinstance(at, int) else _rows(x, at[:, None])


def _rows(x: Tensor, index: Tensor) -> Tensor:
    return x[torch.arange(len(index), device=x.device)[:, None], index]
