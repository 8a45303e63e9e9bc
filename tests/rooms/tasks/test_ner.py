"""Tags go to characters and back exactly; no entity is lost at a border; what cannot be learnt is said."""

from __future__ import annotations

import json
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import weitiao
from trial import train as learn
from trial import trial, without_dropout
from weitiao.data.fields import map_fields
from weitiao.data.read import read
from weitiao.data.table import Table
from weitiao.errors import DataError, ModelError, RecipeError
from weitiao.evaluation.baselines.base import Told
from weitiao.evaluation.baselines.dictionary import Dictionary
from weitiao.models.crf import Segments, negative_log_likelihood, open_with_crf
from weitiao.models.find import find
from weitiao.models.load import load_tokenizer
from weitiao.predict import predict_file
from weitiao.recipe import Recipe
from weitiao.tasks import _spans as spans
from weitiao.tasks._spans import Entity
from weitiao.tasks._tokens import Read, windows
from weitiao.tasks.base import Features
from weitiao.tasks.ner import Ner, Said

TYPES = ["LOC", "PER"]
PLACE = {kind: i for i, kind in enumerate(TYPES)}


def row(text: str, *entities: tuple[int, int, str], **more: Any) -> dict[str, Any]:
    return {
        "text": text,
        "entities": json.dumps([dict(zip(("start", "end", "type"), e, strict=True)) for e in entities]),
    }


def learned(rows: list[dict[str, Any]] | None = None, **chosen: Any) -> Ner:
    task = Ner(Ner.Settings(**chosen))
    task.learn(Table.from_rows(rows or [row("ab", (0, 1, "PER"), (1, 2, "LOC"))]))
    return task


def keys(entities: Any) -> list[tuple[int, int, str]]:
    return [entity.key for entity in entities]


def planted(tags: list[int], types: int = 2) -> np.ndarray:
    """Logits of a model that knows the tags."""
    return 10.0 * np.eye(4 * types + 1, dtype=np.float32)[tags]


def names(tags: list[int]) -> list[str]:
    return [spans.tag_names(TYPES)[tag] for tag in tags]


def tokenizer_of(folder: Path) -> Any:
    return load_tokenizer(find(str(folder)))


# --- characters to tags and back ---


def test_tags_of_single_first_inner_and_last_tokens() -> None:
    text = [(i, i + 1) for i in range(8)]
    entities = [Entity(0, 1, "PER"), Entity(1, 3, "LOC"), Entity(4, 8, "PER")]
    tags, lost = spans.tags_of(text, entities, PLACE)
    assert names(tags) == ["S-PER", "B-LOC", "E-LOC", "O", "B-PER", "I-PER", "I-PER", "E-PER"]
    assert not lost
    assert [entity for entity, _ in spans.entities_of(tags, text, TYPES)] == entities


def test_a_token_that_an_entity_only_partly_covers_belongs_to_it_and_the_entity_is_lost() -> None:
    tags, lost = spans.tags_of([(0, 3), (3, 8), (8, 9)], [Entity(0, 5, "PER")], PLACE)
    assert names(tags) == ["B-PER", "E-PER", "O"]
    assert keys(lost) == [(0, 5, "PER")]
    assert keys(e for e, _ in spans.entities_of(tags, [(0, 3), (3, 8), (8, 9)], TYPES)) == [(0, 8, "PER")]


def test_two_entities_in_one_token_are_both_lost_and_the_first_takes_it() -> None:
    tags, lost = spans.tags_of([(0, 4)], [Entity(0, 2, "PER"), Entity(2, 4, "LOC")], PLACE)
    assert names(tags) == ["S-PER"]
    assert keys(lost) == [(0, 2, "PER"), (2, 4, "LOC")]


def test_an_entity_that_no_token_covers_is_lost() -> None:
    tags, lost = spans.tags_of([(0, 1), (2, 3)], [Entity(1, 2, "PER")], PLACE)
    assert (names(tags), keys(lost)) == (["O", "O"], [(1, 2, "PER")])


