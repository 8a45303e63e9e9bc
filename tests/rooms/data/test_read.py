from __future__ import annotations

import csv
import gzip
import io
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from weitiao.data.read import ReadOptions, read, stream
from weitiao.errors import DataError, MissingExtra

ZH = ["房间很干净，服务也好", "早餐一般，不会再来", "位置方便，离地铁近", "前台态度差，等了一个小时"]


def write(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def aside(table):
    return {(s.place.line, s.reason) for s in table.set_aside}


# --- encodings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_encoding_of_chinese_is_found(tmp_path, encoding, packed):
    content = ("text,label\n" + "".join(f"{t},{i % 2}\n" for i, t in enumerate(ZH))).encode(encoding)
    path = write(tmp_path / ("a.csv.gz" if packed else "a.csv"), gzip.compress(content) if packed else content)
    table = read(path)
    assert table.column("text") == ZH
    assert [p.line for p in table.places] == [2, 3, 4, 5]
    assert any("not UTF-8" in n for n in table.sources[0].notes) == (not encoding.startswith("utf-8"))


@pytest.mark.parametrize(("encoding", "name"), [("latin-1", "latin-1"), ("cp1252", "cp1252")])
def test_stray_accents_are_western(tmp_path, encoding, name):
    mark = "“naïve”" if encoding == "cp1252" else "naïve"
    text = "text,label\n" + "a plain sentence about nothing,x\n" * 50 + f"a café and a {mark} resumé,y\n"
    table = read(write(tmp_path / "a.csv", text, encoding))
    assert table.sources[0].encoding == name
    assert table.column("text")[-1] == f"a café and a {mark} resumé"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "München ist schön, Straße für Füße"),
        ("cp1251", "Русский текст о погоде и людях"),
        ("big5", "這家餐廳的食物非常好吃，服務也很棒，房間很髒而且服務態度很差"),
        ("shift_jis", "この店はとても美味しいです。サービスが悪いので二度と行かない"),
    ],
)
def test_other_encodings_are_found(tmp_path, encoding, text):
    assert read(write(tmp_path / "a.tsv", f"text\tlabel\n{text}\t1\n", encoding)).column("text") == [text]


def test_damaged_utf8_costs_its_rows_only(tmp_path):
    lines = [f"{t},好".encode() for t in ZH] * 3
    lines[5] = lines[5][:4] + b"\xff\xfe" + lines[5][4:]
    table = read(write(tmp_path / "a.csv", b"text,label\n" + b"\n".join(lines)))
    assert (len(table), aside(table)) == (11, {(7, "bytes that are not utf-8")})
    assert table.rows_in == 12


def test_characters_in_halves_are_joined(tmp_path):
    content = "text,label\n早上好 é è à ü ö,x\n".encode() + b"hi \xed\xa0\xbc\xed\xbe\x95,y\n"
    assert read(write(tmp_path / "a.csv", content)).column("text")[1] == "hi \U0001f395"


