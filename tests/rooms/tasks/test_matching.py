"""Pairs are read as pairs, in either order where the order does not count; what is wrong with them is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import weitiao
from trial import trial
from weitiao import plugins
from weitiao.data.fields import map_fields
from weitiao.data.read import read
from weitiao.data.table import Table
from weitiao.errors import DataError
from weitiao.predict import predict_file
from weitiao.tasks.matching import Matching, _sorted

TINY = plugins.find("tasks", "matching").tiny()["rows"]


def found(tables: dict[str, list[dict[str, Any]]], **settings: Any) -> list[Any]:
    task = Matching(Matching.Settings(**settings))
    return list(task.findings({name: Table.from_rows(rows) for name, rows in tables.items()}))


def pair(first: str, second: str, label: str) -> dict[str, str]:
    return {"text": first, "text_pair": second, "label": label}


def swapped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"text": row["text_pair"], "text_pair": row["text"]} for row in rows]


def test_symmetric_answers_are_equal_both_ways_round(tiny_bert: Path):
    one, other = trial("matching", tiny_bert, {"symmetric": True}), trial("matching", tiny_bert)
    for at, equal in ((one, True), (other, False)):
        both = [at.task.encode(rows, at.tokenizer, 64) for rows in (TINY, swapped(TINY))]
        assert (both[0] == both[1]) is equal


@given(st.text(), st.text())
def test_the_order_of_texts_knows_no_first_and_loses_nothing(a: str, b: str):
    one, other = _sorted(pair(a, b, "1")), _sorted(pair(b, a, "1"))
    assert one == other
    assert sorted([one["text"], one["text_pair"]]) == sorted([a, b])


def test_both_texts_are_needed(tiny_bert: Path):
    at = trial("matching", tiny_bert, {"symmetric": True})
    with pytest.raises(DataError, match="row 1: text_pair is empty or missing"):
        at.task.encode([{"text": "房间"}], at.tokenizer, 64)
    with pytest.raises(DataError, match="text_pair"):
        map_fields(Table.from_rows([{"text": "a b c", "label": "1"}, {"text": "d", "label": "0"}]), Matching.fields)


def test_texts_that_differ_from_themselves_are_found():
    (finding,) = found({"train": [pair("怎么还款", "怎么还款？", "0"), pair("a", "a", "1"), pair("a", "b", "0")]})
    assert finding.severity == "warning"
    assert finding.count == 1
    assert finding.evidence["examples"][0]["text"] == "怎么还款"


def test_a_pair_in_another_split_the_other_way_round_is_a_leak():
    (finding,) = found({"train": [pair("a b", "c d", "1")], "test": [pair("c d", "a b", "1"), pair("x", "y", "0")]})
    assert finding.severity == "error"
    assert finding.message.startswith("1 of 2 rows of test also stands in train")
    assert finding.places == ("memory:1", "memory:1")


@pytest.mark.parametrize(("symmetric", "severity"), [(True, "error"), (False, "warning")])
def test_another_label_the_other_way_round(symmetric: bool, severity: str):
    (finding,) = found({"all": [pair("a b", "c d", "1"), pair("c d", "a b", "0")]}, symmetric=symmetric)
    assert (finding.severity, finding.count) == (severity, 1)


def test_faultless_pairs_have_no_finding():
    assert not found({"train": TINY[:5], "test": TINY[5:]})
    assert not found({"train": [pair("a", "b", "1"), pair("b", "c", "1")]})


def test_real_pairs_find_their_columns(real_data: Path):
    for name in ("pair_matching/bq_corpus/dev.csv", "pair_matching/mrpc/msr-para-train.tsv"):
        table = map_fields(read([str(real_data / name)]), Matching.fields)
        assert {"text", "text_pair", "label"} <= set(table.column_names)
        assert set(table.column("label")) == {"0", "1"}
    assert all(finding.message for finding in Matching().findings({"all": table}))


@pytest.mark.parametrize("method", ["full", "lora", "top_layers", "head"])
def test_from_file_to_answer(method: str, tiny_bert: Path, tmp_path: Path):
    rows = [row | {"text": f"{row['text']} {word}"} for row in TINY for word in ("room", "film", "card")]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    how = {} if method == "head" else {"training": {"epochs": 1}}
    recipe = weitiao.Recipe(
        data=str(data),
        model=str(tiny_bert),
        task={"name": "matching", "symmetric": True},
        method=method,
        evaluation={"resamples": 100},
        **how,
    )
    bundle = weitiao.run(recipe, tmp_path / "run", show=False)
    assert bundle.verified is not None
    one, batch, file = bundle.predict(rows[0]), bundle.predict(rows), list(predict_file(bundle, data))
    assert one.label == batch[0].label == file[0]["label"]
    both = [[p.confidence for p in bundle.predict(some)] for some in (rows, swapped(rows))]
    np.testing.assert_allclose(*both, atol=1e-6)
