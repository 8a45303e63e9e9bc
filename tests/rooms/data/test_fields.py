from __future__ import annotations

import pytest

from weitiao.data.fields import LABEL, TEXT, TEXT_PAIR, find_columns, label_text, map_fields
from weitiao.data.table import Table
from weitiao.errors import DataError

FIELDS = (TEXT, TEXT_PAIR, LABEL)


def table(*names, rows=None):
    rows = rows or [
        [f"一段比较长的文字 {i} 号" if j == 0 else str(i % 2) for j in range(len(names))] for i in range(20)
    ]
    return Table.from_rows([dict(zip(names, row, strict=True)) for row in rows], file="a.csv")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("Sentence", "Label"), {"text": "Sentence", "label": "Label"}),
        (("内容", "正/负面"), {"text": "内容", "label": "正/负面"}),
        (("评论", "类别"), {"text": "评论", "label": "类别"}),
        (("Ｔｅｘｔ", "CATEGORY "), {"text": "Ｔｅｘｔ", "label": "CATEGORY "}),
        (("text", "title", "label", "label_desc"), {"text": "text", "label": "label"}),
        (("sentence_A", "Sentence B", "label"), {"text": "sentence_A", "text_pair": "Sentence B", "label": "label"}),
        (("question", "label"), {"text": "question", "label": "label"}),
        (("question1", "question2", "label"), {"text": "question1", "text_pair": "question2", "label": "label"}),
        (("#1 String", "#2 String", "Quality"), {"text": "#1 String", "text_pair": "#2 String", "label": "Quality"}),
        (("column_1", "column_2"), {"text": "column_1", "label": "column_2"}),
    ],
)
def test_columns_are_found_by_name_and_content(names, found):
    assert find_columns(table(*names), FIELDS) == found


def test_a_pair_is_never_guessed_by_content():
    rows = [[f"第一句话 {i}", f"第二句话 {i}", str(i % 2)] for i in range(9)]
    with pytest.raises(
        DataError,
        match=r"which column is the text.*'a', 'b'.*a \(such as '第一句话 0'\).*text: COLUMN under data\.fields",
    ):
        find_columns(table("a", "b", "c", rows=rows), FIELDS)
    given = {"text": "a", "text_pair": "b"}
    assert find_columns(table("a", "b", "c", rows=rows), FIELDS, given) == {**given, "label": "c"}


def test_given_columns_must_exist():
    with pytest.raises(
        DataError, match=r"no column 'coment' .given for text.. Did you mean 'comment'.*Columns: comment"
    ):
        find_columns(table("comment", "label"), FIELDS, {"text": "coment"})
    with pytest.raises(DataError, match=r"no field 'labl'. Did you mean 'label'"):
        find_columns(table("text", "label"), FIELDS, {"labl": "label"})
    with pytest.raises(DataError, match="one column is given for two fields"):
        find_columns(table("text", "label"), FIELDS, {"text": "text", "label": "text"})


def test_no_label_is_an_error_with_examples():
    with pytest.raises(DataError, match=r"which column is the label.*none looks like one.*Write label: COLUMN"):
        find_columns(table("text", rows=[["a b c"], ["d e f"]]), FIELDS)


def test_rows_without_text_or_label_are_set_aside():
    rows = [["好", 1.0], [" \n", 1.0], [None, 1.0], ["差", None], ["一般", 0.0], ["nan", float("nan")]]
    mapped = map_fields(table("review", "label", rows=rows), FIELDS)
    assert mapped.column("text") == ["好", "一般"]
    assert mapped.column("label") == ["1", "0"]
    assert [s.reason for s in mapped.set_aside] == ["empty text", "empty text", "no label", "no label"]
    assert [s.place.line for s in mapped.set_aside] == [2, 3, 4, 6]
    assert mapped.rows_in == 6
    pairs = table("sentence1", "sentence2", "label", rows=[["a", "b", "1"], ["a", "", "1"]])
    assert [s.reason for s in map_fields(pairs, FIELDS).set_aside] == ["empty text_pair"]


def test_only_whitespace_round_labels_is_taken_off():
    mapped = map_fields(
        table("text", "label", "城市", rows=[["  a ", " 好评 ", "北京"], ["b", "差评", "上海"]]), FIELDS
    )
    assert mapped.column("text") == ["  a ", "b"]
    assert mapped.column("label") == ["好评", "差评"]
    assert mapped.column("城市") == ["北京", "上海"]


def test_a_column_in_the_way_is_renamed_and_ids_stay():
    rows = table("text", "comment", "label", rows=[["a", "b", "x"], ["c", "d", "y"]])
    mapped = map_fields(rows, FIELDS, {"text": "comment"})
    assert mapped.column_names == ["text_original", "text", "label"]
    assert mapped.column("text") == ["b", "d"]
    assert mapped.ids == rows.ids


def test_prediction_needs_no_label():
    rows = table("text", "label", rows=[["a", None], ["", "x"]])
    mapped = map_fields(rows, FIELDS, labels_required=False)
    assert (mapped.column("text"), len(mapped.set_aside)) == (["a"], 1)
    assert map_fields(table("text", rows=[["好"]]), FIELDS, labels_required=False).column("text") == ["好"]
    assert map_fields(table("whatever", rows=[["好"]]), FIELDS, labels_required=False).column("text") == ["好"]


def test_no_row_left_is_an_error():
    with pytest.raises(DataError, match=r"no row is left: empty text.*text = 'text'"):
        map_fields(table("text", "label", rows=[["", "x"]]), FIELDS)


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1"), (1.0, "1"), (0.5, "0.5"), (True, "True"), (" a ", "a"), ("", None), (None, None)]
)
def test_labels_as_text(value, text):
    assert label_text(value) == text
