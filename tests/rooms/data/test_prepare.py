"""From files to splits: what is refused before the cut, and what is said when nothing is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import made
from weitiao.data.prepare import DataSettings, Prepared, prepare
from weitiao.data.split import SplitSettings
from weitiao.data.table import Table
from weitiao.errors import DataError
from weitiao.tasks.classification import Classification


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def usable(task: Classification, **settings: Any) -> Prepared:
    """Do with the rows what a run does."""
    data = prepare(DataSettings(**settings), task.fields, 7, task.accepts)
    task.learn(data.splits.train)
    return data.without(task.accepts)


@pytest.mark.parametrize("labels", [(), ("negative", "positive")], ids=["learnt", "given"])
@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_split_with_unknown_labels_alone_is_named_with_the_reason(tmp_path, split, labels):
    """The reason is that of its own rows, however many of another split were set aside for something else."""
    train = written(tmp_path / "train.jsonl", made.rows(40) + [{"text": "", "label": "positive"}] * 9)
    other = [{"text": f"很好的房间{i}", "label": "好评"} for i in range(4)]
    task = Classification(Classification.Settings(labels=labels))
    words = f"no row of {split} is left; most were set aside for: a label that is not among the task's: '好评'"
    with pytest.raises(DataError, match=words):
        usable(task, train=train, **{split: written(tmp_path / "other.jsonl", other)})


def test_training_rows_that_are_all_refused_are_said_to_be(tmp_path):
    task = Classification(Classification.Settings(labels=["好", "坏"]))
    words = "no row of train is left; most were set aside for: a label that is not among the task's: '(posi|nega)tive'"
    with pytest.raises(DataError, match=words):
        usable(task, train=written(tmp_path / "a.jsonl", made.rows(40)))


def test_a_stray_label_is_set_aside_before_the_split(tmp_path):
    """One row cannot be in three splits: it stays in train, is refused, or is not used at all."""
    stray = {"text": "唯一的一条不同的话", "label": "positve"}
    train = written(tmp_path / "a.jsonl", [*made.rows(60), stray])
    with pytest.raises(DataError, match=r"too few different rows for 3 splits: 'positve' \(1\)"):
        usable(Classification(Classification.Settings()), train=train, split=SplitSettings(by="stratified"))
    usual = usable(Classification(Classification.Settings()), train=train)
    assert {name: "positve" in table.column("label") for name, table in usual.tables.items()} == {
        "train": True, "dev": False, "test": False
    }  # fmt: skip
    task = Classification(Classification.Settings(labels=["positive", "negative"], class_weights="balanced"))
    data = usable(task, train=train)
    assert [str(row.place) for row in data.set_aside] == ["a.jsonl:61"]
    assert data.reasons == {"a label that is not among the task's": 1}
    assert sum(map(len, data.tables.values())) == 60 == data.rows_in - 1
    assert task.labels == ["positive", "negative"]
    counts = [data.splits.train.column("label").count(label) for label in task.labels]
    assert sum(w * n for w, n in zip(task.state["weights"], counts, strict=True)) == pytest.approx(sum(counts))


def test_settings_of_the_cut_are_refused_where_a_column_names_all_splits(tmp_path):
    names = ["train"] * 6 + ["dev", "test"]
    rows = [row | {"part": names[i // 2 % 8]} for i, row in enumerate(made.rows(64))]
    data = {"train": written(tmp_path / "a.jsonl", rows), "split_column": "part"}
    task = Classification(Classification.Settings())
    assert len(usable(task, **data).splits.test) == 8
    with pytest.raises(DataError, match="split has no effect: part names train, dev and test"):
        usable(task, **data, split={"dev": 0.3})
    without_test = [row for row in rows if row["part"] != "test"]
    data["train"] = written(tmp_path / "b.jsonl", without_test)
    assert len(usable(task, **data, split={"test": 0.3}).splits.test) == pytest.approx(0.3 * 48, abs=2)
    data["train"] = written(tmp_path / "c.jsonl", [row for row in rows if row["part"] == "dev"])
    with pytest.raises(DataError, match="the rows for training are missing"):
        usable(task, **data)


def test_given_files_that_share_a_group_are_refused(tmp_path):
    rows = [row | {"客户": f"甲{i // 4}"} for i, row in enumerate(made.rows(80))]
    train, test = (written(tmp_path / f"{name}.jsonl", part) for name, part in (("a", rows[:60]), ("b", rows[58:])))
    task = Classification(Classification.Settings())
    with pytest.raises(DataError, match="1 values of 客户 stand in both train and test, such as '甲14'"):
        usable(task, train=train, test=test, split={"group": "客户"})
    assert len(usable(task, train=train, test=test).splits.test) == 22


@pytest.mark.parametrize("labels", [(), ("negative", "positive")], ids=["learnt", "given"])
def test_no_row_is_lost_from_the_account(tmp_path, labels):
    train = [*made.rows(50), {"text": " ", "label": "positive"}, {"text": "没有标签", "label": None}]
    dev = [*made.rows(10, seed=1), {"text": "很好", "label": "好评"}]
    data = usable(
        Classification(Classification.Settings(labels=labels)),
        train=written(tmp_path / "a.jsonl", train),
        dev=written(tmp_path / "b.jsonl", dev),
    )
    assert data.rows_in == 63 == sum(map(len, data.tables.values())) + len(data.set_aside)
    assert sorted(str(row.place) for row in data.set_aside) == ["a.jsonl:51", "a.jsonl:52", "b.jsonl:11"]
    assert isinstance(data.splits.dev, Table)
