"""How two texts stand to each other: duplicates or not, entailment, steps of likeness; read together, as one input.

The model reads both texts at once (a cross-encoder), so that each word of one can look at each word of the other; the
loss is that of a classifier.

A relation that knows no first and second (two questions that ask the same) is to be answered the same both ways round.
With `symmetric`, both texts are always read in one order, whichever way round they come: the answer is then equal by
construction, in training, in the report and in the bundle.

Source: Devlin et al., BERT, 2018, arXiv:1810.04805, section 3.2 (a pair as one sequence); Dolan and Brockett,
Automatically Constructing a Corpus of Sentential Paraphrases, 2005 (duplicates); Bowman et al., A Large Annotated
Corpus for Learning Natural Language Inference, 2015, arXiv:1508.05326.
Differs: `symmetric` sorts the two texts by their characters; the usual other way, to read both orders and take the mean
of their logits, costs twice the time, and a head that is solved for on a frozen backbone would not know of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field as Setting

from weitiao.data.checks.base import excerpt, num_rows, places, share
from weitiao.data.fields import LABEL, TEXT, TEXT_PAIR, Field
from weitiao.data.near import normalise
from weitiao.data.table import Table
from weitiao.findings import Finding
from weitiao.tasks._prompt_classifier import PromptClassifier
from weitiao.tasks.base import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Matching"]

# names of labels that say that two texts are not the same; a text is always the same as itself
_DIFFERENT = frozenset(
    ["0", "false", "no", "different", "not_duplicate", "dissimilar", "unrelated", "contradiction", "neutral"]
) | frozenset(["否", "不同", "不是", "不相似", "不匹配", "无关", "矛盾", "中立"])
_ORDER = {"train": 0, "dev": 1, "test": 2}


class Matching(PromptClassifier):
    """Say how two texts stand to each other."""

    class Settings(PromptClassifier.Settings):
        """How rows of different classes count, and whether the order of the two texts does."""

        symmetric: bool = Setting(False, description="the answer must not depend on which text comes first")

    fields: ClassVar[tuple[Field, ...]] = (TEXT, replace(TEXT_PAIR, required=True), LABEL)
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "log_loss")
    baselines: ClassVar[tuple[str, ...]] = ("nearest", "tfidf", "majority")
    settings: Settings

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
        """Tokenize both texts as one input; if that is too long, the longer text loses its end first."""
        if self.settings.symmetric:
            rows = [_sorted(row) for row in rows]
        return super().encode(rows, tokenizer, max_length)

    def findings(
        self, tables: Mapping[str, Table], tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Iterator[Finding]:
        """Find texts that differ from themselves, and pairs that come back the other way round."""
        yield from super().findings(tables, tokenizer)
        for split, table in tables.items():
            yield from _unlike_itself(split, table)
        swapped = _swapped(tables)
        yield from _leaks(tables, swapped)
        yield from self._torn(tables, swapped)

    def _torn(self, tables: Mapping[str, Table], swapped: list[tuple[_Spot, _Spot]]) -> Iterator[Finding]:
        """Find pairs with another label the other way round."""
        torn = [(a, b) for a, b in swapped if _label(tables, a) != _label(tables, b)]
        if not torn:
            return
        sure = self.settings.symmetric
        yield Finding(
            "matching",
            "error" if sure else "warning",
            f"{len(torn):,} pairs of texts have another label the other way round"
            + (", though symmetric says that their order does not count." if sure else "."),
            "Decide for one label each. If the order counts, as between a premise and what follows from it, all is "
            + ("well, but then leave symmetric out." if sure else "well."),
            places=tuple(str(tables[split].places[i]) for pair in torn[:10] for split, i in pair),
            count=len(torn),
            evidence={"examples": [_example(tables, *pair) for pair in torn[:5]]},
        )

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return ten pairs: of two texts that say the same, and of two that do not."""
        same = [
            ("good book", "the book is good"),
            ("房间很干净", "房间不脏"),
            ("i like it", "i love it"),
            ("how to pay", "how can i pay"),
        ]
        different = [
            ("good book", "my card is lost"),
            ("房间很干净", "服务太差"),
            ("i like it", "where is my phone"),
            ("how to pay", "the food is bad"),
            ("屏幕太贵", "早餐好吃"),
            ("very slow", "the hotel"),
        ]
        rows = [{"text": a, "text_pair": b, "label": "1"} for a, b in same]
        rows += [{"text": a, "text_pair": b, "label": "0"} for a, b in different]
        variants = [
            {"symmetric": True},
            {"loss": "focal"},
            {"loss": "focal", "gamma": 0.5},
            {"class_weights": "balanced"},
            {"logit_adjustment": 1.0},
            {"labels": ["1", "0"]},
            {"prompt": {"verbalizer": {"1": ["yes", "good"], "0": "no"}}},
        ]
        return {"rows": rows, "settings": {}, "variants": variants, "family": "bert_lm"}


