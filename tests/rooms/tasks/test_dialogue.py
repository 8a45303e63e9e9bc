"""What is learnt of a conversation is the assistant's turns, whatever the template; replies and their stream."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from weitiao import learned, plugins
from weitiao.bundle import Bundle
from weitiao.data.fields import map_fields
from weitiao.data.read import read
from weitiao.data.table import Table
from weitiao.errors import BundleError, DataError, ModelError, RecipeError
from weitiao.evaluation.inference import ask
from weitiao.models.find import find
from weitiao.models.load import load_tokenizer
from weitiao.predict import predict_file
from weitiao.recipe import Recipe
from weitiao.run import run
from weitiao.streaming import stream_reply
from weitiao.tasks._conversation import Unusable, conversation
from weitiao.tasks.base import Features

Dialogue = plugins.find("tasks", "dialogue")

# The shapes of the templates of Qwen 2.5, of Gemma, and of Qwen 3 (which leaves out what was thought before).
CHATML = (
    "{% if messages and messages[0].role != 'system' %}{{ '<s>system\nbe nice</s>\n' }}{% endif %}"
    "{% if tools %}{{ '<s>tools\n' }}{{ tools | tojson }}{{ '</s>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<s>' + m.role + '\n' + m.content + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user and assistant') }}{% endif %}"
    "{{ '<s>' + m.role + '\n' + m.content | trim + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}{% set said = m.content if loop.last else m.content.split('#')[-1] %}"
    "{{ '<s>' + m.role + '\n' + said + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)


def talk(*turns: str, system: str | None = None) -> list[dict[str, str]]:
    """Turns of a user and an assistant in turn."""
    roles = ("user", "assistant")
    found = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return ([{"role": "system", "content": system}] if system else []) + found


def row(messages: list[dict[str, Any]], **more: Any) -> dict[str, str]:
    return {"messages": json.dumps(messages, ensure_ascii=False), **more}


ROWS = [row(talk("the room is", "good", "why", "it is clean")), row(talk("酒店很好", "喜欢"))]


@pytest.fixture(scope="module")
def chatting(tiny_model: Any) -> Any:
    """A tiny model whose tokenizer has a chat template."""
    return find(str(tiny_model("llama", writer=True)))


@pytest.fixture(scope="module")
def llama(chatting: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same without."""
    folder = tmp_path_factory.mktemp("plain") / "llama"
    shutil.copytree(chatting.folder, folder)
    (folder / "chat_template.jinja").unlink()
    return find(str(folder))


@pytest.fixture
def tokenizer(llama: Any) -> Any:
    return load_tokenizer(llama)


def met(llama: Any, *rows: dict[str, Any], **settings: Any) -> Any:
    task = Dialogue(Dialogue.Settings(**settings))
    task.learn(map_fields(Table.from_rows(list(rows) or ROWS), task.fields))
    task.meet(llama)
    return task


def own(task: Any) -> Any:
    """The task with the tokenizer's template, which the tokenizers of these tests are given later."""
    task.state["template"] = None
    return task


def spoken(inputs: list[dict[str, Any]], tokenizer: Any, task: Any) -> list[list[str]]:
    """The learnt stretches of each input, as text."""
    found = []
    for tokens in task.learned(inputs, tokenizer):
        texts, before = [], False
        for text, flag in tokens:
            if flag:
                texts = [*texts[:-1], texts[-1] + text] if before else [*texts, text]
            before = flag
        found.append(texts)
    return found


# --- what is learnt ---


def test_all_turns_of_the_assistant_are_learnt_and_nothing_else(llama: Any, tokenizer: Any):
    task = met(llama)
    inputs = task.encode(ROWS, tokenizer, 64)
    assert spoken(inputs, tokenizer, task) == [[" good</s>", " it is clean</s>"], [" 喜欢</s>"]]
    text = tokenizer.decode(inputs[0]["input_ids"])
    assert text == "<s>User: the room is\nAssistant: good</s>\nUser: why\nAssistant: it is clean</s>"
    assert tokenizer.decode(inputs[0]["input_ids"][: inputs[0]["prompt"]]).endswith("why\nAssistant:")
    last = met(llama, learn="last")
    assert spoken(last.encode(ROWS, tokenizer, 64), tokenizer, last) == [[" it is clean</s>"], [" 喜欢</s>"]]


