"""Files are predicted row for row, in order, in constant memory."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from dataclasses import dataclass, field
from itertools import islice

import pytest

import weitiao
from weitiao.data.fields import LABEL, TEXT, TEXT_PAIR
from weitiao.errors import DataError
from weitiao.predict import predict_file, write_csv, write_file
from weitiao.recipe import Recipe
from weitiao.tasks.base import LabelPrediction


@dataclass
class Fast:
    """A bundle that answers at once: a text's label is its length."""

    text_fields: tuple[str, ...] = ("text",)
    asked: list[int] = field(default_factory=list)
    recipe: Recipe = field(default_factory=lambda: Recipe(data="rows.csv"))

    class task:
        fields = (TEXT, TEXT_PAIR, LABEL)
        formats = ()

    def predict(self, rows):
        self.asked.append(len(rows))
        return [LabelPrediction(str(sum(map(len, row.values()))), 0.5, {"a": 0.5, "b": 0.5}) for row in rows]


def test_every_row_gets_one_row_in_order(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('id,text\n1,one\n2,\n3,three,much\n4,"four\nlines"\n5,  \n6,六个字\n', encoding="utf-8")
    rows = list(predict_file(Fast(), path))
    assert [row["place"] for row in rows] == [f"rows.csv:{line}" for line in (2, 3, 4, 5, 7, 8)]
    assert [row.get("label") for row in rows] == ["3", None, None, "10", None, "3"]
    assert rows[1]["error"] == "empty text"
    assert "field" in rows[2]["error"] or "column" in rows[2]["error"]
    assert rows[5]["row"] == {"id": "6", "text": "六个字"}
    assert rows[0]["confidence"] == 0.5


def test_a_row_that_cannot_be_answered_costs_no_other_its_answer(tmp_path):
    class Choosy(Fast):
        def predict(self, rows):
            for i, row in enumerate(rows):
                if "!" in row["text"]:
                    raise DataError("it shouts.", where=f"row {i + 1}")
            return super().predict(rows)

    path = tmp_path / "rows.csv"
    path.write_text("text\n" + "\n".join(["one", "two!", *["three"] * 20, "four!", "five"]))
    rows = list(predict_file(Choosy(), path))
    assert [row["place"] for row in rows if "error" in row] == ["rows.csv:3", "rows.csv:24"]
    assert {row["error"] for row in rows if "error" in row} == {"it shouts."}
    assert [row["label"] for row in rows if "error" not in row] == ["3", *["5"] * 20, "4"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_chinese_files_gzipped_or_not(tmp_path, encoding):
    lines = "编号,内容\n" + "".join(f"{i},这个房间很干净第{i}间\n" for i in range(40))
    plain, packed = tmp_path / "a.csv", tmp_path / "b.csv.gz"
    plain.write_bytes(lines.encode(encoding))
    packed.write_bytes(gzip.compress(lines.encode(encoding)))
    for path in (plain, packed):
        rows = list(predict_file(Fast(), path))
        assert len(rows) == 40
        assert rows[11]["row"]["内容"] == "这个房间很干净第11间"
        assert rows[11]["label"] == "11"


def test_pairs_look_for_both_columns(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [{"sentence1": "ab", "sentence2": "cde"}, {"sentence1": "ab", "sentence2": None}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    good, bad = predict_file(Fast(("text", "text_pair")), path)
    assert good["label"] == "5"
    assert bad["error"] == "empty sentence2"
    path.write_text('{"text": "alone"}\n{"text": "too"}\n')
    with pytest.raises(DataError, match="text_pair"):
        list(predict_file(Fast(("text", "text_pair")), path))


def test_columns_can_be_given(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,other\nlong text,x\n")
    assert next(predict_file(Fast(), path, {"text": "other"}))["label"] == "1"
    with pytest.raises(DataError, match=r"othr.*Did you mean 'other'"):
        next(predict_file(Fast(), path, {"text": "othr"}))
    with pytest.raises(DataError, match="no file"):
        next(predict_file(Fast(), tmp_path / "b.csv"))


def test_the_columns_of_the_recipe_are_used_where_the_file_has_them(tmp_path):
    fields = {"text": "内容", "label": "类别"}
    bundle = Fast(recipe=Recipe(data={"train": "rows.csv", "fields": fields}))
    path = tmp_path / "a.csv"
    path.write_text("text,内容,备注\nlong text,很好,不太清楚\n", encoding="utf-8")
    assert next(predict_file(bundle, path))["label"] == "2"
    assert next(predict_file(bundle, path, {"text": "备注"}))["label"] == "4"
    assert next(predict_file(Fast(), path))["label"] == "9"
    path.write_text("text,other\nlong text,x\n", encoding="utf-8")
    assert next(predict_file(bundle, path))["label"] == "9"


def test_a_file_without_a_readable_row_says_so_of_each(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{]\n" * 1500 + '{"text": "abc"}\n')
    rows = list(predict_file(Fast(), path))
    assert len(rows) == 1501
    assert all("error" in row for row in rows[:1500])
    assert rows[1500]["label"] == "3"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("编号,text\n")
        file.writelines(f"{i},the room number {i} is 很好\n" for i in range(20_000))
    return path


def test_rows_are_read_as_they_are_asked_for(large):
    bundle = Fast()
    rows = predict_file(bundle, large)
    assert not bundle.asked
    next(rows)
    assert bundle.asked == [1024]
    rows.close()


def test_memory_does_not_grow_with_the_rows(large, tmp_path):
    rows = predict_file(Fast(), large)
    list(islice(rows, 2048))
    tracemalloc.start()
    try:
        done = write_file(islice(rows, 10 * 1024), tmp_path / "out.jsonl")
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    rows.close()
    assert done == (10 * 1024, 0)
    assert left < 3 * 2**20, f"{left / 2**20:.1f} MiB are held after ten thousand rows, which take some 8"
    assert peak < 6 * 2**20, f"{peak / 2**20:.1f} MiB at most"


def test_a_real_bundle_answers_a_file_as_it_answers_texts(tiny_bundle, tmp_path):
    bundle = weitiao.Bundle(tiny_bundle())
    texts = [f"the {a} is {b}" for a in ("room", "book", "card") for b in ("good", "bad", "很好")] * 200
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "".join(f"{text}\n" for text in texts), encoding="utf-8")
    labels = [row["label"] for row in predict_file(bundle, path)]
    assert labels == [p.label for p in bundle.predict(texts)]


# --- what is written ---


def read_csv(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_the_files_columns_first(tmp_path):
    path, out = tmp_path / "a.csv", tmp_path / "out.csv"
    path.write_text('编号,text,error\n1,"a, ""b""\nc",x\n2,,y\n3,d\n', encoding="utf-8")
    assert write_file(predict_file(Fast(), path), out) == (1, 2)
    assert out.read_bytes().startswith(b"\xef\xbb\xbf")  # spreadsheets would read Chinese as something else
    one, two, three = read_csv(out)
    assert list(one) == ["编号", "text", "error", "place", "predicted", "confidence", "weitiao_error"]
    assert one == {
        "编号": "1", "text": 'a, "b"\nc', "error": "x", "place": "a.csv:2", "predicted": "8", "confidence": "0.5",
        "weitiao_error": "",
    }  # fmt: skip
    assert (two["error"], two["weitiao_error"], two["predicted"]) == ("y", "empty text", "")
    assert three["weitiao_error"]


def test_csv_knows_columns_that_the_first_rows_lack(tmp_path):
    path, out = tmp_path / "a.jsonl", tmp_path / "out.csv"
    path.write_text('{]\n{"text": "a"}\n{"text": "b", "more": 1}\n')
    write_file(predict_file(Fast(), path), out)
    rows = read_csv(out)
    assert [row["more"] for row in rows] == ["", "", "1"]
    assert rows[0]["error"]


def test_json_lines_keep_everything(tmp_path):
    path, out = tmp_path / "a.csv", tmp_path / "out.jsonl"
    path.write_text("text,标签\n好,1\n", encoding="utf-8")
    write_file(predict_file(Fast(), path), out)
    text = out.read_text(encoding="utf-8")
    assert "标签" in text
    assert json.loads(text)["probabilities"] == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_half_an_output_never_replaces_a_whole_one(tmp_path, name):
    out = tmp_path / name
    out.write_text("good")

    def failing():
        yield from ({"place": str(i), "label": "a", "confidence": 1, "row": {"text": "b"}} for i in range(5000))
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_file(failing(), out)
    assert out.read_text() == "good"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_file_may_be_replaced_by_its_own_predictions(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "abc\n" * 3000)
    assert write_file(predict_file(Fast(), path), path) == (3000, 0)
    assert len(read_csv(path)) == 3000


def test_other_kinds_of_output_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"is not a kind of file that is written\. Name it \.csv or \.jsonl"):
        write_file(iter(()), tmp_path / "a.xlsx")


def test_no_rows_give_a_header(tmp_path):
    with (tmp_path / "a.csv").open("w") as file:
        assert write_csv(iter(()), file) == (0, 0)
    assert (tmp_path / "a.csv").read_text() == "place,predicted,confidence,error\n"
