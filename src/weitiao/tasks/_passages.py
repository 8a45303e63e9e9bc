"""Long contexts in passages: windows with an overlap that are told where an answer is, and read for their best spans.

A window is the question and as much of the context as fits. A token's *offsets* are the characters of the context it
stands for, without white space at its ends: a span between tokens is cut from the context as it was written.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from weitiao.errors import DataError, ModelError
from weitiao.tasks import _texts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["Spans", "aims", "best_spans", "cut_windows", "pad_windows"]

_OWN = _texts.NOT_INPUTS | {"offsets", "none_at"}
_NOT_INPUTS = frozenset({"offset_mapping", "overflow_to_sample_mapping", "special_tokens_mask"})  # of a tokenizer
_BEST = 20  # spans that are kept of a row

Window = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Spans:
    """What was said of one row: its best spans over all windows, best first.

    Parameters
    ----------
    places
        Characters of the context, end exclusive, ``(spans, 2)``.
    scores
        Logit of the start plus logit of the end, the largest of any window, ``(spans,)``.
    no_answer
        The score of saying that there is no answer: the smallest of any window.
    logits
        All that the model said of where an answer can start and end.
    """

    places: np.ndarray
    scores: np.ndarray
    no_answer: float
    logits: np.ndarray

    @property
    def margin(self) -> float:
        """By how much "no answer" scores higher than the best span; finite."""
        best = float(self.scores[0]) if len(self.scores) else -np.inf
        return float(np.nan_to_num(self.no_answer - best, nan=1e6, posinf=1e6, neginf=-1e6))


def cut_windows(
    questions: Sequence[str],
    contexts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    stride: int,
) -> list[list[Window]]:
    """Return the windows of each row.

    Parameters
    ----------
    stride
        Tokens of the context that two neighboring windows share; at most half of what a window has room for.

    Returns
    -------
    Of each window what the tokenizer gives; ``row``; ``tokens_lost`` of a question that took more than half of the
    tokens, on a row's first window; ``offsets``, two numbers a token, -1 where a token is not of the context or is
    white space; ``none_at``, the token that stands for "no answer".

    Raises
    ------
    ModelError
        The tokenizer does not tell where its tokens stand.
    DataError
        `max_length` leaves no room.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not tell at which characters its tokens stand, so no answer can be cut "
            "from its context.",
            fix="Take a model with a fast tokenizer (one with a tokenizer.json).",
        )
    questions, lost, rooms = _shortened(questions, tokenizer, max_length)
    together: dict[int, list[int]] = defaultdict(list)  # a tokenizer takes one stride a call
    for row, room in enumerate(rooms):
        together[min(stride, room // 2)].append(row)
    found: list[list[Window]] = [[] for _ in questions]
    for shared, rows in together.items():
        cut: Any = tokenizer(
            [questions[row] for row in rows],
            [contexts[row] for row in rows],
            truncation="only_second",
            max_length=max_length,
            stride=shared,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        names = [name for name in cut if name not in _NOT_INPUTS]
        for i, number in enumerate(cut["overflow_to_sample_mapping"]):
            own = found[rows[number]]
            if not own:  # a row's windows come together
                visible = _visible(str(contexts[rows[number]]))
            offsets = _offsets(cut["offset_mapping"][i], cut.sequence_ids(i), *visible)
            own.append(
                {
                    **{name: cut[name][i] for name in names},
                    "row": rows[number],
                    "tokens_lost": 0 if own else lost[rows[number]],
                    "offsets": array("i", offsets.ravel().tolist()),
                    "none_at": _none_at(cut["input_ids"][i], tokenizer),
                }
            )
    return found


def _shortened(
    questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[str], list[int], list[int]]:
    """Return the questions, how many tokens each lost, and how many tokens are left for its context."""
    special = tokenizer.num_special_tokens_to_add(pair=True)
    most = min(max_length // 2, max_length - special - 1)
    if most < 1:
        raise DataError(f"{max_length} tokens leave no room for a context.", fix="Raise model.max_length.")
    told = tokenizer(list(questions), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    kept, lost, rooms = [], [], []
    for question, offsets in zip(questions, told["offset_mapping"], strict=True):
        size = min(len(offsets), most)
        kept.append(question if len(offsets) == size else question[: offsets[size - 1][1]])
        lost.append(len(offsets) - size)
        rooms.append(max_length - special - size)
    return kept, lost, rooms


def _visible(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return for each place in a text the first character from there on that is no white space, and the last before.

    As ``starts[a]`` and ``ends[b]``, so that ``text[a:b].strip()`` is ``text[starts[a]:ends[b]]`` unless it is empty.
    """
    size = len(text)
    seen = np.fromiter((not c.isspace() for c in text), dtype=bool, count=size)
    at = np.arange(size)
    starts = np.minimum.accumulate(np.where(seen, at, size)[::-1])[::-1]
    ends = np.maximum.accumulate(np.where(seen, at + 1, 0))
    return np.append(starts, size), np.append(0, ends)


def _offsets(told: Any, sides: Sequence[int | None], starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return where each token of the context stands, ``(tokens, 2)``, and -1 for the others."""
    is_context = np.array([side == 1 for side in sides], dtype=bool)
    given = np.where(is_context[:, None], np.array(told, dtype=np.int64).reshape(-1, 2), 0)
    trimmed = np.stack([starts[given[:, 0]], ends[given[:, 1]]], axis=1)
    is_context &= trimmed[:, 1] > trimmed[:, 0]
    return np.where(is_context[:, None], trimmed, -1)


def _none_at(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the place of the token that stands for the whole sequence; the first if there is none."""
    return ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0


def aims(windows: Sequence[Window], span: tuple[int, int] | None) -> list[tuple[int, int]]:
    """Return the tokens where the answer starts and ends, of each window of a row.

    A window that does not hold the whole answer says "no answer". An answer that no window holds whole is aimed at by
    the part of it in the window that holds most.
    """
    found = [(window["none_at"], window["none_at"]) for window in windows]
    offsets = [_pairs(window) for window in windows]
    if span is None or not any((own[:, 0] >= 0).any() for own in offsets):
        return found
    inside = _inside(offsets, span)
    reached = {i: (offsets[i][at[0], 0], offsets[i][at[-1], 1]) for i, at in enumerate(inside) if len(at)}
    whole = (min(first for first, _ in reached.values()), max(last for _, last in reached.values()))
    holders = [i for i, reach in reached.items() if reach == whole]
    for i in holders or [max(reached, key=lambda i: len(inside[i]))]:
        found[i] = (int(inside[i][0]), int(inside[i][-1]))
    return found


def _inside(offsets: Sequence[np.ndarray], span: tuple[int, int]) -> list[np.ndarray]:
    """Return the tokens of each window that are of a span, or else the one nearest to it."""
    inside = [np.flatnonzero((own[:, 0] < span[1]) & (own[:, 1] > span[0])) for own in offsets]
    if any(map(len, inside)):
        return inside
    gaps = [np.where(own[:, 0] >= 0, np.abs(own[:, 0] - span[0]), np.inf) for own in offsets]
    least = min(gap.min() for gap in gaps)  # the tokenizer has dropped all of its characters
    return [np.flatnonzero(gap == least)[:1] for gap in gaps]


def pad_windows(windows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """Pad to the longest window: model inputs, ``can_be (windows, length)``, and ``labels (windows, 2)`` if there.

    ``can_be`` is where an answer can start or end: the context, and the token that says that there is none.
    """
    import torch

    batch = _texts.pad([{k: v for k, v in window.items() if k not in _OWN} for window in windows], tokenizer)
    can_be = np.zeros(tuple(batch["input_ids"].shape), dtype=bool)
    for own, window in zip(can_be, windows, strict=True):
        pairs = _pairs(window)
        own[: len(pairs)] = pairs[:, 0] >= 0
        own[window["none_at"]] = True
    batch["can_be"] = torch.from_numpy(can_be)
    if "labels" in windows[0]:
        batch["labels"] = torch.tensor([window["labels"] for window in windows], dtype=torch.long)
    return batch


def best_spans(logits: Sequence[np.ndarray], windows: Sequence[Mapping[str, Any]], longest: int) -> Spans:
    """Return the best spans of a row of at most `longest` tokens.

    Parameters
    ----------
    logits
        Of each window, ``(2, tokens or more)``: start and end.
    """
    found: dict[tuple[int, int], float] = {}
    no_answer, numbers = [], []
    for said, window in zip(logits, windows, strict=True):
        pairs = _pairs(window)
        at = np.flatnonzero(pairs[:, 0] >= 0)
        nothing = said[:, window["none_at"]]
        no_answer.append(float(nothing.sum()))
        numbers += [nothing, said[:, at].ravel()]
        for first, last, score in _best(said[0, at], said[1, at], longest):
            place = (int(pairs[at[first], 0]), int(pairs[at[last], 1]))
            found[place] = max(score, found.get(place, -np.inf))
    ordered = sorted(found, key=lambda place: (-found[place], place))[:_BEST]
    return Spans(
        np.array(ordered, dtype=np.int64).reshape(-1, 2),
        np.array([found[place] for place in ordered], dtype=np.float64),
        min(no_answer),
        np.concatenate(numbers),
    )


def _best(starts: np.ndarray, ends: np.ndarray, longest: int) -> Iterator[tuple[int, int, float]]:
    """Yield the first and last token of the best spans of a window, and their scores."""
    longest = min(longest, len(starts))
    if not longest:
        return
    padded = np.concatenate([ends, np.full(longest - 1, -np.inf, dtype=ends.dtype)])
    # (tokens, longest): entry (i, n) is the span that starts at i and ends n tokens later
    scores = starts[:, None] + np.lib.stride_tricks.sliding_window_view(padded, longest)
    flat = scores.ravel()
    top = np.argpartition(-flat, min(_BEST, len(flat)) - 1)[:_BEST]
    for i in top[flat[top] > -np.inf]:
        first, more = divmod(int(i), longest)
        yield first, first + more, float(flat[i])


def _pairs(window: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(window["offsets"]).reshape(-1, 2)