def test_chinese_data_gets_a_chinese_plain_template(llama: Any, tokenizer: Any):
    task = met(llama, ROWS[1])
    (one,) = task.encode([ROWS[1]], tokenizer, 64)
    assert tokenizer.decode(one["input_ids"]) == "<s>用户：酒店很好\n助手：喜欢</s>"
    assert task.state["template"] == "plain_zh"


def test_the_tokenizers_own_template_is_used_with_its_system_and_tools(llama: Any, tokenizer: Any):
    tokenizer.chat_template = CHATML
    task = own(met(llama))
    tools = [{"type": "function", "function": {"name": "f"}}]
    messages = talk("a", "b", "c", "d", system="s")
    (one,) = task.encode([row(messages, tools=json.dumps(tools))], tokenizer, 200)
    whole = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
    assert tokenizer.decode(one["input_ids"]) == whole
    assert json.dumps(tools) in whole
    assert spoken([one], tokenizer, task) == [["b</s>", "d</s>"]]  # not the line break behind: nobody waits for it
    assert one["labels"][-1] == -100


def test_a_template_that_wants_user_and_assistant_in_turn_gets_them(llama: Any, tokenizer: Any):
    tokenizer.chat_template = STRICT
    task = own(met(llama))
    doubled = [*talk("x", system="s"), *talk("y", "b")]
    (one,) = task.encode([row(doubled)], tokenizer, 200)
    assert tokenizer.decode(one["input_ids"]) == "<s>user\ns\n\nx\n\ny</s>\n<s>assistant\nb</s>\n"
    with pytest.raises(DataError, match=r"row 1.*must alternate"):
        task.encode([row([*talk("x", "a"), *talk("x", "a")[1:]])], tokenizer, 200)


def test_a_template_that_rewrites_earlier_turns_gives_one_input_a_reply(llama: Any, tokenizer: Any):
    tokenizer.chat_template = FORGETFUL
    task = own(met(llama))
    rows = [row(talk("a", "t#b", "c", "u#d")), row(talk("e", "f"))]
    inputs = task.encode(rows, tokenizer, 200)
    assert spoken(inputs, tokenizer, task) == [["t#b</s>"], ["u#d</s>"], ["f</s>"]]
    assert [one["row"] for one in inputs] == [0, 0, 1]
    features = Features.encode(task, Table.from_rows(rows), tokenizer, 200)
    model = task.build(llama, pooling="mean", dropout=None, seed=0)
    said = ask(model, task, features)
    assert [one.tokens for one in said] == [4, 2]  # of the last reply, with its end
    requests = [row(json.loads(one["messages"])[:-1]) for one in rows]
    assert [one.ids for one in ask(model, task, Features.encode(task, Table.from_rows(requests), tokenizer, 200))] == [
        one.ids for one in said
    ]


def test_a_template_that_takes_back_what_it_asked_with_is_refused(llama: Any, tokenizer: Any):
    tokenizer.chat_template = CHATML + "{% if add_generation_prompt %}{{ 'so:' }}{% endif %}"
    with pytest.raises(DataError, match="in another way once it follows"):
        own(met(llama)).encode(ROWS, tokenizer, 200)


_WORDS = st.text(alphabet="ab 房间\n好.", min_size=1, max_size=8).filter(str.strip)


@settings(max_examples=15, deadline=None)
@given(st.lists(_WORDS, min_size=2, max_size=7), st.sampled_from([CHATML, STRICT, None]), st.integers(60, 120))
def test_whatever_is_said_the_learnt_text_is_the_replies(llama: Any, turns: list[str], template: Any, room: int):
    tokenizer = load_tokenizer(llama)
    tokenizer.chat_template = template
    task = met(llama)
    if template:
        own(task)
    (one,) = task.encode([row(talk(*turns))], tokenizer, room)
    replies = [" " + text + "</s>" if template is None else text + "</s>" for text in turns[1::2]]
    if template == STRICT:
        replies = [text.removesuffix("</s>").strip() + "</s>" for text in replies]
    (found,) = spoken([one], tokenizer, task)
    assert len(one["input_ids"]) <= room
    assert found == replies[len(replies) - len(found) :]
    if not one["tokens_lost"]:
        assert len(found) == len(replies)
    assert one["labels"] == [t if x != -100 else -100 for t, x in zip(one["input_ids"], one["labels"], strict=True)]