def test_tokens_that_share_a_character_are_one_unit() -> None:
    three_bytes_each = [(0, 1)] * 3 + [(1, 2)] * 3
    assert spans.glued(three_bytes_each) == [False, True, True, False, True, True]
    tags, lost = spans.tags_of(three_bytes_each, [Entity(1, 2, "LOC")], PLACE)
    assert names(tags) == ["O", "O", "O", "B-LOC", "I-LOC", "E-LOC"]
    assert not lost


def test_a_token_of_unknown_type_has_no_target() -> None:
    tags, lost = spans.tags_of([(0, 1), (1, 2)], [Entity(0, 1, "NEW")], PLACE)
    assert (tags, lost) == ([-1, 0], [])


TEXTS = st.text("ab 1.,'\u3000\t\n北京很好é👍\u200bÀ①𠀀", min_size=1, max_size=40)


@pytest.mark.parametrize("family", ["bert", "roberta"])
@given(data=st.data())
@settings(max_examples=60)
def test_whatever_the_text_tags_give_back_every_entity_but_those_said_to_be_lost(
    family: str, tiny_model: Any, data: Any
) -> None:
    text = data.draw(TEXTS)
    cuts = sorted(set(data.draw(st.lists(st.integers(0, len(text)), max_size=8))))
    kinds = data.draw(st.lists(st.sampled_from(["LOC", "PER", None]), min_size=8, max_size=8))
    entities = [Entity(a, b, k) for a, b, k in zip(cuts, cuts[1:], kinds, strict=False) if k]
    places = Read.of(text, tokenizer_of(tiny_model(family))).places
    assert all(text[start:end].strip() == text[start:end] != "" for start, end in places)
    tags, lost = spans.tags_of(places, entities, PLACE)
    back = {entity for entity, _ in spans.entities_of(tags, places, TYPES)}
    assert set(entities) & back == set(entities) - set(lost)
    steps = np.where(spans.allowed(2), 0.0, -np.inf)  # what was tagged is allowed
    assert spans.best_path(planted(tags), steps, spans.glued(places)).tolist() == tags


@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "gpt2"])
@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("i love  the Hotel.", "Hotel"),
        ("我喜欢北京的酒店", "北京"),
        ("👍 好 room", "好"),
        ("from room to hotel", "room to"),
    ],
)
def test_entities_are_exact_in_every_kind_of_tokenizer(family: str, text: str, entity: str, tiny_model: Any) -> None:
    tokenizer, start = tokenizer_of(tiny_model(family)), text.index(entity)
    wanted = Entity(start, start + len(entity), "LOC")
    read_ = Read.of(text, tokenizer)
    tags, lost = spans.tags_of(read_.places, [wanted], PLACE)
    assert not lost
    assert [e for e, _ in spans.entities_of(tags, read_.places, TYPES)] == [wanted]


def test_a_slow_tokenizer_is_refused() -> None:
    from transformers import ByT5Tokenizer

    with pytest.raises(ModelError, match="ByT5Tokenizer cannot tell where"):
        Read.of("a", ByT5Tokenizer())


# --- sequences ---


def every_path(n: int, types: int, is_glued: list[bool]) -> list[tuple[int, ...]]:
    """All sequences of tags that entities can have, found by trying them."""
    found, text = [], []
    for i in range(n):
        text.append(text[-1] if is_glued[i] else (i, i + 1))
    for path in product(range(4 * types + 1), repeat=n):
        said = [e for e, _ in spans.entities_of(path, text, ["x", "y"])] if well_formed(path) else None
        if said is not None and spans.tags_of(text, said, {"x": 0, "y": 1}).tags == list(path):
            found.append(path)
    return found


def well_formed(path: tuple[int, ...]) -> bool:
    is_open = None
    for tag in path:
        kind, letter = divmod(tag - 1, 4) if tag else (None, 9)
        if (letter in (1, 2)) != (is_open is not None) or (is_open is not None and kind != is_open):
            return False
        is_open = kind if letter in (0, 1) else None
    return is_open is None


