"""Templates: a text with a gap, where a label's word belongs.

``{text}`` and ``{text_pair}`` stand for the fields of a row, ``{mask}`` for the gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any

__all__ = ["Template", "usual"]

# (reads pairs, is Chinese) -> template
_USUAL = {
    (False, False): "{text}\nCategory: {mask}",
    (False, True): "{text}\n类别：{mask}",
    (True, False): "{text}\n{text_pair}\nRelation: {mask}",
    (True, True): "{text}\n{text_pair}\n关系：{mask}",
}
_FOLLOWS = {False: "This example is {mask}.", True: "这段话是关于{mask}的。"}  # Chinese or not


def usual(*, pair: bool, chinese: bool, entailment: bool) -> str:
    """Return the template that is taken where the recipe names none."""
    return _FOLLOWS[chinese] if entailment else _USUAL[pair, chinese]


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
    def fields_after(self) -> frozenset[str]:
        """Fields that it names after the gap."""
        return frozenset(name for _, name in self._after if name)

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