def test_the_oldest_turns_are_left_out_and_the_system_stays(llama: Any, tokenizer: Any):
    task = met(llama, max_new_tokens=8)
    turns = [word for i in range(9) for word in (f"room {i}", f"nice {i}")]
    (one,) = task.encode([row(talk(*turns, system="be kind"))], tokenizer, 64)
    text = tokenizer.decode(one["input_ids"])
    assert text.startswith("<s>System: be kind\nUser: room ")
    assert text.endswith("User: room 8\nAssistant: nice 8</s>")
    assert "room 0" not in text
    whole = task.encode([row(talk(*turns, system="be kind"))], tokenizer, 999)[0]
    lost = len(whole["input_ids"]) - min(len(one["input_ids"]), len(one.get("asked", one["input_ids"])) + 8)
    assert 0 < one["tokens_lost"] <= lost + 8


def test_of_one_long_question_its_end_goes_and_of_a_long_reply_its_end(llama: Any, tokenizer: Any):
    task = met(llama, max_new_tokens=8)
    (one,) = task.encode([row(talk("room " * 60, "it is clean"))], tokenizer, 40)
    assert spoken([one], tokenizer, task) == [[" it is clean</s>"]]
    assert len(one["input_ids"]) <= 40
    assert one["tokens_lost"] > 20
    (one,) = task.encode([row(talk("room", "it is clean " * 30))], tokenizer, 40)
    assert len(one["input_ids"]) == 40
    assert one["labels"][-1] not in (-100, tokenizer.eos_token_id)  # it goes on
    with pytest.raises(DataError, match=r"row 1.*does not fit"):
        task.encode([row(talk("a", "b", system="room " * 60))], tokenizer, 40)


# --- rows ---


def test_a_plain_text_is_one_turn_of_a_user(llama: Any, tokenizer: Any):
    task = met(llama)
    told = [{"messages": "the room"}, row(talk("the room"))]
    one, other = task.encode(told, tokenizer, 64)
    assert {**one, "row": 1} == other
    assert "labels" not in one
    assert conversation("[1] 房间") == [{"role": "user", "content": "[1] 房间"}]


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.text(max_size=5) | st.integers(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), x),
        max_leaves=8,
    )
    | st.just([{"role": "user", "content": "a"}])
)
def test_whatever_stands_there_it_is_read_or_a_reason_is_given(value: Any):
    with suppress(Unusable):
        found = conversation(json.dumps(value))
        assert all(isinstance(turn["content"], str) for turn in found)


def test_rows_without_a_reply_are_set_aside_and_rows_that_go_on_are_learnt_from(llama: Any):
    rows = [
        row(talk("a", "b")),
        row(talk("a", "b", "c")),
        row(talk("a")),
        row(talk("a", " ")),
        row([{"role": "king", "content": "a"}, *talk("a", "b")]),
        row(talk("a", "b"), tools="no list"),
        row(talk("a", "b")[1:]),
    ]
    task = Dialogue()
    table = Table.from_rows([{"tools": None, **one} for one in rows])
    reasons = task.accepts(table)
    assert sorted(reasons) == [2, 3, 4, 5, 6]
    assert "unknown role: 'king'" in reasons[4]
    train = table.put_aside(reasons)
    task.learn(train)
    assert not task.accepts(train)
    dev = Table.from_rows(rows[:2] + rows[:1])
    assert list(task.accepts(dev)) == [1]
    assert "nothing to compare" in task.accepts(dev)[1]
    assert task.truth([rows[0]])[0] == ("b",)