@pytest.mark.parametrize(("types", "is_glued"), [(1, [False] * 4), (2, [False] * 3), (1, [False, True, False, True])])
def test_path_marginals_and_likelihood_equal_a_sum_over_all_sequences(types: int, is_glued: list[bool]) -> None:
    random, n, tags = np.random.default_rng(0), len(is_glued), 4 * types + 1
    scores, weight = random.normal(size=(n, tags)), random.normal(size=(tags + 1, tags + 1))
    paths = every_path(n, types, is_glued)

    def total(path: tuple[int, ...]) -> float:
        states = [0, *(tag + 1 for tag in path), 0]
        return sum(scores[i, t] for i, t in enumerate(path)) + sum(weight[a, b] for a, b in pairwise(states))

    each = np.array([total(path) for path in paths])
    p = np.exp(each - each.max()) / np.exp(each - each.max()).sum()
    steps = np.where(spans.allowed(types), weight, -np.inf)
    assert tuple(spans.best_path(scores, steps, is_glued)) == paths[int(each.argmax())]
    by_hand = np.zeros((n, tags))
    for path, share in zip(paths, p, strict=True):
        by_hand[np.arange(n), path] += share
    np.testing.assert_allclose(spans.marginals(scores, steps, is_glued), by_hand, atol=1e-12)
    for chosen in (0, len(paths) // 2, len(paths) - 1):
        said = likelihood([scores], weight, [paths[chosen]], [is_glued], types)
        assert said.item() == pytest.approx(-np.log(p[chosen]), rel=1e-9)


def likelihood(scores: Any, weight: Any, paths: Any, is_glued: Any, types: int) -> torch.Tensor:
    def padded(rows: Any, kind: Any) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(
            [torch.as_tensor(np.array(r), dtype=kind) for r in rows], batch_first=True
        )

    yes = torch.ones(len(paths), dtype=torch.bool)
    real = padded([[True] * len(path) for path in paths], torch.bool)
    parts = (padded(scores, torch.float64), padded(paths, torch.long), real, padded(is_glued, torch.bool), yes, yes)
    return negative_log_likelihood(Segments(*parts), torch.as_tensor(weight), torch.from_numpy(spans.allowed(types)))


def test_likelihood_of_a_batch_is_the_sum_of_its_rows_whatever_their_lengths() -> None:
    random = np.random.default_rng(1)
    paths, weight = [(1, 3, 0, 4), (0,), (4, 4)], random.normal(size=(6, 6))
    scores, no = [random.normal(size=(len(path), 5)) for path in paths], [[False] * len(path) for path in paths]
    alone = sum(likelihood([s], weight, [p], [g], 1) for s, p, g in zip(scores, paths, no, strict=True))
    torch.testing.assert_close(likelihood(scores, weight, paths, no, 1), alone)


def test_in_the_middle_of_a_text_a_run_may_begin_and_end_inside_an_entity() -> None:
    scores = np.random.default_rng(2).normal(size=(1, 1, 5))
    yes, no = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, dtype=torch.bool)
    weight, may = torch.ones(6, 6), torch.from_numpy(spans.allowed(1))
    for tag in range(5):
        run = Segments(torch.from_numpy(scores), torch.tensor([[tag]]), yes, ~yes, no, no)
        by_hand = np.log(np.exp(scores).sum()) - scores[0, 0, tag]
        assert negative_log_likelihood(run, weight, may).item() == pytest.approx(by_hand)


def test_impossible_tags_are_never_answered() -> None:
    """The likeliest tag of each token alone would be I, then E of another type."""
    logits = np.full((2, 9), -1.0)
    logits[0, 2], logits[1, 7], logits[0, 1], logits[1, 3] = 3.0, 3.0, 2.0, 2.5
    path = spans.best_path(logits, np.where(spans.allowed(2), 0.0, -np.inf), [False, False])
    assert names(path.tolist()) == ["B-LOC", "E-LOC"]


# --- long texts ---


