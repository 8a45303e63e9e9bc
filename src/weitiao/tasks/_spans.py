"""Entities of a text as tags of its tokens (BIOES), and exactly back to characters.

Tokens that share a character (the bytes of one, say) are *glued*: they are one unit, and no entity begins or ends
between them.

Source: Ratinov and Roth, Design Challenges and Misconceptions in Named Entity Recognition, 2009 (as BILOU).
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "Entity",
    "Span",
    "Tagging",
    "allowed",
    "best_path",
    "entities_of",
    "fault",
    "glued",
    "marginals",
    "parse",
    "tag_names",
    "tags_of",
    "trimmed",
]

Span = tuple[int, int]
_OUTSIDE = 0


class Entity(NamedTuple):
    """A part of a text, end exclusive, and what it is; `said` is what the file has it to be."""

    start: int
    end: int
    type: str
    said: str | None = None

    @property
    def key(self) -> tuple[int, int, str]:
        """What a metric compares."""
        return self.start, self.end, self.type


class Tagging(NamedTuple):
    """Tags of tokens as numbers, and the entities that they cannot give back exactly."""

    tags: list[int]
    lost: list[Entity]


# --- what rows hold ---


def parse(value: Any) -> list[Entity]:
    """Return the entities of a row, each once, by their start.

    Parameters
    ----------
    value
        A list, or its JSON text, of ``{"start", "end", "type"}`` or ``[start, end, type]``.

    Raises
    ------
    ValueError
        It is something else; says what.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"entities are not JSON: {value[:40]!r}") from error
    if not isinstance(value, list):
        raise ValueError(f"entities are not a list: {str(value)[:40]!r}")
    found = {entity.key: entity for entity in map(_entity, value)}
    return sorted(found.values(), key=lambda entity: entity.key)


def _entity(item: Any) -> Entity:
    if isinstance(item, Mapping):
        start, end, kind, said = (
            item.get("start"),
            item.get("end"),
            item.get("type", item.get("label")),
            item.get("text"),
        )
    elif isinstance(item, list) and len(item) == 3:
        (start, end, kind), said = item, None
    else:
        start = end = kind = said = None
    whole = all(isinstance(v, int) and not isinstance(v, bool) for v in (start, end))
    if not whole or not isinstance(kind, str) or not kind.strip():
        raise ValueError(f"an entity without start, end and type: {json.dumps(item, ensure_ascii=False)[:60]}")
    return Entity(start, end, kind.strip(), said if isinstance(said, str) else None)  # type: ignore[arg-type]


def fault(text: str, entities: Sequence[Entity]) -> str | None:
    """Return why a row cannot be learnt from, or ``None``; what follows the colon is its own."""
    for entity in entities:
        name = f"{entity.type} at {entity.start}-{entity.end}"
        if entity.start >= entity.end:
            return f"an empty entity: {name}"
        if entity.start < 0 or entity.end > len(text):
            return f"an entity outside the text: {name}, and the text has {len(text)} characters"
        if not text[entity.start : entity.end].strip():
            return f"an entity of white space: {name}"
    for one, two in pairwise(entities):
        if two.start < one.end:
            shown = " and ".join(f"{text[e.start : e.end]!r} ({e.type} {e.start}-{e.end})" for e in (one, two))
            return f"entities that overlap or lie in each other: {shown}"
    return None


# --- tokens ---


def trimmed(text: str, offsets: Sequence[Span]) -> list[Span]:
    """Return where each token stands without white space at its ends; one of nothing else is empty."""
    found = []
    for start, end in offsets:
        part = text[start:end]
        left = len(part) - len(part.lstrip())
        found.append((start + left, start + max(left, len(part.rstrip()))))
    return found


def glued(spans: Sequence[Span]) -> list[bool]:
    """Return whether each token shares a character with one before it."""
    found, reached = [], 0
    for start, end in spans:
        found.append(start < reached)
        reached = max(reached, end)
    return found


def tag_names(types: Sequence[str]) -> list[str]:
    """Return ``O`` and four tags a type, in the order of `allowed`."""
    return ["O", *(f"{letter}-{kind}" for kind in types for letter in "BIES")]


def tags_of(spans: Sequence[Span], entities: Sequence[Entity], types: Mapping[str, int]) -> Tagging:
    """Return the tag of each token, as a number in `tag_names`; -1 for tokens of a type that is not known.

    A token that an entity only partly covers belongs to it; then the entity is among those lost.

    Parameters
    ----------
    spans
        Of the tokens, as `trimmed` gives them, none empty.
    entities
        Sorted, and none overlaps another.
    types
        Type to place in the list that `tag_names` was given.
    """
    first = [i for i, is_glued in enumerate(glued(spans)) if not is_glued]  # first token of each unit
    starts = [spans[i][0] for i in first]
    stops = [*first[1:], len(spans)]  # one too many where there is no token
    ends = [max(end for _, end in spans[i:j]) for i, j in zip(first, stops, strict=False)]
    tags, lost, free = [_OUTSIDE] * len(spans), [], 0
    for entity in entities:
        left, right = bisect_right(ends, entity.start), bisect_left(starts, entity.end)
        exact = free <= left < right and (starts[left], ends[right - 1]) == (entity.start, entity.end)
        if not exact:
            lost.append(entity)
        left = max(free, left)
        if left >= right:
            continue
        free = right
        begin, end = first[left], first[right] if right < len(first) else len(spans)
        place = types.get(entity.type)
        tags[begin:end] = [-1] * (end - begin) if place is None else _bioes(4 * place + 1, end - begin)
    return Tagging(tags, lost)


