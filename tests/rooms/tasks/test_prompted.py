"""Prompted classification: what is read, what fits, whole runs, and bundles that answer as before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import tiny
from trial import adapt, make, trial
from weitiao import Recipe
from weitiao.bundle import Bundle
from weitiao.data.fields import map_fields
from weitiao.data.table import Table
from weitiao.errors import DataError, RecipeError
from weitiao.evaluation.inference import ask
from weitiao.models.find import find
from weitiao.models.load import load_tokenizer
from weitiao.plugins import find as find_member
from weitiao.run import run
from weitiao.tasks._examples import Examples, ExampleSettings, orders, pool_of
from weitiao.tasks._prompt_search import best_words
from weitiao.tasks._prompted import PromptSettings
from weitiao.tasks.base import Features

Make = Callable[..., Path]
ROWS = [{"text": f"the {thing} is {word}", "label": label}
        for thing in ("room", "hotel", "food", "film", "book", "card")
        for label, word in (("positive", "good"), ("positive", "very nice"), ("negative", "bad"))]  # fmt: skip
WORDS = {"positive": "good", "negative": ["bad", "not good"]}


class Asked:
    """A task that met a tiny model."""

    def __init__(self, folder: Path, prompt: dict[str, Any], rows: Any = ROWS, task: str = "classification") -> None:
        member = find_member("tasks", task)
        self.rows, self.task = rows, member(member.Settings(prompt=prompt))
        self.table = map_fields(Table.from_rows(rows), self.task.fields)
        self.task.learn(self.table)
        self.pretrained = find(str(folder))
        self.task.meet(self.pretrained)
        self.tokenizer = load_tokenizer(self.pretrained)

    def build(self) -> Any:
        return self.task.build(self.pretrained, pooling="mean", dropout=None, seed=0)

    def encode(self, rows: Any = None, most: int = 64) -> list[dict[str, Any]]:
        return self.task.encode(list(self.table) if rows is None else rows, self.tokenizer, most)

    def read(self, one: dict[str, Any]) -> str:
        return self.tokenizer.decode(one["input_ids"])

    def said(self, model: Any, most: int = 64) -> np.ndarray:
        return np.array(ask(model, self.task, Features.encode(self.task, self.table, self.tokenizer, most)))


# --- what is read ---


def test_a_template_leaves_room_for_the_longest_word_and_cuts_the_text_alone(tiny_model: Make) -> None:
    at = Asked(tiny_model("bert_lm"), {"template": "{text} it was {mask} .", "verbalizer": WORDS})
    told = {"text": "the room is very nice and the food is good and cheap"}
    whole, cut = at.encode([told]), at.encode([told], most=12)
    assert at.read(whole[0]) == f"[CLS] {told['text']} it was [MASK] [MASK]. [SEP]"  # "not good" has two tokens
    assert at.read(cut[0]) == "[CLS] the room is very nice it was [MASK] [MASK]. [SEP]"
    assert cut[0]["tokens_lost"] == 7
    assert [cut[0]["input_ids"][i] for i in cut[0]["mask_places"]] == [at.tokenizer.mask_token_id] * 2
    odd = at.encode([{"text": "a [MASK] in it"}])[0]  # a mask that somebody wrote is no gap
    assert odd["mask_places"] == [i + odd["input_ids"].index(at.tokenizer.mask_token_id) + 5 for i in (0, 1)]
    with pytest.raises(DataError, match=r"row 1.*does not fit into 3 tokens"):
        at.encode([told], most=7)


def test_a_decoder_reads_up_to_the_gap_and_the_words_follow_there(tiny_model: Make) -> None:
    at = Asked(tiny_model("llama", writer=True), {"template": "{text} it was {mask}.", "verbalizer": WORDS})
    assert at.read(at.encode([{"text": "a room"}])[0]) == "<s>a room it was"
    tokens = at.task.state["prompt"]["tokens"]
    assert [[at.tokenizer.decode(word) for word in own] for own in tokens] == [[" bad", " not good"], [" good"]]


def test_chinese_rows_are_asked_in_chinese(tiny_model: Make) -> None:
    rows = [{"text": "房间很干净", "label": "好"}, {"text": "服务太差", "label": "差"}]
    at = Asked(tiny_model("bert_lm"), {}, rows)
    assert at.task.state["prompt"]["template"] == "{text}\n类别：{mask}"
    assert len(at.encode()[0]["mask_places"]) == 1
    pairs = [{"text": "房间", "text_pair": "酒店", "label": label} for label in ("同", "异")]
    with pytest.raises(RecipeError, match="says nothing to the model"):  # 同 is no token of this vocabulary
        Asked(tiny_model("bert_lm"), {}, pairs, "matching")


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ({"template": "no gap {text}"}, "needs {mask} once"),
        ({"template": "{mask}"}, "no place for the text"),
        ({"template": "{text} {title} {mask}"}, "names {title}"),
        ({"kind": "entailment", "template": "{text} {mask}"}, "sentence with {mask} alone"),
        ({"kind": "entailment", "examples": {}}, "examples has no sense"),
        ({"examples": {"select": "random", "pool": 50}}, "pool has no effect"),
        ({"examples": {"count": 2, "orders": 3}}, "do not stand in 3 orders"),
        ({"verbalizer": {"a": []}}, "at least 1 item"),
    ],
)
def test_refuses_settings_that_say_nothing(prompt: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PromptSettings(**prompt)


def test_refuses_words_that_cannot_be_told_apart(tiny_model: Make) -> None:
    with pytest.raises(RecipeError, match="'Good' reads the same as 'good'"):
        Asked(tiny_model("bert_lm"), {"verbalizer": {"positive": "Good", "negative": "good"}})
    with pytest.raises(RecipeError, match=r"no label 'positiv'.*positive"):
        Asked(tiny_model("bert_lm"), {"verbalizer": {"positiv": "good"}})
    pairs = [{"text": "a", "text_pair": "b", "label": label} for label in ("good", "bad")]
    with pytest.raises(RecipeError, match=r"does not name \{text_pair\}"):
        Asked(tiny_model("bert_lm"), {"template": "{text} {mask}"}, pairs, "matching")


# --- examples ---


def test_examples_are_like_the_row_and_never_the_row_itself() -> None:
    pool = pool_of([*ROWS, {"text": "The hotel is bad!", "label": "negative"}], ["text"], 50)
    assert len(pool) == len(ROWS)  # one text, however it is typed
    assert {row["label"] for row in pool[:2]} == {"positive", "negative"}
    asked = {"text": "THE HOTEL is bad"}
    chosen = {how: Examples(pool, ["text"], ExampleSettings(count=4, select=how)).choose(asked)
              for how in ("similar", "diverse", "random")}  # fmt: skip
    texts = {how: [pool[i]["text"] for i in own] for how, own in chosen.items()}
    assert all(len(own) == 4 and "the hotel is bad" not in own for own in texts.values())
    assert all("hotel" in text or "bad" in text for text in texts["similar"])
    assert chosen["similar"][0] == chosen["diverse"][0]
    assert len(set(map(tuple, chosen.values()))) == 3
    assert orders([3, 1, 2], 99)[0] == [2, 1, 3]
    assert len({tuple(own) for own in orders([3, 1, 2], 99)}) == 6
    near = Examples(
        [{"text": "服务太差", "label": "b"}, {"text": "房间很好", "label": "a"}], ["text"], ExampleSettings()
    )
    assert near.choose({"text": "房间干净"}) == [1, 0]


def test_examples_leave_no_class_out_for_its_name() -> None:
    rows = [{"text": f"row {i}", "label": f"label {i:02}"} for i in range(60)]
    kept = {row["label"] for row in pool_of(rows, ["text"], 16)}
    assert len(kept) == 16
    assert kept != {f"label {i:02}" for i in range(16)}


def test_seed_draws_examples_and_their_orders(tiny_model: Make) -> None:
    folder, shown = tiny_model("llama", writer=True), []
    for seed in (0, 0, 1):
        examples = {"count": 3, "select": "random", "orders": 3, "seed": seed}
        at = Asked(folder, {"template": "{text} : {mask}", "verbalizer": WORDS, "examples": examples})
        shown.append([one["input_ids"] for one in at.encode()])
    assert shown[0] == shown[1] != shown[2]
    rows = [{"text": f"row {i}", "label": str(i % 3)} for i in range(60)]
    assert pool_of(rows, ["text"], 9, seed=1) != pool_of(rows, ["text"], 9, seed=2)
    assert orders([3, 1, 2, 4], 9, seed=1)[0] == orders([3, 1, 2, 4], 9, seed=2)[0]
    assert orders([3, 1, 2, 4], 9, seed=1) != orders([3, 1, 2, 4], 9, seed=2)


def test_examples_take_the_room_that_is_left_and_orders_are_averaged(tiny_model: Make) -> None:
    prompt = {"template": "{text} : {mask}", "examples": {"count": 3, "select": "random", "orders": 2}}
    at = Asked(tiny_model("llama", writer=True), prompt | {"verbalizer": WORDS})
    encoded = at.encode()
    assert [one["row"] for one in encoded[:4]] == [0, 0, 1, 1]
    for one, row in zip(encoded[::2], ROWS, strict=True):
        told = at.read(one)
        assert told.count(" : ") == 3 - one["examples_lost"]
        assert told.endswith(row["text"] + " :")
        assert f"{row['text']} : {WORDS['positive']}\n\n" not in told
    assert any(one["examples_lost"] for one in at.encode(most=40))
    assert all(len(one["input_ids"]) + 2 <= 40 for one in at.encode(most=40))
    model = at.build()
    features = Features.encode(at.task, at.table, at.tokenizer, 64)
    with torch.inference_mode():
        single = [at.task.say(model, features.batch([i]))[0] for i in range(2)]
    np.testing.assert_allclose(at.said(model)[0], np.mean(single, axis=0), atol=1e-5)
    assert not np.allclose(*single, atol=1e-5)


@pytest.mark.parametrize("family", ["bert_lm", "gpt2"])
def test_calibrated_a_text_that_says_nothing_gets_even_odds(family: str, tiny_model: Make) -> None:
    folder = tiny_model(family, writer=family == "gpt2")
    plain, at = (Asked(folder, {"verbalizer": WORDS, "calibrate": value}) for value in (False, True))
    model = at.build()
    prior = np.array(at.task.state["prompt"]["log_prior"])
    assert np.exp(prior).sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(at.said(model), plain.said(plain.build()) - prior, atol=1e-5)
    again = type(at.task)(at.task.settings, json.loads(json.dumps(at.task.state)))
    assert again.build(at.pretrained, pooling="mean", dropout=None, seed=1).log_prior.tolist() == pytest.approx(prior)


# --- whole runs ---


def recipe(folder: Path, data: Path, **sections: Any) -> Recipe:
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS * 2), encoding="utf-8")
    plain = {"data": str(data), "model": str(folder)}
    return Recipe(**plain, evaluation={"resamples": 100}, **sections)


_STEPS = {"training": {"epochs": 4, "learning_rate": 1e-2}}
RUNS = {
    "zero-shot": ("llama", "zero_shot", None, {}),
    "in-context": ("gpt2", "in_context", None, {}),
    "entailment": ("nli", "zero_shot", {"kind": "entailment", "calibrate": True}, {}),
    "masked, full": ("bert_lm", "full", {"verbalizer": WORDS, "calibrate": True}, _STEPS),
    "decoder, lora": ("llama", "lora", {"verbalizer": WORDS, "soft_verbalizer": True}, _STEPS),
    "encoder-decoder, full": ("t5", "full", {"calibrate": True}, _STEPS),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_bundle_answers_as_the_run_did(case: str, tiny_model: Make, tmp_path: Path) -> None:
    family, method, prompt, rest = RUNS[case]
    if family == "nli":
        folder = tiny.make("bert", tmp_path / "nli", labels=2)
        config = json.loads((folder / "config.json").read_text())
        names = {"id2label": {"0": "entailment", "1": "not_entailment"}}
        (folder / "config.json").write_text(json.dumps(config | names))
    else:
        folder = tiny_model(family, writer=family in tiny.WRITERS)
    told: Any = {"name": "classification"} | ({} if prompt is None else {"prompt": prompt})
    bundle = run(
        recipe(folder, tmp_path / "rows.jsonl", task=told, method=method, **rest), tmp_path / "run", show=False
    )
    assert bundle.verified is not None
    assert bundle.verified <= 1e-5
    report = bundle.report
    assert [one.key for one in report.standings][:2] == ["tuned", "before"]
    rows = [row["text"] for row in ROWS[:5]]
    together = bundle.predict(rows)
    for text, one in zip(rows, together, strict=True):
        alone = bundle.predict(text)
        assert alone.label == one.label
        assert alone.probabilities == pytest.approx(one.probabilities, abs=1e-4)
    if rest:
        before, after = (one.scores["log_loss"].value for one in report.standings[1::-1])
        assert after != before
    if bundle.facts["part"] == "model":
        labels = bundle.folder / "model" / "prompt.json"
        assert json.loads(labels.read_text(encoding="utf-8"))["labels"] == ["negative", "positive"]
        assert Bundle(bundle.folder, verify=True).verified == bundle.verified


def test_methods_that_train_nothing_bring_a_prompt_or_say_why_not(tiny_model: Make, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    assert recipe(tiny_model("llama"), data, method="zero_shot").task.settings.prompt == PromptSettings()
    assert recipe(tiny_model("llama"), data, method="in_context").task.settings.prompt.examples.count == 8
    # another setting of that name, in a task that writes, is left as it is
    assert recipe(tiny_model("llama"), data, method="zero_shot", task="summarization").task.settings.prompt is None
    with pytest.raises(RecipeError, match="nearest compares one vector a row"):
        Recipe(data=str(data), method="zero_shot", evaluation={"baselines": ["nearest"]})
    half = {"name": "classification", "prompt": {"calibrate": True}}
    asked = recipe(tiny_model("llama"), data, method="in_context", task=half).task.settings.prompt
    assert (asked.calibrate, asked.examples.count) == (True, 8)
    shown = {"name": "classification", "prompt": {"examples": {"count": 2}}}
    told = recipe(tiny_model("llama", writer=True), data, method="zero_shot", task=shown)
    with pytest.raises(RecipeError, match="which is what in_context is for"):
        run(told, tmp_path / "run", show=False)


def test_zero_shot_writes_as_the_model_does(tiny_model: Make, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    rows = [{"source": f"the {w} is good", "target": f"{w} good"} for w in tiny.WORDS[30:90]]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = Recipe(data=str(data), model=str(tiny_model("llama", writer=True)), method="zero_shot",
                  task={"name": "translation", "max_new_tokens": 4}, evaluation={"resamples": 100})  # fmt: skip
    bundle = run(told, tmp_path / "run", show=False)
    assert bundle.verified is not None
    tuned, before = bundle.report.standings[:2]
    assert {k: v.value for k, v in tuned.scores.items()} == {k: v.value for k, v in before.scores.items()}


# --- template and words that are searched for ---


def test_the_template_is_taken_that_makes_the_labels_likeliest(tiny_model: Make) -> None:
    templates = ["{text} {mask}", "{text} the room is {mask}", "how {text} a film {mask}"]
    for family, examples in (("bert_lm", None), ("gpt2", {"count": 2, "pool": 9}), ("t5", None)):
        folder = tiny_model(family, writer=True) if family in tiny.WRITERS else tiny_model(family)
        prompt = {"verbalizer": WORDS, "examples": examples, "calibrate": True}
        worth = {}
        for template in templates:
            alone = Asked(folder, {**prompt, "template": template})
            logits = alone.said(alone.build())
            log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            worth[template] = log_p[np.arange(len(ROWS)), alone.task.truth(list(alone.table))].mean()
        facts = Asked(folder, {**prompt, "template": templates}).task.state["prompt"]
        assert facts["template"] == max(worth, key=lambda one: worth[one])
        if not examples:  # with them, what is in the pool depends on the order of rows
            assert facts["tried"] == pytest.approx(worth, abs=1e-4)
        assert not {"tried_on", "candidates"} & facts.keys(), "training rows stay behind"


def test_supplied_templates_that_a_decoder_cannot_read_are_left_out(tiny_model: Make) -> None:
    tried = {
        family: Asked(tiny_model(family, **more), {"template": "search", "verbalizer": WORDS}).task.state["prompt"][
            "tried"
        ]
        for family, more in (("bert_lm", {}), ("gpt2", {"writer": True}))
    }
    assert tried["gpt2"].keys() < tried["bert_lm"].keys()
    with pytest.raises(RecipeError, match=r"Put \{mask\} at the end"):
        Asked(tiny_model("gpt2", writer=True), {"template": ["{mask} {text}", "{text} {mask}"]})


def test_words_are_those_that_tell_labels_apart() -> None:
    classes = np.array([0, 0, 1, 1, 1])
    p = np.array(
        [[0.4, 0.1, 0.2, 0.3], [0.5, 0.1, 0.1, 0.3], [0.1, 0.3, 0.2, 0.3], [0.1, 0.4, 0.1, 0.3], [0.1, 0.3, 0.2, 0.3]]
    )
    assert best_words(np.log(p), classes, 2, 1) == [[0], [1]]
    both = best_words(np.log(p), classes, 2, 2)
    assert (both[0][0], both[1][0]) == (0, 1)
    assert len({word for own in both for word in own}) == 4


@pytest.mark.parametrize("family", ["bert_lm", "llama", "t5"])
def test_words_are_found_and_kept(family: str, tiny_model: Make, tmp_path: Path) -> None:
    folder = tiny_model(family, writer=True) if family in tiny.WRITERS else tiny_model(family)
    asked = Asked(folder, {"verbalizer": "auto", "template": "{text}{mask}"})
    facts = asked.task.state["prompt"]
    words = [word for own in facts["words"] for word in own]
    assert [len(own) for own in facts["words"]] == [3, 3]
    assert len(set(words)) == 6
    assert all(word.isalpha() for word in words)
    assert all(len(tokens) == 1 for own in facts["tokens"] for tokens in own)
    again = Asked(folder, {"verbalizer": "auto", "template": "{text}{mask}"})
    assert again.task.state["prompt"] == facts
    named = dict(zip(asked.task.labels, facts["words"], strict=True))
    by_hand = Asked(folder, {"verbalizer": named, "template": "{text}{mask}"})
    np.testing.assert_allclose(asked.said(asked.build()), by_hand.said(by_hand.build()), atol=1e-5)
    untold = Asked(folder, {"verbalizer": WORDS, "template": "{text}{mask}"})
    assert not np.allclose(asked.said(asked.build()), untold.said(untold.build()))


def test_a_search_needs_a_row_of_each_label(tiny_model: Make) -> None:
    member = find_member("tasks", "classification")
    settings = member.Settings(prompt={"template": "search"}, labels=["positive", "negative", "neutral"])
    with pytest.raises(DataError, match="no training row has the label 'neutral'"):
        member(settings).learn(Table.from_rows(ROWS))


@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning", "p_tuning_v2"])
@pytest.mark.parametrize("family", ["bert_lm", "llama", "t5"])
def test_soft_templates_learn_and_open_again(method: str, family: str, tiny_model: Make, tmp_path: Path) -> None:
    folder = tiny_model(family, writer=True) if family in tiny.WRITERS else tiny_model(family)
    at = trial("classification", folder, {"prompt": {"verbalizer": WORDS}})
    chosen = make("methods", method)
    model = chosen.apply(at.build(), seed=0)
    before = at.logits(model)
    adapt(chosen, model, at)
    after = at.logits(model)
    assert np.abs(after - before).max() > 1e-5
    chosen.save(model, tmp_path)
    np.testing.assert_allclose(at.logits(chosen.open(at.build(seed=1), tmp_path)), after, atol=1e-6)


def test_words_after_the_gap_are_refused_where_the_model_would_never_read_them(tiny_model: Make) -> None:
    for template, rest in (("{text} a {mask} film", "'film'"), ("{mask} {text}", r"\{text\}")):
        with pytest.raises(RecipeError, match=rf"goes on with {rest} after"):
            Asked(tiny_model("llama", writer=True), {"template": template, "verbalizer": WORDS})
    Asked(tiny_model("llama", writer=True), {"template": "{text} It was {mask}!", "verbalizer": WORDS})


def test_templates_are_tried_on_every_label_however_many_there_are(tiny_model: Make) -> None:
    member = find_member("tasks", "classification")
    task = member(member.Settings(prompt={"template": "search"}))
    task.learn(Table.from_rows([{"text": f"row {i}", "label": f"l{i % 150}"} for i in range(300)]))
    assert {row["label"] for row in task.state["prompt"]["tried_on"]} == set(task.labels)


@pytest.mark.parametrize("method", ["zero_shot", "in_context"])
def test_vectors_to_learn_are_refused_where_nothing_learns(method: str, tiny_model: Make) -> None:
    at = trial("classification", tiny_model("bert_lm"), {"prompt": {"verbalizer": WORDS, "soft_verbalizer": True}})
    assert "nothing would train it" in str(make("methods", method).suits(at.build()))
