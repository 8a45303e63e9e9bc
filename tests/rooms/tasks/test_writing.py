"""Tasks that write: what is learnt, that a batch says what a row says, and what is said of the data."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from trial import trial, without_dropout
from weitiao.bundle import Bundle
from weitiao.data.sentences import as_text, sentences, words
from weitiao.data.table import Table
from weitiao.errors import DataError, ModelError, RecipeError
from weitiao.evaluation.inference import ask, mean_loss
from weitiao.methods.lora import Lora
from weitiao.models.bert2bert import make_bert2bert
from weitiao.models.find import find
from weitiao.models.load import load_tokenizer, save
from weitiao.predict import predict_file
from weitiao.recipe import Recipe
from weitiao.run import run
from weitiao.tasks._extracts import extract
from weitiao.tasks._sides import script
from weitiao.tasks._writing import references
from weitiao.tasks.base import Features
from weitiao.tasks.generative_question_answering import GenerativeQuestionAnswering
from weitiao.tasks.summarization import Summarization
from weitiao.tasks.translation import Translation
from weitiao.training.prefix import plan
from weitiao.training.store import Store

ROWS = [
    {"source": "the room is good", "target": "房间很好"},
    {"source": "cheap", "target": "便宜"},
    {"source": "the service of this hotel is very slow and the food is bad", "target": "服务太慢"},
    {"source": "i like it", "target": "喜欢"},
]
FAMILIES = (*tiny.WRITERS, *tiny.ENCODER_DECODERS)


def ready(folder: Path, rows: list[dict[str, Any]] = ROWS, kind: Any = Translation, **chosen: Any) -> Any:
    """Return a task that has learnt and met, the model's tokenizer, and the rows' features."""
    task = kind(kind.Settings(**chosen))
    table, pretrained = Table.from_rows(rows), find(str(folder))
    task.learn(table)
    task.meet(pretrained)
    tokenizer = load_tokenizer(pretrained)
    model = task.build(pretrained, pooling="last", dropout=None, seed=0)
    return task, model, tokenizer, Features.encode(task, table, tokenizer, 64)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beams", [1, 3])
def test_a_row_is_written_alone_as_in_a_batch(family: str, beams: int, tiny_model: Callable[..., Path]) -> None:
    task, model, tokenizer, features = ready(
        tiny_model(family, writer=True), num_beams=beams, max_new_tokens=8, prompt="{source}"
    )
    together = ask(model, task, features)
    for row, one in zip(ROWS, together, strict=True):
        (alone,) = ask(model, task, Features.encode(task, Table.from_rows([row]), tokenizer, 64))
        assert alone.ids == one.ids
        assert alone.text == one.text
        np.testing.assert_allclose(alone.scores, one.scores, atol=1e-5)
        assert alone.likelihood == pytest.approx(one.likelihood, abs=1e-4)
        assert 0 < len(one.ids) <= 8
        assert (one.scores <= 0).all()


@pytest.mark.parametrize("family", ["gpt2", "t5", "bart"])
def test_the_loss_is_that_of_transformers(family: str, tiny_model: Callable[..., Path]) -> None:
    task, model, _, features = ready(tiny_model(family, writer=True))
    batch = features.batch(range(4))
    plain = {name: batch[name] for name in ("input_ids", "attention_mask", "decoder_input_ids") if name in batch}
    with torch.no_grad():
        ours = task.loss(model(**task.model_inputs(batch)), batch) / task.items(batch)
        theirs = model(**plain, labels=batch["labels"]).loss
        whole = model(**plain)
    torch.testing.assert_close(ours, theirs)
    assert task.logits(whole, batch).shape == (task.items(batch), whole.logits.shape[-1])
    said = ask(model, task, features)
    assert sum(one.tokens for one in said) == task.items(batch)
    assert -sum(one.likelihood for one in said) / task.items(batch) == pytest.approx(ours.item(), abs=1e-5)
    assert mean_loss(model, task, features) == pytest.approx(ours.item(), abs=1e-5)


def test_only_the_target_and_its_end_are_learnt(tiny_model: Callable[..., Path]) -> None:
    task, _, tokenizer, features = ready(tiny_model("gpt2", writer=True))
    for row, encoded in zip(ROWS, features.inputs, strict=True):
        learnt = [token for token in encoded["labels"] if token != -100]
        assert tokenizer.decode(learnt, skip_special_tokens=True) == row["target"]
        assert learnt[-1] == tokenizer.eos_token_id
        assert encoded["input_ids"][-len(learnt) :] == learnt
        prompt = tokenizer.decode(encoded["input_ids"][: encoded["prompt"]])
        assert prompt.startswith("u: Translate to Chinese:")
        assert prompt.endswith("</s>a: ")
    asked = task.ask(features.inputs, tokenizer)
    served = task.encode([{"source": row["source"]} for row in ROWS], tokenizer, 64)
    assert torch.equal(task.ask(served, tokenizer)["input_ids"], asked["input_ids"])
    assert asked["attention_mask"][:, -1].all(), "prompts end together, on the right"


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_a_long_source_loses_its_end_and_says_so(family: str, tiny_model: Callable[..., Path]) -> None:
    rows = [*ROWS, {"source": "good " * 100, "target": "好"}]
    told = "{source}\nin Chinese:"
    task, _, tokenizer, features = ready(tiny_model(family, writer=True), rows, chat=False, prompt=told)
    long = features.inputs[-1]
    whole = len(tokenizer(task.prompt(tokenizer).text(rows[-1]), verbose=False)["input_ids"])
    read = long.get("prompt", len(long["input_ids"]))
    assert long["tokens_lost"] == whole - read
    assert len(long["input_ids"]) <= 64
    assert not any(one["tokens_lost"] for one in features.inputs[:-1])
    if family == "gpt2":
        assert tokenizer.decode(long["input_ids"][:read]).endswith("\nin Chinese:")
    with pytest.raises(DataError, match=r"row 1.*does not fit"):
        task.encode(rows, tokenizer, 8 if family == "gpt2" else 2)


def test_a_long_target_loses_its_end_and_is_not_ended(tiny_model: Callable[..., Path]) -> None:
    _, _, tokenizer, features = ready(tiny_model("gpt2", writer=True), max_new_tokens=3)
    assert features.inputs[0]["tokens_lost"] > 0
    assert features.inputs[0]["labels"][-1] != tokenizer.eos_token_id


@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_settings_of_search(family: str, tiny_model: Callable[..., Path]) -> None:
    folder = tiny_model(family, writer=True)
    task, model, _, features = ready(folder, min_new_tokens=6, max_new_tokens=6)
    assert {len(one.ids) for one in ask(model, task, features)} == {6}
    task, model, _, features = ready(folder, no_repeat_ngram_size=1, min_new_tokens=9, max_new_tokens=10)
    for one in ask(model, task, features):
        assert len(set(one.ids[:-1])) == len(one.ids) - 1
    with pytest.raises(ValueError, match="no effect"):
        Translation.Settings(length_penalty=2.0)
    with pytest.raises(ValueError, match="above"):
        Translation.Settings(min_new_tokens=3, max_new_tokens=2)


def test_what_a_checkpoint_prefers_in_search_plays_no_part(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    task, model, tokenizer, features = ready(tiny_model("gpt2", writer=True))
    before = [one.ids for one in ask(model, task, features)]
    save(model, tmp_path / "m", tokenizer)
    path = tmp_path / "m" / "generation_config.json"
    told = json.loads(path.read_text()) | {"do_sample": True, "repetition_penalty": 3.0, "top_k": 5}
    path.write_text(json.dumps(told))
    again = task.reopen(tmp_path / "m")
    assert [one.ids for one in ask(again, task, features)] == before


def test_prompts(tiny_model: Callable[..., Path], tiny_bert: Path) -> None:
    folder = tiny_model("gpt2", writer=True)
    task, _, tokenizer, _ = ready(folder, source_language="en", target_language="German", chat=False)
    text = task.prompt(tokenizer).text(ROWS[0])
    assert text == "Translate from English to German:\nthe room is good\nTranslation:"
    back = [{"source": row["target"], "target": row["source"]} for row in ROWS]
    task, _, tokenizer, _ = ready(
        folder, back, target_language="en", prompt="{source} = {target_language}?", chat=False
    )
    assert task.prompt(tokenizer).text(back[0]) == "房间很好 = 英语?"
    task, _, tokenizer, _ = ready(tiny_model("t5", writer=True), source_language="en")
    assert task.prompt(tokenizer).text(ROWS[0]) == "translate English to Chinese: the room is good"
    task, _, tokenizer, _ = ready(tiny_model("marian", writer=True))
    assert task.prompt(tokenizer).text(ROWS[0]) == "the room is good"
    for prompt, match in (("no place", "no place"), ("{source} {origin}", "origin"), ("{source", "cannot be read")):
        with pytest.raises(RecipeError, match=match):
            ready(folder, prompt=prompt)
    with pytest.raises(ModelError, match="chat"):
        ready(tiny_model("t5", writer=True), chat=True)
    with pytest.raises(ModelError, match="encoder"):
        ready(tiny_bert)


def test_lora_trains_adapters_alone(tiny_model: Callable[..., Path]) -> None:
    for family in ("gpt2", "llama", "t5"):
        _, model, _, _ = ready(tiny_model(family, writer=True))
        adapted = Lora().apply(model, seed=0)
        trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
        assert trained
        assert all(".lora_" in name for name in trained)


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5", "bart"])
def test_frozen_layers_are_skipped_or_refused_with_a_reason(family: str, tiny_model: Callable[..., Path]) -> None:
    from weitiao.models.frozen import FrozenLayers

    task, model, _, features = ready(tiny_model(family, writer=True))
    adapted = Lora(Lora.Settings(last_layers=1)).apply(model, seed=0)
    depth, why = plan(adapted, task, {"train": features}, [], Store(Recipe(data="x.csv").cache))
    assert why is None, why
    assert depth > 0
    inputs = task.model_inputs(features.batch(range(4)))
    assert FrozenLayers.of(adapted, inputs).why_not(inputs, tolerance=1e-5) is None


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("family", "method", "cache"),
    [
        ("gpt2", "full", "off"),
        ("t5", "full", "off"),
        ("llama", {"name": "lora", "last_layers": 1}, "float32"),
        ("llama", {"name": "lora", "last_layers": 1}, "off"),
        ("bart", {"name": "lora", "merge": True}, "off"),
        ("marian", {"name": "top_layers", "k": 1}, "float32"),
    ],
    ids=str,
)
def test_from_rows_to_answers(
    family: str, method: Any, cache: str, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    things = ("room", "hotel", "food", "film", "book", "card", "phone", "battery")
    rows = [
        {"source": f"the {thing} is {word}", "target": f"{thing} {said}"}
        for thing in things
        for word, said in (("good", "很好"), ("bad", "太差"))
    ]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    recipe = Recipe(
        data={"train": str(data), "split": {"by": "random"}},
        model=str(tiny_model(family, writer=True)),
        task={"name": "translation", "max_new_tokens": 10},
        method=method,
        training={"epochs": 1},
        evaluation={"resamples": 100},
        cache={"frozen_states": cache},
    )
    bundle = run(recipe, tmp_path / "run", show=False)
    assert bundle.verified is not None
    assert {"bleu", "chrf", "perplexity"} <= set(bundle.facts["metrics"])
    asked = [{"source": row["source"]} for row in rows[:4]]
    several = [p.answer for p in bundle.predict(asked)]
    assert [bundle.predict(one).answer for one in asked] == several
    file = write_rows(tmp_path / "ask.jsonl", asked)
    assert [line["answer"] for line in predict_file(Bundle(bundle.folder), file)] == several


def test_bert2bert_of_an_encoder(tiny_bert: Path, tmp_path: Path) -> None:
    folder = make_bert2bert(str(tiny_bert), tmp_path / "both")
    task, model, _, features = ready(folder, max_new_tokens=6)
    assert task.has_encoder
    assert all(len(one.ids) <= 6 for one in ask(model, task, features))
    batch = features.batch(range(4))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        loss = task.loss(model(**task.model_inputs(batch)), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [one.text for one in ask(model, task, features)] == [row["target"] for row in ROWS]
    with pytest.raises(ModelError, match="exists"):
        make_bert2bert(str(tiny_bert), folder)


def test_summaries_with_what_no_text_says(tiny_model: Callable[..., Path]) -> None:
    task = Summarization()
    row = {"text": "Costs rose by 3.5 percent in 上海 last year."}
    from weitiao.tasks._writing import Written

    said = [Written("Costs rose by 7.5 percent in 北京", (), np.zeros(0))]
    (found,) = task.decode(said, [row], {})
    told = found.to_json()
    assert "7.5" in told["warning"]
    assert "北" in told["warning"]
    assert told["coverage"] == pytest.approx(5 / 8)
    (found,) = task.decode([Written("Costs rose by 3.5 percent", (), np.zeros(0))], [row], {})
    assert "warning" not in found.to_json()
    assert found.coverage == 1


def test_extracts_by_hand() -> None:
    found = extract("a b c d e f", "b c x e")
    assert found.coverage == 3 / 4  # "b c" and "e"
    assert found.density == (4 + 1) / 4
    assert found.novel == ("x",)
    assert extract("房间很干净", "房间干净").density == (4 + 4) / 4
    assert extract("", "").coverage == 1


@given(st.text(max_size=60), st.text(max_size=40))
@settings(max_examples=60)
def test_extracts_of_anything(text: str, summary: str) -> None:
    found = extract(text, summary)
    assert 0 <= found.coverage <= 1
    assert 0 <= found.density <= max(1, len(words(summary)))
    assert extract(summary, summary).coverage == 1
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())
    as_text(text), references(text), script(text)


def test_max_words_bounds_the_search(tiny_model: Callable[..., Path]) -> None:
    rows = Summarization.tiny()["rows"]
    folder = tiny_model("gpt2", writer=True)
    free, *_ = ready(folder, rows, Summarization)
    short, model, tokenizer, features = ready(folder, rows, Summarization, max_words=1)
    assert short.state["max_new_tokens"] < free.state["max_new_tokens"]
    assert "in at most 1 words" in short.prompt(tokenizer).text(rows[0])
    assert all(len(one.ids) <= short.state["max_new_tokens"] for one in ask(model, short, features))


def test_no_answer_is_an_answer(tiny_model: Callable[..., Path]) -> None:
    rows = [
        {"question": "谁写的", "context": "房间很好", "answers": "[]"},
        {
            "question": "怎么",
            "context": "房间很好",
            "answers": '[{"text": "很好", "start": 2}, {"text": "好", "start": 3}]',
        },
    ]
    task, _, tokenizer, features = ready(tiny_model("gpt2", writer=True), rows, GenerativeQuestionAnswering, chat=False)
    assert list(task.truth(rows)) == [(), ("很好", "好")]
    assert [token for token in features.inputs[0]["labels"] if token != -100] == [tokenizer.eos_token_id]
    assert task.prompt(tokenizer).text(rows[0]) == "材料：房间很好\n问：谁写的\n答："


def names_of(task: Any, tables: dict[str, Table]) -> dict[str, Any]:
    return {finding.check: finding for finding in task.findings(tables)}


def test_planted_faults_of_pairs() -> None:
    rows = [{"source": f"this is sentence number {i} of them", "target": f"这是其中的第{i}个句子"} for i in range(60)]
    assert not names_of(Translation(), {"train": Table.from_rows(rows)})
    rows[3] = {"source": "这是一个句子", "target": "this is a sentence"}
    rows[7]["target"] = rows[7]["source"]
    rows[9]["target"] = "这是其中的句子" * 20
    found = names_of(Translation(), {"train": Table.from_rows(rows)})
    assert set(found) == {"wrong_side", "copied", "odd_lengths"}
    assert found["copied"].count == 1
    assert found["wrong_side"].severity == "warning"
    assert "memory:10" in found["odd_lengths"].places
    sides = list(Translation().findings({"train": Table.from_rows(rows)}))
    assert "swapped" in sides[0].message


def test_planted_faults_of_summaries() -> None:
    rows = [
        {"text": f"Station {i} closed on Monday. Trains stop elsewhere.", "summary": "Station closed."}
        for i in range(9)
    ]
    rows[1] = {"text": "short", "summary": "a much longer summary of it"}
    rows[2]["summary"] = "Trains stop elsewhere."
    rows[4]["summary"] = "Station closed until 1999"
    found = names_of(Summarization(), {"train": Table.from_rows(rows)})
    assert set(found) == {"long_summaries", "copied_summaries", "invented_content", "extractiveness"}
    assert found["invented_content"].count == 1
    assert found["invented_content"].evidence["with_new_numbers"] == 1


def lines_of(folder: Path, pattern: str) -> list[str]:
    path = next(folder.glob(pattern))
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8").splitlines()


def test_real_pairs_and_summaries(real_data: Path) -> None:
    lines = lines_of(real_data / "machine_translation" / "tatoeba_en_zh", "cmn.txt*")[::10]
    pairs = [line.split("\t")[:2] for line in lines]
    table = Table.from_rows([{"source": source, "target": target} for source, target in pairs])
    task = Translation()
    task.learn(table)
    assert task.state["target_language"] == "zh"
    for finding in task.findings({"train": table}):
        assert finding.count < 0.05 * len(table)
    read = [json.loads(line) for line in lines_of(real_data / "summarization" / "scitldr_a", "dev*")[:100]]
    rows = [{"text": json.dumps(r["source"]), "summary": json.dumps(r["target"])} for r in read]
    found = names_of(Summarization(), {"train": Table.from_rows(rows)})
    assert 0.5 < found["extractiveness"].evidence["coverage"] < 0.95
    assert max(len(one) for one in Summarization().truth(rows)) > 1


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_have_the_loss_and_gradients_of_rows_apart(
    name: str, attention: str, tiny_model: Any, record_property: Any
) -> None:
    told = {"prompt": "{source}", "chat": False}
    at = trial("translation", tiny_model(name, writer=True), told)
    together = trial("translation", tiny_model(name, writer=True), told | {"packing": True})
    model = without_dropout(at.build())
    model.set_attn_implementation(attention)
    found = []
    rows = [{"source": "good " * n, "target": "bad"} for n in (18, 2, 1, 4, 3, 1)]
    for one in (at, together):
        model.zero_grad()
        batch = one.task.collate(one.task.encode(rows, at.tokenizer, 64), at.tokenizer)
        loss = one.task.loss(one.outputs(model, batch), batch)
        loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((batch["input_ids"].shape, one.task.items(batch), loss.detach(), gradients))
    (apart, items, loss, gradients), (packed, same_items, same_loss, same) = found
    assert packed[0] < apart[0]
    assert packed[1] == apart[1]
    assert items == same_items
    far = ((gradients - same).abs().max() / gradients.abs().max()).item()
    record_property("table", f"packing, {name}, {attention}: loss {abs(loss - same_loss):.1e}, gradients {far:.1e}")
    torch.testing.assert_close(same_loss, loss, rtol=1e-5, atol=1e-4)
    assert far < 1e-5


def test_packing_is_refused_where_it_would_change_something(tiny_model: Any) -> None:
    with pytest.raises(ModelError, match="no decoder"):
        trial("translation", tiny_model("t5", writer=True), {"packing": True})
    with pytest.raises(ModelError, match=r"looks .* tokens back"):
        trial("translation", tiny_model("gemma3_text", writer=True), {"packing": True})
