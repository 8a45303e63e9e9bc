"""How a model writes: which tokens end a text, scores at the places of targets alone, and search.

A vocabulary is large: the logits of every token of a batch take more room than the model. `Places` lets the head of a
writer read only the places that a loss or a likelihood is about, so that all else is never computed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from weitiao.errors import ModelError
from weitiao.models.find import Pretrained
from weitiao.models.gguf import plain_folder
from weitiao.models.parts import unwrap
from weitiao.models.quiet import quiet

__all__ = ["TARGET_PLACES", "as_writer", "ends_of", "must_pack", "packed", "scores", "start_of", "with_places", "write"]

# What a batch calls the places whose outputs are wanted, bool ``(rows, length)``.
TARGET_PLACES = "target_places"
_PREFIXED = ("t5", "mt5", "umt5", "longt5", "switch_transformers")  # told what to do in front of the text
# What a checkpoint says of its tokens is kept; how its authors liked to search is not.
_KEPT = (
    "bos_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids",
    "suppress_tokens", "begin_suppress_tokens",
)  # fmt: skip
_ROOM = 1 << 26  # logits at a time when texts are scored


class Places:
    """Lets the output head of a model read only some places, when the model is called with `TARGET_PLACES`.

    The logits are then ``(places, vocabulary)``, rows one after another.
    """

    def __init__(self) -> None:
        self.wanted: Tensor | None = None

    def receive(self, model: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Take the places from what the model is called with."""
        kwargs = dict(kwargs)
        self.wanted = kwargs.pop(TARGET_PLACES, None)
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.dim() == 4 and model.config._attn_implementation != "sdpa":
            dtype = next(model.parameters()).dtype  # others than torch's own attention add it to their scores
            kwargs["attention_mask"] = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
        return args, kwargs

    def choose(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Give the head the vectors at these places only."""
        wanted, self.wanted = self.wanted, None
        return None if wanted is None else (args[0][wanted], *args[1:])


def as_writer(model: Any, generation: Mapping[str, Any]) -> nn.Module:
    """Let a model take `TARGET_PLACES`, and search as told whoever calls its ``generate``.

    Parameters
    ----------
    model
        From `weitiao.models.heads.load_writer` or `open_writer`.
    generation
        Settings of the search, as transformers' ``GenerationConfig`` names them.
    """
    from transformers import GenerationConfig

    was = model.generation_config
    kept = {name: value for name in _KEPT if (value := getattr(was, name, None)) is not None}
    model.generation_config = GenerationConfig(**kept | dict(generation))
    return with_places(model)


def with_places(model: Any) -> nn.Module:
    """Let a model with a head over the vocabulary take `TARGET_PLACES`."""
    places = Places()
    model.register_forward_pre_hook(places.receive, with_kwargs=True)
    model.get_output_embeddings().register_forward_pre_hook(places.choose)
    return model


def ends_of(pretrained: Pretrained, tokenizer: Any) -> list[int]:
    """Return the tokens that end a text, the one to learn first: of a chat, that of an assistant's turn.

    Raises
    ------
    ModelError
        There is none.
    """
    ends = []
    if getattr(tokenizer, "chat_template", None):
        ends.append(_turn_end(tokenizer))
    ends.append(tokenizer.eos_token_id)
    settings = plain_folder(pretrained) / "generation_config.json"
    if settings.is_file():
        told = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id")
        ends += told if isinstance(told, list) else [told]
    if tokenizer.eos_token_id is None:  # an encoder's tokenizer: its separator ends a text
        ends.append(tokenizer.sep_token_id)
    ends = list(dict.fromkeys(int(end) for end in ends if end is not None))
    if not ends:
        raise ModelError(f"the tokenizer of {pretrained.name} has no token that ends a text.")
    return ends


def _turn_end(tokenizer: Any) -> int | None:
    """Return the special token after what an assistant says."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        asked = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception as error:  # a template is a program of its authors'
        raise ModelError(
            f"the tokenizer's chat template cannot be used: {error}", fix="Choose another model, or mend its template."
        ) from error
    after = whole[len(asked) :] if whole.startswith(asked) else whole
    ids = tokenizer(after.rpartition("b")[2], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return next((i for i in ids if i in special), None)


def start_of(pretrained: Pretrained, tokenizer: Any) -> tuple[int | None, bool]:
    """Return the token that the writing half of an encoder-decoder begins with, and whether it wants a prefix.

    ``None`` for any other model.
    """
    from transformers import AutoConfig

    with quiet():
        config = AutoConfig.from_pretrained(plain_folder(pretrained), trust_remote_code=False)
    if not config.is_encoder_decoder:
        return None, False
    places = (config, getattr(config, "decoder", None))
    names = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
    found = (getattr(place, name, None) for name in names for place in places)
    start = next((token for token in found if token is not None), tokenizer.cls_token_id)
    if start is None:
        raise ModelError(f"{pretrained.name} does not say which token its decoder begins with.")
    return int(start), config.model_type in _PREFIXED


def must_pack(pretrained: Pretrained) -> None:
    """Refuse models that cannot read several rows in the place of one.

    Raises
    ------
    ModelError
        It is no decoder, its attention looks a fixed number of tokens back, or it counts no positions it could be told.
    """
    from transformers import AutoConfig

    with quiet():
        config = AutoConfig.from_pretrained(plain_folder(pretrained), trust_remote_code=False).get_text_config()
    why = None
    if config.is_encoder_decoder or not pretrained.is_decoder:
        why = "it is no decoder"
    elif getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        why = f"its attention looks {config.sliding_window} tokens back, whatever row they belong to"
    elif config.model_type in ("mpt", "bloom"):
        why = "its positions are told by distance alone"
    if why:
        raise ModelError(f"task.packing cannot be used with {pretrained.name}: {why}.", fix="Leave it out.")


def packed(rows: Sequence[Mapping[str, Any]], pad: int, ignored: int) -> dict[str, Tensor]:
    """Put rows one after another into as few places as hold them, none longer than the longest row.

    No token sees another row: the mask is one of blocks, and positions begin anew with each row. So the loss and its
    gradients are those of the rows apart.

    Parameters
    ----------
    rows
        With ``input_ids`` and, as long, ``labels``; the first label of each is `ignored`.

    Returns
    -------
    ``input_ids``, ``labels`` and ``position_ids``, each ``(places, length)``, and ``attention_mask``, true where a
    token sees another, ``(places, 1, length, length)``.

    Source: Krell et al., Efficient Sequence Packing without Cross-contamination, 2021, arXiv:2107.02027 (the packing is
    first fit, the longest rows first).
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"]))
    length = len(rows[order[0]]["input_ids"])
    places: list[list[int]] = []
    free: list[int] = []
    for i in order:
        own = len(rows[i]["input_ids"])
        at = next((place for place, room in enumerate(free) if room >= own), len(free))
        if at == len(free):
            places.append([])
            free.append(length)
        places[at].append(i)
        free[at] -= own
    shape = (len(places), length)
    ids, labels, block = torch.full(shape, pad), torch.full(shape, ignored), torch.full(shape, -1)
    positions = torch.zeros(shape, dtype=torch.long)
    for place, members in enumerate(places):
        at = 0
        for i in members:
            inside = slice(at, at + len(rows[i]["input_ids"]))
            ids[place, inside] = torch.tensor(rows[i]["input_ids"])
            labels[place, inside] = torch.tensor(rows[i]["labels"])
            positions[place, inside] = torch.arange(inside.stop - inside.start)
            block[place, inside] = i
            at = inside.stop
    before = torch.ones(length, length).tril().bool()
    seen = (block[:, :, None] == block[:, None, :]) & before  # padding sees itself, so that no row of it is empty
    return {"input_ids": ids, "labels": labels, "position_ids": positions, "attention_mask": seen[:, None]}


def write(model: Any, inputs: Mapping[str, Tensor], ends: Sequence[int]) -> list[list[int]]:
    """Return the tokens that a model writes for each row, with the one that ended it.

    Parameters
    ----------
    inputs
        ``input_ids`` and ``attention_mask``; for a decoder padded on the left.
    """
    config: Any = unwrap(model).config
    with torch.inference_mode(), quiet():
        rows = model.generate(**inputs, use_cache=True)
    rows = rows[:, 1 if config.is_encoder_decoder else inputs["input_ids"].shape[1] :].tolist()
    return [_until(row, set(ends)) for row in rows]


def _until(ids: list[int], ends: set[int]) -> list[int]:
    stop = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: stop + 1]


def scores(model: Any, inputs: Mapping[str, Tensor], targets: Sequence[Tensor]) -> list[Tensor]:
    """Return the log-probability of each target token of each row, float32, all else given.

    Parameters
    ----------
    inputs
        What the model is called with, `TARGET_PLACES` among it.
    targets
        The tokens at these places, row by row.
    """
    inner: Any = unwrap(model)
    vocabulary = inner.get_output_embeddings().weight.shape[0]
    at_once = max(1, _ROOM // (vocabulary * max(1, *(len(t) for t in targets), 1)))
    found: list[Tensor] = []
    with torch.inference_mode():
        for i in range(0, len(targets), at_once):
            own = targets[i : i + at_once]
            logits = model(**{key: value[i : i + at_once] for key, value in inputs.items()}).logits.float()
            each = nn.functional.cross_entropy(logits, torch.cat(list(own)), reduction="none")
            found += (-each).cpu().split([len(t) for t in own])
    return found
