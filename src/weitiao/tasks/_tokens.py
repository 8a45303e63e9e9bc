"""A text as tokens that know their characters, and a long one as windows of them.

The window where a token is farthest from an edge answers for it, so that a token is learnt and answered once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from weitiao.errors import ModelError
from weitiao.tasks._spans import Entity, Span, glued, tags_of, trimmed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["BEGINS", "ENDS", "GLUED", "TOKEN", "Read", "Window", "windows"]

# what `reads` says of a token: answered for; shares a character with the one before; the first, the last of its text
TOKEN, GLUED, BEGINS, ENDS = 1, 2, 4, 8


class Window(NamedTuple):
    """Tokens ``start`` to ``stop`` are read; those from ``first`` to ``last`` (exclusive) are answered for."""

    start: int
    stop: int
    first: int
    last: int


def windows(tokens: int, room: int, shared: int) -> Iterator[Window]:
    """Yield windows of at most `room` tokens, of which two neighbors share `shared` or (the last two) more.

    Every token is answered for once. An end of the text is no edge.
    """
    starts = [0]
    while starts[-1] + room < tokens:
        starts.append(min(starts[-1] + max(1, room - shared), tokens - room))
    first = 0
    for i, start in enumerate(starts):
        stop = min(start + room, tokens)
        # as far from this window's last token as from the next one's first
        last = (stop - 1 + starts[i + 1]) // 2 + 1 if i + 1 < len(starts) else tokens
        yield Window(start, stop, first, last)
        first = last


@dataclass(frozen=True)
class Read:
    """A text as a tokenizer reads it.

    Parameters
    ----------
    values
        What the tokenizer gives, special tokens included.
    left, right
        How many special tokens stand before and behind the text's own.
    every
        Where each of the text's own tokens stands, white space at its ends left out; empty if it is only that.
    """

    values: Mapping[str, Sequence[int]]
    left: int
    right: int
    every: Sequence[Span]

    @classmethod
    def of(cls, text: str, tokenizer: PreTrainedTokenizerBase) -> Read:
        """Tokenize a text whole.

        Raises
        ------
        ModelError
            The tokenizer cannot tell where tokens stand.
        """
        if not tokenizer.is_fast:
            raise ModelError(
                f"{type(tokenizer).__name__} cannot tell where in the text a token stands.",
                fix="Choose a model with a fast tokenizer (tokenizer.json).",
            )
        found = tokenizer(text, truncation=False, return_offsets_mapping=True, verbose=False)
        own = [i for i, sequence in enumerate(found.sequence_ids(0)) if sequence is not None]
        offsets: Any = found.pop("offset_mapping")
        left, stop = (own[0], own[-1] + 1) if own else (len(offsets), len(offsets))
        return cls(dict(found), left, len(offsets) - stop, trimmed(text, offsets[left:stop]))

    @property
    def seen(self) -> list[int]:
        """Numbers of the tokens that are not white space."""
        return [i for i, (start, end) in enumerate(self.every) if start < end]

    @property
    def places(self) -> list[Span]:
        """Where the tokens that are not white space stand."""
        return [self.every[i] for i in self.seen]

    def inputs(
        self, max_length: int, overlap: float, entities: Sequence[Entity] | None, types: Mapping[str, int]
    ) -> Iterator[dict[str, Any]]:
        """Yield the windows of the text as inputs, each with ``reads`` and ``spans`` of the tokens it answers for.

        Parameters
        ----------
        max_length
            Tokens an input, special ones included.
        overlap
            Share of a window that its neighbor reads too.
        entities
            What is true of the text: then there are ``labels`` too.
        types
            Type to its place among all.

        Raises
        ------
        ModelError
            There is no room for a token.
        """
        room = max_length - self.left - self.right
        if room < 1:
            raise ModelError(f"an input of {max_length} tokens has no room for text.", fix="Raise model.max_length.")
        reads, labels = self._reads(), None if entities is None else self._labels(entities, types)
        for window in windows(len(self.every), room, int(overlap * room)):
            answered = [i for i in range(window.first, window.last) if reads[i]]
            if not answered and self.seen:
                continue  # it would say nothing
            one: dict[str, Any] = {key: self._cut(row, window) for key, row in self.values.items()}
            one |= {"spans": [list(self.every[i]) for i in answered], "tokens_lost": 0}
            yield one | {
                name: self._only(row, nothing, window)
                for name, row, nothing in (("reads", reads, 0), ("labels", labels, -1))
                if row is not None
            }

    def _reads(self) -> list[int]:
        reads, seen = [0] * len(self.every), self.seen
        for i, is_glued in zip(seen, glued(self.places), strict=True):
            reads[i] = TOKEN + GLUED * is_glued
        for i, what in ((0, BEGINS), (-1, ENDS)) if seen else ():
            reads[seen[i]] += what
        return reads

    def _labels(self, entities: Sequence[Entity], types: Mapping[str, int]) -> list[int]:
        labels = [-1] * len(self.every)
        for i, tag in zip(self.seen, tags_of(self.places, entities, types).tags, strict=True):
            labels[i] = tag
        return labels

    def _cut(self, row: Sequence[int], window: Window) -> list[int]:
        behind = len(row) - self.right
        return [*row[: self.left], *row[self.left + window.start : self.left + window.stop], *row[behind:]]

    def _only(self, row: Sequence[int], nothing: int, window: Window) -> list[int]:
        """Return what is true of the tokens a window answers for, and `nothing` for all others."""
        before, behind = window.first - window.start + self.left, window.stop - window.last + self.right
        return [*[nothing] * before, *row[window.first : window.last], *[nothing] * behind]