def test_a_given_encoding_is_kept_or_refused_with_its_place(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n很好,1\n", "gbk")
    assert read(path, ReadOptions(encoding="gbk")).column("text") == ["很好"]
    with pytest.raises(DataError, match=r"a\.csv:2: byte 12 is not utf-8"):
        read(path, ReadOptions(encoding="utf-8"))
    with pytest.raises(DataError, match="'utf-99' is not an encoding"):
        read(path, ReadOptions(encoding="utf-99"))


def test_stray_marks_and_nul_bytes_are_removed_and_noted(tmp_path):
    path = write(tmp_path / "a.csv", "\ufefftext,label\n\ufeff好的,1\nb\0ad,0\n")
    table = read(path)
    assert table.column("text") == ["好的", "bad"]
    assert table.sources[0].notes == ("stray BOM removed at line 2", "NUL bytes removed at line 3")


# --- delimited text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiters_and_line_ends(tmp_path, delimiter, end):
    lines = [delimiter.join(r) for r in [("text", "label"), *((t, "好评") for t in ZH)]]
    table = read(write(tmp_path / "a.csv", end.join(lines) + end))
    assert table.column("text") == ZH
    assert table.sources[0].delimiter == delimiter


def test_mixed_line_ends_and_quoted_newlines_keep_true_line_numbers(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\r\n"one\ntwo",a\n"x\r\ny",b\rlast,a\n')
    table = read(path)
    assert table.column("text") == ["one\ntwo", "x\r\ny", "last"]
    assert [p.line for p in table.places] == [2, 4, 6]


def test_ragged_rows_are_set_aside_with_line_and_reason(tmp_path):
    table = read(write(tmp_path / "a.csv", "text,label\na,x\nb\nc,d,e\n\nf,y\ng,z,\n"))
    assert table.column("text") == ["a", "f", "g"]
    assert aside(table) == {(3, "1 field where 2 are expected"), (4, "3 fields where 2 are expected")}
    assert table.rows_in == table.sources[0].rows_in == 5
    assert table.set_aside[1].content == "c,d,e"
    assert "1 blank lines skipped" in table.sources[0].notes


def test_an_unclosed_quote_swallows_no_rows(tmp_path):
    rows = "".join(f'"row {i}, quoted",x\n' for i in range(20))
    table = read(write(tmp_path / "a.csv", f'text,label\n{rows}"never closed,y\n{rows}tail,z\n'))
    assert len(table) == 41
    assert aside(table) == {(22, "a quote opens and never closes")}
    assert table.places[20].line == 23


def test_a_stray_quote_that_closes_far_below_swallows_no_rows(tmp_path):
    rows = "".join(f"{i},plain {i},x\n" for i in range(20))
    table = read(write(tmp_path / "a.csv", f'id,text,label\n1,"a, b",x\n{rows}7,"stray,x\n{rows}9,end",x\n{rows}'))
    assert len(table) >= 61
    assert (23, "a quote opens and never closes") in aside(table)


def test_one_sloppy_quote_does_not_turn_quoting_off(tmp_path):
    rows = '"he said ""hi""",x\n' * 30
    table = read(write(tmp_path / "a.csv", f'text,label\n{rows}"bad"oops,y\n{rows}'))
    assert (table.column("text"), aside(table)) == (['he said "hi"'] * 60, {(32, "text after a closing quote")})


def test_bare_quotes_in_tab_separated_text_stay(tmp_path):
    rows = ['1\t"Yes," he said', '0\the said "no', '1\t"all of it"', "0\tplain"] * 3
    table = read(write(tmp_path / "a.tsv", "label\ttext\n" + "\n".join(rows)))
    assert len(table) == 12
    assert table.column("text")[:3] == ['"Yes," he said', 'he said "no', '"all of it"']


def test_tab_separated_text_with_real_quoting_is_unquoted(tmp_path):
    table = read(write(tmp_path / "a.tsv", 'label\ttext\n1\t"a\tb"\n0\t"line\nbreak"\n1\tplain\n'))
    assert table.column("text") == ["a\tb", "line\nbreak", "plain"]


def test_no_header_is_noticed_and_can_be_given(tmp_path):
    path = write(tmp_path / "a.tsv", "".join(f"{t}\t{i % 2}\n" for i, t in enumerate(ZH)))
    assert read(path).column_names == ["column_1", "column_2"]
    assert len(read(path)) == 4
    assert len(read(path, ReadOptions(header=True))) == 3
    named = write(tmp_path / "b.csv", "text,label\na,b\n")
    assert len(read(named, ReadOptions(header=False))) == 2


def test_values_stay_as_written(tmp_path):
    table = read(write(tmp_path / "a.csv", "id,text,label\n007, 空格 ,1\n008,b,1.0\n"))
    assert table.column("id") == ["007", "008"]
    assert table.column("text") == [" 空格 ", "b"]
    assert table.column("label") == ["1", "1.0"]


def test_odd_headers(tmp_path):
    table = read(
        write(tmp_path / "a.csv", ",text,label,label\n0,a,x,y\n1,b,x,z\n0,text,label,label\n,text,label,label\n")
    )
    assert table.column_names == ["column_1", "text", "label", "label_2"]
    assert aside(table) == {(5, "the header again")}
    r_style = read(write(tmp_path / "r.tsv", "text\tlabel\n" + "".join(f"{i}\tt{i}\tx\n" for i in range(20))))
    assert r_style.column_names == ["index", "text", "label"]


def test_lines_of_text_are_one_column(tmp_path):
    table = read(write(tmp_path / "a.txt", "Hello, world\n你好，世界\n" + "one, two, three\n"))
    assert table.column("text") == ["Hello, world", "你好，世界", "one, two, three"]


def test_a_pattern_reads_lines(tmp_path):
    path = write(tmp_path / "a.labelled", "NUM:count How many?\nbroken\n\nHUM:ind 谁写的？\n")
    table = read(path, ReadOptions(pattern=r"(?P<label>\S+?):\S+ (?P<text>.*)"))
    assert table.column("label") == ["NUM", "HUM"]
    assert aside(table) == {(2, "the line does not match the pattern")}


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"))] * 2), min_size=1
    )
)
def test_any_csv_that_python_writes_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    path.write_bytes(buffer.getvalue().encode("utf-8"))
    table = read(path, ReadOptions(encoding="utf-8", delimiter=",", header=True))
    again = [r for r in rows if r == ("text", "label")]
    assert list(zip(table.column("text"), table.column("label"), strict=True)) == [r for r in rows if r not in again]
    assert table.rows_in == len(rows)


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=400), name=st.sampled_from(["a.csv", "a.tsv", "a.txt", "a.jsonl", "a.json", "a.csv.gz"])
)
def test_random_bytes_are_read_or_refused_in_words(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(content)
    try:
        table = read(path)
    except DataError:
        return
    assert table.rows_in == table.sources[0].rows_in == len(list(stream(path)))


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet='a,"\n\r\t好;1', max_size=80))
def test_counts_add_up_on_wild_delimited_text(tmp_path_factory, text):
    path = write(tmp_path_factory.mktemp("wild") / "a.csv", text)
    try:
        table = read(path)
    except DataError:
        return
    assert len(table) + len(table.set_aside) == sum(1 for _ in stream(path))
    assert [p.line for p in table.places] == sorted(p.line for p in table.places)


