"""A conversation as text and tokens: by the tokenizer's own template, with what an assistant says known exactly.

Which characters an assistant says is found by writing the conversation several times: up to where the assistant begins
to speak, up to where it ends, and whole. If each is the beginning of the next, the difference is what is said. A
template that writes a turn in another way once others follow (that leaves out earlier thoughts, say) fails that test,
and every turn of the assistant becomes a conversation of its own that ends with it.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["PLAIN", "Piece", "Script", "Unusable", "conversation", "marked", "replies", "tools_of"]

Message = Mapping[str, Any]
Messages = Sequence[Message]

_IGNORED = -100
_ROLES = ("system", "user", "assistant", "tool")
# What speakers are called where the tokenizer has no template, and what stands behind the name of the assistant, which
# has to say that too: in English a space, which belongs to the token of the word behind it.
PLAIN = {
    "plain": ({"system": "System:", "user": "User:", "assistant": "Assistant:", "tool": "Tool:"}, "Tools:", " "),
    "plain_zh": ({"system": "系统：", "user": "用户：", "assistant": "助手：", "tool": "工具："}, "可用工具：", ""),
}
_WRITTEN = (
    "{{ begin }}{% if tools %}{{ of_tools }}{{ gap }}{{ tools | tojson }}{{ '\n' }}{% endif %}"
    "{% for m in messages %}{{ '' if loop.first else '\n' }}{{ names[m.role] }}{{ gap }}{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n' if messages else '' }}{{ names.assistant }}{% endif %}"
)


class Unusable(ValueError):
    """A conversation that cannot be used, with the reason."""


def conversation(value: str) -> list[dict[str, Any]]:
    """Return the turns of a JSON list, or any other text as one turn of a user.

    Raises
    ------
    Unusable
        A turn has no known role, or no text.
    """
    turns = _json_list(value)
    if not turns or not all(isinstance(turn, dict) for turn in turns):
        turns = [{"role": "user", "content": value}]
    return [_checked(turn, i + 1) for i, turn in enumerate(turns)]


def _json_list(value: str) -> list[Any] | None:
    if not value.lstrip().startswith("["):
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _checked(turn: dict[str, Any], number: int) -> dict[str, Any]:
    role, content = turn.get("role"), turn.get("content")
    if role not in _ROLES:
        raise Unusable(f"a turn of an unknown role: {str(role)[:40]!r} (turn {number})")
    if content is None and turn.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise Unusable(f"a turn without text (turn {number})")
    if any("\ud800" <= c <= "\udfff" for c in content):
        raise Unusable(f"half a character, a lone surrogate (turn {number})")
    return turn | {"content": content}


def tools_of(value: str | None) -> list[Any] | None:
    """Return the tools of a row; none, if it has none.

    Raises
    ------
    Unusable
        They are no JSON list.
    """
    if not value or not value.strip():
        return None
    if (found := _json_list(value)) is None:
        raise Unusable("tools that are no JSON list")
    return found or None


def replies(messages: Messages) -> list[int]:
    """Return which turns are an assistant's that says or calls something; one before all others replies to nothing."""
    said = ((i, m) for i, m in enumerate(messages) if m["role"] == "assistant" and i)
    return [i for i, m in said if m["content"].strip() or m.get("tool_calls")]


@dataclass(frozen=True)
class Piece:
    """A conversation as its template writes it; `spans` are the characters to learn, the end of a turn with them."""

    text: str
    spans: tuple[tuple[int, int], ...]


