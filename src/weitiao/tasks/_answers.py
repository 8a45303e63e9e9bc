"""Answers as files give them, where they stand in their contexts, and what is wrong with them.

Source: the markers of "no answer" are those of Choi et al., QuAC: Question Answering in Context, 2018,
arXiv:1808.07036, and of Bjerva et al., SubjQA: A Dataset for Subjectivity and Review Comprehension, 2020,
arXiv:2004.14283.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weitiao.data.checks.base import excerpt, num_rows, of, places, share
from weitiao.data.table import Table
from weitiao.data.words import HAN
from weitiao.findings import Finding

__all__ = ["Answer", "answer_findings", "find_span", "find_spans", "read_answers"]

_MARKERS = ("ANSWERNOTFOUND", "CANNOTANSWER")
_WORD = re.compile(f"[{HAN}]|[^\\W{HAN}]+")  # no tokenizer makes fewer tokens of a text than there are of these
_LONG_CONTEXT, _LONG_QUESTION = 500, 256  # what does not fit into the usual 512 tokens, and into half of them
_EXAMPLES = 3

# kind of fault -> severity, what is said of the rows, remedy
_FAULTS: dict[str, tuple[Any, str, str]] = {
    "absent": (
        "error",
        "{rows} ({share}) with no answer that stands in the context",
        "They are set aside: there is no span to learn. Copy the answers from the context letter by letter.",
    ),
    "partly": (
        "warning",
        "{rows} ({share}) with several answers, some of which do not stand in the context",
        "A span is learnt from those that do; in measuring all of them count.",
    ),
    "spaced": (
        "info",
        "{rows} ({share}) with an answer that stands in the context only with other white space",
        "It is learnt as it stands in the context.",
    ),
    "ambiguous": (
        "info",
        "{rows} ({share}) with an answer that has no offset and stands in the context more than once",
        "The first place is taken; give offsets where another is meant.",
    ),
    "marker": (
        "info",
        "{rows} ({share}) whose answer is " + " or ".join(_MARKERS),
        "They are read as questions without answer.",
    ),
    "blank": (
        "warning",
        "{rows} ({share}) with an empty text among the answers",
        "It is left out; a question that has no other is read as one without answer.",
    ),
    "long_question": (
        "warning",
        f"{{rows}} ({{share}}) with a question of more than {_LONG_QUESTION} words or Chinese characters",
        "A question takes at most half of the tokens of a window; what is over is cut off. Is it the context?",
    ),
    "windows": (
        "info",
        f"{{rows}} ({{share}}) with a context of more than {_LONG_CONTEXT} words or Chinese characters",
        "A model of 512 tokens reads them in several windows; nothing is cut off.",
    ),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The text of an answer, and at which character of the context it starts, where that is told."""

    text: str
    start: int | None = None

    @property
    def is_blank(self) -> bool:
        """Whether there is no text."""
        return not self.text.strip()

    @property
    def is_marker(self) -> bool:
        """Whether the text is a word for "no answer"."""
        return self.text.strip() in _MARKERS


def read_answers(value: str) -> list[Answer]:
    """Return the answers that a cell holds; none at all says that the question has no answer.

    Parameters
    ----------
    value
        JSON: a list of ``{"text", "start"}`` (also ``answer_start``) or of texts, or ``{"text": [...],
        "answer_start": [...]}``; anything else is the text of the one answer.
    """
    return [answer for answer in _given(value) if not answer.is_blank and not answer.is_marker]


def find_span(context: str, answer: Answer) -> tuple[int, int] | None:
    """Return where an answer stands, ``context[start:end]``: at its offset or nearest to it; ``None`` if nowhere.

    White space counts only if the answer stands somewhere as it is: answers are often kept as words with spaces
    between them.
    """
    text, start = answer.text, answer.start
    if start is not None and start >= 0 and context.startswith(text, start):
        return start, start + len(text)
    return min(_places(context, text), key=lambda place: (abs(place[0] - (start or 0)), place), default=None)


def find_spans(context: str, value: str) -> list[tuple[int, int]]:
    """Return where the answers of a cell stand; those that stand nowhere are left out."""
    return [span for answer in read_answers(value) if (span := find_span(context, answer))]


def answer_findings(check: str, tables: Mapping[str, Table]) -> Iterator[Finding]:
    """Yield what is wrong with the answers of each split, and what is worth knowing of its texts."""
    empty = dict.fromkeys(tables, 0)
    for split, table in tables.items():
        seen: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for i, row in enumerate(table):
            if row.get("answers") is not None:
                empty[split] += not read_answers(row["answers"])
                for kind, evidence in _faults(row["question"] or "", row["context"] or "", row["answers"]):
                    seen[kind].append((i, {"place": str(row.place), **evidence}))
        yield from _shifted(check, split, table)
        for kind, (severity, message, remedy) in _FAULTS.items():
            if found := seen.get(kind):
                counts = {"rows": num_rows(len(found), split, among=len(table)), "share": share(len(found), len(table))}
                yield Finding(
                    check,
                    severity,
                    message.format(**counts) + ".",
                    remedy,
                    places=places(table, [i for i, _ in found]),
                    count=len(found),
                    evidence={"fault": kind, "examples": [evidence for _, evidence in found[:_EXAMPLES]]},
                )
    yield from _never_learnt(check, tables, empty)


