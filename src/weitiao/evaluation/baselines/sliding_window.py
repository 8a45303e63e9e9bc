"""Answer a question with the sentence of its text that shares most with it.

Texts are cut after ``. ? ! 。 ？ ！``, and a sentence is worth the sum over its different words w (of Chinese: its
characters) that the question has too,

    sum_w log(1 + 1 / c_w)

with c_w how often w comes in the text: a word that is everywhere says little.

Source: Richardson, Burges and Renshaw, MCTest: A Challenge Dataset for the Open-Domain Machine Comprehension of Text,
2013 (its sliding window, and its weights).
Differs: the windows are the sentences of the text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import numpy as np

from weitiao.data.words import HAN
from weitiao.evaluation.baselines.base import Baseline, Told
from weitiao.tasks.base import objects

_SENTENCE = re.compile(r"[^.?!。？！]*(?:[.?!](?!\s|$)[^.?!。？！]*)*(?:[.?!。？！]+[\"'”’」』）)]*|$)")
_WORD = re.compile(f"[{HAN}]|[^\\W{HAN}]+")


class SlidingWindow(Baseline):
    """What can be had by looking for the question's words."""

    title, title_zh = "the sentence with the question's words", "含问题用词最多的句子"
    fits = ("texts",)

    def answer(self, told: Told) -> tuple[Any, str] | None:
        """Return a sentence of each context; ``None`` if there are no questions about contexts."""
        if not {"question", "context"} <= set(told.test.column_names):
            return None
        pairs = zip(told.test.column("question"), told.test.column("context"), strict=True)
        answers = {"texts": objects(_nearest(question, context) for question, context in pairs)}
        return answers, "The sentence that shares most words (of Chinese: characters) with the question, whole."

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return texts of two sentences, of which one is the answer."""
        rows = [
            _tiny_row("when did it open", "It rains in May. It did open at 9.5 pm!", "It did open at 9.5 pm!"),
            _tiny_row("张衡生于何年", "张衡是科学家。他生于公元78年。", "他生于公元78年。"),
        ]  # fmt: skip
        return {"task": "question_answering", "train": rows, "test": rows, "least": 1.0}


def _tiny_row(question: str, context: str, answer: str) -> dict[str, str]:
    answers = [{"text": answer, "start": context.index(answer)}]
    return {"question": question, "context": context, "answers": json.dumps(answers, ensure_ascii=False)}


def _nearest(question: str, context: str) -> str:
    sentences = [found.group().strip() for found in _SENTENCE.finditer(context)]
    words = [set(_WORD.findall(sentence.lower())) for sentence in sentences]
    counts = Counter(_WORD.findall(context.lower()))
    asked = set(_WORD.findall(question.lower()))
    worth = [sum(np.log1p(1 / counts[word]) for word in sorted(asked & own)) for own in words]
    return sentences[int(np.argmax(worth))]
