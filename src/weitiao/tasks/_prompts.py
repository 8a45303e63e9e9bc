"""From a row's fields to the tokens that a model is given before it writes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from weitiao.data.words import HAN
from weitiao.errors import DataError, RecipeError, did_you_mean

__all__ = ["Prompt", "chat_text", "joined_han", "splits_han"]

_SPACED = re.compile(f"(?<=[{HAN}，。！？：；、（）《》“”])\\s+(?=[{HAN}，。！？：；、（）《》“”])")


class Prompt:
    """A template whose braces hold fields of a row.

    Parameters
    ----------
    template
        Such as ``"Summarize: {text}"``.
    long
        The field that loses its end where a row is too long.
    fields
        All fields that a request has.
    words
        What else may stand in braces.
    tokenizer
        Of the model.
    chat
        Whether the whole is a user's turn of the tokenizer's chat template.

    Raises
    ------
    RecipeError
        The template has no place for `long`, names what is no field, or has braces that cannot be read.
    """

    def __init__(
        self, template: str, long: str, fields: Sequence[str], words: Mapping[str, str], tokenizer: Any, *, chat: bool
    ) -> None:
        self.long, self.words, self.tokenizer, self.chat = long, words, tokenizer, chat
        try:
            self.pieces = [(text, name) for text, name, *_ in Formatter().parse(template)]
        except ValueError as error:
            raise RecipeError(f"task.prompt cannot be read: {error}.", fix="Write {{ and }} for braces.") from error
        known = [*fields, *words]
        for _, name in self.pieces:
            if name is not None and name not in known:
                raise RecipeError(
                    f"task.prompt names {{{name}}}, which is no field that a request has.{did_you_mean(name, known)}",
                    fix=f"It may name {', '.join(known)}.",
                )
        if long not in {name for _, name in self.pieces}:
            raise RecipeError(
                f"task.prompt has no place for what is to be read: {template!r}.", fix=f"Put {{{long}}} into it."
            )

    def text(self, row: Mapping[str, Any], *, keep: int | None = None) -> str:
        """Return the prompt of a row, with so many characters of its long field kept."""
        parts = []
        for text, name in self.pieces:
            parts.append(text)
            if name is not None:
                value = self.words[name] if name in self.words else row[name]
                parts.append(value[:keep] if name == self.long else value)
        whole = "".join(parts)
        return chat_text(self.tokenizer, [{"role": "user", "content": whole}]) if self.chat else whole

    def encode(self, rows: Sequence[Mapping[str, Any]], room: int) -> list[tuple[list[int], int]]:
        """Return the tokens of each row's prompt, `room` at most, and how many more they would have been.

        What stands behind the long field stays whole.

        Raises
        ------
        DataError
            There is no room even without the long field; names the row, counted from 1.
        """
        found = []
        for i, ids in enumerate(self._ids([self.text(row) for row in rows])):
            if len(ids) <= room:
                found.append((ids, 0))
                continue
            cut = self._cut(rows[i], room)
            if cut is None:
                raise DataError(
                    f"the prompt does not fit into {room} tokens, even without its {self.long}.",
                    where=f"row {i + 1}",
                    fix="Raise model.max_length, shorten task.prompt, or lower task.max_new_tokens.",
                )
            found.append((cut, len(ids) - len(cut)))
        return found

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        ids = self.tokenizer(list(texts), add_special_tokens=not self.chat, verbose=False)["input_ids"]
        return [list(row) for row in ids]

    def _cut(self, row: Mapping[str, Any], room: int) -> list[int] | None:
        """Return the longest prompt that fits, found by halving; ``None`` if there is none."""
        low, high, best = 0, len(row[self.long]), None
        while low <= high:
            middle = (low + high) // 2
            ids = self._ids([self.text(row, keep=middle)])[0]
            if len(ids) <= room:
                best, low = ids, middle + 1
            else:
                high = middle - 1
        return best


def chat_text(tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    """Return messages as the tokenizer's chat template writes them, up to where an assistant begins to speak."""
    return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)


def splits_han(tokenizer: Any) -> bool:
    """Return whether Chinese characters come back from the tokens with spaces between them."""
    return " " in tokenizer.decode(tokenizer("中文", add_special_tokens=False)["input_ids"]).strip()


def joined_han(text: str) -> str:
    """Return a text without spaces between Chinese characters."""
    return _SPACED.sub("", text)
