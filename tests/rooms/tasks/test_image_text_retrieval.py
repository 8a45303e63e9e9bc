"""Images and texts find each other, by a stock model that reads and sees or by two that learn to."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import weitiao
from trial import make, train, trial
from weitiao import plugins
from weitiao.data.table import Table
from weitiao.errors import DataError, ModelError, RecipeError
from weitiao.models.dual_encoder import Vectors, VisionLanguage, load_dual, load_own, open_dual, own_loss
from weitiao.models.find import find
from weitiao.models.parts import head_modules, layers, new_parameters
from weitiao.models.vision import Sight
from weitiao.retrieval import Index
from weitiao.tasks._images import colored
from weitiao.training.method_hook import method_hooks

Task = plugins.find("tasks", "image_text_retrieval")
NAME = "image_text_retrieval"
COLORS = {"good": (220, 30, 30), "bad": (30, 30, 220), "房间": (30, 220, 30), "电影": (240, 240, 240)}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def own(kind: str, base: Path, folder: Path) -> Path:
    """Make a tiny model that reads and sees, with the tokenizer of the tiny BERT in `base`."""
    from transformers import (
        ChineseCLIPConfig,
        ChineseCLIPModel,
        CLIPConfig,
        CLIPModel,
        SiglipConfig,
        SiglipModel,
    )

    tokenizer = AutoTokenizer.from_pretrained(base)
    text = {**SIZES, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 3}
    text |= {"bos_token_id": 2, "projection_size": 32} if kind != "chinese_clip" else {}
    vision = {**SIZES, "image_size": 32, "patch_size": 8}
    config, model = {
        "clip": (CLIPConfig, CLIPModel),
        "chinese_clip": (ChineseCLIPConfig, ChineseCLIPModel),
        "siglip": (SiglipConfig, SiglipModel),
    }[kind]
    torch.manual_seed(0)
    made = model(
        config(text_config=text, vision_config=vision, projection_dim=16)
        if "clip" in kind
        else config(text_config=text, vision_config=vision)
    )
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


KINDS = ("clip", "chinese_clip", "siglip")


def outputs(texts: torch.Tensor, images: torch.Tensor, bias: float | None = None) -> Vectors:
    return Vectors(texts, images, torch.tensor(3.0), None if bias is None else torch.tensor(bias))


def unit(seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)), dim=-1)


# --- the loss ---


def test_softmax_is_the_formula_of_its_source():
    texts, images, by_hand = unit(0), unit(1), 0.0
    scores = [[3 * sum(a * b for a, b in zip(t, v, strict=True)) for v in images.tolist()] for t in texts.tolist()]
    for i in range(3):
        row, column = scores[i], [scores[j][i] for j in range(3)]
        by_hand -= sum(scores[i][i] - math.log(sum(map(math.exp, side))) for side in (row, column)) / 2
    task = Task(Task.Settings(), {"loss": "softmax"})
    batch = {"labels": torch.tensor([[0, 0], [1, 1], [2, 2]])}
    assert task.loss(outputs(texts, images), batch).item() == pytest.approx(by_hand, rel=1e-5)


def test_sigmoid_is_the_formula_of_its_source():
    texts, images, by_hand = unit(0), unit(1), 0.0
    for i, text in enumerate(texts.tolist()):
        for j, image in enumerate(images.tolist()):
            score = 3 * sum(a * b for a, b in zip(text, image, strict=True)) - 2
            by_hand += math.log(1 + math.exp(-score if i == j else score))
    task = Task(Task.Settings(), {"loss": "sigmoid"})
    batch = {"labels": torch.tensor([[0, 0], [1, 1], [2, 2]])}
    assert task.loss(outputs(texts, images, -2.0), batch).item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_copy_of_a_text_or_an_image_is_no_wrong_answer(loss: str):
    task = Task(Task.Settings(), {"loss": loss})
    whole = outputs(unit(0), unit(1), -2.0 if loss == "sigmoid" else None)
    apart, texts, images = (torch.tensor([[0, 0], [1, 1], [n, m]]) for n, m in ((2, 2), (0, 2), (2, 0)))
    for numbers in (texts, images):
        logits = task.logits(whole, {"labels": numbers})
        assert logits[0, 2] == logits[2, 0] == float("-inf")
        assert logits.isfinite().sum() == 7
        less = task.loss(whole, {"labels": numbers})
        assert less < task.loss(whole, {"labels": apart})
        assert less.isfinite()


# --- models ---


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_reads_and_sees_is_taken_as_it_is(kind: str, tiny_bert: Path, tmp_path: Path):
    folder = own(kind, tiny_bert, tmp_path / "model")
    pretrained, stock = find(str(folder)), AutoModel.from_pretrained(folder).eval()
    assert own_loss(pretrained) == ("sigmoid" if kind == "siglip" else "softmax")
    model = load_own(pretrained, Sight(32))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts, pixels = ["good room", "电影", "the film is very nice"], torch.rand(3, 3, 32, 32)
    whole = {"padding": "max_length", "max_length": 64} if kind == "siglip" else {"padding": True}
    fed = dict(tokenizer(texts, return_tensors="pt", **whole))
    fed = {key: fed[key] for key in ("input_ids", "attention_mask") if key == "input_ids" or kind != "siglip"}
    with torch.no_grad():
        expected = stock(**fed, pixel_values=pixels)
        short = tokenizer(texts, padding=True, return_tensors="pt")
        said = model(short["input_ids"], pixels, short["attention_mask"])
        torch.testing.assert_close(said.logits, expected.logits_per_text)
        torch.testing.assert_close(said.text, expected.text_embeds)
        alone = tokenizer(texts[1:2], return_tensors="pt")
        torch.testing.assert_close(model(alone["input_ids"]).text[0], said.text[1], atol=1e-6, rtol=1e-5)
    assert not new_parameters(model)
    assert not head_modules(model)
    assert len(layers(model)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_of_it_trains_and_plain_transformers_opens_it(kind: str, tiny_bert: Path, tmp_path: Path):
    folder = own(kind, tiny_bert, tmp_path / "model")
    at = trial(NAME, folder, {"vision_model": "own"})
    at.rows[-1]["image"] = colored((200, 150, 90))
    at.features.inputs[-1]["image"] = at.rows[-1]["image"]
    model: Any = at.build()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, at, epochs=2, learning_rate=1e-3)
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    # a bias of keys shifts all of a query's scores alike, which a softmax does not see
    assert [name for name in still if not name.endswith(("k_proj.bias", "key.bias", "in_proj_bias"))] == []
    model.eval().save_pretrained(tmp_path / "saved")
    again = open_dual(tmp_path / "saved", Sight(32))
    stock = AutoModel.from_pretrained(tmp_path / "saved").eval()
    ids, pixels = torch.tensor([[2, 9, 3], [2, 40, 3]]), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        said = model(ids, pixels, torch.ones_like(ids)).logits
        assert torch.equal(again(ids, pixels, torch.ones_like(ids)).logits, said)
        image = stock.get_image_features(pixel_values=pixels).pooler_output
        torch.testing.assert_close(torch.nn.functional.normalize(image, dim=-1), model(pixel_values=pixels).image)


def test_every_method_moves_all_it_trains_of_clip_or_says_why_not(tiny_bert: Path, tmp_path: Path):
    folder, refused = own("clip", tiny_bert, tmp_path / "model"), {}
    for name in plugins.names("methods"):
        method = make("methods", name)
        if method.trains != "gradient":
            continue
        at = trial(NAME, folder, {"vision_model": "own"})
        for i, one in enumerate(at.features.inputs):
            one["image"] = colored((30 * i, 255 - 20 * i, 90))
        model = at.build()
        if reason := method.suits(model):
            refused[name] = reason
            continue
        model = method.apply(model, seed=0)
        before = {key: p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}
        train(model, at, hooks=method_hooks(method), epochs=3)
        parameters = dict(model.named_parameters())
        assert not [key for key, value in before.items() if torch.equal(value, parameters[key])], name
    assert set(refused) == {"p_tuning", "prompt_tuning", "qlora"}
    assert "reads tokens only" in refused["p_tuning"]


def test_a_fifth_kind_a_wrong_loss_and_a_wrong_size_are_refused(tiny_bert: Path, tmp_path: Path):
    with pytest.raises(ModelError, match=r"no model of two encoders.*its kind is bert"):
        trial(NAME, tiny_bert, {"vision_model": "own"})
    folder = own("clip", tiny_bert, tmp_path / "model")
    with pytest.raises(RecipeError, match="made for the loss softmax, not sigmoid"):
        trial(NAME, folder, {"vision_model": "own", "loss": "sigmoid"})
    with pytest.raises(ModelError, match="48 x 48"):
        load_own(find(str(folder)), Sight(48))
    with pytest.raises(ModelError, match="reads and sees by itself"):
        trial(NAME, folder, {}).build()
    for task in ("classification", "retrieval"):
        with pytest.raises(ModelError, match="made for texts with images, and this task gives it texts alone"):
            trial(task, folder).build()


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_each_part_of_a_pair_opens_by_itself(loss: Any, tiny_bert: Path, tmp_path: Path):
    asked: dict[str, Any] = {"vision": "new:convnext", "size": 32, "loss": loss, "pooling": "mean", "seed": 0}
    model = load_dual(find(str(tiny_bert)), **asked)
    beside = {"visual_projection.weight", "logit_scale"} | ({"logit_bias"} if loss == "sigmoid" else set())
    assert {name for name in new_parameters(model) if not name.startswith("vision.")} == beside
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.save_pretrained(tmp_path)
    ids, pixels = torch.tensor([[2, 9, 3]]), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        said = model(ids, pixels)
        torch.testing.assert_close(open_dual(tmp_path, Sight(32))(ids, pixels).logits, said.logits)
        text = AutoModel.from_pretrained(tmp_path / "text")(ids).last_hidden_state.mean(1)
        torch.testing.assert_close(torch.nn.functional.normalize(text, dim=-1), said.text)
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be opened"):
        open_dual(tmp_path, Sight(32))


# --- rows and answers ---


def test_either_side_asks(tiny_bert: Path):
    said = [np.array([[1.0, 0], [0.9, 0.1]]), np.array([[0, 1.0], [0.8, 0.2]]), np.array([[0, 1.0], [0, 1.0]])]
    rows = [{"text": text, "image": image} for text, image in (("a", "1"), ("b", "2"), ("b", "3"))]
    by_text, by_image = (Task(Task.Settings(query=side)).answer(said, rows, {})["ranks"] for side in ("text", "image"))
    assert [tuple(one) for one in by_text] == [(1, 0, 0), (1, 1, 0), (1, 1, 0)]
    assert [tuple(one) for one in by_image] == [(1, 0), (0, 1), (1, 0)]


def test_pairs_that_do_not_belong_together_and_missing_images_are_set_aside(tmp_path: Path):
    image = colored((1, 2, 3))
    told = [{"text": "a", "image": image, "label": label} for label in ("1", "0", "否", None)]
    told.append({"text": "b", "image": "gone.png", "label": "1"})
    assert list(Task().accepts(Table.from_rows(told))) == [4, 1, 2]


@pytest.mark.parametrize("method", ["full", "lora", "top_layers"])
def test_a_run_ends_in_a_bundle_whose_images_are_searched(method: str, tiny_bert: Path, tmp_path: Path):
    rng, told = np.random.default_rng(0), []
    for i in range(24):
        text, color = list(COLORS.items())[i % 4]
        shade = tuple(int(np.clip(c + rng.integers(-15, 16), 0, 255)) for c in color)
        told.append({"text": f"{text} {['the', 'room', 'film', 'card'][i // 6]}", "image": colored(shade)})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in told), encoding="utf-8")
    model = own("clip", tiny_bert, tmp_path / "model") if method != "full" else tiny_bert
    recipe = weitiao.Recipe(
        data={"train": str(path), "split": {"by": "random"}},
        model=str(model),
        task={"name": NAME, "vision_model": "own" if method != "full" else "new:convnext"}
        | ({"image_size": 32} if method == "full" else {}),
        method=method,
        training={"epochs": 2, "batch_size": 8},
        evaluation={"resamples": 100},
    )
    bundle = weitiao.run(recipe, tmp_path / "run", show=False)
    assert bundle.verified is not None
    together = bundle.predict(told[:5])
    assert [one.answer for one in together] == pytest.approx([bundle.predict(row).answer for row in told[:5]], abs=1e-3)
    images = [row["image"] for row in told[:8]]
    index = Index.build(bundle, images, field="image")
    hit = index.search(told[0]["text"], 8)
    own_score = next(one.score for one in hit if one.number == 0)
    assert round(own_score, 3) == pytest.approx(together[0].answer, abs=2e-3)
    assert index.search(images[3], 1, field="image")[0].number == 3
    with pytest.raises(DataError, match="no field 'label' to search by"):
        index.search("a", field="label")
    assert isinstance(bundle.model, VisionLanguage) == (method == "top_layers")
