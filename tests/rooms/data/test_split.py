from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from weitiao.data.dates import instant
from weitiao.data.split import Splits, SplitSettings, complete, remove_leaks, split
from weitiao.data.table import Table
from weitiao.errors import DataError

pytest.importorskip("weitiao.data.near")
WORDS = "房间 早餐 服务 前台 位置 价格 空调 网络 电梯 窗户 地毯 枕头 浴室 毛巾 停车 周边 味道 噪音 灯光 隔音".split()  # noqa: SIM905
CUT = {"label": "label", "text_fields": ("text",), "seed": 7}


def rows(n, seed=0, classes=2):
    rng = random.Random(seed)
    return [
        {"text": "，".join(rng.choices(WORDS, k=8)) + f"{rng.random():.6f}", "label": f"类{i % classes}",
         "customer": f"c{i // 3}", "day": f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}"}
        for i in range(n)
    ]  # fmt: skip


def where(splits):
    return {id_: name for name, table in splits.tables.items() for id_ in table.ids}


def test_stratified_keeps_class_shares():
    made = rows(180) + [{**r, "label": "少"} for r in rows(20, seed=1)]
    splits = split(Table.from_rows(made), SplitSettings(), **CUT)
    assert {n: len(t) for n, t in splits.tables.items()} == {"train": 140, "dev": 20, "test": 40}
    for name, share in (("train", 0.7), ("dev", 0.1), ("test", 0.2)):
        counts = Counter(splits.tables[name].column("label"))
        assert all(abs(counts[c] - share * n) <= 1 for c, n in (("类0", 90), ("类1", 90), ("少", 20)))


@pytest.mark.parametrize("by", ["stratified", "random"])
def test_the_order_of_the_file_does_not_matter_and_the_seed_does(by):
    made = rows(150)
    shuffled = random.Random(3).sample(made, len(made))
    cut = SplitSettings(by=by)
    first = where(split(Table.from_rows(made), cut, **CUT))
    assert where(split(Table.from_rows(shuffled), cut, **CUT)) == first
    assert where(split(Table.from_rows(made), cut, **{**CUT, "seed": 8})) != first


def test_added_rows_move_few_old_ones():
    old, more = rows(200), rows(20, seed=9)
    for by, most in (("random", 0), ("stratified", 16)):
        cut = SplitSettings(by=by)
        before = where(split(Table.from_rows(old), cut, **CUT))
        after = where(split(Table.from_rows(old + more), cut, **CUT))
        assert sum(after[id_] != name for id_, name in before.items()) <= most


@pytest.mark.parametrize("by", ["stratified", "random", "time"])
def test_groups_and_near_duplicates_never_straddle(by):
    made = rows(120)
    made += [{**r, "text": r["text"] + "。", "customer": f"x{i}"} for i, r in enumerate(made[:40])]
    cut = SplitSettings(by=by, group="customer", time="day" if by == "time" else None)
    splits = split(Table.from_rows(made), cut, **CUT)
    for key in (lambda r: r["customer"], lambda r: r["text"].rstrip("。")):
        places: dict[str, set[str]] = {}
        for name, table in splits.tables.items():
            for row in table:
                places.setdefault(key(row), set()).add(name)
        assert all(len(names) == 1 for names in places.values())
    assert sum(map(len, splits.tables.values())) == 160


@pytest.mark.parametrize("by", ["stratified", "random"])
def test_a_group_larger_than_the_rest_is_trained_on_and_the_others_get_their_shares(by):
    made = Table.from_rows([{**r, "customer": "大客户" if i < 60 else f"c{i}"} for i, r in enumerate(rows(100))])
    sizes: Counter[str] = Counter()
    for seed in range(8):  # by chance a share is one on average
        splits = split(made, SplitSettings(by=by, group="customer"), **{**CUT, "seed": seed})
        assert Counter(splits.train.column("customer"))["大客户"] == 60
        sizes.update({name: len(table) for name, table in splits.tables.items()})
    assert sizes["test"] / 8 == pytest.approx(20, abs=3)
    # Of the class that the group counts for, 20 rows are left where test and dev want 24.
    assert sizes["dev"] / 8 == pytest.approx(10, abs=4 if by == "stratified" else 3)