def test_findings_say_what_is_learnt_and_what_is_odd(llama: Any):
    rows = [row(talk("a", "the room is good.")) for _ in range(10)]
    rows += [row([*talk("a"), *talk("a", "房间很好。")]), row(talk("a", "b.")[1:] + talk("a", "b.", "c"))]
    rows += [row(talk("a", "the hotel staff is very"))]
    task = met(llama, *rows)
    found = {f.message: f for f in task.findings({"train": Table.from_rows(rows)})}
    text = "\n".join(found)
    for words in ("two turns of the user", "a first turn of the assistant", "turns after the last reply"):
        assert f"1 row of train has {words}" in text
    assert "1 reply in 1 row of train seems to break off." in text
    assert "plain template plain" in text
    shown = next(f for m, f in found.items() if "tokens are learnt" in m)
    assert shown.severity == "info"
    assert "Assistant:⟦ the room is good.</s>⟧" in shown.evidence["examples"][0]
    cut = [row(talk("a", "x" * 120 + ".")) for _ in range(4)] + rows[:6]
    assert any("exactly 121 characters" in f.message for f in met(llama).findings({"dev": Table.from_rows(cut)}))
    assert Dialogue().findings({"all": Table.from_rows(rows)})  # without a model, too


def test_tools_that_the_template_does_not_read_are_a_finding(llama: Any, tokenizer: Any):
    rows = [row(talk("a", "b"), tools='[{"name": "f"}]')] * 2
    task = met(llama, *rows)
    assert not any("tools" in f.message for f in task.findings({"train": Table.from_rows(rows)}))
    tokenizer.chat_template = STRICT
    own(task)._met = tokenizer, llama
    assert any("no place for tools" in f.message for f in task.findings({"train": Table.from_rows(rows)}))


def test_an_encoder_decoder_is_refused(tiny_model: Any):
    task = Dialogue()
    task.learn(Table.from_rows(ROWS))
    with pytest.raises(ModelError, match="reads with one half"):
        task.meet(find(str(tiny_model("t5", writer=True))))


@pytest.mark.parametrize("name", ["sgd_subset/train/dialogues_039.json.gz", "kdconv/film/dev.json.gz"])
def test_real_dialogues_are_learnt_turn_by_turn(name: str, llama: Any, tokenizer: Any, real_data: Path):
    task = Dialogue()
    table = map_fields(read(str(real_data / "dialogue" / name), formats=task.formats), task.fields)
    rows = [dict(table[i]) for i in range(4)]
    task.learn(Table.from_rows(rows))
    task.meet(llama)
    for one, given_row in zip(task.encode(rows, tokenizer, 10_000), rows, strict=True):
        turns = [m["content"] for m in json.loads(given_row["messages"]) if m["role"] == "assistant"]
        gap = " " if task.state["template"] == "plain" else ""
        assert spoken([one], tokenizer, task) == [[f"{gap}{text}</s>" for text in turns]]
        assert not one["tokens_lost"]


# --- from file to bundle ---


def data(folder: Path, rows: list[dict[str, Any]] | None = None) -> Path:
    path = folder / "talks.jsonl"
    talks = [
        [*talk(f"the {thing} is", "good" if i % 2 else "很好"), *talk("why", f"nice {thing}")]
        for i, thing in enumerate(("room", "hotel", "food", "film", "book", "card", "phone", "bank"))
    ] * 3
    lines = (json.dumps(one, ensure_ascii=False) for one in rows or [{"messages": t} for t in talks])
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def recipe(path: Path, llama: Any, **sections: Any) -> Recipe:
    plain = {"task": {"name": "dialogue", "max_new_tokens": 12}, "training": {"epochs": 1}, "method": "full"}
    rest = {"data": {"train": str(path)}, "model": llama.name, "evaluation": {"resamples": 100}}
    return Recipe(**rest | plain | sections)


