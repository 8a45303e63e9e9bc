"""Templates: a text with a gap, where a label's word belongs.

``{text}`` and ``{text_pair}`` stand for the fields of a row, ``{mask}`` for the gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any

__all__ = ["Template", "supplied", "usual"]

# (reads pairs, is Chinese) -> templates, the first of which is usual
_SUPPLIED = {
    (False, False): (
        "{text}\nCategory: {mask}", "{text} It was {mask}.", "{text} All in all, it was {mask}.",
        "{text}\nThis is about {mask}.", "[{mask}] {text}",
        "Question: what is the following about? {text}\nAnswer: {mask}",
    ),
    (False, True): (
        "{text}\n类别：{mask}", "{text}，总的来说{mask}。", "{text}\n这段话是关于{mask}的。",
        "{text}\n以上内容属于{mask}", "【{mask}】{text}", "请判断下面内容的类别：{text}\n答案：{mask}",
    ),
    (True, False): (
        "{text}\n{text_pair}\nRelation: {mask}", "{text}? {mask}, {text_pair}", "{text} {mask}, {text_pair}",
        "Sentence 1: {text}\nSentence 2: {text_pair}\nThey are {mask}.", "{text_pair} [{mask}] {text}",
    ),
    (True, True): (
        "{text}\n{text_pair}\n关系：{mask}", "{text}？{mask}，{text_pair}", "“{text}”和“{text_pair}”的意思{mask}。",
        "句子一：{text}\n句子二：{text_pair}\n两句话{mask}", "{text}【{mask}】{text_pair}",
    ),
}  # fmt: skip
_FOLLOWS = {  # Chinese or not -> sentences that may follow from a text
    False: ("This example is {mask}.", "This is about {mask}.", "The topic is {mask}.", "It was {mask}.", "{mask}"),
    True: ("这段话是关于{mask}的。", "这是{mask}。", "主题是{mask}。", "总的来说{mask}。", "{mask}"),
}


def supplied(*, pair: bool, chinese: bool, entailment: bool) -> tuple[str, ...]:
    """Return the templates there are for rows of one text or two, in a language."""
    return _FOLLOWS[chinese] if entailment else _SUPPLIED[pair, chinese]


def usual(*, pair: bool, chinese: bool, entailment: bool) -> str:
    """Return the template that is taken where the recipe names none."""
    return supplied(pair=pair, chinese=chinese, entailment=entailment)[0]


class Template:
    """A template that was read.

    Parameters
    ----------
    written
        Such as ``"{text} It was {mask}."``.

    Attributes
    ----------
    fields
        Fields of a row that it names.
    gap
        What stands between the words before ``{mask}`` and the word in it: a space or nothing.
    tail
        The template's own words just before ``{mask}``, without that space.

    Raises
    ------
    ValueError
        It has no ``{mask}``, or several; it names something else; its braces cannot be read.
    """

    def __init__(self, written: str) -> None:
        pieces = [(text, name) for text, name, *_ in Formatter().parse(written)]
        names = [name for _, name in pieces if name is not None]
        for name in names:
            if name not in ("text", "text_pair", "mask"):
                raise ValueError(f"template names {{{name}}}; it may name {{text}}, {{text_pair}} and {{mask}}")
        if names.count("mask") != 1:
            raise ValueError("template needs {mask} once, where the label's word belongs")
        at = [name for _, name in pieces].index("mask")
        before, (last, _), self._after = pieces[:at], pieces[at], pieces[at + 1 :]
        self.tail, self.fields = last.rstrip(), frozenset(names) - {"mask"}
        self.gap = last[len(self.tail) :]
        self._before = [*before, (self.tail, None)]

    @property
    def says_after(self) -> str | None:
        """What it says after the gap that is more than signs: a field in braces, or words."""
        for text, name in self._after:
            if name or any(c.isalnum() for c in text):
                return f"{{{name}}}" if name else repr(text.strip())
        return None

    def before(self, row: Mapping[str, Any], keep: int | None = None) -> str:
        """Return what stands before the gap, with so many characters of each field kept."""
        return _filled(self._before, row, keep).rstrip()

    def after(self, row: Mapping[str, Any], keep: int | None = None) -> str:
        """Return what stands after the gap."""
        return _filled(self._after, row, keep)

    def solved(self, row: Mapping[str, Any], word: str) -> str:
        """Return the whole with a word in the gap."""
        return f"{self.before(row)}{self.gap}{word}{self.after(row)}".rstrip()


def _filled(pieces: list[tuple[str, str | None]], row: Mapping[str, Any], keep: int | None) -> str:
    return "".join(text + (row[name].strip()[:keep] if name else "") for text, name in pieces)
