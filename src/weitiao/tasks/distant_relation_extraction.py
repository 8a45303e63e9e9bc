"""The relation of two entities that a knowledge base knows, from all sentences that name both: a bag, with one label.

Not every sentence that names two entities says how they are related, and nobody has said which do: only the bag has a
label. Each sentence s, its entities marked, gives a score z_sr for each relation r; those of a bag become one by

    attention    z_r = sum_s a_sr z_sr,  a_sr = exp(z_sr) / sum_s' exp(z_s'r)
    max          z_r = max_s log softmax_r(z_s): one sentence has to say it, and it alone learns
    mean         z_r = mean_s z_sr

and are learnt as those of any classifier are.

Source: Riedel, Yao and McCallum, Modeling Relations and Their Mentions without Labeled Text, 2010, ECML PKDD (bags, of
which one sentence at least says it); Zeng, Liu, Chen and Zhao, Distant Supervision for Relation Extraction via
Piecewise Convolutional Neural Networks, 2015, EMNLP (max); Lin et al., Neural Relation Extraction with Selective
Attention over Instances, 2016, ACL (attention, mean).
Differs: attention weighs a sentence for each relation by that relation's own score, in training as in prediction; the
scores of max are made to sum to one again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field as Setting

from weitiao.data.fields import LABEL, Field
from weitiao.data.table import Table
from weitiao.errors import DataError
from weitiao.findings import Finding
from weitiao.tasks._classifier import Classifier
from weitiao.tasks._marked import Marked, from_spans, from_tags, marks_of, tokens
from weitiao.tasks._texts import must_have, pad
from weitiao.tasks.base import Rows

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["DistantRelationExtraction"]

_TEXTS = Field("texts", "json", True, ("texts", "sentences", "bag", "mentions", "句子", "句子列表"))
_RELATION = Field("label", "label", True, ("relation", "predicate", "关系", "关系类型", *LABEL.synonyms))
_FIX = "Give a list of sentences with <e1>…</e1> and <e2>…</e2>, or of objects with text, head and tail."


class DistantRelationExtraction(Classifier):
    """Say which relation two entities have, from a bag of sentences that name both."""

    class Settings(Classifier.Settings):
        """How the sentences of a bag become one, and how many are read."""

        bag: Literal["attention", "max", "mean"] = Setting(
            "attention", description="how the scores of a bag's sentences become those of the bag"
        )
        sentences: int = Setting(16, ge=1, description="sentences of a bag that are read at most, the first ones")

    fields: ClassVar[tuple[Field, ...]] = (_TEXTS, _RELATION)
    metrics: ClassVar[tuple[str, ...]] = (
        "relation_average_precision",
        "relation_precision_at_100",
        "relation_f1",
        "accuracy",
    )
    main_metric: ClassVar[str] = "relation_average_precision"
    gives: ClassVar[tuple[str, ...]] = ("probabilities", "labels", "names")
    baselines: ClassVar[tuple[str, ...]] = ("untuned", "tfidf", "majority")
    formats: ClassVar[tuple[str, ...]] = ("opennre",)
    pooled: ClassVar[bool] = False
    one_item_a_row: ClassVar[bool] = False
    one_sequence: bool = False
    augments: ClassVar[bool] = False
    settings: Settings

    @classmethod
    def text_fields(cls, there: Sequence[str]) -> tuple[str, ...]:
        """Return the bag, for checks and baselines to look at as a text."""
        return ("texts",) if "texts" in there else ()

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse bags with a sentence that cannot be read, and those of a relation that is not known."""
        read = ((i, _read(text)) for i, text in enumerate(table.column("texts")))
        return {**super().accepts(table), **{i: found for i, found in read if isinstance(found, str)}}

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Say which bags cannot be read, whose sentences name other entities, and how many sentences are left out."""
        for name, table in tables.items():
            read = [_read(text) for text in table.column("texts")]
            broken = {i: found for i, found in enumerate(read) if isinstance(found, str)}
            if broken:
                kinds = Counter(reason.partition(": ")[2] for reason in broken.values()).most_common(5)
                yield self._finding(
                    "error", table, broken, f"of {name} cannot be read: " + "; ".join(f"{k} ({n:,})" for k, n in kinds)
                )
            bags = {i: found for i, found in enumerate(read) if not isinstance(found, str)}
            mixed = {i: _names(bag) for i, bag in bags.items() if len(set(_names(bag))) > 1}
            if mixed:
                yield self._finding(
                    "info", table, mixed, f"of {name} have sentences with other names of their entities"
                )
            most = self.settings.sentences
            left = {i: len(bag) - most for i, bag in bags.items() if len(bag) > most}
            if left:
                lost = f"of {name} have more than {most} sentences: {sum(left.values()):,} are not read"
                yield self._finding("info", table, left, lost, "Raise task.sentences, if there is memory for them.")

    def _finding(
        self, severity: Any, table: Table, rows: Mapping[int, Any], what: str, remedy: str = "Look at some of them."
    ) -> Finding:
        places = tuple(str(table.places[i]) for i in list(rows)[:5])
        examples = {"examples": [str(rows[i]) for i in list(rows)[:5]]}
        message = f"{len(rows):,} of {len(table):,} bags {what}."
        return Finding(self.name, severity, message, remedy, places=places, count=len(rows), evidence=examples)

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Mark the entities and tokenize each sentence; ``others`` are the sentences of a bag beside its longest."""
        must_have(rows, ["texts"])
        bags: list[list[Marked]] = []
        for i, row in enumerate(rows):
            found = _read(row["texts"])
            if isinstance(found, str):
                raise DataError(f"texts cannot be read: {found}.", where=f"row {i + 1}", fix=_FIX)
            bags.append(found)
        encoded: list[dict[str, Any]] = []
        marks = marks_of(tokenizer)
        for bag in bags:
            each = [tokens(one, tokenizer, max_length, marks, typed=False) for one in bag]
            lost = sum(one.pop("tokens_lost") for one in each)
            read, rest = each[: self.settings.sentences], each[self.settings.sentences :]
            longest, *others = sorted(read, key=lambda one: -len(one["input_ids"]))
            lost += sum(len(one["input_ids"]) for one in rest)
            encoded.append({**longest, "others": others, "tokens_lost": lost})
        self._label(encoded, rows)
        return encoded

    def collate(self, inputs: Rows, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
        """Pad all sentences of all bags: ``input_ids (sentences, length)``; ``bag (sentences,)`` says whose each is."""
        import torch

        own = [{key: value for key, value in row.items() if key not in ("others", "labels")} for row in inputs]
        bags = [[first, *row["others"]] for first, row in zip(own, inputs, strict=True)]
        numbers = torch.tensor([i for i, bag in enumerate(bags) for _ in bag])
        batch = pad([one for bag in bags for one in bag], tokenizer)
        return self._with_labels({**batch, "bag": numbers}, inputs)

    def model_inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what the model reads."""
        return {key: value for key, value in batch.items() if key not in ("labels", "bag")}

    def logits(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the scores of each bag, ``(bags, classes)``."""
        import torch

        bag, scores = batch["bag"], outputs.logits  # (sentences,), (sentences, classes)
        if self.settings.bag == "max":
            scores = scores.log_softmax(-1)
        counts = bag.bincount()
        place = torch.arange(len(bag), device=bag.device) - (counts.cumsum(0) - counts)[bag]
        there = torch.zeros(len(counts), int(counts.max()), 1, dtype=torch.bool, device=bag.device)
        there[bag, place] = True
        each = scores.new_zeros(*there.shape[:2], scores.shape[-1]).index_put((bag, place), scores)
        if self.settings.bag == "mean":
            return each.sum(1) / counts[:, None]
        lowest = each.masked_fill(~there, float("-inf"))
        return lowest.amax(1) if self.settings.bag == "max" else (lowest.softmax(1) * each).sum(1)

    def label_rows(self) -> Table | None:
        """Return ``None``: a relation's name has no two entities to read."""
        return None

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return eight bags of three relations, some with a sentence that says nothing of theirs."""
        say = {"in": "<e1>staff</e1> is in <e2>{}</e2>", "of": "<e1>{}</e1> of the <e2>hotel</e2>"}
        mute = "<e1>film</e1> and <e2>{}</e2>"
        rows = []
        for place in ("room", "bank", "book"):
            rows.append({"texts": [mute.format(place), say["in"].format(place)], "label": "located_in"})
            rows.append({"texts": [say["of"].format(place)], "label": "part_of"})
            rows.append({"texts": [mute.format(place), f"我 {mute.format(place)}", mute.format("房")], "label": "NA"})
        del rows[2]  # relations are not equally frequent
        rows = [{**row, "texts": json.dumps(row["texts"], ensure_ascii=False)} for row in rows]
        return {
            "rows": rows,
            "settings": {},
            "variants": [
                {"bag": "max"},
                {"bag": "mean"},
                {"sentences": 1},
                {"loss": "focal"},
                {"loss": "focal", "gamma": 0.5},
                {"class_weights": {"NA": 0.5}},
                {"logit_adjustment": 1.0},
                {"labels": ["part_of", "NA", "located_in"]},
            ],
            "epochs": 200,
            "learning_rate": 2e-3,
        }


def _read(value: Any) -> list[Marked] | str:
    """Return the sentences of a bag with their entities, or what is wrong: which sentence, and why."""
    try:
        told = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        told = [value]  # a single sentence
    if not isinstance(told, list) or not told:
        return "a bag: no list of sentences"
    found = []
    for i, one in enumerate(told, 1):
        if isinstance(one, str):
            marked = from_tags(one)
        elif isinstance(one, dict) and isinstance(one.get("text"), str):
            marked = from_spans(one["text"], one.get("head"), one.get("tail"))
        else:
            marked = "neither a text nor an object with one"
        if isinstance(marked, str):
            return f"sentence {i}: {marked}"
        found.append(marked)
    return found


def _names(bag: Sequence[Marked]) -> list[tuple[str, ...]]:
    return [tuple(one.text[side.start : side.end].casefold() for side in (one.head, one.tail)) for one in bag]
