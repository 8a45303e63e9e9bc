"""Dialogues and instructions in JSON (OpenAI, ShareGPT, Alpaca, prompt and completion, CrossWOZ, KdConv, SGD, ABCD).

All of them become messages with the roles system, user, assistant and tool.

Source: Taori et al., Alpaca: A Strong, Replicable Instruction-Following Model, 2023; Zhu et al., CrossWOZ, 2020,
arXiv:2002.11893; Zhou et al., KdConv, 2020, arXiv:2004.04100; Rastogi et al., Towards Scalable Multi-domain
Conversational Agents: The Schema-Guided Dialogue Dataset, 2020, arXiv:1909.05855; Chen et al., Action-Based
Conversations Dataset, 2021, arXiv:2104.00783; and the chat formats of OpenAI and ShareGPT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from weitiao.data import json_rows
from weitiao.data.delimited import Raw
from weitiao.data.formats._chat import Unreadable, message, of_pair, of_turns
from weitiao.data.formats._json import Record, others, records, samples
from weitiao.data.formats.base import Format

_TURNS = ("messages", "conversations", "conversation", "turns", "dialogue", "original")
_ASKED, _ANSWERED = ("instruction", "prompt"), ("output", "response", "completion", "answer")
_SPEAKS = ("role", "from", "speaker", "message")


class Messages(Format):
    """A dialogue a record."""

    def recognizes(self, path: Path, start: str) -> bool:
        """Whether the first records hold turns of speakers, or an instruction and its answer."""
        found = [value for value in samples(start, _is_dialogue) if isinstance(value, dict)]
        return any(_is_dialogue(value) for value in found)

    def rows(self, path: Path, lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
        """Yield a row a dialogue; one with an unknown role, or without text, is set aside."""
        for record in records(lines, path, _is_dialogue):
            yield record.aside or _row(record)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return a dialogue of each common kind."""
        asked, said = {"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好！"}
        return {
            "files": {
                "a.jsonl": '{"messages": [{"role": "user", "content": "你好"}, '
                '{"role": "assistant", "content": "您好！"}], "tools": [{"type": "function"}]}\n'
                '{"system": "短。", "conversations": [{"from": "human", "value": "你好"}, '
                '{"from": "gpt", "value": "您好！"}]}\n'
                '{"instruction": "翻译", "input": "hello", "output": "您好！"}\n'
                '{"id": 4, "prompt": "你好", "completion": "您好！"}\n'
            },
            "open": "a.jsonl",
            "rows": [
                {"messages": [asked, said], "tools": [{"type": "function"}]},
                {"messages": [{"role": "system", "content": "短。"}, asked, said]},
                {"messages": [{"role": "user", "content": "翻译\nhello"}, said]},
                {"messages": [asked, said], "id": 4},
            ],
            "faulty": {
                "files": {
                    "a.jsonl": '{"messages": [{"role": "user", "content": "x"}]}\n'
                    '{"messages": [{"role": "king", "content": "x"}]}\n{"messages": [{"role": "user"}]}\n'
                    '{"messages": []}\n{"messages": 1}\n{"messa'
                },
                "rows": 1,
                "reasons": [
                    "unknown role: 'king'",
                    "a message without text",
                    "no messages",
                    "not a dialogue",
                    "not JSON: Unterminated string starting at",
                ],
            },
            "others": [
                '{"text": "a", "label": "b"}\n{"text": "c", "label": "d"}\n',
                '{"prompt": "a", "label": 1}\n{"messages": 3}\n',
            ],
        }


def _turns(record: dict[str, Any]) -> str | None:
    """Return the key under which a record holds its turns."""
    for key in _TURNS:
        value = record.get(key)
        if isinstance(value, list) and (not value or _speaks(value[0])):
            return key
    return None


def _speaks(turn: Any) -> bool:
    if isinstance(turn, list):
        return len(turn) == 2 and all(isinstance(part, str) for part in turn)
    return isinstance(turn, dict) and any(key in turn for key in _SPEAKS)


def _pair(record: dict[str, Any]) -> tuple[str, str] | None:
    """Return the keys under which a record holds a question and its answer."""
    asked = next((key for key in _ASKED if isinstance(record.get(key), str | list)), None)
    answered = next((key for key in _ANSWERED if isinstance(record.get(key), str | list)), None)
    return (asked, answered) if asked and answered else None


def _is_dialogue(value: Any) -> bool:
    return isinstance(value, dict) and (bool(value.get(_turns(value) or "")) or _pair(value) is not None)


def _row(record: Record) -> Raw:
    content = str(json_rows.plain(record.value))[:200]
    if not isinstance(record.value, dict):
        return Raw(record.line, None, "not a dialogue", content)
    value, turns, pair = record.value, _turns(record.value), _pair(record.value)
    try:
        if turns is not None:
            found = of_turns(value[turns])
            system = value.get("system")
            if isinstance(system, str) and system.strip() and found[0]["role"] != "system":
                found.insert(0, message("system", system))
            used = [turns, "system"]
        elif pair is not None:
            found = of_pair(value, *pair)
            used = [*pair, "system", "input", "context", "history"]
        else:
            return Raw(record.line, None, "not a dialogue", content)
    except Unreadable as error:
        return Raw(record.line, None, str(error), content)
    row = {"messages": json_rows.plain(found)}
    if value.get("tools") is not None:
        row["tools"] = json_rows.plain(value["tools"])
    return Raw(record.line, {**row, **others(value, [*used, "tools", "messages"], record.key)}, "", content)