def test_the_others_make_up_for_a_group_no_further_than_they_can():
    made = [{**r, "customer": "大客户" if i < 190 else f"c{i}"} for i, r in enumerate(rows(200))]
    splits = split(Table.from_rows(made), SplitSettings(by="random", group="customer"), **CUT)
    assert (len(splits.train), len(splits.dev) + len(splits.test)) == (190, 10)


def test_rows_without_a_group_are_not_one_group():
    made = [{**r, "customer": None} for r in rows(60)]
    assert len(split(Table.from_rows(made), SplitSettings(group="customer"), **CUT).test) == 12


def test_time_puts_the_newest_into_test():
    made = [{**r, "when": f"2024年{i % 12 + 1}月{i // 12 + 1}日"} for i, r in enumerate(rows(120))]
    splits = split(Table.from_rows(made), SplitSettings(by="time", time="when"), **CUT)
    times = {name: [instant(v) for v in table.column("when")] for name, table in splits.tables.items()}
    assert max(times["train"]) <= min(times["dev"]) <= max(times["dev"]) <= min(times["test"])
    assert (len(splits.dev), len(splits.test)) == (12, 24)
    made[4]["when"] = "昨天"
    with pytest.raises(DataError, match="memory:5: when is '昨天', which is not a date"):
        split(Table.from_rows(made), SplitSettings(by="time", time="when"), **CUT)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(9, 60), classes=st.integers(1, 3), seed=st.integers(0, 99))
def test_no_row_is_lost_and_every_class_is_everywhere(n, classes, seed):
    table = Table.from_rows(rows(n, seed, classes))
    splits = split(table, SplitSettings(), **{**CUT, "seed": seed})
    assert sorted(where(splits)) == sorted(table.ids)
    assert all(len(set(t.column("label"))) == classes for t in splits.tables.values())


def test_settings_that_make_no_sense_are_refused():
    for wrong in (
        {"dev": 0.5, "test": 0.5},
        {"dev": 0},
        {"test": 1.0},
        {"by": "time"},
        {"time": "day"},
        {"shuffle": 1},
    ):
        with pytest.raises(ValidationError):
            SplitSettings(**wrong)
    with pytest.raises(ValidationError, match="time has no effect with by: random"):
        SplitSettings(by="random", time="day")


def test_what_cannot_be_cut_is_said():
    small = [*rows(30), {"text": "唯一的一条不同的话", "label": "孤"}]
    with pytest.raises(DataError, match=r"1 classes have too few different rows for 3 splits: '孤' \(1\)"):
        split(Table.from_rows(small), SplitSettings(by="stratified"), **CUT)
    assert "孤" in split(Table.from_rows(small), SplitSettings(), **CUT).train.column("label")
    with pytest.raises(DataError, match="2 rows make 2 units"):
        split(Table.from_rows(rows(2)), SplitSettings(), **CUT)
    with pytest.raises(DataError, match=r"no column 'custmer' .set as group.. Did you mean 'customer'"):
        split(Table.from_rows(rows(30)), SplitSettings(group="custmer"), **CUT)
    with pytest.raises(DataError, match="no label to stratify by"):
        split(Table.from_rows(rows(30)), SplitSettings(by="stratified"), **{**CUT, "label": None})
    assert len(split(Table.from_rows(rows(30)), SplitSettings(), **{**CUT, "label": None}).test)
    with pytest.raises(DataError, match="would have no rows"):
        split(Table.from_rows(rows(3)), SplitSettings(by="random", dev=0.01, test=0.01), **CUT)


def test_a_column_can_name_the_splits():
    made = [{**r, "set": ["Train", "验证", "TEST", "val"][i % 4]} for i, r in enumerate(rows(40))]
    table = Table.from_rows(made).put_aside({0: "why"})
    parts = Splits.from_column(table, "set")
    assert {n: len(t) for n, t in parts.items()} == {"train": 9, "dev": 20, "test": 10}
    assert sum(t.rows_in for t in parts.values()) == 40
    with pytest.raises(DataError, match="memory:1: set is 'half', which names no split"):
        Splits.from_column(Table.from_rows([{"set": "half"}]), "set")


