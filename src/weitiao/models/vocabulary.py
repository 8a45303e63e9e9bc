"""New words for a model: found where its tokenizer takes them apart, added to it, and given vectors to start from.

A word that is many pieces costs many places and says little by each. As one token its vector begins as the mean of
those of its pieces, so that the model reads a text with it nearly as before.

Source: Yao, Huang, Wang, Dong and Wei, Adapt-and-Distill: Developing Small, Fast and Effective Pretrained Language
Models for Domains, 2021, arXiv:2106.13474, section 3.1. Differs: words are chosen by the tokens they save.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

__all__ = ["add_words", "count_words", "grow", "new_words"]

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_HAN}]|(?:(?![{_HAN}])[^\W\d_]){{3,}}")
_PIECES = 3  # into so many or more a word is taken apart that is worth a token
_TIMES = 2  # so often it stands in the texts at least


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Return how often each word stands in the texts: runs of three letters or more, and single Chinese characters."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_WORD.findall(text))
    return counts


def new_words(counts: Mapping[str, int], tokenizer: Any, most: int) -> list[str]:
    """Return the words to add: unknown to the tokenizer or three pieces and more, the ones that save most tokens first.

    Parameters
    ----------
    counts
        As `count_words` gives them.
    tokenizer
        A fast one; left as it is.
    most
        Words at most.
    """
    normalizer = tokenizer.backend_tokenizer.normalizer
    plain: Counter[str] = Counter()
    for word, count in counts.items():  # as the tokenizer sees them: in lower case, say
        for one in _WORD.findall(normalizer.normalize_str(word)) if normalizer else [word]:
            plain[one] += count
    saved = {}
    there = tokenizer.get_vocab()
    for word, count in plain.items():
        if count < _TIMES or word in there:  # its vector was learnt, if only for other places in a text
            continue
        pieces = _pieces(word, tokenizer)
        if len(pieces) >= _PIECES or tokenizer.unk_token_id in pieces:
            saved[word] = count * len(pieces)
    chosen = sorted(saved, key=lambda word: (-saved[word], word))[:most]
    tried = add_words(copy.deepcopy(tokenizer), chosen)
    known = tried.get_vocab()
    return [word for word in chosen if known[word] in _pieces(word, tried)]  # those it does not find in a text are none


def add_words(tokenizer: Any, words: Sequence[str]) -> Any:
    """Return the tokenizer with these words as tokens, put into it where they are not yet."""
    from transformers import AddedToken

    single = re.compile(f"[{_HAN}]")
    tokenizer.add_tokens([AddedToken(word, single_word=not single.match(word), normalized=True) for word in words])
    return tokenizer


def grow(model: Any, tokenizer: Any, words: Sequence[str]) -> None:
    """Give a model with a head over its vocabulary a vector a new word: the mean of those of its pieces.

    Parameters
    ----------
    tokenizer
        Without the words.
    words
        In the order in which `add_words` adds them.
    """
    pieces = [_pieces(word, tokenizer) for word in words]
    known = add_words(tokenizer, words).get_vocab()
    if len(known) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(known), mean_resizing=False)
    read, written = model.get_input_embeddings(), model.get_output_embeddings()
    tables = [read.weight]
    if written.weight.data_ptr() != read.weight.data_ptr():
        tables.append(written.weight)
    if getattr(written, "bias", None) is not None:
        tables.append(written.bias)
    with torch.no_grad():
        for word, own in zip(words, pieces, strict=True):
            for table in tables:
                table[known[word]] = table[own].mean(0)


def _pieces(word: str, tokenizer: Any) -> list[int]:
    """Return the tokens of a word behind another one."""
    before, both = (
        tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in ("a", f"a {word}")
    )
    return list(both[len(before) :])
