"""Continued pretraining: what is guessed, that nothing is lost, new words, and whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import made
import weitiao
from trial import trial
from weitiao.data.read import read
from weitiao.errors import ModelError, RecipeError
from weitiao.models import parts
from weitiao.models.find import find
from weitiao.models.load import load_tokenizer, save
from weitiao.recipe import Recipe
from weitiao.tasks.base import Rows
from weitiao.tasks.language_modeling import LanguageModeling

LONG = "the room is clean 房间很干净 " * 30


def encoded(task: Any, text: str, tokenizer: Any, length: int) -> Rows:
    return task.encode([{"text": text}], tokenizer, length)


def test_causal_every_token_of_a_long_text_is_guessed_once(tiny_model):
    at = trial("language_modeling", tiny_model("gpt2", writer=True), {})
    for length in (2, 7, 64):
        blocks = encoded(at.task, LONG, at.tokenizer, length)
        guessed = [label for block in blocks for label in block["labels"] if label != -100]
        assert guessed == at.tokenizer(LONG, add_special_tokens=False)["input_ids"]
        assert all(len(block["input_ids"]) <= length for block in blocks)
        context = [block["input_ids"][0] for block in blocks]
        assert context == [at.task.state["start"], *guessed[length - 2 :: length - 1][: len(blocks) - 1]]


def test_masks_are_a_function_of_the_tokens_and_take_others_in_turn(tiny_bert):
    at = trial("language_modeling", tiny_bert, {"masks": 3, "masked_share": 0.2})
    blocks = encoded(at.task, LONG, at.tokenizer, 64)
    again = encoded(at.task, LONG, at.tokenizer, 64)
    assert blocks == again
    whole = at.tokenizer(LONG, add_special_tokens=False)["input_ids"]
    places = [{i for i, label in enumerate(block["labels"]) if label != -100} for block in blocks]
    assert all(len(own) == 12 for own in places[:3])
    assert not places[0] & places[1] | places[1] & places[2]
    firsts = [
        [b if label == -100 else label for b, label in zip(x["input_ids"], x["labels"], strict=True)]
        for x in blocks[::3]
    ]
    assert [token for ids in firsts for token in ids[1:-1]] == whole


def test_of_guessed_tokens_most_are_masked_some_replaced_some_left(tiny_bert):
    at = trial("language_modeling", tiny_bert, {"masked_share": 0.9})
    ids, task = np.arange(5, 5005) % 100 + 5, cast(LanguageModeling, at.task)
    read_, labels = task._mask(ids, np.arange(5000), 0, at.tokenizer.mask_token_id, np.arange(5, 150))
    read_, labels = np.array(read_), np.array(labels)
    chosen = labels != -100
    assert chosen.sum() == 4500
    assert (read_[~chosen] == ids[~chosen]).all()
    masked = (read_[chosen] == at.tokenizer.mask_token_id).mean()
    left = (read_[chosen] == ids[chosen]).mean()
    assert masked == pytest.approx(0.8, abs=0.03)
    assert left == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize(("family", "writer"), [("bert", False), ("roberta", False), ("llama", True)])
def test_the_loss_is_that_of_transformers(tiny_model, family, writer):
    at = trial("language_modeling", tiny_model(family, writer=writer), {})
    model: Any = at.build().eval()
    batch = at.batch()
    ours = at.task.loss(at.outputs(model, batch), batch) / at.task.items(batch)
    theirs = model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss
    torch.testing.assert_close(ours, theirs)
    likelihood = at.task.answer(at.said(model), at.rows, {})["likelihood"].sum(0)
    assert -likelihood[0] / likelihood[1] == pytest.approx(theirs.item(), rel=1e-5)
    assert likelihood[1] == at.task.items(batch)


@pytest.mark.parametrize(("family", "writer"), [("bert", False), ("gpt2", True), ("qwen2", True)])
def test_new_words_are_one_token_and_begin_as_the_mean_of_their_pieces(tiny_model, tmp_path, family, writer):
    folder = tiny_model(family, writer=writer)
    at = trial("language_modeling", folder, {"vocabulary": "extend", "new_words": 3})
    plain = load_tokenizer(find(str(folder)))
    words = at.task.state["new_words"]
    assert "xylophone" in words
    new = at.tokenizer.get_vocab()["xylophone"]
    ids = at.tokenizer("the xylophone is lost")["input_ids"]
    assert ids.count(new) == 1
    assert new not in at.tokenizer("the xylophones")["input_ids"]  # a part of another word
    assert at.tokenizer.decode(ids, skip_special_tokens=True) == "the xylophone is lost"
    pieces = plain("a xylophone", add_special_tokens=False)["input_ids"][1:]
    model: Any = at.build()
    vectors = model.get_input_embeddings().weight
    torch.testing.assert_close(vectors[new], vectors[pieces].mean(0))
    assert at.features.lengths.sum() < trial("language_modeling", folder, {}).features.lengths.sum()
    save(model, tmp_path, at.tokenizer)
    for one, other in zip(at.said(at.task.reopen(tmp_path)), at.said(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_unknown_chinese_characters_become_words(tiny_bert):
    from weitiao.models.vocabulary import count_words, new_words

    tokenizer = load_tokenizer(find(str(tiny_bert)))
    counts = count_words(["故宫的房间", "故宫很好", "the Xylophone", "a xylophone"])
    assert sorted(new_words(counts, tokenizer, 10)) == ["xylophone", "宫", "故"]
    assert len(tokenizer.get_added_vocab()) == 5  # of its own: the tokenizer was left as it is


def test_a_new_head_is_tied_and_an_old_one_is_a_part_of_the_backbone(tiny_model, tiny_bert, tmp_path):
    at = trial("language_modeling", tiny_bert, {})
    model: Any = at.build()
    assert parts.new_parameters(model) == {name for name, _ in model.named_parameters() if "transform" in name}
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert parts.head_modules(model) == ["cls.predictions.transform"]  # a copy of the whole would tear the tie
    save(model, tmp_path, at.tokenizer)
    whole = trial("language_modeling", tmp_path, {}).build()
    assert not parts.new_parameters(whole)
    assert not parts.head_parameters(whole)


@pytest.mark.parametrize(
    ("family", "settings", "reason"),
    [
        ("distilbert", {"objective": "causal"}, "has no causal language model"),
        ("llama", {"objective": "masked"}, "has no mask token"),
        ("llama", {"masks": 2}, "masks has no effect"),
        ("t5", {}, "guesses no tokens"),
    ],
)
def test_what_a_model_cannot_do_is_refused(tiny_model, family, settings, reason):
    with pytest.raises((ModelError, RecipeError), match=reason):
        trial("language_modeling", tiny_model(family, writer=family == "llama"), settings).build()


def test_idle_settings_are_refused():
    for idle in ({"new_words": 5}, {"objective": "causal", "masked_share": 0.3}):
        with pytest.raises(RecipeError, match="no effect"):
            Recipe(data="a.txt", task={"name": "language_modeling", **idle})


def test_reads_a_folder_of_text_files(tmp_path):
    (tmp_path / "a.txt").write_text("One line,\nand its second.\n\n管网在地下。\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("No paragraphs.\nEach line a text.\n", encoding="utf-8")
    table = read(tmp_path, formats=["plain_text"])
    assert list(table.column("text")) == [
        "One line,\nand its second.",
        "管网在地下。",
        "No paragraphs.",
        "Each line a text.",
    ]
    assert [str(place) for place in table.places] == ["a.txt:1", "a.txt:4", "b.txt:1", "b.txt:2"]


@pytest.mark.parametrize(
    ("family", "task", "method", "training"),
    [
        ("bert", {"vocabulary": "extend"}, "full", {"head_learning_rate": 1e-2}),
        ("bert", {"masks": 2}, {"name": "lora", "merge": True}, {}),
        ("bert", {}, "top_layers", {}),
        ("gpt2", {"vocabulary": "extend"}, "lora", {}),
    ],
)
def test_a_run_ends_in_a_bundle_that_says_how_strange_a_text_is(tiny_model, tmp_path, family, task, method, training):
    data = tmp_path / "raw.txt"
    texts = [f"{row['text']} and a xylophone." for row in made.rows(32)]
    data.write_text("\n\n".join(texts), encoding="utf-8")
    recipe = Recipe(
        data=str(data),
        model=str(tiny_model(family, writer=family == "gpt2")),
        task={"name": "language_modeling", **task},
        method=method,
        training={"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, **training},
        evaluation={"resamples": 100},
    )
    bundle: Any = weitiao.run(recipe, tmp_path / "run", show=False)
    before, after = bundle.report.standings[1].scores["perplexity"], bundle.report.standings[0].scores["perplexity"]
    assert after.value < before.value
    one, two = bundle.predict([texts[0], LONG])
    assert bundle.predict(texts[0]).answer == pytest.approx(one.answer, rel=1e-4)
    assert min(one.answer, two.answer) > 1
    if "vocabulary" in task:
        assert "xylophone" in bundle.tokenizer.get_vocab()
        assert any(f.check == "new_words" for f in bundle.report.findings)
    assert Path(bundle.folder, "README.md").is_file()