def test_missing_splits_are_cut_from_train():
    train, test = Table.from_rows(rows(100)).put_aside({0: "why"}), Table.from_rows(rows(20, seed=5))
    splits = complete({"train": train, "test": test}, SplitSettings(), **CUT)
    assert splits.test is test
    assert (len(splits.train), len(splits.dev)) == (89, 10)
    assert splits.train.rows_in + splits.dev.rows_in == 100
    assert len(complete({"train": train}, SplitSettings(), **CUT).test) == 20
    whole = complete({"train": train, "dev": test, "test": test}, SplitSettings(), **CUT)
    assert whole.train is train
    with pytest.raises(DataError, match="rows for training are missing"):
        complete({"test": test}, SplitSettings(), **CUT)


def test_given_splits_may_not_share_a_group():
    train = [{**r, "customer": None if i < 3 else r["customer"]} for i, r in enumerate(rows(60))]
    test = [{**r, "customer": f"t{i}"} for i, r in enumerate(rows(9, seed=5))]
    test[0]["customer"] = None  # no group, so none that is shared
    cut = SplitSettings(group="customer")
    made = complete({"train": Table.from_rows(train), "test": Table.from_rows(test)}, cut, **CUT)
    assert not set(made.dev.column("customer")) & (set(made.train.column("customer")) - {None})
    test[5]["customer"] = "c11"
    with pytest.raises(DataError, match="1 values of customer stand in both train and test, such as 'c11'"):
        complete({"train": Table.from_rows(train), "test": Table.from_rows(test)}, cut, **CUT)
    numbers = Table.from_rows([{**r, "customer": i} for i, r in enumerate(train)])
    words = Table.from_rows([{**r, "customer": str(i + 59)} for i, r in enumerate(test)])  # as another file has them
    with pytest.raises(DataError, match="1 values of customer stand in both train and test, such as '59'"):
        complete({"train": numbers, "test": words}, cut, **CUT)
    other = Table.from_rows([{k: v for k, v in r.items() if k != "customer"} for r in test])
    with pytest.raises(DataError, match=r"no column 'customer' .set as group."):
        complete({"train": Table.from_rows(train), "test": other}, cut, **CUT)


def test_leaks_are_set_aside_with_the_other_place():
    train, test = rows(20), rows(6, seed=5)
    leaky = [*train, {**test[2], "text": test[2]["text"].replace("，", ", ")}]
    tables = [
        Table.from_rows(r, file=f) for r, f in ((leaky, "train.csv"), (rows(6, seed=6), "dev.csv"), (test, "test.csv"))
    ]
    clean = remove_leaks(Splits(*tables), ("text",))
    assert len(clean.train) == 20
    assert [(str(s.place), s.reason) for s in clean.train.set_aside] == [
        ("train.csv:21", "the same text stands in test: test.csv:3")
    ]
    assert (len(clean.dev), len(clean.test)) == (6, 6)
    with pytest.raises(DataError, match="every row of train stands in test or dev too"):
        remove_leaks(Splits(tables[2], tables[1], tables[2]), ("text",))


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-01",
        "2024/3/1",
        "2024.03.01",
        "2024年3月1日",
        "2024年03月01日",
        "20240301",
        "2024-03-01T00:00:00Z",
        "２０２４年３月１号",
    ],
)
def test_dates_as_people_write_them(text):
    assert instant(text) == 1709251200


def test_other_times():
    assert instant("2024年3月1日 下午2:30") == instant("2024-03-01 14:30")
    assert instant("2024年3月") == instant("2024-03-01")
    assert instant(5) == instant("5") == instant("5.0") == 5.0
    assert [instant(v) for v in (None, "", "昨天", "2024-13-01", float("nan"), True)] == [None] * 6
