"""Bags of sentences: how many become one, what is wrong with them, and from lines of sentences to a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import weitiao
from trial import trial
from weitiao import plugins
from weitiao.data.table import Table
from weitiao.errors import DataError

NAME = "distant_relation_extraction"
Bags = plugins.find("tasks", NAME)
SIZES = torch.tensor([0, 0, 0, 1, 2, 2])


def line(first: str, second: str, relation: str, says: str) -> str:
    text = f"{first} {says} {second}"
    sides = {
        "h": {"id": first, "name": first, "pos": [0, len(first)]},
        "t": {"id": second, "name": second, "pos": [len(text) - len(second), len(text)]},
    }
    return json.dumps({"text": text, **sides, "relation": relation}, ensure_ascii=False)


def by_hand(how: str, scores: np.ndarray) -> list[float]:
    """The scores of one bag, class by class."""
    if how == "mean":
        return scores.mean(0).tolist()
    if how == "max":
        return (scores - np.log(np.exp(scores).sum(1, keepdims=True))).max(0).tolist()
    weights = np.exp(scores) / np.exp(scores).sum(0)
    return (weights * scores).sum(0).tolist()


@pytest.mark.parametrize("how", ["attention", "max", "mean"])
def test_the_sentences_of_a_bag_become_one_by_the_formula(how: Any) -> None:
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Bags(Bags.Settings(bag=how)).logits(SimpleNamespace(logits=scores), {"bag": SIZES})
    expected = [by_hand(how, scores[i == SIZES].numpy()) for i in range(3)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_by_max_one_sentence_alone_learns() -> None:
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    task = Bags(Bags.Settings(bag="max"), {"labels": list("abcd"), "weights": [1.0] * 4})
    task.logits(SimpleNamespace(logits=scores), {"bag": SIZES})[0, 2].backward()
    moved = scores.grad.abs().sum(1) > 0
    assert moved.sum() == 1
    assert moved[:3].any()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.sampled_from(["attention", "max", "mean"]))
def test_neither_order_nor_neighbours_change_a_bag(sizes: list[int], how: Any) -> None:
    generator, task = torch.Generator().manual_seed(sum(sizes)), Bags(Bags.Settings(bag=how))
    scores = torch.randn(sum(sizes), 3, generator=generator)
    bag = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    together = task.logits(SimpleNamespace(logits=scores), {"bag": bag})
    for i, size in enumerate(sizes):
        own = scores[bag == i][torch.randperm(size, generator=generator)]
        alone = task.logits(SimpleNamespace(logits=own), {"bag": torch.zeros(size, dtype=torch.long)})
        torch.testing.assert_close(alone[0], together[i])


def test_long_bags_and_long_sentences_say_what_is_lost(tiny_bert: Path) -> None:
    at = trial(NAME, tiny_bert, {"sentences": 2})
    long = f"<e1>staff</e1> {'very ' * 100}<e2>room</e2>"
    rows = [{"texts": json.dumps([long, "<e1>a</e1> <e2>b</e2>", "<e1>a</e1> or <e2>b</e2>"])}]
    (one,) = at.task.encode(rows, at.tokenizer, 32)
    assert len(one["input_ids"]) == 32
    assert len(one["others"]) == 1
    whole = at.tokenizer("$ staff $ " + "very " * 100 + "# room #")["input_ids"]
    third = at.tokenizer("$ a $ or # b #")["input_ids"]
    assert one["tokens_lost"] == len(whole) - 32 + len(third)


def test_what_is_wrong_with_a_bag_is_found() -> None:
    good, other = "<e1>Ada</e1> in <e2>Paris</e2>", "<e1>Eva</e1> in <e2>Paris</e2>"
    told = [[good], [good, "Ada in Paris"], [], [good, other], [{"text": "Ada", "head": {"start": 0, "end": 9}}], [3]]
    rows = [{"texts": json.dumps(bag), "label": "x"} for bag in told] + [{"texts": good, "label": "x"}]
    table = Table.from_rows(rows)
    task = Bags(Bags.Settings(sentences=1))
    refused = task.accepts(table)
    assert list(refused) == [1, 2, 4, 5]
    assert refused[1] == "sentence 2: <e1> stands 0 times in the text, not once"
    assert "outside the text" in refused[4]
    broken, mixed, left = task.findings({"all": table})
    assert (broken.severity, broken.count) == ("error", 4)
    assert (mixed.severity, mixed.count) == ("info", 1)
    assert left.count == 1
    assert "1 are not read" in left.message
    with pytest.raises(DataError, match=r"row 1: texts cannot be read: sentence 2"):
        task.encode(rows[1:2], None, 16)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_from_lines_of_sentences_to_a_bundle(method: str, tiny_bert: Path, tmp_path: Path) -> None:
    lines = []
    for i, first in enumerate(["room", "film", "card", "book", "hotel", "staff", "bank", "food"]):
        for second in ["price", "service", "phone"]:
            relation = ("located_in", "part_of", "NA")[(i + len(second)) % 3]
            says = {"located_in": "is in", "part_of": "of the", "NA": "and"}[relation]
            lines += [line(first, second, relation, says), line(first, second, relation, "and")]
    lines.insert(3, json.dumps({"text": "no entities", "h": {"pos": [0, 2]}, "t": {"pos": [90, 95]}}))
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    recipe = weitiao.Recipe(
        data={"train": str(path), "split": {"by": "random"}},
        model=str(tiny_bert),
        task=NAME,
        method=method,
        training={"epochs": 3},
        evaluation={"resamples": 100},
    )
    bundle = weitiao.run(recipe, tmp_path / "run", show=False)
    assert bundle.verified is not None
    assert bundle.facts["rows"]["in"] == 25  # of 48 sentences 24 bags, and one that cannot be read
    assert list(bundle.facts["rows"]["set_aside"].values()) == [1]
    assert set(bundle.facts["metrics"]) >= {"relation_average_precision", "relation_precision_at_100", "relation_f1"}
    asked = {"texts": ["<e1>room</e1> is in <e2>price</e2>", "<e1>room</e1> and <e2>price</e2>"]}
    alone, (together, _) = bundle.predict(asked), bundle.predict([asked, {"texts": asked["texts"][:1]}])
    assert alone.label == together.label
    assert alone.confidence == pytest.approx(together.confidence, abs=1e-5)