class Script:
    """Writes conversations by one template.

    Parameters
    ----------
    tokenizer
        Of the model; one that says where its tokens stand in the text.
    plain
        A key of `PLAIN`; ``None``: the tokenizer's own template.
    """

    def __init__(self, tokenizer: Any, plain: str | None) -> None:
        self.tokenizer = tokenizer
        self._settings: dict[str, Any] = {}
        if plain is not None:
            names, of_tools, gap = PLAIN[plain]
            told = {"names": names, "of_tools": of_tools, "gap": gap, "begin": self._begin()}
            self._settings = {"chat_template": _WRITTEN, **told}

    def _begin(self) -> str:
        """Return the token that the tokenizer puts in front of any text, if it does."""
        begin = self.tokenizer.bos_token_id
        return self.tokenizer.bos_token if begin is not None and begin in self.tokenizer("a")["input_ids"] else ""

    def text(self, messages: Messages, tools: list[Any] | None, *, answering: bool = False) -> str:
        """Return a conversation as text; `answering`: up to where the assistant begins to speak."""
        turns = [dict(message) for message in messages]
        return self.tokenizer.apply_chat_template(
            turns, tools=tools, tokenize=False, add_generation_prompt=answering, **self._settings
        )

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text that has all special ones in it."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def taken(self, messages: Messages, tools: list[Any] | None) -> list[dict[str, Any]]:
        """Return the messages as the template takes them.

        A template that knows no system, or no two turns of one side, is given the system's text, or the earlier turn,
        in front of the user's.

        Raises
        ------
        Unusable
            It does not take them either way; says why.
        """
        reason = ""
        for tried in (messages, _folded(messages)):
            try:
                self.text(tried, tools, answering=tried[-1]["role"] != "assistant")
            except Exception as error:  # a template is a program of its authors'
                reason = reason or str(error)
            else:
                return [dict(message) for message in tried]
        raise Unusable(f"the chat template refuses it: {reason}")

    def pieces(self, messages: Messages, tools: list[Any] | None, learnt: Sequence[int]) -> list[Piece]:
        """Return the conversation with the spans of the turns `learnt`, or one conversation for each of them.

        Raises
        ------
        Unusable
            The template writes what stands before a reply in another way once the reply follows.
        """
        whole = self.text(messages, tools)
        spans = [self._span(messages, tools, k, whole) for k in learnt]
        known = tuple(span for span in spans if span is not None)
        if len(known) == len(spans):
            return [Piece(whole, known)]
        found = []
        for k in learnt:
            text = self.text(messages[: k + 1], tools)
            span = self._span(messages, tools, k, text)
            if span is None:
                raise Unusable("the chat template writes what stands before a reply in another way once it follows")
            found.append(Piece(text, (span,)))
        return found

    def _span(self, messages: Messages, tools: Any, k: int, whole: str) -> tuple[int, int] | None:
        """Return the characters of turn `k`, if what is written up to it and with it begins the whole."""
        asked = self.text(messages[:k], tools, answering=True)
        said = self.text(messages[: k + 1], tools)
        return (len(asked), len(said)) if whole.startswith(said) and said.startswith(asked) else None

    def tokens(self, piece: Piece, ends: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the tokens of a piece and its labels, -100 on what is not learnt.

        Of a span, all tokens that have a character in it are learnt, up to the one that ends the turn. A template that
        ends the last turn with no such token is given one, or nothing would ever say that a reply is over.
        """
        found = self.tokenizer(piece.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, offsets = list(found["input_ids"]), found["offset_mapping"]
        labels = [_IGNORED] * len(ids)
        last: list[int] = []
        for start, end in piece.spans:
            own = [i for i, (a, b) in enumerate(offsets) if a < end and (b > start or a >= start)]
            last = [i for i in own if ids[i] in ends]
            for i in own if not last else own[: own.index(last[-1]) + 1]:
                labels[i] = ids[i]
        if not last and piece.spans and piece.spans[-1][1] == len(piece.text):
            ids, labels = [*ids, ends[0]], [*labels, ends[0]]
        return ids, labels

    def shortened(
        self, messages: Messages, tools: list[Any] | None, room: int, *, answering: bool
    ) -> tuple[list[dict[str, Any]], int]:
        """Return what fits into so many tokens, and how many tokens it lost.

        The oldest turns go first, so that a turn of a user comes first after the system; then the end of the longest
        text that is not the assistant's. What does not fit then is returned as it is.
        """

        def length(kept: Messages) -> int:
            return len(self.ids(self.text(kept, tools, answering=answering)))

        whole = length(messages)
        if whole <= room:
            return [dict(m) for m in messages], 0
        first = next((i for i, m in enumerate(messages) if m["role"] != "system"), 0)
        starts = [i for i, m in enumerate(messages) if i >= first and m["role"] == "user"] or [first]
        options = [[*messages[:first], *messages[i:]] for i in starts]
        place = bisect_left(options, True, key=lambda kept: length(kept) <= room)
        kept = options[min(place, len(options) - 1)]
        if place == len(options):
            kept = _cut(kept, lambda tried: length(tried) <= room)
        return [dict(m) for m in kept], whole - length(kept)


def _cut(messages: Messages, fits: Any) -> list[Message]:
    """Take as little as possible off the end of the longest text of a user or a tool."""
    others = [i for i, m in enumerate(messages) if m["role"] in ("user", "tool")]
    if not others:
        return list(messages)
    at = max(others, key=lambda i: len(messages[i]["content"]))
    content = messages[at]["content"]

    def with_first(characters: int) -> list[Message]:
        return [*messages[:at], {**messages[at], "content": content[:characters]}, *messages[at + 1 :]]

    most = bisect_left(range(1, len(content) + 1), True, key=lambda characters: not fits(with_first(characters)))
    return with_first(most)


def _folded(messages: Messages) -> list[Message]:
    """Return messages without a system, and without two turns of a user in a row."""
    found: list[Message] = []
    for message in messages:
        turn = {**message, "role": "user"} if message["role"] == "system" else message
        if found and turn["role"] == found[-1]["role"] == "user":
            found[-1] = {**found[-1], "content": f"{found[-1]['content']}\n\n{turn['content']}"}
        else:
            found.append(turn)
    return found


def marked(ids: Sequence[int], labels: Sequence[int], tokenizer: Any) -> list[tuple[str, bool]]:
    """Return tokens as texts, each with whether it is learnt; those that share a character come together."""
    found: list[tuple[str, bool]] = []
    waiting: list[int] = []
    for i, (token, label) in enumerate(zip(ids, labels, strict=True)):
        waiting.append(token)
        text = tokenizer.decode(waiting, clean_up_tokenization_spaces=False)
        is_last = i + 1 == len(ids) or (labels[i + 1] == _IGNORED) != (label == _IGNORED)
        if is_last or not text.endswith("\ufffd"):
            found.append((text, label != _IGNORED))
            waiting = []
    return found
