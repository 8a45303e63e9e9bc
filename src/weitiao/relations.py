"""From plain text to relations: one bundle finds the entities, another says which relation each pair of them has.

Source: Zhong and Chen, A Frustratingly Easy Approach for Entity and Relation Extraction, 2020, arXiv:2010.12812 (two
models, one after the other); Riedel, Yao and McCallum, Modeling Relations and Their Mentions without Labeled Text, 2010
(a pair has a relation if at least one sentence says so).
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from itertools import combinations, permutations
from typing import Any, Protocol, runtime_checkable

from weitiao.bundle import Bundle
from weitiao.errors import BundleError

__all__ = ["MOST_ENTITIES", "at_least_one", "extract", "sentence_pairs"]

_SENTENCE_END = re.compile(r"\n+|[。！？!?]+[”’」』\"']?|\.(?=\s)")
MOST_ENTITIES = 20  # of a text: 380 ordered pairs


@runtime_checkable
class _OfPairs(Protocol):
    """What a task is that reads two entities of a text."""

    both_ways: bool

    def ask_of(self, text: str, head: Mapping[str, Any], tail: Mapping[str, Any], fields: Any) -> dict[str, str]: ...

    def told(self, label: str) -> tuple[str, bool] | None: ...


def extract(text: str, entities: Bundle, relations: Bundle) -> list[dict[str, Any]]:
    """Return the relations that a text tells of.

    All pairs of entities are asked for in one batch: each pair once, in the order of the text, if the labels say the
    direction (or none was learnt), and in both orders if they do not. Entities that overlap make no pair. Of a text
    with more than `MOST_ENTITIES` entities the surest are paired, and a warning says so.

    Parameters
    ----------
    text
        One text.
    entities
        A bundle that finds entities (task ner).
    relations
        A bundle that says the relation of two entities (task relation_extraction).

    Returns
    -------
    ``{"head", "tail", "relation", "confidence"}`` a relation, the surest first. `head` and `tail` are entities as
    the first bundle gave them; a label such as ``Cause-Effect(e2,e1)`` becomes ``Cause-Effect`` with the second
    entity as its head. Pairs without a relation are left out.

    Raises
    ------
    BundleError
        A bundle is of another task.
    """
    task = relations.task
    if not isinstance(task, _OfPairs):
        raise BundleError("does not say relations of two entities.", where=relations.folder, fix="Give it second.")
    found = _entities(text, entities)
    if len(found) > MOST_ENTITIES:
        surest = sorted(found, key=lambda entity: -(entity.get("confidence") or 0.0))[:MOST_ENTITIES]
        warnings.warn(
            f"the text has {len(found)} entities; relations are looked for among the {MOST_ENTITIES} surest.",
            stacklevel=2,
        )
        found = sorted(surest, key=lambda entity: entity["start"])
    every = permutations(found, 2) if task.both_ways else combinations(found, 2)
    pairs = [(a, b) for a, b in every if a["end"] <= b["start"] or b["end"] <= a["start"]]
    rows = [task.ask_of(text, a, b, relations.text_fields) for a, b in pairs]
    answers = relations.predict(rows) if rows else []
    said = []
    for (a, b), answer in zip(pairs, answers, strict=True):
        if (told := task.told(answer.answer)) is not None:
            head, tail = (b, a) if told[1] else (a, b)
            said.append({"head": head, "tail": tail, "relation": told[0], "confidence": answer.confidence})
    return sorted(said, key=lambda one: -one["confidence"])


def at_least_one(relations: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put together what several texts say of the same two entities: a bag of mentions for each pair.

    A pair has a relation if at least one text says so, and as surely as the surest of them.

    Parameters
    ----------
    relations
        What `extract` gave, of any number of texts. Entities are the same if their texts are, capitals aside.

    Returns
    -------
    ``{"head", "tail", "relation", "confidence", "mentions"}``, `head` and `tail` as text, the surest first.
    """
    bags: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in relations:
        head, tail, relation = one["head"]["text"], one["tail"]["text"], one["relation"]
        key = head.casefold(), tail.casefold(), relation
        bag = bags.setdefault(key, {"head": head, "tail": tail, "relation": relation, "confidence": 0.0, "mentions": 0})
        bag["confidence"] = max(bag["confidence"], one["confidence"])
        bag["mentions"] += 1
    return sorted(bags.values(), key=lambda bag: -bag["confidence"])


def sentence_pairs(documents: Iterable[Mapping[str, Any]], no_relation: str = "Other") -> list[dict[str, Any]]:
    """Return rows to learn relations from: the pairs of entities that stand in one sentence of a document.

    A sentence ends at a line's end, after one of ``。！？!?``, or after a full stop before a space. Relations between
    sentences are left out, and so are pairs of entities that overlap. Of a pair's relations the first is taken.

    Parameters
    ----------
    documents
        As the format brat reads them: ``text``, and as JSON ``entities`` and ``relations``, which name entities by
        their ``id``.
    no_relation
        The label of a pair without one.

    Returns
    -------
    Rows with ``text``, ``head``, ``tail`` and ``label``; the head is what stands first, and a relation the other way
    round is labelled ``(e2,e1)``.
    """
    rows = []
    for document in documents:
        text = document["text"]
        entities, relations = (_parsed(document[name]) for name in ("entities", "relations"))
        known: dict[tuple[str, str], str] = {}
        for one in relations:
            known.setdefault((one["head"], one["tail"]), f"{one['type']}(e1,e2)")
            known.setdefault((one["tail"], one["head"]), f"{one['type']}(e2,e1)")
        ends = [found.end() for found in _SENTENCE_END.finditer(text)]
        for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
            inside = sorted((e for e in entities if start <= e["start"] and e["end"] <= end), key=lambda e: e["start"])
            for head, tail in combinations(inside, 2):
                if head["end"] <= tail["start"]:
                    sides = {"head": _moved(head, start), "tail": _moved(tail, start)}
                    label = known.get((head["id"], tail["id"]), no_relation)
                    rows.append({"text": text[start:end], **sides, "label": label})
    return rows


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _moved(entity: Mapping[str, Any], by: int) -> str:
    span = {"start": entity["start"] - by, "end": entity["end"] - by, "type": entity["type"]}
    return json.dumps(span, ensure_ascii=False)


def _entities(text: str, bundle: Bundle) -> list[dict[str, Any]]:
    """Return what the bundle found, in the order of the text."""
    answer = bundle.predict(text).answer
    if not isinstance(answer, list) or not all(isinstance(one, Mapping) and "start" in one for one in answer):
        raise BundleError("does not find entities.", where=bundle.folder, fix="Give one of the task ner first.")
    return sorted((dict(one) for one in answer), key=lambda entity: (entity["start"], entity["end"]))
