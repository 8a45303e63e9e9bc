"""Entities are read, marked and never cut; a relation has its direction; from plain text through two bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weitiao import plugins, relations
from weitiao.data.fields import map_fields
from weitiao.data.read import read
from weitiao.data.table import Table
from weitiao.errors import BundleError, DataError
from weitiao.models.find import find
from weitiao.models.load import load_tokenizer
from weitiao.predict import predict_file
from weitiao.recipe import Recipe
from weitiao.run import run
from weitiao.tasks._marked import from_tags
from weitiao.tasks.base import Prediction, Task

RelationExtraction = plugins.find("tasks", "relation_extraction")
CAUSE = {"text": "the <e1>bad room</e1> is from <e2>dirty</e2> service", "label": "Cause-Effect(e2,e1)"}
OTHER = {"text": "a <e2>book</e2> and a <e1>film</e1>", "label": "Other"}


def learned(*rows: dict[str, Any], **settings: Any) -> Any:
    task = RelationExtraction(RelationExtraction.Settings(**settings))
    task.learn(map_fields(Table.from_rows(list(rows) or [CAUSE, OTHER]), task.fields))
    return task


def spans(text: str, head: str, tail: str, **more: Any) -> dict[str, Any]:
    sides = {"head": head, "tail": tail}
    told = {k: {"start": text.index(v), "end": text.index(v) + len(v), **more} for k, v in sides.items()}
    return {"text": text, **{k: json.dumps(v) for k, v in told.items()}}


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> Any:
    return load_tokenizer(find(str(tiny_bert)))


def words(task: Any, row: dict[str, Any], tokenizer: Any, length: int = 64) -> str:
    (values,) = task.encode([row], tokenizer, length)
    assert "labels" not in values or row.get("label")
    return " ".join(tokenizer.convert_ids_to_tokens(values["input_ids"])[1:-1])


# --- reading and marking ---


def test_entities_stand_between_marks_in_the_order_of_the_text(tokenizer: Any):
    task = learned()
    assert words(task, CAUSE, tokenizer) == "the ! bad room ! is from - dirty - service"
    assert words(task, OTHER, tokenizer) == "a - book - and a ! film !"


def test_real_vocabularies_get_the_marks_of_the_source(minilm: str):
    tokenizer = load_tokenizer(find(minilm))
    assert words(learned(), OTHER, tokenizer) == "a # book # and a $ film $"


def test_spans_are_the_same_as_tags_in_chinese_too(tokenizer: Any):
    task = learned()
    given_spans = spans("我喜欢酒店的早餐", "酒店", "早餐")
    tagged = {"text": "我喜欢<e1>酒店</e1>的<e2>早餐</e2>"}
    assert task.encode([given_spans], tokenizer, 64) == task.encode([tagged], tokenizer, 64)


def test_typed_marks_say_the_type(minilm: str):
    task = learned(markers="typed")
    tokenizer = load_tokenizer(find(minilm))
    row = spans("ada saw it", "ada", "it", type="person")
    assert words(task, row, tokenizer) == "$ * person * ada $ saw # * person * it #"
    assert words(learned(), row, tokenizer) == "$ ada $ saw # it #"
    refused = task.accepts(Table.from_rows([OTHER, spans("a b", "a", "b") | {"label": "Other"}]))
    assert set(refused.values()) == {"markers are typed, and an entity has no type"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no tags", "<e1> stands 0 times"),
        ("<e1>a</e1> <e2>b", "</e2> stands 0 times"),
        ("<e1>a</e1> <e1>c</e1> <e2>b</e2>", "<e1> stands 2 times"),
        ("<e1>a <e2>b</e2></e1>", "lie in each other"),
        ("<e1>a <e2>b</e1> c</e2>", "lie in each other"),
        ("</e1>a<e1> <e2>b</e2>", "end before they begin"),
        ("<e1> </e1> <e2>b</e2>", "nothing stands between <e1>"),
    ],
)
def test_rows_with_broken_tags_are_set_aside_with_the_reason(text: str, words: str, tokenizer: Any):
    task = learned()
    assert words in task.accepts(Table.from_rows([{"text": text, "label": "Other"}]))[0]
    with pytest.raises(DataError, match="row 2"):
        task.encode([OTHER, {"text": text}], tokenizer, 64)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("{", "head is not"),
        ("[1]", "head is not"),
        ('{"start": 3, "end": 3}', "no span"),
        ('{"start": true, "end": 3}', "no span"),
        ('{"start": -1, "end": 3}', "no span"),
        ('{"start": 0, "end": 99}', "outside the text"),
        ('{"start": 1, "end": 2}', "holds nothing"),
        ('{"start": 2, "end": 4}', "overlap"),
        ('{"start": 0, "end": 1, "text": "b"}', "is off: 'b' is asked for, 'a' stands there"),
        (None, "no head"),
    ],
)
def test_rows_with_broken_spans_are_set_aside_with_the_reason(head: str | None, words: str):
    row = {"text": "a bcd", "head": head, "tail": '{"start": 3, "end": 5}', "label": "Other"}
    assert words in learned().accepts(Table.from_rows([row, row]))[1]


@given(st.text(alphabet="ab <>/e12", max_size=40) | st.text(max_size=30))
def test_whatever_the_text_it_is_read_or_a_reason_is_given(text: str):
    found = from_tags(text)
    assert isinstance(found, str) or found.text[found.head.start : found.head.end].strip()
    wrapped = from_tags(f"{text}<e1>x</e1>{text}<e2>y</e2>")
    if not isinstance(wrapped, str):
        assert (wrapped.head.start, wrapped.tail.end) == (len(text), 2 * len(text) + 2)


# --- what is too long ---


def test_of_a_long_text_what_is_near_the_entities_is_kept(tokenizer: Any):
    row = {"text": f"{'very ' * 40}the <e1>room</e1> is in <e2>hotel</e2> staff {'so ' * 40}"}
    assert words(learned(), row, tokenizer, 12) == "the ! room ! is in - hotel - staff"
    (values,) = learned().encode([row], tokenizer, 12)
    assert values["tokens_lost"] == 80
    assert {len(values[key]) for key in ("input_ids", "attention_mask")} == {12}


def test_entities_far_apart_each_keep_their_neighbors(tokenizer: Any):
    row = {"text": f"the <e1>room</e1> is {'very ' * 60}in <e2>hotel</e2> staff {'so ' * 9}"}
    assert words(learned(), row, tokenizer, 12) == "the ! room ! is in - hotel - staff"


@pytest.mark.parametrize("length", [8, 9, 11, 20])
def test_no_mark_is_ever_cut(length: int, tokenizer: Any):
    row = {"text": f"{'so ' * 30}<e1>{'bad room ' * 20}</e1>{'so ' * 30}<e2>hotel</e2>"}
    read = words(learned(), row, tokenizer, length).split()
    assert (read.count("!"), read.count("-"), read[0], read[-1]) == (2, 2, "!", "-")


# --- labels ---


def test_without_direction_both_ways_are_one_relation():
    swapped = CAUSE | {"label": "Cause-Effect(e1,e2)"}
    assert learned(CAUSE, swapped, OTHER).labels == ["Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Other"]
    task = learned(CAUSE, swapped, OTHER, direction=False)
    assert task.labels == ["Cause-Effect", "Other"]
    assert task.truth([CAUSE, swapped, OTHER]).tolist() == [0, 0, 1]
    assert task.accepts(Table.from_rows([CAUSE, OTHER])) == {}


def test_a_direction_that_stands_once_is_found():
    rows = [CAUSE, OTHER, *[CAUSE | {"label": "Cause-Effect(e1,e2)"}] * 3]
    (found,) = learned(*rows).findings({"train": Table.from_rows(rows)})
    assert (found.count, list(found.evidence["examples"])) == (1, ["Cause-Effect(e2,e1)"])
    assert not list(learned(*rows, direction=False).findings({"train": Table.from_rows(rows)}))
    assert not list(learned(*rows).findings({"test": Table.from_rows(rows)}))


def test_rows_without_entities_are_found_where_nothing_set_them_aside():
    rows = [CAUSE, OTHER, CAUSE | {"text": "<e1>a</e1> b"}, CAUSE | {"text": "<e1>a <e2>b</e2></e1>"}]
    (found,) = learned().findings({"all": Table.from_rows(rows)})
    assert (found.severity, found.count, found.places[0]) == ("error", 2, str(Table.from_rows(rows).places[2]))
    assert "<e2> stands 0 times in the text, not once (1)" in found.message


def test_the_real_rows_are_all_read_and_one_label_stands_once(real_data: Path, minilm: str):
    task = RelationExtraction()
    folder = real_data / "relation_extraction" / "semeval2010_task8"
    table = map_fields(read(str(folder / "TRAIN_FILE.TXT"), formats=task.formats), task.fields)
    assert (len(table), task.accepts(table)) == (8000, {})
    task.learn(table)
    assert len(task.labels) == 19
    (found,) = task.findings({"train": table})
    assert list(found.evidence["examples"]) == ["Entity-Destination(e2,e1)"]
    encoded = task.encode(list(table)[:300], load_tokenizer(find(minilm)), 40)
    assert sum(values["tokens_lost"] > 0 for values in encoded) > 10


# --- from data to a bundle, and from text to relations ---


def data(folder: Path, *, with_spans: bool) -> Path:
    rows = []
    for i, (a, b) in enumerate([("room", "hotel"), ("staff", "bank"), ("food", "room"), ("card", "phone")] * 6):
        text, label = [
            (f"the {a} is in the {b}", "In(e1,e2)"),
            (f"the {a} has very good {b}", "In(e2,e1)"),
            (f"i like {a} and {b}", "Other"),
        ][i % 3]
        tagged = text.replace(f" {a} ", f" <e1>{a}</e1> ").replace(f" {b}", f" <e2>{b}</e2>")
        rows.append((spans(text, a, b, type="thing") if with_spans else {"text": tagged}) | {"label": label})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("method", "with_spans"), [("full", True), ("lora", False), ("top_layers", False), ("head", False)]
)
def test_a_run_ends_in_a_bundle_that_answers_alike(method: str, with_spans: bool, tiny_bert: Path, tmp_path: Path):
    path = data(tmp_path, with_spans=with_spans)
    recipe = Recipe(
        data={"train": str(path)},
        model=str(tiny_bert),
        task={"name": "relation_extraction", "markers": "typed" if with_spans else "plain"},
        method=method,
        **({} if method == "head" else {"training": {"epochs": 2}}),
    )
    bundle = run(recipe, tmp_path / "run", show=False)
    assert bundle.verified is not None
    assert {"relation_f1", "accuracy", "macro_f1"} <= set(bundle.facts["metrics"])
    rows = [
        {k: v for k, v in json.loads(line).items() if k != "label"} for line in path.read_text("utf-8").split("\n")[:6]
    ]
    answers = [answer.answer for answer in bundle.predict(rows)]
    assert answers == [bundle.predict(row).answer for row in rows]
    assert answers == [line["label"] for line in predict_file(bundle, path)][:6]
    found = relations.extract("the <e1>room is in hotel", Finder(), bundle)
    assert all(one["relation"] == "In" for one in found)
    assert [p["start"] for one in found for p in (one["head"], one["tail"])] in ([], [8, 19], [19, 8])


class Finder(relations.Bundle):
    """A bundle that finds the words it knows: what is tested is what is made of entities."""

    known = ("room", "hotel", "staff", "phone")

    def __init__(self) -> None:
        self.folder, self.task = Path("finder"), Task()

    def predict(self, rows: Any, **_: Any) -> Any:
        found = [(rows.find(word), word) for word in self.known if word in rows]
        return Prediction(
            [{"start": i, "end": i + len(w), "type": "thing", "text": w, "confidence": 0.5} for i, w in found]
        )


class Related(relations.Bundle):
    """A bundle that answers every pair with one label, and keeps what it was asked."""

    def __init__(self, label: str, labels: list[str], fields: tuple[str, ...] = ("text",)) -> None:
        self.folder, self.text_fields, self.label = Path("related"), fields, label
        self.task = learned(*({**OTHER, "label": each} for each in labels))
        self.asked: list[Any] = []

    def predict(self, rows: Any, **_: Any) -> Any:
        self.asked += rows
        return [Prediction(self.label, 0.9) for _ in rows]


def test_pairs_are_asked_once_if_labels_say_the_direction_and_twice_if_not():
    text = "the room of staff in hotel"
    directed, plain = (
        Related("In(e2,e1)", ["In(e2,e1)", "Other"]),
        Related("In", ["In", "NA"], ("text", "head", "tail")),
    )
    found = relations.extract(text, Finder(), directed)
    assert [(one["head"]["text"], one["tail"]["text"]) for one in found] == [
        ("staff", "room"),
        ("hotel", "room"),
        ("hotel", "staff"),
    ]
    assert directed.asked[0] == {"text": "the <e1>room</e1> of <e2>staff</e2> in hotel"}
    assert len(relations.extract(text, Finder(), plain)) == 6
    assert json.loads(plain.asked[0]["head"]) == {"start": 4, "end": 8, "type": "thing"}
    assert relations.extract(text, Finder(), Related("NA", ["In", "NA"])) == []
    assert relations.extract("nothing here", Finder(), plain) == []


def test_too_many_entities_are_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relations, "MOST_ENTITIES", 2)
    with pytest.warns(UserWarning, match="4 entities.*2 surest"):
        found = relations.extract("room hotel staff phone", Finder(), Related("In", ["In", "NA"]))
    assert len(found) == 2


def test_bundles_of_other_tasks_are_refused():
    with pytest.raises(BundleError, match="relations of two entities"):
        relations.extract("room", Finder(), Finder())
    finder = Finder()
    finder.predict = lambda rows, **_: Prediction("positive", 0.9)
    with pytest.raises(BundleError, match="does not find entities"):
        relations.extract("room", finder, Related("In", ["In", "NA"]))


def test_a_pair_has_a_relation_if_at_least_one_text_says_so():
    def told(head: str, tail: str, confidence: float, relation: str = "In") -> dict[str, Any]:
        return {"head": {"text": head}, "tail": {"text": tail}, "relation": relation, "confidence": confidence}

    bags = relations.at_least_one([told("Ada", "房", 0.4), told("ADA", "房", 0.7), told("房", "Ada", 0.9)])
    assert [(bag["head"], bag["confidence"], bag["mentions"]) for bag in bags] == [("房", 0.9, 1), ("Ada", 0.7, 2)]


def test_documents_become_sentences_with_pairs(real_data: Path):
    text = "老王住在北京。小李 在那里"
    document = {
        "text": text,
        "entities": [
            {"id": "T1", "start": 0, "end": 2, "type": "Person"},
            {"id": "T2", "start": 4, "end": 6, "type": "Place"},
            {"id": "T3", "start": 7, "end": 9, "type": "Person"},
            {"id": "T4", "start": 11, "end": 13, "type": "Place"},
        ],
        "relations": [{"type": "Has", "head": "T2", "tail": "T1"}, {"type": "Far", "head": "T1", "tail": "T3"}],
    }
    rows = relations.sentence_pairs([document])
    assert [(row["text"], row["label"]) for row in rows] == [("老王住在北京。", "Has(e2,e1)"), ("小李 在那里", "Other")]
    assert json.loads(rows[1]["head"]) == {"start": 0, "end": 2, "type": "Person"}
    folder = real_data / "relation_extraction" / "chinese_literature"
    table = read(str(next(path for path in sorted(folder.iterdir()) if path.is_dir())), formats=("brat",))
    pairs = Table.from_rows(relations.sentence_pairs(list(table)[:10]))
    task = RelationExtraction()
    assert len(pairs) > 100
    assert task.accepts(pairs) == {}
