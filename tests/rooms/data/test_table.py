from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from weitiao.data.table import Place, Source, Table

ROWS = [{"text": "好", "n": 1}, {"text": "差", "n": 2}, {"text": "好", "n": 1}]


def test_ids_are_unique_and_survive_every_change():
    table = Table.from_rows(ROWS)
    assert len(set(table.ids)) == 3
    assert table.take([2, 0]).ids == [table.ids[2], table.ids[0]]
    assert table.put_aside({0: "why"}).ids == list(table.ids[1:])
    assert table.with_columns({"text": ["x", "y", "z"]}).ids == table.ids
    assert table.rename({"text": "t"}).ids == table.ids
    assert table[2].id == table.ids[2] == list(table)[2].id


@given(st.permutations(range(3)))
def test_ids_do_not_depend_on_the_order_of_the_file(order):
    assert sorted(Table.from_rows([ROWS[i] for i in order]).ids) == sorted(Table.from_rows(ROWS).ids)


def test_concat_counts_repeats_over_tables_and_mixes_types():
    a, b = Table.from_rows(ROWS, file="a"), Table.from_rows([*ROWS, {"text": "x", "n": "无"}], file="b")
    both = Table.concat([a, b])
    assert len(set(both.ids)) == 7
    assert both.ids[:3] == a.ids
    assert both.column("n") == ["1", "2", "1", "1", "2", "1", "无"]


def test_rows_are_set_aside_with_place_reason_and_excerpt():
    source = Source("a.csv", "csv", rows_in=3)
    table = Table.from_rows(ROWS, places=[Place("a.csv", i + 2) for i in range(3)])
    table = Table(table.columns, table.places, sources=(source,)).put_aside({1: "empty"})
    assert (len(table), table.rows_in, table.sources) == (2, 3, (source,))
    assert (str(table.set_aside[0].place), table.set_aside[0].reason) == ("a.csv:3", "empty")
    assert "差" in table.set_aside[0].content
    assert table.take([0]).sources == table.with_columns({"a": [1, 2]}).sources == (source,)
    assert Table.concat([table, table.take([0])]).sources == (source,)


def test_values_that_no_column_type_holds_become_text():
    assert Table.from_rows([{"a": 2**70}, {"a": None}]).column("a") == [str(2**70), None]
    assert Table.from_rows([{"a": 1}, {"a": "x"}]).column("a") == ["1", "x"]


def test_large_tables_are_quick():
    table = Table.from_rows([{"text": f"第{i}行", "n": i} for i in range(30_000)])
    start = time.perf_counter()
    assert sum(1 for _ in table) == 30_000
    assert all(table[i]["n"] == i for i in range(0, 30_000, 3))
    assert time.perf_counter() - start < 10