def _shifted(check: str, split: str, table: Table) -> Iterator[Finding]:
    """Say which answers are not what stands at their offset; one row may have several."""
    total, rows, examples, elsewhere, nowhere = 0, [], [], 0, 0
    for i, row in enumerate(table):
        for answer in read_answers(row["answers"] or "[]"):
            total += 1
            if answer.start is None or row["context"][max(answer.start, 0) :].startswith(answer.text):
                continue
            span = find_span(row["context"], answer)
            elsewhere, nowhere = elsewhere + bool(span), nowhere + (not span)
            rows.append(i)
            there = row["context"][max(answer.start, 0) :][: len(answer.text)]
            seen = {"answer": answer.text, "start": answer.start, "there": there, "found": span and span[0]}
            examples.append({"place": str(row.place), **seen})
    if rows:
        yield Finding(
            check,
            "warning",
            f"{len(rows):,} of {total:,} answers{of(split)} ({share(len(rows), total)}) are not what stands at their "
            f"offset: {elsewhere:,} stand elsewhere in the context, {nowhere:,} nowhere.",
            "Of those elsewhere the place nearest to the offset is taken. Offsets count characters, from 0.",
            places=places(table, list(dict.fromkeys(rows))),
            count=len(rows),
            evidence={
                "fault": "shifted",
                "rows": len(set(rows)),
                "elsewhere": elsewhere,
                "nowhere": nowhere,
                "examples": sorted(examples, key=lambda example: example["found"] is None)[:_EXAMPLES],
            },
        )


def _never_learnt(check: str, tables: Mapping[str, Table], empty: Mapping[str, int]) -> Iterator[Finding]:
    for split, count in empty.items():
        if count and empty.get("train") == 0:
            yield Finding(
                check,
                "warning",
                f"{num_rows(count, split, among=len(tables[split]))} have no answer, and none of train is like that.",
                "A model never says that there is no answer unless it was shown such questions: add some to train.",
                count=count,
            )


def _faults(question: str, context: str, value: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each kind of fault of a row once, with what was seen."""
    given = _given(value)
    answers = read_answers(value)
    spans = [find_span(context, answer) for answer in answers]
    if answers and None in spans:
        lost = answers[spans.index(None)]
        yield ("partly" if any(spans) else "absent"), {"answer": excerpt(lost.text), "context": excerpt(context)}
    for answer, span in zip(answers, spans, strict=True):
        if span and answer.text.strip() not in context:
            yield "spaced", {"answer": answer.text, "there": context[slice(*span)]}
            break
    for answer in answers:
        if answer.start is None and len(there := _places(context, answer.text)) > 1:
            yield "ambiguous", {"answer": answer.text, "starts": [start for start, _ in there[:10]]}
            break
    if any(answer.is_marker for answer in given):
        yield "marker", {"question": excerpt(question)}
    if any(answer.is_blank for answer in given):
        yield "blank", {"question": excerpt(question)}
    if (words := len(_WORD.findall(question))) > _LONG_QUESTION:
        yield "long_question", {"question": excerpt(question), "words": words}
    if (words := len(_WORD.findall(context))) > _LONG_CONTEXT:
        yield "windows", {"words": words}


def _places(context: str, text: str) -> list[tuple[int, int]]:
    """Return where a text stands as it is, or else with other white space."""
    if there := _occurrences(context, text):
        return [(at, at + len(text)) for at in there]
    seen = [i for i, character in enumerate(context) if not character.isspace()]
    packed = "".join(text.split())
    there = _occurrences("".join(context.split()), packed)
    return [(seen[at], seen[at + len(packed) - 1] + 1) for at in there]


def _occurrences(context: str, text: str) -> list[int]:
    found, at = [], context.find(text) if text else -1
    while at >= 0:
        found.append(at)
        at = context.find(text, at + 1)
    return found


def _given(value: str) -> list[Answer]:
    try:
        told = json.loads(value) if value.lstrip()[:1] in ("[", "{") else None
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict):
        told = _rows_of(told.get("text"), told.get("answer_start", told.get("start")))
    answers = [_answer(one) for one in told] if isinstance(told, list) else [None]
    return [Answer(value)] if None in answers else [answer for answer in answers if answer is not None]


def _rows_of(texts: Any, starts: Any) -> list[Any] | None:
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        return None
    return [{"text": text, "start": start} for text, start in zip(texts, starts, strict=True)]


def _answer(value: Any) -> Answer | None:
    if isinstance(value, str):
        return Answer(value)
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return None
    start = value.get("start", value.get("answer_start"))
    if isinstance(start, float) and start.is_integer():  # a table's way of writing a whole number
        start = int(start)
    return Answer(value["text"], start if type(start) is int else None)
