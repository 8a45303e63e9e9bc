"""Texts to tokens, as every task that reads one text or a pair does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weitiao.errors import DataError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["NOT_INPUTS", "must_have", "pad", "tokenize"]

# what an encoded row may hold beside model inputs
NOT_INPUTS = frozenset({"labels", "tokens_lost", "row"})


def must_have(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Refuse rows that lack a text.

    Raises
    ------
    DataError
        Names the first such row, counted from 1.
    """
    for i, row in enumerate(rows):
        for name in names:
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise DataError(f"{name} is empty or missing.", where=f"row {i + 1}", fix="Every row needs it.")


def tokenize(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[dict[str, Any]]:
    """Tokenize one text a row, or two as a pair; a text that is too long loses its end.

    Returns
    -------
    One mapping a row: what the tokenizer gives, and ``tokens_lost``, how many tokens were cut off.
    """
    must_have(rows, names)
    texts = [row[names[0]] for row in rows]
    pairs = [row[names[1]] for row in rows] if len(names) > 1 else None
    cut = tokenizer(texts, pairs, truncation=True, max_length=max_length)
    full = [i for i, ids in enumerate(cut["input_ids"]) if len(ids) >= max_length]
    long = [texts[i] for i in full], [pairs[i] for i in full] if pairs else None
    whole = tokenizer(*long, truncation=False, verbose=False)["input_ids"] if full else []
    lost = {i: len(ids) - len(cut["input_ids"][i]) for i, ids in zip(full, whole, strict=True)}
    return [{key: cut[key][i] for key in cut} | {"tokens_lost": lost.get(i, 0)} for i in range(len(rows))]


def pad(inputs: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """Pad what a model reads of encoded rows to the longest, each tensor ``(rows, length)``; targets are left out."""
    keys = [key for key in inputs[0] if key not in NOT_INPUTS]
    batch = tokenizer.pad([{key: row[key] for key in keys} for row in inputs], return_tensors="pt")
    return {key: batch[key] for key in keys}
