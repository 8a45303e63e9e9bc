"""Questions about paragraphs, with answers as spans (SQuAD 1.1 and 2.0, CMRC, DRCD, XQuAD; nested or flat JSON).

Offsets are given as they stand, also where the text at them is another: that is for the task to find and mend.

Source: Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, 2016, arXiv:1606.05250;
Rajpurkar et al., Know What You Don't Know: Unanswerable Questions for SQuAD, 2018, arXiv:1806.03822.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from weitiao.data import json_rows
from weitiao.data.delimited import Raw
from weitiao.data.formats._json import line_of, others, records, samples
from weitiao.data.formats.base import Format

_USED = ("question", "context", "answers", "is_impossible", "plausible_answers")


class Squad(Format):
    """Articles of paragraphs of questions."""

    def recognizes(self, path: Path, start: str) -> bool:
        """Whether there are paragraphs with questions, or flat records of question, context and answers."""
        return any(_is_article(v) or _is_flat(v) for v in samples(start, _is_record))

    def rows(self, path: Path, lines: Iterable[str], note: Callable[[str], None]) -> Iterator[Raw]:
        """Yield a row a question; a paragraph without questions, or without text, is set aside as one."""
        for record in records(lines, path, _is_record):
            if record.aside is not None:
                yield record.aside
            elif _is_article(record.value):
                title = record.value.get("title")
                for paragraph in record.value["paragraphs"]:
                    yield from _of_paragraph(paragraph, title, record.line)
            elif isinstance(record.value, dict) and "qas" in record.value:
                yield from _of_paragraph(record.value, None, record.line)
            elif isinstance(record.value, dict):
                yield _row(record.value, record.value.get("context"), None, record.line)
            else:
                yield Raw(record.line, None, "neither an article nor a question", _shown(record.value))

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return a paragraph with a question that it answers and one that it does not."""
        context = "张衡生于公元78年。"
        return {
            "files": {
                "a.json": '{"version": "2.0", "data": [{"title": "张衡", "paragraphs": [{'
                '"context": "张衡生于公元78年。",\n"qas": [{"id": "a", "question": "张衡生于何年？", '
                '"answers": [{"text": "公元78年", "answer_start": 4}]},'
                '\n{"id": "b", "question": "他卒于何地？", "answers": [], "is_impossible": true}]}]}]}'
            },
            "open": "a.json",
            "rows": [
                {
                    "id": "a",
                    "question": "张衡生于何年？",
                    "context": context,
                    "answers": [{"text": "公元78年", "start": 4}],
                    "title": "张衡",
                },
                {"id": "b", "question": "他卒于何地？", "context": context, "answers": [], "title": "张衡"},
            ],
            "faulty": {
                "files": {
                    "a.json": '{"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1, "question": "q"}, 7,'
                    '{"question": "q", "answers": [{"text": "c"}]}, {"question": "q", "answers": "c"}]}, '
                    '{"qas": 1}]}, 3]}'
                },
                "rows": 1,
                "reasons": [
                    "not a question",
                    "an answer without text or start",
                    "answers that are not a list",
                    "a paragraph without questions",
                    "neither an article nor a question",
                ],
            },
            "others": ['{"data": [{"text": "a", "label": "b"}]}', '[{"question": "q", "context": "c"}]'],
        }


def _is_article(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("paragraphs"), list)


def _is_flat(value: Any) -> bool:
    if not isinstance(value, dict) or "context" not in value:
        return False
    return isinstance(value.get("qas"), list) or ("question" in value and isinstance(value.get("answers"), dict | list))


def _is_record(value: Any) -> bool:
    return _is_article(value) or _is_flat(value)


def _of_paragraph(paragraph: Any, title: Any, line: int) -> Iterator[Raw]:
    line = line_of(paragraph, line)
    questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
    if not isinstance(questions, list):
        yield Raw(line, None, "a paragraph without questions", _shown(paragraph))
        return
    for question in questions:
        at = line_of(question, line)
        if isinstance(question, dict):
            yield _row(question, paragraph.get("context"), title, at)
        else:
            yield Raw(at, None, "not a question", _shown(question))


def _row(record: dict[str, Any], context: Any, title: Any, line: int) -> Raw:
    content = _shown(record)
    question = record.get("question")
    if not isinstance(question, str) or not isinstance(context, str):
        return Raw(line, None, f"no {'context' if isinstance(question, str) else 'question'}", content)
    # Without `answers` nobody has said whether there are any: that is not an empty list.
    answers: Any = [] if record.get("is_impossible") is True else record.get("answers")
    if isinstance(answers, dict):
        texts, starts = answers.get("text"), answers.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            return Raw(line, None, "answers that are not a list", content)
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if answers is not None and not isinstance(answers, list):
        return Raw(line, None, "answers that are not a list", content)
    if not all(_is_answer(answer) for answer in answers or ()):
        return Raw(line, None, "an answer without text or start", content)
    spans = None if answers is None else [{"text": a["text"], "start": a["answer_start"]} for a in answers]
    values = {"question": question, "context": context, "answers": json_rows.plain(spans)}
    if title is not None:
        values["title"] = json_rows.plain(title)
    extra = others(record, _USED)
    return Raw(line, {**({"id": extra.pop("id")} if "id" in extra else {}), **values, **extra}, "", content)


def _is_answer(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("text"), str) and type(value.get("answer_start")) is int


def _shown(value: Any) -> str:
    return str(json_rows.plain(value))[:200]