@given(tokens=st.integers(0, 300), room=st.integers(1, 40), share=st.floats(0, 0.5))
def test_each_token_is_answered_for_once_in_the_window_where_it_is_farthest_from_an_edge(
    tokens: int, room: int, share: float
) -> None:
    found = list(windows(tokens, room, int(share * room)))
    assert [i for w in found for i in range(w.first, w.last)] == list(range(tokens))
    for w in found:
        assert 0 <= w.start <= w.first <= w.last <= w.stop <= tokens
        assert w.stop - w.start <= room

    def far(w: Any, i: int) -> float:
        left = i - w.start if w.start else np.inf
        right = w.stop - 1 - i if w.stop < tokens else np.inf
        return min(left, right)

    for w in found:
        for i in range(w.first, w.last):
            assert far(w, i) == max(far(o, i) for o in found if o.start <= i < o.stop)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_an_entity_at_every_place_of_a_long_text_is_found_by_a_model_that_knows_it(
    overlap: float, tiny_bert: Path
) -> None:
    """So it is across every border too, in windows of ten tokens."""
    tokenizer, task = tokenizer_of(tiny_bert), learned(overlap=overlap)
    text = "房间很干净" * 6
    for start in range(len(text) - 2):
        (rows,) = ([row(text, (start, start + 3, "PER"))],)
        table = Table.from_rows(rows)
        features = Features.encode(task, table, tokenizer, 12)
        assert len(features) > 2
        batch = features.batch(range(len(features)))
        known = SimpleNamespace(logits=torch.from_numpy(planted(batch["labels"].clamp(min=0).flatten().tolist())))
        known.logits = known.logits.view(*batch["labels"].shape, -1)
        said = task.join(task.say(lambda k=known, **_: k, batch), features.inputs)
        assert task.answer([said], rows, {})["entities"].tolist() == task.truth(rows).tolist()
        assert task.items(batch) == len(text)


def test_a_text_of_one_window_is_encoded_as_the_tokenizer_does(tiny_bert: Path) -> None:
    tokenizer, task = tokenizer_of(tiny_bert), learned()
    (one,) = task.encode([row("the 房间 is good", (4, 6, "LOC"))], tokenizer, 64)
    assert one["input_ids"] == tokenizer("the 房间 is good")["input_ids"]
    assert names(one["labels"][1:-1]) == ["O", "B-LOC", "E-LOC", "O", "O"]
    assert (one["labels"][0], one["labels"][-1], one["row"], one["tokens_lost"]) == (-1, -1, 0, 0)


# --- rows that cannot be used, and what is said of them ---


@pytest.mark.parametrize(
    ("entities", "reason"),
    [
        ([(0, 2, "A"), (1, 3, "B")], "entities that overlap or lie in each other: 'ab' (A 0-2) and 'bc' (B 1-3)"),
        ([(0, 3, "A"), (1, 2, "B")], "entities that overlap"),
        ([(0, 2, "A"), (0, 2, "B")], "entities that overlap"),
        ([(1, 1, "A")], "an empty entity: A at 1-1"),
        ([(2, 1, "A")], "an empty entity: A at 2-1"),
        ([(0, 9, "A")], "an entity outside the text: A at 0-9, and the text has 4 characters"),
        ([(-1, 1, "A")], "an entity outside the text"),
        ([(3, 4, "A")], "an entity of white space"),
        ([(0, 1, "")], "an entity without start, end and type"),
        ([("0", 1, "A")], "an entity without start, end and type"),
    ],
)
def test_rows_that_cannot_be_learnt_are_named_with_the_reason(entities: Any, reason: str, tiny_bert: Path) -> None:
    good, bad = row("abc ", (0, 1, "A"), (0, 1, "A")), row("abc ", *entities)
    refused = Ner().accepts(Table.from_rows([good, bad]))
    assert list(refused) == [1]
    assert reason in refused[1]
    with pytest.raises(DataError, match="row 2: "):
        learned().encode([good, bad], tokenizer_of(tiny_bert), 64)


@pytest.mark.parametrize("value", ["not JSON", '"text"', "3", "{}", "[1]", "[[0, 1]]", "[null]"])
def test_what_is_no_list_of_entities_is_refused(value: str) -> None:
    assert list(Ner().accepts(Table.from_rows([{"text": "ab", "entities": value}]))) == [0]


def test_a_text_of_nothing_visible_is_refused() -> None:
    assert "nothing that can be seen" in Ner().accepts(Table.from_rows([row("\u200b \u00ad")]))[0]


def test_rows_without_any_entity_are_refused_as_a_whole() -> None:
    with pytest.raises(DataError, match="none of the 2 training rows has an entity"):
        learned([row("a"), row("b")])