_Spot = tuple[str, int]  # split and row


def _sorted(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its two texts in the order of their characters."""
    first, second = row.get("text"), row.get("text_pair")
    if not (isinstance(first, str) and isinstance(second, str) and second < first):
        return dict(row)  # what is missing is refused where it is read
    return {**row, "text": second, "text_pair": first}


def _pairs(table: Table) -> list[tuple[str, str]]:
    """Return both texts of each row in the form in which texts are compared."""
    if "text_pair" not in table.column_names:
        return []
    columns = [[normalise(text or "") for text in table.column(name)] for name in ("text", "text_pair")]
    return list(zip(*columns, strict=True))


def _label(tables: Mapping[str, Table], spot: _Spot) -> str | None:
    table = tables[spot[0]]
    return table[spot[1]].get("label")


def _example(tables: Mapping[str, Table], *spots: _Spot) -> dict[str, Any]:
    row = tables[spots[0][0]][spots[0][1]]
    labels = {str(tables[split].places[i]): _label(tables, (split, i)) for split, i in spots}
    return {"text": excerpt(row["text"]), "text_pair": excerpt(row["text_pair"]), "labels": labels}


def _unlike_itself(split: str, table: Table) -> Iterator[Finding]:
    """Find rows whose two texts are equal, though the label says that they differ."""
    if "label" not in table.column_names:
        return
    labels = table.column("label")
    equal = [i for i, (a, b) in enumerate(_pairs(table)) if a == b]
    wrong = [i for i in equal if str(labels[i]).strip().lower().replace("-", "_").replace(" ", "_") in _DIFFERENT]
    if wrong:
        yield Finding(
            "matching",
            "warning",
            f"{num_rows(len(wrong), split)} {'has' if len(wrong) == 1 else 'have'} twice the same text, and a label "
            f"that says they differ ({share(len(wrong), len(table))}).",
            "Correct the label, or the text that was copied by mistake.",
            places=places(table, wrong),
            count=len(wrong),
            evidence={"examples": [_example({split: table}, (split, i)) for i in wrong[:5]]},
        )


def _swapped(tables: Mapping[str, Table]) -> list[tuple[_Spot, _Spot]]:
    """Return rows and the first row that has their texts the other way round, each two rows once."""
    seen: dict[tuple[str, str], _Spot] = {}
    found = []
    for split in sorted(tables, key=lambda name: _ORDER.get(name, 0)):
        for i, (first, second) in enumerate(_pairs(tables[split])):
            if first != second and (second, first) in seen:
                found.append((seen[second, first], (split, i)))
            seen.setdefault((first, second), (split, i))
    return found


def _leaks(tables: Mapping[str, Table], swapped: list[tuple[_Spot, _Spot]]) -> Iterator[Finding]:
    """Find pairs that stand in another split the other way round."""
    between: dict[tuple[str, str], list[tuple[_Spot, _Spot]]] = defaultdict(list)
    for here, there in swapped:
        if here[0] != there[0]:
            between[here[0], there[0]].append((here, there))
    for (here, there), pairs in between.items():
        rows = len({spot for _, spot in pairs})
        yield Finding(
            "matching",
            "error",
            f"{num_rows(rows, there, among=len(tables[there]))} also {'stands' if rows == 1 else 'stand'} in {here}, "
            "with the two texts the other way round.",
            f"Take them out of {here}, or split the data again: what was seen in training tests no model.",
            places=tuple(str(tables[split].places[i]) for pair in pairs[:10] for split, i in pair),
            count=rows,
            evidence={"examples": [_example(tables, *pair) for pair in pairs[:5]]},
        )
