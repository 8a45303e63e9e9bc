"""Words, normal forms and rows of texts that the metrics of generated text share.

Chinese has no spaces between words, so what works on English words gives nonsense there without a word:
a tokenizer that keeps only ``[a-z0-9]`` finds no token, and one that splits at spaces finds one. Every
metric here says what it does for Chinese.

Source: Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016, arXiv:1606.05250
(`squad_normal`); Cui et al., A Span-Extraction Dataset for Chinese Machine Reading Comprehension, 2019,
arXiv:1810.07366 (`cmrc_normal`, `cmrc_segments`, as its official evaluation script has them).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weitiao.evaluation.metrics._counts import divide
from weitiao.evaluation.metrics.base import Summed

__all__ = [
    "AnswerMean",
    "RowMean",
    "answers",
    "cmrc_normal",
    "cmrc_segments",
    "is_chinese",
    "ngrams",
    "references_of",
    "squad_normal",
    "streams",
    "words",
]

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# every script without spaces between words: Thai to Khmer, kana, CJK ideographs, Hangul
_UNSPACED = f"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff{_HAN}\uac00-\ud7af"
# ASCII words as Google's ROUGE has them (it takes an accented Latin letter for a gap), and what it drops:
# characters of unspaced scripts one by one, words of every other script
_WORD = re.compile(f"[a-z0-9]+|[{_UNSPACED}]|[^\\W\\d_\\x00-\u036f\u1e00-\u1eff{_UNSPACED}]+")
_IS_HAN = re.compile(f"[{_HAN}]")
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
# the marks that CMRC's script removes: not all there are (no ASCII full stop, no left single quote)
_CMRC_MARKS = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
# a Han character, a word or number ("3.5", "2,000", "u.s"), or any other mark
_CMRC_SEGMENT = re.compile(r"[\u4e00-\u9fa5]|(?:(?![\u4e00-\u9fa5])\w)+(?:\.[a-z0-9]+|,\d+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Return the lower-cased words of a text: for Chinese and other unspaced scripts its characters."""
    return _WORD.findall(text.lower())


def ngrams(tokens: Sequence[str], n: int) -> Counter[Any]:
    """Count the n-grams of a sequence of tokens, or of the characters of a text."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def references_of(references: Sequence[str]) -> tuple[str, ...]:
    """Return a row's references; none at all is one that says nothing."""
    return tuple(references) or ("",)


def streams(targets: np.ndarray) -> list[list[Any]]:
    """Return references as sacreBLEU takes them: a list for each place, None where a row has fewer."""
    rows = [references_of(row) for row in targets]
    return [[row[k] if k < len(row) else None for row in rows] for k in range(max(map(len, rows)))]


def is_chinese(targets: np.ndarray) -> bool:
    """Say whether most words of all references are Chinese characters."""
    found = [word for row in targets for text in row for word in words(text)]
    return 2 * sum(bool(_IS_HAN.match(word)) for word in found) > len(found)


def squad_normal(text: str) -> str:
    """Return SQuAD's normal form: no case, no ASCII punctuation, no articles, single spaces."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())


def cmrc_normal(text: str) -> str:
    """Return CMRC 2018's normal form: no case, no spaces around, none of its punctuation marks."""
    return text.lower().strip().translate(_CMRC_MARKS)


def cmrc_segments(text: str) -> list[str]:
    """Return CMRC 2018's segments: a Chinese character each, and the words between them.

    Its script cuts what is between by NLTK's tokenizer, which needs a download; a regular expression does here.
    """
    return _CMRC_SEGMENT.findall(cmrc_normal(text))


def answers(references: Sequence[str], normal: Callable[[str], str]) -> list[str]:
    """Return the normal forms that are not empty, or one empty one, which says that there is no answer."""
    return [form for form in map(normal, references) if form] or [""]


class RowMean(Summed):
    """The mean over rows of how well a text fits its best reference."""

    needs = "texts"

    def row(self, references: tuple[str, ...], prediction: str) -> float:
        """Return one row's value, that of the best reference."""
        raise NotImplementedError

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return each row's value, and a one."""
        values = [self.row(references_of(t), p) for t, p in zip(targets, predictions, strict=True)]
        return np.stack([np.array(values, dtype=np.float64), np.ones(len(values))], axis=1)

    def of(self, sums: np.ndarray) -> np.ndarray:
        """Return the sum of values by the number of rows."""
        return divide(sums[..., 0], sums[..., 1])


class AnswerMean(RowMean):
    """The mean over rows of how right an answer is, by SQuAD's rules, or CMRC 2018's if the references are Chinese.

    The language is that of all references together, not of a row's: "1998" is an answer in a Chinese set too.
    """

    def squad(self, references: tuple[str, ...], prediction: str) -> float:
        """Return one row's value by the rules for English."""
        raise NotImplementedError

    def cmrc(self, references: tuple[str, ...], prediction: str) -> float:
        """Return one row's value by the rules for Chinese."""
        raise NotImplementedError

    def counts(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Return each row's value, and a one."""
        rule = self.cmrc if is_chinese(targets) else self.squad
        values = [rule(references_of(t), p) for t, p in zip(targets, predictions, strict=True)]
        return np.stack([np.array(values, dtype=np.float64), np.ones(len(values))], axis=1)