def found(rows: list[dict[str, Any]], tokenizer: Any = None, **others: list[dict[str, Any]]) -> dict[str, Any]:
    tables = {name: Table.from_rows(of) for name, of in {"train": rows, **others}.items()}
    return {finding.check: finding for finding in Ner().findings(tables, tokenizer)}


def test_a_span_that_is_off_by_one_is_shown_with_what_was_meant() -> None:
    wrong = {"text": "他在北京工作", "entities": '[{"start": 1, "end": 3, "type": "LOC", "text": "北京"}]'}
    finding = found([row("北京", (0, 2, "LOC")), wrong])["shifted_spans"]
    assert "'在北' is marked where '北京' is meant, 1 to the right" in finding.message
    assert (finding.count, finding.places) == (1, ("memory:2",))
    assert finding.evidence["examples"][0]["shift"] == 1


def test_spans_with_white_space_faults_rare_and_unseen_types_are_found() -> None:
    rows = [row("in Rome .", (3, 8, "LOC")), row("Ada", (0, 3, "PER")), row("Rome", (0, 4, "LOC"))]
    rows[1]["faults"] = "line 9: I-PER follows O"
    said = found(rows, dev=[row("Mars", (0, 4, "PLANET"))])
    assert set(said) == {"spans_with_space", "broken_entities", "rare_entities", "unseen_entities"}
    assert "'Rome '" in said["spans_with_space"].message
    assert "line 9: I-PER follows O" in said["broken_entities"].message
    assert "1 of 2 types of train occur once: PER" in said["rare_entities"].message
    assert "PLANET" in said["unseen_entities"].message


def test_entities_that_no_token_boundary_allows_are_counted(tiny_bert: Path) -> None:
    rows = [row("hotels", (0, 5, "LOC")), row("roomm", (0, 4, "LOC")), row("房间", (0, 1, "LOC"))]
    finding = found([*rows, row("a hotel", (4, 7, "LOC"))], tokenizer_of(tiny_bert))["entities_inside_tokens"]
    assert "1 of 4 entities of train begin or end inside a token" in finding.message
    assert (finding.count, finding.places) == (1, ("memory:4",))
    assert finding.evidence["examples"] == [{"entity": "tel", "around": "a hotel"}]


def test_refused_rows_are_a_finding_and_clean_rows_are_none() -> None:
    assert "overlap" in found([row("abc", (0, 2, "A"), (1, 3, "A"))])["unusable_entities"].message
    clean = [row("Rome", (0, 4, "LOC")), row("Oslo", (0, 4, "LOC"))]
    assert found(clean, dev=clean) == {}


# --- learning and answering ---


def test_a_type_that_training_never_saw_counts_as_missed(tiny_bert: Path) -> None:
    task, rows = learned(), [row("ab", (0, 2, "NEW"))]
    (one,) = task.encode(rows, tokenizer_of(tiny_bert), 64)
    assert set(one["labels"]) == {-1}
    assert task.truth(rows).tolist() == [{(0, 2, "NEW")}]
    assert task.calibrate([Said(planted([0, 0]), [(0, 1), (1, 2)])], rows)["tag_temperature"] == 1.0


def test_confidence_is_that_of_the_least_sure_token() -> None:
    task = learned()
    logits = planted([1, 3, 0])
    logits[1] /= 5
    (said,) = task.decode([Said(logits, [(0, 2), (2, 4), (5, 6)])], [{"text": "北京很好 a"}], {})
    p = np.exp(2) / (np.exp(2) + 8)
    assert said.answer == [
        {"start": 0, "end": 4, "type": "LOC", "text": "北京很好", "confidence": pytest.approx(p, abs=1e-4)}
    ]
    assert said.confidence == pytest.approx(p)
    (flat,) = task.decode([Said(logits, [(0, 2), (2, 4), (5, 6)])], [{"text": "北京很好 a"}], {"tag_temperature": 4.0})
    assert flat.confidence < said.confidence
    assert flat.answer[0]["end"] == 4