def _bioes(begin: int, count: int) -> list[int]:
    return [begin + 3] if count == 1 else [begin, *[begin + 1] * (count - 2), begin + 2]


def entities_of(tags: Sequence[int], spans: Sequence[Span], types: Sequence[str]) -> list[tuple[Entity, Span]]:
    """Return the entities that allowed tags say, each with its first token and the one behind its last."""
    found, begin = [], 0
    for i, tag in enumerate(tags):
        place, letter = divmod(int(tag) - 1, 4)
        if tag != _OUTSIDE and letter in (0, 3):
            begin = i
        if tag != _OUTSIDE and letter in (2, 3):
            end = max(stop for _, stop in spans[begin : i + 1])
            found.append((Entity(spans[begin][0], end, types[place]), (begin, i + 1)))
    return found


# --- sequences of tags ---


def allowed(types: int) -> np.ndarray:
    """Return which tag may follow which, bool ``(2, 1 + tags, 1 + tags)``: at a token that is not glued, and at one.

    Row 0 is before the first token, column 0 behind the last; the tag ``t`` has row and column ``1 + t``.
    """
    tags = np.arange(4 * types + 1)
    letter, kind = np.where(tags, (tags - 1) % 4, 4), np.where(tags, (tags - 1) // 4, -1)  # 0 B, 1 I, 2 E, 3 S, 4 O
    opens, closed = np.isin(letter, (0, 1)), np.isin(letter, (2, 3, 4))
    begins, goes_on = np.isin(letter, (0, 3, 4)), np.isin(letter, (1, 2))
    inside = opens[:, None] & goes_on & (kind[:, None] == kind)
    found = np.zeros((2, len(tags) + 1, len(tags) + 1), dtype=bool)
    found[0, 1:, 1:] = (closed[:, None] & begins) | inside
    found[1, 1:, 1:] = inside
    found[1, 1 + _OUTSIDE, 1 + _OUTSIDE] = True
    found[:, 0, 1:], found[:, 1:, 0] = begins, closed
    return found


def best_path(scores: np.ndarray, steps: np.ndarray, is_glued: Sequence[bool]) -> np.ndarray:
    """Return the tags with the largest sum of scores, ``(tokens,)``.

    Parameters
    ----------
    scores
        ``(tokens, tags)``.
    steps
        ``(2, 1 + tags, 1 + tags)``, what each step counts, as `allowed` has them; minus infinity: never.
    is_glued
        Which of the two each token takes.

    Source
    ------
    Viterbi, Error Bounds for Convolutional Codes and an Asymptotically Optimum Decoding Algorithm, 1967.
    """
    if not len(scores):
        return np.zeros(0, dtype=np.int64)
    total = steps[0, 0, 1:] + scores[0]
    back = np.zeros(scores.shape, dtype=np.int64)
    for i in range(1, len(scores)):
        each = total[:, None] + steps[int(is_glued[i]), 1:, 1:]  # (before, tag)
        back[i] = each.argmax(axis=0)
        total = each[back[i], np.arange(each.shape[1])] + scores[i]
    path = [int((total + steps[0, 1:, 0]).argmax())]
    for i in range(len(scores) - 1, 0, -1):
        path.append(int(back[i, path[-1]]))
    return np.array(path[::-1], dtype=np.int64)


def marginals(scores: np.ndarray, steps: np.ndarray, is_glued: Sequence[bool]) -> np.ndarray:
    """Return the probability of each tag at each token, ``(tokens, tags)``, over all allowed sequences.

    Arguments are those of `best_path`.
    """
    from scipy.special import logsumexp

    ahead, behind = np.empty(scores.shape), np.empty(scores.shape)
    last = len(scores) - 1
    for i in range(len(scores)):
        step = steps[int(is_glued[i]), 1:, 1:]
        ahead[i] = scores[i] + (logsumexp(ahead[i - 1][:, None] + step, axis=0) if i else steps[0, 0, 1:])
    for i in range(last, -1, -1):
        if i == last:
            behind[i] = steps[0, 1:, 0]
        else:
            behind[i] = logsumexp(steps[int(is_glued[i + 1]), 1:, 1:] + scores[i + 1] + behind[i + 1], axis=1)
    joint = ahead + behind
    return np.exp(joint - np.asarray(logsumexp(joint, axis=1, keepdims=True))) if len(scores) else joint