# --- JSON ------------------------------------------------------------------------------------------------------


def test_json_lines_put_bad_lines_aside(tmp_path):
    lines = ['{"text": "好", "label": 1, "more": {"a": [1]}}', "{broken", "", "[1]", "3", "{}", '{"text": "\\ud800"}']
    table = read(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert table.column("text")[0] == "好"
    assert table.column("more")[0] == '{"a": [1]}'
    assert sorted(s.place.line for s in table.set_aside) == [2, 5, 6, 7]
    assert any("not JSON" in s.reason for s in table.set_aside)
    assert any("half of a character" in s.reason for s in table.set_aside)
    assert table.rows_in == 6


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        ([{"text": "a", "label": "x"}], [{"text": "a", "label": "x"}]),
        ([["a", "x"], ["b", "y"]], [{"column_1": "a", "column_2": "x"}, {"column_1": "b", "column_2": "y"}]),
        (["a", "b"], [{"text": "a"}, {"text": "b"}]),
        ({"train": [["a", "x"]], "test": [["b", "y"]]},
         [{"column_1": "a", "column_2": "x", "key": "train"}, {"column_1": "b", "column_2": "y", "key": "test"}]),
        ({"Play": [{"data": [{"text": "play "}, {"text": "it", "entity": "song"}]}]},
         [{"text": "play it", "key": "Play"}]),
        ({"version": 1, "data": [{"text": "a"}]}, [{"text": "a"}]),
        ({"text": ["a", "b"], "label": [0, 1]}, [{"text": "a", "label": 0}, {"text": "b", "label": 1}]),
        ({"7": {"text": "a"}, "8": {"text": "b"}}, [{"text": "a", "key": "7"}, {"text": "b", "key": "8"}]),
        ({"text": "a", "label": "x"}, [{"text": "a", "label": "x"}]),
    ],
)  # fmt: skip
def test_shapes_of_json(tmp_path, document, rows):
    table = read(write(tmp_path / "a.json", json.dumps(document, indent=1)))
    assert [dict(row) for row in table] == rows


def test_json_documents_know_their_lines(tmp_path):
    path = write(tmp_path / "a.json", '{"a": [\n ["x", "1"],\n ["y", "2"],\n ["z"]\n]}')
    table = read(path)
    assert [p.line for p in table.places] == [2, 3]
    assert aside(table) == {(4, "1 values where 2 are expected")}
    with pytest.raises(DataError, match=r"b\.json:2: not JSON: .*column"):
        read(write(tmp_path / "b.json", '[{"a": 1},\n{"a" 2}]'))


# --- other formats ---------------------------------------------------------------------------------------------


def test_excel_keeps_zeros_and_whole_numbers(tmp_path):
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    sheet.title = "数据"
    for row in [("代码", "文本", "标签"), ("000123", "很好", 1), ("007", "差", 0), (None, None, None), ("5", "好", 1)]:
        sheet.append(row)
    book.create_sheet("other").append(("x", "y"))
    book.save(tmp_path / "a.xlsx")
    table = read(tmp_path / "a.xlsx")
    assert table.column("代码") == ["000123", "007", "5"]
    assert [repr(v) for v in table.column("标签")] == ["1", "0", "1"]
    assert [p.line for p in table.places] == [2, 3, 5]
    assert "other" in table.sources[0].notes[0]
    with pytest.raises(DataError, match=r"there is no sheet 'nope'. Sheets: 数据, other"):
        read(tmp_path / "a.xlsx", ReadOptions(sheet="nope"))