@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "gpt2"])
@pytest.mark.parametrize("decoding", ["softmax", "crf"])
def test_learns_its_rows_on_encoders_and_decoders(family: str, decoding: str, tiny_model: Any) -> None:
    at = trial("ner", tiny_model(family), {"decoding": decoding})
    rows = at.rows[:-1]  # short ones: what a decoder tags it has to know from the left
    at.features = Features.encode(at.task, Table.from_rows(rows), at.tokenizer, 64)
    model = without_dropout(at.build())
    learn(model, at, epochs=50)
    before, after = (at.task.answer(at.said(m), rows, {})["entities"] for m in (at.build(), model))
    truth = at.task.truth(rows)
    right = [sum(len(t & a) for t, a in zip(truth, said, strict=True)) for said in (before, after)]
    assert right[0] < right[1]
    assert right[1] >= 6  # of 8


@pytest.mark.parametrize("decoding", ["softmax", "crf"])
def test_padding_changes_no_answer(decoding: str, tiny_bert: Path) -> None:
    at = trial("ner", tiny_bert, {"decoding": decoding})
    model = at.build().requires_grad_(False)
    together = at.said(model)
    for i, one in enumerate(at.rows):
        features = Features.encode(at.task, Table.from_rows([one]), at.tokenizer, 64)
        alone = at.task.join(
            [s for k in range(len(features)) for s in at.task.say(model.eval(), features.batch([k]))], features.inputs
        )
        np.testing.assert_allclose(at.task.numbers(alone), at.task.numbers(together[i]).astype(float), atol=1e-5)


# --- whole runs ---


def rows_of_hotels() -> list[dict[str, Any]]:
    made = []
    for place in ("hotel", "room", "酒店", "房间"):
        for other in ("film", "book", "电影", "服务"):
            text = f"the {place} and the {other} is 很好"
            start = text.index(other, 5 + len(place))
            made.append(row(text, (4, 4 + len(place), "PLACE"), (start, start + len(other), "THING")))
            made.append(row(f"nothing {other} is good"))
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ner") / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows_of_hotels()), encoding="utf-8")
    return path


def recipe(data: Path, model: Path, method: Any, **sections: Any) -> Recipe:
    task = {"name": "ner", **sections.pop("task", {})}
    training = {"epochs": 12, "learning_rate": 1e-2, "batch_size": 8}
    plain = {
        "data": {"train": str(data), "split": {"by": "random"}},
        "model": str(model),
        "task": task,
        "method": method,
        "training": training,
    }
    return Recipe(**plain | {"evaluation": {"resamples": 100}} | sections)


