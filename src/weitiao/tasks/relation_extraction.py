"""The relation between two marked entities of a sentence, with its direction.

The two entities stand between ``<e1>``, ``</e1>`` and ``<e2>``, ``</e2>`` in the text, or are given as spans of
characters in ``head`` and ``tail``. The model reads the first between two ``$`` and the second between two ``#`` (or
other marks, if a vocabulary lacks these), so no token is new; typed marks add the type of the entity, as in
``$ * person * Ada $``. Of a sentence that is too long, the marks are kept first, then the entities, then the words
nearest to either of them.

Source: Baldini Soares, FitzGerald, Ling and Kwiatkowski, Matching the Blanks: Distributional Similarity for Relation
Learning, 2019, arXiv:1906.03158 (entities marked in the text); Wu and He, Enriching Pre-trained Language Model with
Entity Information for Relation Classification, 2019, arXiv:1905.08284 (``$`` and ``#``); Zhou and Chen, An Improved
Baseline for Sentence-level Relation Extraction, 2021, arXiv:2102.01373 (typed marks in punctuation).
Differs: the head reads one pooled vector of the sentence, not those of the marks, so that it can be solved for and
neighbors be found.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field as Setting

from weitiao.data.fields import LABEL, TEXT, Field
from weitiao.data.table import Table
from weitiao.errors import DataError, did_you_mean
from weitiao.findings import Finding
from weitiao.tasks._classifier import Classifier
from weitiao.tasks._marked import Marked, from_spans, from_tags, marks_of, tokens, untagged
from weitiao.tasks._texts import must_have
from weitiao.tasks.base import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["RelationExtraction"]

_DIRECTION = re.compile(r"\((e1,e2|e2,e1)\)$")
_NO_RELATION = frozenset({"other", "no_relation", "na", "none", "无关系"})  # as the metric relation_f1 has it
_FIX = 'Write <e1>…</e1> and <e2>…</e2> around them, or give head and tail as {"start": 0, "end": 2}.'
_RELATION = Field(
    "label", "label", True, ("relation", "relation_type", "predicate", "关系", "关系类型", *LABEL.synonyms)
)
_HEAD = Field("head", "json", False, ("head_entity", "e1", "头实体", "主体"))
_TAIL = Field("tail", "json", False, ("tail_entity", "e2", "尾实体", "客体"))


class RelationExtraction(Classifier):
    """Say which relation holds between two entities of a text, and which way round."""

    class Settings(Classifier.Settings):
        """What the model is shown of the entities, and what counts as another relation."""

        markers: Literal["plain", "typed"] = Setting(
            "plain", description="'typed' writes the type that head and tail give beside each entity"
        )
        direction: bool = Setting(
            True, description="whether R(e1,e2) and R(e2,e1) are two labels; false: the direction is dropped"
        )

    fields: ClassVar[tuple[Field, ...]] = (TEXT, _HEAD, _TAIL, _RELATION)
    metrics: ClassVar[tuple[str, ...]] = ("relation_f1", "accuracy", "macro_f1")
    main_metric: ClassVar[str] = "relation_f1"
    gives: ClassVar[tuple[str, ...]] = ("probabilities", "labels", "names")
    baselines: ClassVar[tuple[str, ...]] = ("nearest", "tfidf", "majority")
    formats: ClassVar[tuple[str, ...]] = ("semeval2010",)
    pooled: ClassVar[bool] = True
    augments: ClassVar[bool] = False
    settings: Settings

    def learn(self, train: Table) -> None:
        """Keep the relations."""
        super().learn(self._as_learnt(train))

    def accepts(self, table: Table) -> Mapping[int, str]:
        """Refuse rows without two whole, separate entities, and those of a relation that is not known."""
        reasons = {}
        for i, row in enumerate(table):
            found = self._read(row)
            if isinstance(found, str):
                reasons[i] = found
        return {**super().accepts(self._as_learnt(table)), **reasons}

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Say which rows have no two entities to read, and which direction of a relation stands in a single row."""
        for name, table in tables.items():
            broken = {i: found for i, row in enumerate(table) if isinstance(found := self._read(row), str)}
            if broken:
                kinds = Counter(reason.partition(": ")[0] for reason in broken.values()).most_common()
                shown = "; ".join(f"{reason} ({n:,})" for reason, n in kinds[:5])
                yield Finding(
                    self.name,
                    "error",
                    f"{len(broken):,} of {len(table):,} rows of {name} have no two entities to read: {shown}.",
                    "Correct them; a run sets these rows aside, each with its reason.",
                    places=tuple(str(table.places[i]) for i in list(broken)[:5]),
                    count=len(broken),
                    evidence={"examples": [[table[i]["text"], broken[i]] for i in list(broken)[:5]]},
                )
        yield from self._alone(tables)

    def _alone(self, tables: Mapping[str, Table]) -> Iterator[Finding]:
        split = next((name for name in ("train", "all") if name in tables), None)
        if split is None or not self.settings.direction:
            return
        labels = tables[split].column("label")
        counts = Counter(label for label in labels if label is not None)
        alone = {label: labels.index(label) for label, n in counts.items() if n == 1 and _DIRECTION.search(label)}
        if alone:
            shown = ", ".join(list(alone)[:5]) + (", …" if len(alone) > 5 else "")
            yield Finding(
                self.name,
                "warning",
                f"{len(alone):,} of {len(counts):,} relations have one row in {split} in their direction: {shown}.",
                "Add sentences of this direction, or set task.direction to false if it does not matter.",
                places=tuple(str(tables[split].places[i]) for i in list(alone.values())[:5]),
                count=len(alone),
                evidence={"examples": {label: tables[split][i]["text"] for label, i in list(alone.items())[:5]}},
            )

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Mark the entities and tokenize; `tokens_lost` says how much of a long text was left out."""
        must_have(rows, ["text"])
        marks, typed = marks_of(tokenizer), self.settings.markers == "typed"
        encoded, index = [], {label: i for i, label in enumerate(self.labels)}
        for i, row in enumerate(rows):
            found, label = self._read(row), self._plain(row).get("label")
            if isinstance(found, str):
                raise DataError(f"text has no two entities to read: {found}.", where=f"row {i + 1}", fix=_FIX)
            if label is not None and label not in index:
                raise DataError(
                    f"there is no relation {label!r}.{did_you_mean(label, index)}",
                    where=f"row {i + 1}",
                    fix=f"Relations: {', '.join(self.labels[:20])}.",
                )
            values = tokens(found, tokenizer, max_length, marks, typed=typed)
            encoded.append(values if label is None else {**values, "labels": index[label]})
        return encoded

    def label_rows(self) -> Table | None:
        """Return ``None``: a relation's name has no two entities to read."""
        return None

    def truth(self, rows: Rows) -> Any:
        """Return the place of each row's relation in `labels`, ``(rows,)``."""
        return super().truth([self._plain(row) for row in rows])

    @property
    def both_ways(self) -> bool:
        """Whether the order of two entities means something that no label says, so that both have to be asked for."""
        return self.settings.direction and not any(_DIRECTION.search(label) for label in self.labels)

    def ask_of(
        self, text: str, head: Mapping[str, Any], tail: Mapping[str, Any], fields: Sequence[str]
    ) -> dict[str, str]:
        """Return the row that asks which relation two entities of a text have.

        Parameters
        ----------
        head, tail
            Spans: ``start``, ``end`` and, for typed markers, ``type``.
        fields
            What a request has: with ``head`` and ``tail`` among it spans are asked for, else tags in the text.
        """
        if "head" in fields:
            sides = {"head": head, "tail": tail}
            keys = ("start", "end", "type")
            spans = {
                s: json.dumps({k: one[k] for k in keys if k in one}, ensure_ascii=False) for s, one in sides.items()
            }
            return {"text": text, **spans}
        tagged, at = "", 0
        for side, number in sorted(((head, 1), (tail, 2)), key=lambda both: both[0]["start"]):
            before, own = text[at : side["start"]], text[side["start"] : side["end"]]
            tagged += f"{untagged(before)}<e{number}>{untagged(own)}</e{number}>"
            at = side["end"]
        return {"text": tagged + untagged(text[at:])}

    def told(self, label: str) -> tuple[str, bool] | None:
        """Return the relation that a label names and whether it goes from the second entity to the first.

        ``None`` if the label says that there is no relation.
        """
        relation = _DIRECTION.sub("", label)
        return None if relation.casefold() in _NO_RELATION else (relation, label.endswith("(e2,e1)"))

    def _as_learnt(self, table: Table) -> Table:
        """Return the table with the labels that are learnt."""
        if "label" not in table.column_names:
            return table
        return table.with_columns({"label": [self._plain({"label": x})["label"] for x in table.column("label")]})

    def _plain(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.settings.direction or row.get("label") is None:
            return row
        return {**row, "label": _DIRECTION.sub("", row["label"])}

    def _read(self, row: Mapping[str, Any]) -> Marked | str:
        """Return the text and its entities, or what is wrong with them."""
        text, head, tail = row.get("text"), row.get("head"), row.get("tail")
        if not isinstance(text, str):
            return "no text"
        found = from_tags(text) if head is None and tail is None else from_spans(text, head, tail)
        return "markers are typed, and an entity has no type" if self._lacks_type(found) else found

    def _lacks_type(self, found: Marked | str) -> bool:
        if isinstance(found, str) or self.settings.markers == "plain":
            return False
        return not (found.head.type and found.tail.type)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return ten rows of three labels, some with the second entity first."""
        told = {
            "Located(e1,e2)": ["staff is in hotel", "food is in room", "card is in bank", "我 是 在 房"],
            "Located(e2,e1)": ["hotel very nice staff", "room very nice food", "bank very nice card"],
            "Other": ["you hate hate book", "we hate hate film", "i hate hate phone"],
        }
        rows = []
        for label, texts in told.items():
            for text in texts:
                first = {"start": 0, "end": text.index(" "), "type": "thing"}
                second = {"start": text.rindex(" ") + 1, "end": len(text), "type": "place"}
                head, tail = (second, first) if text[0] == "w" else (first, second)
                rows.append({"text": text, "head": json.dumps(head), "tail": json.dumps(tail), "label": label})
        variants = [
            {"markers": "typed"},
            {"direction": False},
            {"loss": "focal"},
            {"loss": "focal", "gamma": 0.5},
            {"class_weights": "balanced"},
            {"logit_adjustment": 1.0},
            {"labels": ["Other", "Located(e2,e1)", "Located(e1,e2)"]},
        ]
        return {"rows": rows, "settings": {}, "variants": variants}
