"""What is worth knowing of conversations before a reply is learnt from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from weitiao.data.checks.base import excerpt, num_rows, places, share
from weitiao.data.table import Table
from weitiao.findings import Finding
from weitiao.tasks._conversation import Script, Unusable, conversation, replies, tools_of

__all__ = ["broken_off", "of_template", "of_turns", "what_is_learnt"]

_CHECK = "dialogue"


def _talks(table: Table) -> dict[int, list[dict[str, Any]]]:
    found = {}
    for i, value in enumerate(table.column("messages")):
        try:
            found[i] = conversation(value or "")
        except Unusable:
            continue  # such rows are set aside
    return found


def _doubled(talk: Sequence[dict[str, Any]]) -> bool:
    roles = [turn["role"] for turn in talk]
    return any(a == b == "user" for a, b in pairwise(roles))


def _opens(talk: Sequence[dict[str, Any]]) -> bool:
    return next((turn["role"] for turn in talk if turn["role"] != "system"), "") == "assistant"


def _trails(talk: Sequence[dict[str, Any]]) -> bool:
    found = replies(talk)
    return bool(found) and found[-1] < len(talk) - 1


_TURNS: tuple[tuple[Callable[[Any], bool], str, str, str], ...] = (
    (
        _doubled,
        "warning",
        "two turns of the user in a row",
        "If a reply is missing between them, mend the rows: the model learns to leave a question unanswered.",
    ),
    (
        _opens,
        "info",
        "a first turn of the assistant, before anybody asked",
        "Nothing, if that is how the conversations begin: it is read, and not learnt, for it replies to nothing.",
    ),
    (
        _trails,
        "info",
        "turns after the last reply",
        "Nothing to do: what stands before them is learnt. In dev and test such rows are set aside, since there is no "
        "reply to compare with.",
    ),
)


def of_turns(split: str, table: Table) -> Iterator[Finding]:
    """Find conversations whose turns do not alternate from a user's question to a reply."""
    talks = _talks(table)
    for wrong, severity, what, remedy in _TURNS:
        rows = [i for i, talk in talks.items() if wrong(talk)]
        if rows:
            have = "has" if len(rows) == 1 else "have"
            yield Finding(
                _CHECK,
                severity,  # type: ignore[arg-type]
                f"{num_rows(len(rows), split)} {have} {what} ({share(len(rows), len(table))}).",
                remedy,
                places=places(table, rows),
                count=len(rows),
                evidence={"examples": [[f"{t['role']}: {excerpt(t['content'])}" for t in talks[i]] for i in rows[:3]]},
            )


def broken_off(split: str, table: Table) -> Iterator[Finding]:
    """Find replies that end in the middle of a sentence, or where a limit of length cut them."""
    said = [(i, talk[k]["content"].rstrip()) for i, talk in _talks(table).items() for k in replies(talk)]
    said = [(i, text) for i, text in said if text]
    if len(said) < 8:
        return
    lengths = Counter(len(text) for _, text in said)
    longest = max(lengths)
    limited = longest >= 100 and lengths[longest] >= 3  # where none was cut, the longest is alone
    open_ended = [(i, text) for i, text in said if text[-1].isalnum() or text[-1] in ",，、"]
    usual = len(open_ended) > 0.2 * len(said)  # then it is how they write, and says nothing
    cut = [(i, t) for i, t in said if limited and len(t) == longest]
    cut += [one for one in open_ended if not usual and len(one[1]) > 20 and one not in cut]
    if cut:
        rows = list(dict.fromkeys(i for i, _ in cut))
        few = len(cut) == 1
        yield Finding(
            _CHECK,
            "warning",
            f"{len(cut):,} {'reply' if few else 'replies'} in {num_rows(len(rows), split)} "
            f"{'seems' if few else 'seem'} to break off"
            + (f"; {lengths[longest]:,} have exactly {longest:,} characters, and none has more." if limited else "."),
            "Take them out, or complete them: the model would learn to break off, too.",
            places=places(table, rows),
            count=len(cut),
            evidence={"examples": [f"…{' '.join(text[-80:].split())}" for _, text in cut[:5]]},
        )


def of_template(script: Script, plain: str | None, train: Table) -> Iterator[Finding]:
    """Say that a plain template is used, and find tools that the template has no place for."""
    if plain is not None:
        example = [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]
        yield Finding(
            _CHECK,
            "info",
            f"conversations are written by the plain template {plain}, not by one of the tokenizer's.",
            "Nothing, if the model was pretrained without a chat template; else leave task.template out.",
            evidence={"example": script.text(example, None)},
        )
    unread = []
    for i, talk in _talks(train).items() if "tools" in train.column_names else ():
        try:
            tools = tools_of(train[i].get("tools"))
            if tools and script.text(script.taken(talk[:1], None), tools) == script.text(talk[:1], None):
                unread.append(i)
        except Unusable:
            continue
        if len(unread) == 20:  # it is the template's doing: the rest is alike
            break
    if unread:
        yield Finding(
            _CHECK,
            "warning",
            "the chat template has no place for tools: the model does not read them.",
            "Choose a model whose template takes tools, or say in the system's turn what they are.",
            places=places(train, unread),
            count=len(unread),
        )


def what_is_learnt(shown: Sequence[Sequence[tuple[str, bool]]], train: Table) -> Finding:
    """Show the first rows with the learnt tokens between brackets."""
    learnt = sum(flag for row in shown for _, flag in row)
    tokens = sum(len(row) for row in shown)
    return Finding(
        _CHECK,
        "info",
        f"of the first {len(shown):,} inputs, {learnt:,} of {tokens:,} tokens are learnt ({share(learnt, tokens)}): "
        "the assistant's turns, each with what ends it. In the examples they stand between ⟦ and ⟧.",
        "Nothing to do, if that is what the model should say.",
        places=places(train, range(min(3, len(train)))),
        count=len(shown),
        evidence={"examples": [_bracketed(row) for row in shown]},
    )


def _bracketed(row: Sequence[tuple[str, bool]]) -> str:
    """Return tokens as one text with those that are learnt in brackets; the middle of a long one is left out."""
    parts, inside = [], False
    for text, flag in row:
        if flag != inside:
            parts.append("⟦" if flag else "⟧")
            inside = flag
        parts.append(text)
    whole = "".join(parts) + ("⟧" if inside else "")
    return whole if len(whole) <= 1200 else f"{whole[:500]} … {whole[-600:]}"
