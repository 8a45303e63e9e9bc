"""Sentences and words of running text, in English, Chinese and other scripts, to count and compare by.

A word of an unspaced script is a character. Nothing is segmented with a dictionary.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise

from weitiao.data.words import HAN

__all__ = ["as_text", "sentences", "words"]

_UNSPACED = f"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff{HAN}"
# numbers keep their points and commas: 3.5 and 35 are two facts
_WORD = re.compile(rf"\d+(?:[.,:]\d+)*|[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W\d_])+(?:['’](?![{_UNSPACED}])[^\W\d_]+)*")
_END = re.compile(r"(?<=[。！？!?…])[”’」』）)]*\s*|(?<=\.)[”’)\"]*\s+(?=[^a-z])|\n+")


def words(text: str) -> list[str]:
    """Return the lower-cased words and numbers of a text.

    Examples
    --------
    >>> words("Costs rose 3.5% in 上海")
    ['costs', 'rose', '3.5', 'in', '上', '海']
    """
    return _WORD.findall(text.lower())


def sentences(text: str) -> list[str]:
    """Return the sentences of a text.

    Examples
    --------
    >>> sentences("It rose by 3.5 points. 今天下雨。出门带伞！")
    ['It rose by 3.5 points.', '今天下雨。', '出门带伞！']
    """
    edges = [0, *(m.end() for m in _END.finditer(text)), len(text)]
    found = (text[a:b].strip() for a, b in pairwise(edges))
    return [sentence for sentence in found if sentence]


def as_text(value: str) -> str:
    """Return a text; a JSON list of sentences becomes one."""
    if value.lstrip().startswith("["):
        try:
            several = json.loads(value)
        except ValueError:
            return value
        if isinstance(several, list) and several and all(isinstance(one, str) for one in several):
            return " ".join(one.strip() for one in several)
    return value