@pytest.mark.parametrize(
    ("method", "decoding"),
    [("full", "softmax"), ("top_layers", "softmax"), ("lora", "softmax"), ("full", "crf"), ("lora", "crf")],
)
def test_a_bundle_says_the_same_of_one_row_a_batch_and_a_file(
    method: str, decoding: str, data: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    bundle = weitiao.run(recipe(data, tiny_bert, method, task={"decoding": decoding}), tmp_path / "run", show=False)
    assert bundle.verified is not None
    rows = rows_of_hotels()[:6]
    texts = [one["text"] for one in rows]
    batch = bundle.predict(texts)
    assert [bundle.predict(text).answer for text in texts] == [p.answer for p in batch]
    file = tmp_path / "ask.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    assert [line["answer"] for line in predict_file(bundle, file)] == [p.answer for p in batch]
    for text, prediction in zip(texts, batch, strict=True):
        assert all(text[e["start"] : e["end"]] == e["text"] for e in prediction.answer)
    standings = {standing.key for standing in bundle.report.standings}
    assert standings == {"tuned", "before", "dictionary"}
    if decoding == "crf":
        assert bundle.ask([{"text": texts[0]}])[0].transitions.any()
    assert (tmp_path / "run" / "report.html").is_file()
    if method == "full":
        opens_in_plain_transformers(bundle, decoding)


def opens_in_plain_transformers(bundle: Any, decoding: str) -> None:
    from transformers import AutoModelForTokenClassification

    plain, info = AutoModelForTokenClassification.from_pretrained(bundle.folder / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert set(info["unexpected_keys"]) == ({"transitions.weight"} if decoding == "crf" else set())
    assert list(plain.config.id2label.values()) == bundle.task.labels
    inputs = bundle.tokenizer("the room is 很好", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(**inputs).logits, bundle.model(**inputs).logits)
    if decoding == "crf":
        assert open_with_crf(bundle.folder / "model").transitions.weight.abs().max() > 0


def test_frozen_layers_that_run_once_give_the_same_weights(data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    weights = []
    for kept in ("float32", "off"):
        chosen = recipe(data, tiny_bert, "top_layers", cache={"frozen_states": kept})
        bundle = weitiao.run(chosen, tmp_path / kept, show=False)
        events = [json.loads(line) for line in (tmp_path / kept / "events.jsonl").read_text().splitlines()]
        (frozen,) = [event for event in events if event["event"] == "frozen"]
        assert (frozen["layers"], frozen["kept"]) == (1, kept != "off")
        weights.append(torch.cat([p.detach().flatten() for p in bundle.model.parameters()]))
    torch.testing.assert_close(*weights, rtol=0, atol=1e-5)


def test_a_method_that_solves_for_a_pooled_head_is_refused(data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the method head cannot be applied"):
        weitiao.run(recipe(data, tiny_bert, "head", training={}), tmp_path / "run", show=False)


def test_augmentation_is_refused(data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    chosen = recipe(data, tiny_bert, "full", augmentation=[{"name": "swap"}])
    with pytest.raises(RecipeError, match="augmentation cannot be used: its labels are places"):
        weitiao.run(chosen, tmp_path / "run", show=False)


# --- what it has to beat ---


def told(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> Told:
    task = learned(train)
    return Told(task, Table.from_rows(train), Table.from_rows(test), ("text",), {}, lambda: None)


def test_the_dictionary_takes_the_longest_match_its_most_frequent_type_and_whole_words() -> None:
    train = [row("Rome", (0, 4, "ORG")), row("Rome", (0, 4, "LOC")), row("Rome", (0, 4, "LOC"))]
    train += [row("Rome Open", (0, 9, "EVENT")), row("北京", (0, 2, "LOC"))]
    test = [row("Rome Open, Rome; Romeo, aRome"), row("在北京市")]
    answers, note = Dictionary().answer(told(train, test)) or ({}, "")
    assert [sorted(said) for said in answers["entities"]] == [[(0, 9, "EVENT"), (11, 15, "LOC")], [(1, 3, "LOC")]]
    assert note.startswith("3 different entities")


def test_the_dictionary_answers_its_smallest_case() -> None:
    case = Dictionary.tiny()
    at = told(case["train"], case["test"])
    answers, _ = Dictionary().answer(at) or ({}, "")
    assert answers["entities"].tolist() == at.task.truth(case["test"]).tolist()


# --- real files ---

REAL = {
    "ner/wnut17/wnut17train.conll": (3394, "creative-work"),
    "ner/weibo_ner/weiboNER_2nd_conll.train": (1350, "PER.NOM"),
    "ner/resume_ner/train.char.bmes": (3821, "TITLE"),
    "noisy_labels/conllpp/conllpp_test.txt": (3453, "MISC"),
}


@pytest.mark.parametrize("file", REAL)
def test_real_files_are_read_without_a_configuration_and_come_back_exactly(
    file: str, real_data: Path, tiny_bert: Path
) -> None:
    table = map_fields(read(str(real_data / file), formats=Ner.formats), Ner.fields)
    assert len(table) == REAL[file][0]
    assert not Ner().accepts(table)
    rows = list(table.take(range(0, len(table), 10)))
    task, tokenizer = learned(list(table)), tokenizer_of(tiny_bert)
    assert REAL[file][1] in task.types
    place = {kind: i for i, kind in enumerate(task.types)}
    back = lost = 0
    for one in rows:
        places, entities = Read.of(one["text"], tokenizer).places, spans.parse(one["entities"])
        tagging = spans.tags_of(places, entities, place)
        said = Said(planted(tagging.tags, len(task.types)), places)
        (answer,) = task.answer([said], [one], {})["entities"]
        assert {e.key for e in entities} - {e.key for e in tagging.lost} == {e.key for e in entities} & answer
        back, lost = back + len(entities), lost + len(tagging.lost)
    assert lost <= 0.02 * back
