"""Where the words of a text are, in English and Chinese, and which of them no edit may touch.

Nothing is segmented with a dictionary. A word of a script with spaces is a run of letters; Chinese is a run of
characters, which `bigrams` cuts into pieces of two, the commonest length of a Chinese word, from its first or
its second character. What carries the label or a fact by itself is no word here: numbers (also 三百 and
twenty), anything with a digit, negations (not, isn't, 不, 没), web and mail addresses, @names, #tags and
placeholders such as {name}, <b>, [DATE] or %s.

Source: lists and rules of our own; the share of two-character words in Chinese: Packard, The Morphology of
Chinese, 2000.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["HAN", "STOP_WORDS", "Span", "bigrams", "is_chinese", "kept", "replace_spans", "spans"]

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_NUMERALS = "〇零一二两兩三四五六七八九十百千万萬亿億"
_NEGATIONS = "不没沒無无非未别勿莫"  # also within a word (特别, 非常): better one word too few than a label turned over
_KEPT = rf"""
      (?:https?|ftp)://[^\s{HAN}，。；！？、）】》”]+ | www\.[^\s{HAN}，。；！？、）】》”]+
    | (?<![A-Za-z0-9._+-])[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+
    | [@\#][^\W{HAN}]+
    | \{{\{{[^{{}}\n]{{0,80}}\}}\}} | \$?\{{[^{{}}\n]{{0,80}}\}} | <[^<>\s][^<>\n]{{0,80}}> | \[[A-Z][A-Z_\ ]{{0,40}}\]
    | %\([A-Za-z_]{{1,40}}\)[sd] | %[sd]\b
    | (?<![A-Za-z])[A-Za-z]*\d[A-Za-z0-9]*(?:[.,:/-]?\d[A-Za-z0-9]*)*
    | [{_NUMERALS}{_NEGATIONS}]+
"""
_PIECE = re.compile(
    rf"(?P<kept>{_KEPT})|(?P<han>(?:(?![{_NUMERALS}{_NEGATIONS}])[{HAN}])+)"
    rf"|(?P<word>(?:(?![{HAN}])[^\W\d_])+(?:['’-](?:(?![{HAN}])[^\W\d_])+)*)",
    re.VERBOSE,
)
_ENGLISH_KEPT = """
no not never none nobody nothing nowhere neither nor without cannot hardly barely scarcely zero one two three four five
six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty
fifty sixty seventy eighty ninety hundred thousand million billion
"""
_KEPT_WORDS = frozenset(_ENGLISH_KEPT.split())

# words that only hold a sentence together; a synonym for one of them says nothing new
_STOP = """
a an the i me my mine we us our ours you your yours he him his she her hers it its they them their theirs this that
these those who whom whose which what when where why how am is are was were be been being have has had do does did will
would shall should can could may might must to of in on at by for with from into onto about as than then and or but if
so because while until also too very just there here myself yourself himself herself itself ourselves themselves
的 了 着 过 地 得 是 在 和 与 或 也 都 就 还 又 我 你 您 他 她 它 们 这 那 哪 吗 呢 吧 啊 呀 把 被 给 对 从 到 为 以 而
及 之 其 个 有 什 么 怎 谁 我们 你们 他们 她们 它们 这个 那个 什么 怎么 为什么 因为 所以 但是 如果 可以
"""
STOP_WORDS = frozenset(_STOP.split())


@dataclass(frozen=True, slots=True)
class Span:
    """A word, or a run of Chinese characters: ``text[start:end]``."""

    start: int
    end: int
    is_han: bool


def spans(text: str) -> list[Span]:
    """Return the words and Chinese runs of a text that may be changed, in order.

    Examples
    --------
    >>> text = "The room was not clean, 订单 A17 很慢"
    >>> [text[s.start:s.end] for s in spans(text)]
    ['The', 'room', 'was', 'clean', '订单', '很慢']
    """
    found = []
    for piece in _PIECE.finditer(text):
        if piece.lastgroup == "han":
            found.append(Span(piece.start(), piece.end(), True))
        elif piece.lastgroup == "word":
            word = piece.group().lower().replace("’", "'")
            if word not in _KEPT_WORDS and not word.endswith("n't"):
                found.append(Span(piece.start(), piece.end(), False))
    return found


def kept(text: str) -> list[tuple[int, int]]:
    """Return where the numbers, addresses, placeholders and negations are that no edit touches."""
    return [piece.span() for piece in _PIECE.finditer(text) if piece.lastgroup == "kept"]


def bigrams(found: Sequence[Span], offset: int) -> list[Span]:
    """Cut Chinese runs into pieces of two characters; words of other scripts stay whole.

    Parameters
    ----------
    offset
        0 cuts from the first character, 1 leaves it alone and cuts from the second.
    """
    pieces = []
    for span in found:
        if not span.is_han:
            pieces.append(span)
            continue
        edges = [span.start, *range(span.start + (offset or 2), span.end, 2), span.end]
        pieces += [Span(a, b, True) for a, b in pairwise(edges)]
    return pieces


def is_chinese(text: str) -> bool:
    """Tell whether a text is Chinese rather than written with spaces: two characters weigh as much as a word."""
    characters = sum(1 for _ in re.finditer(f"[{HAN}]", text))
    others = sum(1 for piece in _PIECE.finditer(text) if piece.lastgroup == "word")
    return characters > 0 and characters >= 2 * others


def replace_spans(text: str, changes: Sequence[tuple[int, int, str]]) -> str:
    """Return the text with each ``(start, end, new)`` put in; they may not overlap."""
    parts, at = [], 0
    for start, end, new in sorted(changes):
        parts += [text[at:start], new]
        at = end
    return "".join([*parts, text[at:]])
