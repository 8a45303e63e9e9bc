"""What files of tasks say and how they are found, where it takes more than a format's smallest example."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from weitiao.data.prepare import DataSettings, prepare
from weitiao.data.read import ReadOptions, read, stream
from weitiao.errors import DataError
from weitiao.tasks.classification import Classification

ALL = ("conll", "squad", "messages", "parallel", "brat", "doccano", "label_studio", "semeval2010")


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def tagged(tmp_path, *tags, between=" "):
    content = "".join(f"w{i}{between}{tag}\n" for i, tag in enumerate(tags))
    row = read(write(tmp_path / "a.conll", content), ReadOptions(format="conll"))[0]
    spans = [(e["text"], e["type"]) for e in json.loads(row["entities"])]
    return spans, row["faults"]


# --- tags ---


@pytest.mark.parametrize(
    ("tags", "spans", "faults"),
    [
        (("B-A", "I-A", "B-A"), [("w0 w1", "A"), ("w2", "A")], ""),
        (("B-A", "M-A", "E-A", "S-B", "O"), [("w0 w1 w2", "A"), ("w3", "B")], ""),
        (("B-A", "I-A", "L-A", "U-B"), [("w0 w1 w2", "A"), ("w3", "B")], ""),
        (("I-A", "I-A", "B-A", "O", "I-B"), [("w0 w1", "A"), ("w2", "A"), ("w4", "B")], ""),  # IOB1
        (("B-A", "I-B", "O"), [("w0", "A"), ("w1", "B")], "line 2: I-B follows B-A"),
        (("B-A", "O", "I-A"), [("w0", "A"), ("w2", "A")], "line 3: I-A follows O"),
        (("E-A", "O"), [("w0", "A")], "line 1: E-A begins the sentence"),
        (("B-A", "E-A", "B-A", "O"), [("w0 w1", "A"), ("w2", "A")], "line 3: the entity of B-A has no end"),
        (("B-A", "E-A", "B-A"), [("w0 w1", "A"), ("w2", "A")], "line 3: the entity of B-A has no end"),
        (("B", "I", "O"), [("w0 w1", "entity")], ""),
        (("O", "O"), [], ""),
    ],
)
def test_tags_of_every_scheme_become_spans(tmp_path, tags, spans, faults):
    assert tagged(tmp_path, *tags) == (spans, faults)
    assert tagged(tmp_path, *tags, between="\tNN\tx\t") == (spans, faults)


def test_chinese_characters_are_joined_and_position_digits_taken_off(tmp_path):
    path = write(tmp_path / "a.txt", "李0\tB-PER\n开1\tI-PER\n复2\tI-PER\n在0\tO\n 0\tO\n京0\tB-LOC\n\n好0\tO\n")
    table = read(path, formats=ALL)
    assert table.column("text") == ["李开复在 京", "好"]
    assert json.loads(table[0]["entities"])[1] == {"start": 5, "end": 6, "type": "LOC", "text": "京"}
    assert table.sources[0].notes == ("the position digit behind each character was taken off",)
    assert [place.line for place in table.places] == [1, 8]
    plain = read(write(tmp_path / "b.txt", "A1 O\nB2 B-X\n"), formats=ALL)
    assert plain.column("text") == ["A1 B2"]


def test_a_hash_may_be_a_token(tmp_path):
    table = read(write(tmp_path / "a.txt", "# a comment\n#fun\tO\n# O\nx\tO\n"), ReadOptions(format="conll"))
    assert table.column("text") == ["#fun # x"]


# --- two files ---


def test_the_other_language_is_found_beside_it(tmp_path):
    write(tmp_path / "train.de.gz", gzip.compress(b"guten Tag\nein Hund\n"))
    write(tmp_path / "train.txt", "no language\n")
    en = write(tmp_path / "train.en.gz", gzip.compress(b"good day\na\rdog\n"))
    table = read(en, formats=ALL)
    assert table.column("source") == ["good day", "a dog"]
    assert table.column("target") == ["guten Tag", "ein Hund"]
    assert set(table.column("target_language")) == {"de"}
    assert len(table.sources[0].sha256) == 64


@pytest.mark.parametrize("opened", ["a.src", "a.tgt"])
def test_the_names_of_the_sides_decide(tmp_path, opened):
    write(tmp_path / "a.src", "one\n")
    write(tmp_path / "a.tgt", "eins\n")
    assert dict(read(tmp_path / opened, formats=ALL)[0]) == {
        "source": "one", "target": "eins", "source_language": "src", "target_language": "tgt",
    }  # fmt: skip


def test_of_several_languages_one_is_named(tmp_path):
    for language, text in (("en", "one\n"), ("de", "eins\n"), ("zh-CN", "一\n")):
        write(tmp_path / f"a.{language}", text)
    with pytest.raises(DataError, match=r"several files can be the other side: a\.de, a\.zh-CN\. .*a\.en\+a\.de"):
        read(tmp_path / "a.en", formats=ALL)
    assert read(f"{tmp_path / 'a.en'}+a.zh-CN", formats=ALL).column("target") == ["一"]
    assert read(f"{tmp_path / 'a.en'}+{tmp_path / 'a.de'}", formats=ALL)[0]["target_language"] == "de"
    with pytest.raises(DataError, match="nothing here reads such a pair"):
        read(f"{tmp_path / 'a.en'}+a.de")
    with pytest.raises(DataError, match="there is no file"):
        read(f"{tmp_path / 'a.en'}+a.fr", formats=ALL)
    with pytest.raises(DataError, match="two files are one source, and these are 3"):
        read(f"{tmp_path / 'a.en'}+a.de+a.zh-CN", formats=ALL)
    source = read(f"{tmp_path / 'a.en'}+a.de", formats=ALL).sources[0]
    assert (source.file, source.format, source.rows_in) == ("a.en+a.de", "parallel", 1)


def test_files_of_different_length_are_refused(tmp_path):
    write(tmp_path / "a.en", "one\ntwo\n")
    write(tmp_path / "a.de", "eins\n")
    with pytest.raises(DataError, match=r"a\.en has 2 lines and a\.de has 1: they are not aligned"):
        read(tmp_path / "a.en", formats=ALL)


def test_a_plus_in_a_name_is_a_name(tmp_path):
    path = write(tmp_path / "a+b.csv", "text,label\nx,y\nz,w\n")
    assert read(path, formats=ALL).sources[0].format == "csv"


# --- documents ---


def test_documents_of_a_folder_keep_their_own_name(tmp_path):
    (tmp_path / "set" / "part").mkdir(parents=True)
    write(tmp_path / "set" / "part" / "1.txt", "猫和狗")
    write(tmp_path / "set" / "part" / "1.ann", "T1\tAnimal 0 1\t猫\nT2\tAnimal 2 3\t狗\nR1\twith Arg1:T1 Arg2:T2\n")
    write(tmp_path / "set" / "2.txt", "nothing")
    table = read(tmp_path / "set", formats=ALL)
    assert [str(place) for place in table.places] == ["part/1.txt:1"]
    assert [(str(row.place), row.reason) for row in table.set_aside] == [("2.txt:1", "no annotations beside it")]
    assert read(tmp_path / "set" / "part" / "1.ann", formats=ALL).column("text") == ["猫和狗"]


def test_an_entity_may_run_over_a_line_end(tmp_path):
    write(tmp_path / "1.txt", "red\nwine here")
    write(tmp_path / "1.ann", "T1\tDrink 0 8\tred\nwine\nT2\tDrink 4 8\twine\n")
    row = read(tmp_path / "1.txt", formats=ALL)[0]
    assert [e["text"] for e in json.loads(row["entities"])] == ["red\nwine", "wine"]
    assert row["faults"] == ""


def test_lines_of_a_document_are_those_of_its_objects(tmp_path):
    content = json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": [
        {"id": i, "question": "q", "answers": {"text": ["c"], "answer_start": [0]}} for i in "ab"
    ]}]}]}, indent=1)  # fmt: skip
    table = read(write(tmp_path / "a.json", content), formats=ALL)
    assert [content.split("\n")[place.line].strip() for place in table.places] == ['"id": "a",', '"id": "b",']
    with pytest.raises(DataError, match=r"a\.json:\d+: not JSON"):
        read(write(tmp_path / "a.json", content[:-2]), formats=ALL)


def test_records_of_a_large_file_are_recognized_by_its_start(tmp_path):
    long = [{"text": "x" * 1000, "label": [[0, 1, "X"]]} for _ in range(200)]
    for content in (json.dumps(long), json.dumps(long, indent=1), "\n".join(map(json.dumps, long))):
        table = read(write(tmp_path / "a.json", content), formats=ALL)
        assert (table.sources[0].format, len(table)) == ("doccano", 200)


@pytest.mark.parametrize(
    ("record", "roles"),
    [
        ({"messages": [{"content": "x", "role": "usr"}, {"content": "y", "role": "sys"}]}, ["user", "assistant"]),
        ({"messages": [{"message": "x"}, {"message": "y"}]}, ["user", "assistant"]),
        ({"turns": [{"speaker": "USER", "utterance": "x"}, {"speaker": "SYSTEM", "utterance": "y"}]},
         ["user", "assistant"]),
        ({"original": [["customer", "x"], ["action", "y"], ["agent", "z"]]}, ["user", "tool", "assistant"]),
        ({"instruction": "x", "output": "y", "history": [["a", "b"]], "system": "s"},
         ["system", "user", "assistant", "user", "assistant"]),
        ({"prompt": [{"role": "user", "content": "x"}], "completion": [{"role": "assistant", "content": "y"}]},
         ["user", "assistant"]),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}]}, ["assistant"]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, ["user"]),
    ],
)  # fmt: skip
def test_dialogues_of_every_source_are_messages(tmp_path, record, roles):
    for content in (json.dumps([record, record]), json.dumps(record) + "\n" + json.dumps(record)):
        table = read(write(tmp_path / "a.json", content), formats=ALL)
        assert (table.sources[0].format, len(table), len(table.set_aside)) == ("messages", 2, 0)
        messages = json.loads(table[0]["messages"])
        assert [m["role"] for m in messages] == roles
        assert all(isinstance(m["content"], str) for m in messages)
    assert read(write(tmp_path / "b.json", json.dumps({"7": record})), formats=ALL)[0]["key"] == "7"


def test_bytes_that_are_no_text_cost_their_row(tmp_path):
    good = "王 B-PER\n好 O\n\n" * 20
    table = read(write(tmp_path / "a.txt", good.encode() + b"\xff\xfe B-PER\n\n" + good.encode()), formats=ALL)
    assert len(table) == 40
    assert [(r.place.line, r.reason) for r in table.set_aside] == [(61, "bytes that are not utf-8")]


# --- options ---


def test_a_format_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError, match=r"no format is called 'connl'\. Did you mean 'conll'\?"):
        ReadOptions(format="connl")


def test_options_without_effect_are_refused(tmp_path):
    path = write(tmp_path / "a.txt", "a\tO\nb\tB-X\n")
    with pytest.raises(DataError, match="delimiter would have no effect: the source is read as conll"):
        read(path, ReadOptions(format="conll", delimiter="\t"))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="format would have no effect: the source is read as parquet"):
        read(tmp_path / "a.parquet", ReadOptions(format="conll"))
    # who names a delimiter has a table
    assert read(path, ReadOptions(delimiter="\t"), formats=ALL).sources[0].format == "tsv"
    assert read(path).sources[0].format == "tsv"


def test_a_file_of_another_format_is_said_to_be_none(tmp_path):
    with pytest.raises(DataError, match=r"none of its 1 rows can be read: .*or its format"):
        read(write(tmp_path / "a.csv", "text,label\nx,y\n"), ReadOptions(format="conll"))


def test_a_stream_gives_the_same_rows(tmp_path):
    path = write(tmp_path / "a.txt", "a O\nb B-X\n\nc O O\n\nd O\ne O\n")
    assert [(i.place.line, i.values is None) for i in stream(path, formats=ALL)] == [(1, False), (4, True), (6, False)]


def test_prepare_hands_the_formats_on(tmp_path):
    rows = "".join(f'{i}\t"The <e1>a{i}</e1> <e2>b</e2>"\n{"Other" if i % 2 else "Is(e1,e2)"}\n\n' for i in range(40))
    path = write(tmp_path / "a.txt", rows)
    prepared = prepare(DataSettings(train=str(path)), Classification().fields, 0, formats=("semeval2010",))
    assert prepared.sources[0].format == "semeval2010"
    assert prepared.rows_in == 40
