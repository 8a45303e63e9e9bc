"""A conversation and the reply that belongs to it, found among many: what a retrieval chatbot answers with.

The conversation so far and the reply are read apart by one encoder, each to a vector of length 1; the loss of a pair is
the cross-entropy of its own reply among those of the batch, as in ``retrieval.py``. Every turn of the assistant is a
pair to learn from; a conversation is measured by its last one, among the last replies of all conversations.

The newest turn stands first, so that a conversation that is too long loses its oldest turns.

Source: Lowe et al., The Ubuntu Dialogue Corpus: A Large Dataset for Research in Unstructured Multi-Turn Dialogue
Systems, 2015, arXiv:1506.08909 (the task); Henderson et al., Efficient Natural Language Response Suggestion for Smart
Reply, 2017, arXiv:1705.00652 (the loss); Henderson et al., ConveRT, 2020, arXiv:1911.03688, section 2.2 (the turns
before in reversed order).
Differs: one sequence holds all turns, the newest first, in the place of two encoded apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field as Setting

from weitiao.data.fields import Field
from weitiao.data.table import Table
from weitiao.errors import DataError
from weitiao.tasks._bi_encoder import BiEncoder
from weitiao.tasks._conversation import Unusable, conversation, replies

__all__ = ["ResponseSelection"]


class ResponseSelection(BiEncoder):
    """Find the reply that belongs to a conversation among many."""

    class Settings(BiEncoder.Settings):
        """How sharply replies are told apart, and how much of a conversation is read."""

        turns: int = Setting(6, ge=1, description="turns before the reply that are read, the newest first")

    settings: Settings
    fields: ClassVar[tuple[Field, ...]] = (
        Field("messages", "json", True, ("messages", "conversations", "conversation", "dialogue", "turns", "对话")),
    )
    formats: ClassVar[tuple[str, ...]] = ("messages",)

    @classmethod
    def text_fields(cls, there: Sequence[str]) -> tuple[str, ...]:
        """Return the conversation, for the checks to look at as a text."""
        return ("messages",) if "messages" in there else ()

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse what is no conversation, or has no reply."""
        reasons = {}
        for i, value in enumerate(table.column("messages")):
            try:
                if all(text is None for _, text in self._pairs(value or "")):
                    reasons[i] = "no turn of the assistant that answers anything"
            except Unusable as error:
                reasons[i] = str(error)
        return reasons

    def pairs(self, row: Mapping[str, Any]) -> list[tuple[str, str | None]]:
        """Return what was said before each reply, with the reply; and all there is, if another spoke last."""
        try:
            return self._pairs(row["messages"])
        except Unusable as error:
            raise DataError(f"messages cannot be read: {error}.", fix="Mend the row.") from error

    def _pairs(self, value: str) -> list[tuple[str, str | None]]:
        talk = conversation(value)
        found: list[tuple[str, str | None]] = []
        said: list[str] = []
        answering = set(replies(talk))
        for i, turn in enumerate(talk):
            text = turn["content"].strip()
            if turn["role"] not in ("user", "assistant") or not text:
                continue  # what a system or a tool says is no turn of a speaker
            if i in answering and said:
                found.append((self._joined(said), text))
            said.append(text)
        if said and (not found or found[-1][1] != said[-1]):
            found.append((self._joined(said), None))
        if not found:
            raise Unusable("nobody says anything in words")
        return found

    def _joined(self, said: list[str]) -> str:
        return "\n".join(reversed(said[-self.settings.turns :]))

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return eight short conversations in two languages."""
        pairs = {
            "where is my card": "it arrived", "how to pay": "by transfer", "is the room clean": "very clean",
            "房间干净吗": "很干净", "早餐好吃吗": "非常好", "价格贵吗": "便宜", "phone broken": "so the screen is",
            "film or book": "the book",
        }  # fmt: skip
        talks = [[("user", asked), ("assistant", said)] for asked, said in pairs.items()]
        talks[0] += [("user", "when"), ("assistant", "never")]
        talks[1] += [("user", "thanks")]
        rows = [
            {"messages": json.dumps([{"role": role, "content": text} for role, text in talk], ensure_ascii=False)}
            for talk in talks
        ]
        return {"rows": rows, "settings": {}, "variants": [{"scale": 5.0}, {"turns": 1}]}
