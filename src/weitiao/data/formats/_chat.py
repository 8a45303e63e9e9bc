"""Turns of a dialogue in the words of different sources, as messages with the standard roles."""

from __future__ import annotations

from typing import Any

__all__ = ["Unreadable", "message", "of_pair", "of_turns"]

_ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "usr", "customer", "client"),
    "assistant": ("assistant", "gpt", "sys", "bot", "agent", "model", "chatgpt", "function_call"),
    "tool": ("tool", "function", "observation", "action", "tool_response"),
}
_ROLE = {word: role for role, words in _ROLES.items() for word in words}
_KEPT = ("name", "tool_calls", "tool_call_id", "function_call", "reasoning_content", "weight")


class Unreadable(ValueError):
    """A dialogue that cannot be read, with the reason."""


def of_turns(turns: list[Any]) -> list[dict[str, Any]]:
    """Return messages of turns that say who speaks and what; where none says who, user and assistant alternate."""
    if not turns:
        raise Unreadable("no messages")
    spoken = [turn for turn in turns if isinstance(turn, dict)]
    if len(spoken) == len(turns) and all(isinstance(t.get("message"), str) and "role" not in t for t in spoken):
        return [message("assistant" if i % 2 else "user", turn["message"]) for i, turn in enumerate(spoken)]
    return [_of_turn(turn) for turn in turns]


def of_pair(record: dict[str, Any], asked: str, answered: str) -> list[dict[str, Any]]:
    """Return messages of an instruction or prompt and its answer, with what else the record tells of it."""
    found: list[dict[str, Any]] = []
    if isinstance(record.get("system"), str) and record["system"].strip():
        found.append(message("system", record["system"]))
    history = record.get("history")
    for turn in history if isinstance(history, list) else ():
        if not isinstance(turn, list) or len(turn) != 2:
            raise Unreadable("a turn of the history is not a pair")
        found += [message("user", turn[0]), message("assistant", turn[1])]
    for key, role in ((asked, "user"), (answered, "assistant")):
        said = record[key]
        if isinstance(said, list):  # both sides may be messages already
            found += of_turns(said)
            continue
        more = next((record[k] for k in ("input", "context") if isinstance(record.get(k), str)), "")
        joined = f"{said}\n{more}" if role == "user" and isinstance(said, str) and more.strip() else said
        found.append(message(role, joined))
    return found


def message(role: Any, content: Any, kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return one message; text that comes in parts is joined."""
    standard = _ROLE.get(str(role).lower())
    if standard is None:
        raise Unreadable(f"unknown role: {str(role)[:40]!r}")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            raise Unreadable("content that is not text")
        content = "".join(texts)
    if content is None and kept and ("tool_calls" in kept or "function_call" in kept):
        content = ""
    if not isinstance(content, str):
        raise Unreadable("a message without text" if content is None else "content that is not text")
    return {"role": standard, "content": content, **(kept or {})}


def _of_turn(turn: Any) -> dict[str, Any]:
    if isinstance(turn, list) and len(turn) == 2:
        return message(turn[0], turn[1])
    if not isinstance(turn, dict):
        raise Unreadable("a message that is not an object")
    # In a corpus of turns the speaker called system is the one who serves, not the one who instructs.
    if "speaker" in turn:
        speaker = str(turn["speaker"]).lower()
        said = next((turn[key] for key in ("utterance", "text") if key in turn), None)
        return message("assistant" if speaker == "system" else speaker, said)
    role = turn.get("role", turn.get("from"))
    said = next((turn[key] for key in ("content", "value", "text") if turn.get(key) is not None), None)
    return message(role, said, {key: turn[key] for key in _KEPT if turn.get(key) is not None})
