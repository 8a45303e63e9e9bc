"""Models of many languages are told which two, and begin to write in the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import tiny
import weitiao
from trial import make, train, trial
from weitiao.errors import RecipeError
from weitiao.models.find import find
from weitiao.tasks._languages import called, code_of, language_codes

CODES = ["deu_Latn", "eng_Latn", "zho_Hans", "zho_Hant"]


@pytest.fixture(scope="module", params=["nllb", "mbart"])
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that tells its languages before the text (NLLB), or after it (mBART)."""
    place = tmp_path_factory.mktemp(request.param)
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *dict.fromkeys([*tiny.LETTERS, *tiny.CHINESE])]
    tokenizer = transformers.NllbTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[],
        extra_special_tokens=CODES,
        legacy_behaviour=request.param == "mbart",
        model_max_length=64,
    )
    sizes: dict[str, Any] = {
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
    }
    config = transformers.M2M100Config(
        vocab_size=len(tokenizer), **sizes, encoder_attention_heads=2, decoder_attention_heads=2,
        max_position_embeddings=64, decoder_start_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.M2M100ForConditionalGeneration(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def test_codes_are_found_by_code_name_and_iso():
    for language in ("zh", "Chinese", "中文", "zho_Hans", "zho-hans", "zh-CN", "zho"):
        assert code_of(language, CODES) == "zho_Hans", language
    assert code_of("zho_Hant", CODES) == "zho_Hant"
    assert code_of("fr", CODES) is None
    assert code_of("de", ["de_DE", "en_XX"]) == "de_DE"
    assert code_of("Klingon", CODES) is None
    assert (called("zh_CN", chinese=False), called("en", chinese=True), called("Wu", chinese=False)) == (
        "Chinese", "英语", "Wu",
    )  # fmt: skip


def test_learns_and_writes_in_the_language_that_was_named(folder: Path):
    at = trial("translation", folder, {"source_language": "en"})  # Chinese is seen in the data
    assert at.task.state["codes"] == {"source": "eng_Latn", "target": "zho_Hans"}
    source, target = (at.tokenizer.convert_tokens_to_ids(code) for code in ("eng_Latn", "zho_Hans"))
    batch = at.batch()
    assert (batch["input_ids"] == source).sum() == len(at.rows)
    whole = torch.cat([batch["decoder_input_ids"][:, :1], batch["labels"]], dim=1)
    begins = 0 if at.task.state["start"] == target else 1
    assert (whole[:, begins] == target).all()
    assert (whole == target).sum() == len(at.rows)
    assert all(row[row >= 0][-1] == 2 for row in batch["labels"])
    model = at.build()
    train(model, at, epochs=150, learning_rate=5e-3)
    written = [one.answer for one in at.decoded(model)]
    assert sum(said == row["target"] for said, row in zip(written, at.rows, strict=True)) >= 6, written


def test_the_bundle_keeps_both_languages(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    rows = weitiao.plugins.find("tasks", "translation").tiny()["rows"]
    for split, number in (("train", 1), ("dev", 2), ("test", 3)):
        lines = ["source\ttarget"] + [f"{row['source']} {number}\t{row['target']}{number}" for row in rows]
        Path(f"{split}.tsv").write_text("\n".join(lines), encoding="utf-8")
    bundle = weitiao.run(
        weitiao.Recipe(
            data={split: f"{split}.tsv" for split in ("train", "dev", "test")},
            task={"name": "translation", "source_language": "en", "target_language": "zh"},
            model=str(folder),
            method="full",
            training={"epochs": 1},
        ),
        "run",
        show=False,
    )
    saved = transformers.AutoTokenizer.from_pretrained(bundle.folder / "model")
    assert (saved.src_lang, saved.tgt_lang) == ("eng_Latn", "zho_Hans")
    opened = weitiao.Bundle(bundle.folder)
    assert opened.predict("the room is good") == bundle.predict("the room is good")


@pytest.mark.parametrize("language", [None, "Klingon"])
def test_a_language_that_is_not_known_is_asked_for(folder: Path, language: str | None):
    task = make("tasks", "translation", {} if language is None else {"source_language": language})
    task.learn(weitiao.data.table.Table.from_rows(task.tiny()["rows"]))
    with pytest.raises(RecipeError, match=r"Name one: deu_Latn, eng_Latn") as caught:
        task.meet(find(str(folder)))
    assert "task.source_language" in str(caught.value)


def test_models_of_one_language_pair_have_no_codes(tiny_model: Any):
    assert language_codes(transformers.AutoTokenizer.from_pretrained(tiny_model("t5"))) == []