def test_parquet_plain_and_gzipped(tmp_path):
    pq.write_table(pa.table({"text": ZH, "label": [1, 0, 1, 0]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    for name in ("a.parquet", "b.parquet.gz"):
        assert read(tmp_path / name).column("text") == ZH


def test_a_folder_of_text_files_per_class(tmp_path):
    for label, name, text in [("正面", "1.txt", ZH[0]), ("负面", "1.txt", ZH[1]), ("负面", "2.txt", "")]:
        (tmp_path / label).mkdir(exist_ok=True)
        write(tmp_path / label / name, text, "gbk")
    table = read(tmp_path)
    assert {(r["text"], r["label"]) for r in table} == {(ZH[0], "正面"), (ZH[1], "负面")}
    assert [(str(s.place), s.reason) for s in table.set_aside] == [("负面/2.txt:1", "the file is empty")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"one folder of \.txt files per class"):
        read(tmp_path / "empty")


def test_saved_sets_and_the_missing_library(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    part = datasets.Dataset.from_dict({"text": ["a", "好"], "label": [1, 0]}, features=features)
    part.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(tmp_path / "two")
    assert read(tmp_path / "one").column("label") == ["pos", "neg"]
    assert read(tmp_path / "two").column("split") == ["train", "train", "test", "test"]
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"weitiao\[hub\]"):
        read("hub:someone/something:train")


def test_several_files_are_one_table(tmp_path):
    write(tmp_path / "a.csv", "text,label\na,1\nb\n")
    write(tmp_path / "b.jsonl", '{"text": "a", "label": 1}\n{"text": "c", "label": 2}')
    table = read([tmp_path / "a.csv", tmp_path / "b.jsonl"])
    assert (len(table), len(table.set_aside), len(table.sources)) == (3, 1, 2)
    assert len(set(table.ids)) == 3
    assert table.column("label") == ["1", "1", "2"]


# --- the stream ------------------------------------------------------------------------------------------------


def test_the_stream_gives_rows_as_they_come(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n" + "好,1\n" * 50_000 + "broken\n")
    rows = stream(path)
    first = next(rows)
    assert (str(first.place), first.values, first.reason) == ("a.csv:2", {"text": "好", "label": "1"}, "")
    *_, last = rows
    assert (last.values, last.reason, last.place.line) == (None, "1 field where 2 are expected", 50_002)


# --- errors ----------------------------------------------------------------------------------------------------


def test_errors_say_what_to_do(tmp_path):
    write(tmp_path / "reviews.csv", "text,label\n")
    write(tmp_path / "empty.csv", "")
    write(tmp_path / "torn.csv.gz", gzip.compress(b"text,label\na,b\n" * 100)[:-20])
    write(tmp_path / "bad.xlsx", b"PK\x03\x04 nothing")
    write(tmp_path / "bad.parquet", b"PAR1 nothing")
    write(tmp_path / "a.xyz", "a")
    write(tmp_path / "old.xls", "a")
    write(tmp_path / "none.csv", "text,label\na\nb\n")
    for name, words in {
        "reviws.csv": r"there is no file .*Did you mean 'reviews\.csv'",
        "empty.csv": "the file is empty",
        "reviews.csv": "holds no rows",
        "torn.csv.gz": "gzip file is broken .*again",
        "bad.xlsx": "the Excel file cannot be read",
        "bad.parquet": "the Parquet file cannot be read",
        "a.xyz": r"'\.xyz' is not an extension that is known.*pattern",
        "old.xls": r"Save it as \.xlsx",
        "none.csv": "none of its 2 rows can be read: line 2: 1 field where 2 are expected",
    }.items():
        with pytest.raises(DataError, match=words):
            read(tmp_path / name)
    with pytest.raises(DataError, match="no file was named"):
        read([])


def test_options_without_effect_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,b\n")
    with pytest.raises(DataError, match="sheet would have no effect: the source is read as delimited"):
        read(path, ReadOptions(sheet="x"))
    with pytest.raises(DataError, match="header would have no effect"):
        read(write(tmp_path / "a.jsonl", "{}"), ReadOptions(header=True))
    for wrong in ({"pattern": "("}, {"pattern": ".*"}, {"delimiter": ",,"}, {"delimeter": ","}):
        with pytest.raises(ValidationError):
            ReadOptions(**wrong)
    assert ReadOptions(delimiter="\\t").delimiter == "\t"
