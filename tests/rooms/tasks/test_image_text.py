"""Images are read as they are, missing ones are said, and text and image are learnt from together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModel, CLIPConfig, CLIPModel, ViTConfig, ViTModel

from weitiao import plugins
from weitiao.data.fields import map_fields
from weitiao.data.read import read
from weitiao.data.table import Table
from weitiao.errors import DataError, ModelError
from weitiao.models.find import find
from weitiao.models.load import load_tokenizer
from weitiao.models.multimodal import GatedFusion, ImageTextClassifier, load_image_text
from weitiao.models.parts import backbone, head_modules, head_parameters, layers, new_parameters
from weitiao.models.vision import look
from weitiao.predict import predict_file
from weitiao.recipe import Recipe
from weitiao.run import run
from weitiao.tasks._images import data_uri, open_image, pixels, why_not

ImageText = plugins.find("tasks", "image_text")
RED, BLUE = (220, 30, 30), (30, 30, 220)
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
}


def picture(
    folder: Path, name: str, color: tuple[int, ...], size: tuple[int, int] = (20, 10), mode: str = "RGB"
) -> str:
    Image.new(mode, size, color[: len(Image.new(mode, (1, 1)).getbands())]).save(folder / name)
    return name


# --- images ---


def test_pixels_are_scaled_as_the_model_wants(tmp_path: Path):
    image = open_image(picture(tmp_path, "a.png", (255, 0, 51)), str(tmp_path))
    values = pixels(image, 16, (0.5, 0.0, 0.1), (0.5, 1.0, 0.2))
    assert (values.shape, values.dtype) == ((3, 16, 16), np.float32)
    np.testing.assert_allclose(values[:, 3, 4], [1.0, 0.0, 0.5], atol=1e-6)


@pytest.mark.parametrize(("mode", "name"), [("L", "a.png"), ("RGBA", "a.png"), ("P", "a.gif"), ("CMYK", "a.jpg")])
def test_images_of_other_modes_become_three_colors(mode: str, name: str, tmp_path: Path):
    assert open_image(picture(tmp_path, name, (7, 8, 9, 10), mode=mode), str(tmp_path)).mode == "RGB"


def test_a_written_image_has_the_same_pixels(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(path)
    of_file, written = open_image(str(path)), open_image(data_uri(open_image(str(path)), 32))
    half = (0.5, 0.5, 0.5)
    np.testing.assert_array_equal(pixels(of_file, 32, half, half), pixels(written, 32, half, half))


def test_missing_and_broken_images_are_told_apart(tmp_path: Path):
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(whole)
    (tmp_path / "half.jpg").write_bytes(whole.read_bytes()[:900])
    (tmp_path / "text.jpg").write_text("no image", encoding="utf-8")
    said = {name: why_not(name, str(tmp_path)) for name in ("whole.jpg", "half.jpg", "text.jpg", "gone.jpg")}
    assert said == {
        "whole.jpg": None,
        "half.jpg": "the image cannot be read: half.jpg",
        "text.jpg": "the image cannot be read: text.jpg",
        "gone.jpg": "the image is missing: gone.jpg",
    }


@given(st.text(max_size=30) | st.text(max_size=30).map("data:image/png;base64,".__add__) | st.just("a" * 5000))
def test_whatever_stands_for_an_image_there_is_a_reason(value: str):
    assert why_not(value, "/nowhere") is not None


# --- rows ---


def rows(folder: Path) -> list[dict[str, str]]:
    red, blue = picture(folder, "red.png", RED), picture(folder, "蓝.jpg", BLUE)
    told = [("good room", red, "yes"), ("bad room", blue, "no"), ("酒店很好", red, "yes"), ("酒店", blue, "no")]
    return [{"text": f"{text} {i}", "image": image, "label": label} for i in range(6) for text, image, label in told]


def test_missing_images_are_findings_and_their_rows_set_aside(tmp_path: Path):
    table = Table.from_rows([*rows(tmp_path), {"text": "a", "image": "gone.png", "label": "yes"}])
    task = ImageText(ImageText.Settings(image_folder=str(tmp_path)))
    assert task.accepts(table) == {24: "the image is missing: gone.png"}
    for tables in ({"all": table}, {"train": table.put_aside(task.accepts(table))}):
        (found,) = task.findings(tables)
        assert "1 of 3 images cannot be used: the image is missing (1)" in found.message
        assert found.places == (str(table.places[24]),)
    assert not list(ImageText(task.settings).findings({"all": Table.from_rows(rows(tmp_path))}))


def test_a_row_without_its_image_is_refused_with_its_name(tmp_path: Path, tiny_bert: Path):
    task = ImageText(ImageText.Settings(image_folder=str(tmp_path)))
    task.learn(Table.from_rows(rows(tmp_path)))
    pretrained = find(str(tiny_bert))
    task.meet(pretrained)
    tokenizer = load_tokenizer(pretrained)
    inputs = task.encode([{"text": "a", "image": "gone.png"}], tokenizer, 16)
    with pytest.raises(DataError, match=r"the image is missing: gone\.png"):
        task.collate(inputs, tokenizer)


def test_real_rows_are_read(real_data: Path):
    folder = real_data / "multimodal" / "fashion_products"
    task = ImageText(ImageText.Settings(image_folder=str(folder)))
    table = read(str(folder / "dev.csv"))
    table = map_fields(table, task.fields, {"text": "text_masked", "label": "articleType"})
    assert task.accepts(table) == {}
    assert not list(task.findings({"dev": table}))


# --- the model ---


def clip(folder: Path) -> None:
    text = {"vocab_size": 50, **{k: v for k, v in SMALL.items() if k != "image_size"}}
    CLIPModel(CLIPConfig(text_config=text, vision_config={**SMALL, "patch_size": 8})).save_pretrained(folder)


def vit(folder: Path) -> None:
    ViTModel(ViTConfig(**SMALL, patch_size=8)).save_pretrained(folder)


@pytest.mark.parametrize("make", [vit, clip])
def test_a_pretrained_vision_model_is_taken_as_it_is(make: Any, tiny_bert: Path, tmp_path: Path):
    make(tmp_path / "vision")
    told = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "vision" / "preprocessor_config.json").write_text(json.dumps(told), encoding="utf-8")
    name, pretrained = str(tmp_path / "vision"), find(str(tiny_bert))
    sight = look(name)
    assert (sight.size, sight.mean, sight.deviation) == (32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    asked: dict[str, Any] = {"labels": ["a", "b"], "pooling": "mean", "seed": 0}
    model = load_image_text(pretrained, vision=name, size=32, **asked)
    assert new_parameters(model) == {"classifier.weight", "classifier.bias"}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    with pytest.raises(ModelError, match="48 x 48"):
        load_image_text(pretrained, vision=name, size=48, **asked)


@pytest.mark.parametrize("vision", ["new:convnext", "new:vit"])
def test_each_part_opens_by_itself(vision: str, tiny_bert: Path, tmp_path: Path):
    model = load_image_text(find(str(tiny_bert)), vision=vision, size=32, labels=["a", "b"], pooling="cls", seed=0)
    assert backbone(model) is model.encoder
    assert len(layers(model)) == 2
    assert head_modules(model) == ["vision", "classifier"]
    assert {name.partition(".")[0] for name in head_parameters(model)} == {"vision", "classifier"}
    model.save_pretrained(tmp_path)
    ids, image = torch.tensor([[2, 9, 3]]), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        logits = model(ids, image).logits
        torch.testing.assert_close(ImageTextClassifier.from_pretrained(tmp_path)(ids, image).logits, logits)
        text = AutoModel.from_pretrained(tmp_path / "text")(ids).last_hidden_state[:, 0]
        seen = AutoModel.from_pretrained(tmp_path / "vision").eval()(image).pooler_output.flatten(1)
        torch.testing.assert_close(model.classifier(torch.cat([text, seen], -1)), logits)


# --- from data to a bundle ---


@pytest.mark.parametrize("method", ["full", "lora", "top_layers"])
def test_a_run_ends_in_a_bundle_that_answers_alike(method: str, tiny_bert: Path, tmp_path: Path):
    told = [*rows(tmp_path), {"text": "a", "image": "gone.png", "label": "yes"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in told), encoding="utf-8")
    recipe = Recipe(
        data={"train": str(path)},
        model=str(tiny_bert),
        task={"name": "image_text", "image_folder": str(tmp_path), "image_size": 32},
        method=method,
        training={"epochs": 8},
    )
    bundle = run(recipe, tmp_path / "run", show=False)
    assert bundle.verified is not None
    assert bundle.facts["rows"]["set_aside"] == {"the image is missing": 1}
    assert any("images cannot be used" in finding["message"] for finding in bundle.report.to_json()["findings"])
    asked = [{k: row[k] for k in ("text", "image")} for row in told[:6]]
    answers = [answer.answer for answer in bundle.predict(asked)]
    task: Any = bundle.task
    assert answers == [bundle.predict(row).answer for row in asked]
    assert answers == [bundle.predict(task.portable(row)).answer for row in asked]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*told[:6], told[-1]]), encoding="utf-8")
    *lines, last = predict_file(bundle, path)
    assert answers == [line["label"] for line in lines]
    assert "the image is missing: gone.png" in last["error"]
    assert set(answers) == {"yes", "no"}


# --- gated fusion ---


def test_the_gate_weighs_text_and_image_anew_for_every_row():
    torch.manual_seed(0)
    fusion = GatedFusion(4, 3)
    text, image = torch.randn(2, 4), torch.randn(2, 3)
    with torch.no_grad():
        share = torch.sigmoid(torch.cat([text, image], 1) @ fusion.gate.weight.T + fusion.gate.bias)
        told = torch.tanh(text @ fusion.text.weight.T + fusion.text.bias)
        seen = torch.tanh(image @ fusion.image.weight.T + fusion.image.bias)
        torch.testing.assert_close(fusion(text, image), share * told + (1 - share) * seen)
        fusion.gate.weight.zero_()
        fusion.gate.bias.fill_(50.0)
        torch.testing.assert_close(fusion(text, image), told)
        fusion.gate.bias.fill_(-50.0)
        torch.testing.assert_close(fusion(text, image), seen)


def test_a_gated_model_is_the_same_when_opened_again(tiny_bert: Path, tmp_path: Path):
    model = load_image_text(
        find(str(tiny_bert)), vision="new:convnext", size=32, fusion="gated", labels="ab", pooling="mean", seed=0
    )
    assert {"fusion.gate.weight", "fusion.text.bias", "classifier.weight"} <= new_parameters(model)
    assert {"fusion", "classifier"} <= set(head_modules(model))
    inputs = {"input_ids": torch.randint(5, 90, (2, 6)), "pixel_values": torch.randn(2, 3, 32, 32)}
    model.save_pretrained(tmp_path / "model")
    with torch.no_grad():
        said, again = (m(**inputs).logits for m in (model, ImageTextClassifier.from_pretrained(tmp_path / "model")))
    assert torch.equal(said, again)
