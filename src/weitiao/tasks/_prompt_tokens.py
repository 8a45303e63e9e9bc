"""Tokens of a prompt: of words where they stand, of a gap, and of what writing begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from weitiao.errors import ModelError
from weitiao.tasks._templates import Template

if TYPE_CHECKING:
    from weitiao.models.find import Pretrained

__all__ = ["ends_of", "ids_of", "sentences", "start_and_gap", "tokens_of"]

_SENTINEL = "<extra_id_0>"  # what T5 reads in a gap, and writes before what belongs there


def ids_of(text: str, tokenizer: Any) -> list[int]:
    """Return the tokens of a text, without those that begin or end it."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def ends_of(text: str, tokenizer: Any) -> list[int]:
    """Return how many characters of a text its first token, its first two, ... are."""
    if not tokenizer.is_fast:
        return list(range(1, len(text) + 1))
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return [end for _, end in found if end]


def tokens_of(word: str, tail: str, gap: str, tokenizer: Any) -> list[int]:
    """Return the tokens of a word where it stands after the template's own words `tail`."""
    head, whole = ids_of(tail, tokenizer), ids_of(f"{tail}{gap}{word}", tokenizer)
    if head and whole[: len(head)] == head:
        return whole[len(head) :]
    return ids_of(f"{gap}{word}", tokenizer)


def sentences(
    words: Sequence[Sequence[str]], template: Template, tokenizer: Any
) -> tuple[list[list[list[int]]], int | None]:
    """Return the sentence of each word as second text of a pair, and the number of a second text, if there is one."""
    first, found, segment = tokenizer("a")["input_ids"], [], None
    for own in words:
        pairs = [tokenizer("a", template.solved({}, word)) for word in own]
        if any(pair["input_ids"][: len(first)] != first for pair in pairs):
            raise ModelError("the tokenizer writes a pair of texts otherwise than the first text and then the second.")
        found.append([list(pair["input_ids"][len(first) :]) for pair in pairs])
        segment = max((pair.get("token_type_ids") or [0])[-1] for pair in pairs) or None
    return found, segment


def start_and_gap(pretrained: Pretrained, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the tokens that the half that writes begins with, and what stands in the gap of the text that is read."""
    from transformers import AutoConfig

    from weitiao.models.gguf import plain_folder
    from weitiao.models.writing import start_of

    start, _ = start_of(pretrained, tokenizer)
    begin = [] if start is None else [start]
    if _SENTINEL in tokenizer.get_vocab():
        gap = tokenizer.convert_tokens_to_ids(_SENTINEL)
        return [*begin, gap], [gap]
    forced = getattr(AutoConfig.from_pretrained(plain_folder(pretrained)), "forced_bos_token_id", None)
    return [*begin, *([] if forced is None else [int(forced)])], []