@pytest.mark.parametrize("method", ["full", "lora", {"name": "top_layers", "k": 1}])
def test_a_run_ends_in_a_bundle_that_answers_alike_and_streams(method: Any, chatting: Any, tmp_path: Path):
    path = data(tmp_path)
    bundle = run(recipe(path, chatting, method=method), tmp_path / "run", show=False)
    assert bundle.verified is not None
    assert {"perplexity", "bleu", "distinct1", "distinct2"} <= set(bundle.facts["metrics"])
    asked = ["the room is", talk("the hotel is", "good", "why"), "酒店"]
    rows = [one if isinstance(one, str) else {"messages": one} for one in asked]
    answers = [one.answer for one in bundle.predict(rows)]
    assert answers == [bundle.predict(one).answer for one in rows]
    assert [line["answer"] for line in predict_file(bundle, path)][:2] == [
        bundle.predict({"messages": json.loads(line)["messages"][:-1]}).answer
        for line in path.read_text("utf-8").split("\n")[:2]
    ]
    for messages, answer in zip(asked, answers, strict=True):
        assert "".join(stream_reply(bundle, messages)) == answer
    if method == "lora":
        names = {p.name for p in (bundle.folder / "adapter").iterdir()}
        assert "adapter_model.safetensors" in names
        assert not (bundle.folder / "model").exists()
        assert bundle.report.training.trainable_parameters < 0.3 * bundle.report.training.total_parameters


def test_a_stream_comes_in_pieces_can_be_cut_and_stopped(llama: Any, tmp_path: Path, tiny_bundle: Any):
    path = data(tmp_path, [{"messages": talk("the room is", "good and clean and very nice 房间很好 yes")}] * 12)
    sections = {"training": {"epochs": 40, "learning_rate": 1e-2}, "task": {"name": "dialogue", "max_new_tokens": 28}}
    bundle = run(recipe(path, llama, **sections), tmp_path / "run", show=False)
    pieces = list(stream_reply(bundle, "the room is"))
    assert "".join(pieces) == bundle.predict("the room is").answer == "good and clean and very nice 房间很好 yes"
    assert len(pieces) > 4
    few = "".join(stream_reply(bundle, "the room is", max_new_tokens=3))
    assert few
    assert "".join(pieces).startswith(few)
    begun = stream_reply(bundle, "the room is")
    assert next(begun) == pieces[0]
    begun.close()
    with pytest.raises(BundleError, match="writes no texts"):
        next(stream_reply(Bundle(tiny_bundle()), "a"))
    beams = {"name": "dialogue", "max_new_tokens": 8, "num_beams": 3}
    bundle = run(recipe(path, llama, task=beams), tmp_path / "beams", show=False)
    assert list(stream_reply(bundle, "the room is")) == [bundle.predict("the room is").answer]


def test_learnt_tokens_are_shown(llama: Any, tmp_path: Path, tiny_bert: Path):
    path = data(tmp_path)
    console = Console(width=200, record=True, color_system=None, file=StringIO())
    learned.show(recipe(path, llama), 2, console)
    text = console.export_text()
    assert text.count("tokens are learnt") == 2
    assert text.count("⟦ ") == text.count("</s>⟧") == 4
    assert learned.learned(recipe(path, llama), 1)[0][0] == ("<s>", False)
    rows = [{"text": "a", "label": "b"}, {"text": "c", "label": "d"}]
    with pytest.raises(RecipeError, match="not tokens of it"):
        learned.learned(Recipe(data=str(data(tmp_path, rows)), model=str(tiny_bert)))


def test_likelihood_is_that_of_the_last_reply(llama: Any, tokenizer: Any):
    import torch

    task = met(llama)
    features = Features.encode(task, Table.from_rows(ROWS), tokenizer, 64)
    model = task.build(llama, pooling="mean", dropout=None, seed=0)
    found = task.answer(ask(model, task, features), ROWS, {})["likelihood"]
    for one, (nats, count) in zip(features.inputs, found, strict=True):
        ids = torch.tensor([one["input_ids"]])
        with torch.inference_mode():
            logs = model(input_ids=ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
        assert count == len(one["input_ids"]) - one["prompt"]
        assert nats == pytest.approx(float(logs[one["prompt"] - 1 :].sum()), abs=1e-3)
    assert np.all(found[:, 0] < 0)


def test_what_the_assistant_says_before_anybody_asked_is_read(llama: Any, tokenizer: Any):
    opened = row([{"role": "assistant", "content": "yes"}, *talk("a", "b")])
    task = met(llama)
    (one,) = task.encode([opened], tokenizer, 64)
    assert spoken([one], tokenizer, task) == [[" b</s>"]]
    assert "Assistant: yes</s>" in tokenizer.decode(one["input_ids"])
