"""Two entities of a text: read from tags or spans, written with marks, and kept where the text is too long."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weitiao.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Entity", "Marked", "from_spans", "from_tags", "marks_of", "tokens", "untagged"]

_TAG = re.compile(r"<(/?)e([12])>")
_MARKS = "$#@^&|~!-'?"  # the first two that a vocabulary has


@dataclass(frozen=True)
class Entity:
    """A span of characters, the end exclusive, and the type of what it names if that is known."""

    start: int
    end: int
    type: str = ""


@dataclass(frozen=True)
class Marked:
    """A text without tags, and the characters of its two entities."""

    text: str
    head: Entity
    tail: Entity


def untagged(text: str) -> str:
    """Return a text in which what looks like a tag is none."""
    return _TAG.sub(lambda tag: f"< {tag[0][1:]}", text)


def from_tags(text: str) -> Marked | str:
    """Return a text without its tags, and the entities between them; or what is wrong with them."""
    tags = list(_TAG.finditer(text))
    seen = Counter(tag[0] for tag in tags)
    for name in ("<e1>", "</e1>", "<e2>", "</e2>"):
        if seen[name] != 1:
            return f"{name} stands {seen[name]} times in the text, not once"
    first, second, third, fourth = tags
    if not (first[2] == second[2] and third[2] == fourth[2] and not first[1] and not third[1]):
        return "the tags <e1> and <e2> lie in each other or end before they begin"
    plain, at, ends = "", 0, []
    for tag in tags:
        plain += text[at : tag.start()]
        at = tag.end()
        ends.append(len(plain))
    plain += text[at:]
    spans = {first[2]: Entity(ends[0], ends[1]), third[2]: Entity(ends[2], ends[3])}
    for name, span in spans.items():
        if not plain[span.start : span.end].strip():
            return f"nothing stands between <e{name}> and </e{name}>"
    return Marked(plain, spans["1"], spans["2"])


def from_spans(text: str, head: Any, tail: Any) -> Marked | str:
    """Return a text with the entities that two spans name, JSON or mappings; or what is wrong with them."""
    first, second = _entity(head, "head", text), _entity(tail, "tail", text)
    if isinstance(first, str) or isinstance(second, str):
        return first if isinstance(first, str) else str(second)
    if first.start < second.end and second.start < first.end:
        return "head and tail overlap"
    return Marked(text, first, second)


def _entity(value: Any, name: str, text: str) -> Entity | str:
    """Read a span of characters from JSON."""
    if value is None:
        return f"no {name}"
    try:
        told = json.loads(value) if isinstance(value, str) else value
        start, end = told["start"], told["end"]
    except (ValueError, KeyError, TypeError):
        return f'{name} is not {{"start": …, "end": …}}'
    if not all(isinstance(x, int) and not isinstance(x, bool) for x in (start, end)) or not 0 <= start < end:
        return f"the span of {name} is no span: {start} to {end}"
    if end > len(text):
        return f"the span of {name} lies outside the text: {start} to {end} of {len(text)} characters"
    if "text" in told and told["text"] != text[start:end]:
        return f"the span of {name} is off: {told['text']!r} is asked for, {text[start:end]!r} stands there"
    if not text[start:end].strip():
        return f"the span of {name} holds nothing: {start} to {end}"
    return Entity(start, end, str(told.get("type") or ""))


def marks_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the marks of the first and the second entity."""
    unknown = tokenizer.unk_token_id
    known = [c for c in _MARKS if unknown is None or unknown not in tokenizer(c)["input_ids"]]  # type: ignore[operator]
    if len(known) < 2:
        raise ModelError("the vocabulary has no punctuation to mark entities by.", fix="Choose another model.")
    return known[:2]


def tokens(
    found: Marked, tokenizer: PreTrainedTokenizerBase, most: int, marks: Sequence[str], *, typed: bool
) -> dict[str, Any]:
    """Tokenize a text with its marks; of one that is too long, what is nearest to the entities.

    Returns
    -------
    What the tokenizer gives, and ``tokens_lost``, how many tokens were left out.
    """
    text, marked, names = _write(found, marks, typed=typed)
    whole = tokenizer(text, verbose=False)
    size = len(whole["input_ids"])
    if size <= most:
        return {**whole, "tokens_lost": 0}
    kept = _nearest(text, marked, names, tokenizer, most)
    return {key: [whole[key][i] for i in kept] for key in whole} | {"tokens_lost": size - len(kept)}


def _write(
    found: Marked, marks: Sequence[str], *, typed: bool
) -> tuple[str, list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the text with its marks, where the marks stand, and where the entities."""
    text, at = "", 0
    marked, names = [], []

    def add(piece: str, into: list[tuple[int, int]]) -> None:
        nonlocal text
        text += "" if not text or text[-1].isspace() else " "
        into.append((len(text), len(text) + len(piece)))
        text += piece

    for entity, mark in sorted(zip((found.head, found.tail), marks, strict=True), key=lambda both: both[0].start):
        text += found.text[at : entity.start]
        add(f"{mark} * {entity.type} *" if typed else mark, marked)
        add(found.text[entity.start : entity.end].strip(), names)
        add(mark, marked)
        at = entity.end
        if found.text[at : at + 1].strip():
            text += " "
    return text + found.text[at:], marked, names


def _nearest(
    text: str,
    marks: Sequence[tuple[int, int]],
    names: Sequence[tuple[int, int]],
    tokenizer: PreTrainedTokenizerBase,
    most: int,
) -> list[int]:
    """Return the places of the `most` tokens to keep: marks, then entities, then what is nearest to them."""
    if not tokenizer.is_fast:
        raise ModelError(
            "a text is too long, and this tokenizer cannot say where in the text its tokens stand.",
            fix="Choose a model with a fast tokenizer, or shorten the text.",
        )
    told = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)

    def weight(i: int) -> tuple[int, int, int]:
        start, end = told["offset_mapping"][i]
        if told["special_tokens_mask"][i]:
            return 0, 0, i
        for rank, spans in ((1, marks), (2, names)):
            if any(start < b and a < end for a, b in spans):
                return rank, 0, i
        return 3, min(max(a - end, start - b) for a, b in names), i

    order = sorted(range(len(told["input_ids"])), key=weight)
    return sorted(order[:most])
