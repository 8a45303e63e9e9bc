"""A bundle opens as it was saved, anywhere, with anybody's tools, or not at all."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import weitiao
from weitiao.errors import BundleError, DataError
from weitiao.files import list_files, sha256

TEXTS = ["the room is good", "房间很干净", "the food is poor and the book is great", "bad"]


@pytest.fixture(scope="module")
def folder(tiny_bundle):
    return tiny_bundle()


@pytest.fixture(scope="module")
def opened(folder):
    return weitiao.Bundle(folder)


@pytest.fixture(scope="module")
def pairs(tiny_bundle):
    rows = [
        {"text": f"the {a} is good", "text_pair": f"the {b} is good", "label": "same" if a == b else "other"}
        for a in ("room", "food", "card", "book")
        for b in ("room", "food", "card", "book")
        for _ in range(2)
    ]
    return weitiao.Bundle(tiny_bundle(rows, training={"epochs": 1, "learning_rate": 1e-4}))


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


# --- damage: every kind is refused, and the file named ---


def flip_a_byte_of_the_weights(folder):
    path = folder / "model" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    return "model/model.safetensors is not what was saved"


def cut_the_weights(folder):
    path = folder / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return "model/model.safetensors is not what was saved"


def swap_labels_of_the_model(folder):
    edit(folder / "model" / "config.json", lambda c: c["id2label"].update({"0": "positive", "1": "negative"}))
    return "model/config.json is not what was saved"


def rename_a_label_of_the_bundle(folder):
    edit(folder / "bundle.json", lambda c: c["task"]["state"].update(labels=["bad", "good"]))
    return "bundle.json is not what was saved"


def edit_the_temperature(folder):
    edit(folder / "bundle.json", lambda c: c["calibration"].update(temperature=0.1))
    return "bundle.json is not what was saved"


def put_another_tokenizer(folder):
    edit(folder / "tokenizer" / "tokenizer.json", swap_two_words)
    return "tokenizer/tokenizer.json is not what was saved"


def take_the_tokenizer_away(folder):
    (folder / "tokenizer" / "tokenizer.json").unlink()
    return "tokenizer/tokenizer.json is missing"


def take_the_weights_away(folder):
    (folder / "model" / "model.safetensors").unlink()
    return "model/model.safetensors is missing"


def take_the_facts_away(folder):
    (folder / "bundle.json").unlink()
    return "bundle.json is missing"


def add_a_file(folder):
    (folder / "model" / "adapter_model.safetensors").write_bytes(b"x")
    return "model/adapter_model.safetensors was not in it"


def edit_the_recipe(folder):
    path = folder / "recipe.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("seed: 0", "seed: 1"), encoding="utf-8")
    return "recipe.yaml is not what was saved"


def edit_the_reference_rows(folder):
    path = folder / "reference.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]), encoding="utf-8")
    return "reference.jsonl is not what was saved"


def edit_the_report(folder):
    path = folder / "report.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0.", "0.9", 1), encoding="utf-8")
    return "report.json is not what was saved"


def take_the_checksums_away(folder):
    (folder / "checksums.json").unlink()
    return "has no checksums.json"


def garble_the_checksums(folder):
    (folder / "checksums.json").write_text("{]")
    return "checksums.json cannot be read"


def make_the_checksums_a_list(folder):
    (folder / "checksums.json").write_text("[]")
    return "checksums.json holds no settings"


def put_a_link(folder):
    path = folder / "model" / "model.safetensors"
    shutil.move(path, folder.parent / "elsewhere.safetensors")
    path.symlink_to(folder.parent / "elsewhere.safetensors")
    return "model/model.safetensors is a link"


def put_a_link_to_a_folder(folder):
    (folder / "more").symlink_to(folder.parent, target_is_directory=True)
    return "more is a link"


def name_a_file_outside(folder):
    (folder.parent / "x.json").write_text("{}")
    edit(folder / "checksums.json", lambda c: c.update({"../x.json": sha256(folder.parent / "x.json")}))
    return "../x.json is missing"


def plant_a_pickle(folder):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(folder.parent / "pwned"),))

    (folder / "model" / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    return "model/pytorch_model.bin was not in it"


# --- what somebody does who knows of the checksums, and writes them anew ---


def sealed(change):
    def attack(folder):
        said = change(folder)
        names = [name for name in list_files(folder) if name != "checksums.json"]
        sums = {name: sha256(folder / name) for name in names}
        (folder / "checksums.json").write_text(json.dumps(sums), encoding="utf-8")
        return said

    attack.__name__ = f"{change.__name__}_and_seal"
    return attack


@sealed
def change_the_weights(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "model" / "model.safetensors"
    weights = load_file(path)
    weights["classifier.bias"] += 0.5
    save_file(weights, path, metadata={"format": "pt"})
    return "does not reproduce itself"


@sealed
def swap_labels_everywhere_but_the_model(folder):
    def swap(facts):
        facts["labels"].reverse()
        facts["task"]["state"]["labels"].reverse()

    edit(folder / "bundle.json", swap)
    return "the labels of model/config.json are negative, positive, those of bundle.json are positive, negative"


@sealed
def swap_labels_in_the_model(folder):
    edit(folder / "model" / "config.json", lambda c: c["id2label"].update({"0": "positive", "1": "negative"}))
    return "the labels of model/config.json are positive, negative, those of bundle.json are negative, positive"


@sealed
def swap_labels_everywhere(folder):
    def swap(facts):
        facts["labels"].reverse()
        facts["task"]["state"]["labels"].reverse()

    edit(folder / "bundle.json", swap)
    edit(folder / "model" / "config.json", lambda c: c["id2label"].update({"0": "positive", "1": "negative"}))
    return "does not reproduce itself"


@sealed
def change_the_tokenizer(folder):
    edit(folder / "tokenizer" / "tokenizer.json", swap_two_words)
    return "does not reproduce itself"


@sealed
def empty_the_reference_rows(folder):
    (folder / "reference.jsonl").write_text("")
    return "holds no reference rows"


@sealed
def garble_the_reference_rows(folder):
    (folder / "reference.jsonl").write_text('{"row": {"text": "a"}}\n')
    return "reference.jsonl cannot be read"


@sealed
def plant_code(folder):
    (folder / "evil.py").write_text(f"import os; os.mkdir({str(folder.parent / 'pwned')!r})")
    path = folder / "recipe.yaml"
    named = path.read_text(encoding="utf-8").replace("name: full", f"name: {folder / 'evil.py'}")
    path.write_text(named, encoding="utf-8")
    return "holds evil.py, a kind of file that no bundle holds"


@sealed
def plant_a_pickle_of_the_same_name(folder):
    plant_a_pickle(folder)
    return "holds model/pytorch_model.bin, a kind of file that no bundle holds"


@sealed
def misspell_the_recipe(folder):
    path = folder / "recipe.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("epochs:", "epoch:"), encoding="utf-8")
    return "its recipe cannot be read"


@sealed
def lose_a_fact(folder):
    edit(folder / "bundle.json", lambda c: c.pop("max_length"))
    return "bundle.json lacks 'max_length'"


@sealed
def come_from_the_future(folder):
    edit(folder / "bundle.json", lambda c: c.update(format_version=99))
    return "was written in format 99"


def edit(path, change):
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def swap_two_words(tokenizer):
    vocabulary = tokenizer["model"]["vocab"]
    for one, other in (("good", "bad"), ("the", "poor"), ("is", "great")):
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]


DAMAGES = [
    flip_a_byte_of_the_weights, cut_the_weights, swap_labels_of_the_model, rename_a_label_of_the_bundle,
    edit_the_temperature, put_another_tokenizer, take_the_tokenizer_away, take_the_weights_away, take_the_facts_away,
    add_a_file, edit_the_recipe, edit_the_reference_rows, edit_the_report, take_the_checksums_away,
    garble_the_checksums, make_the_checksums_a_list, put_a_link, put_a_link_to_a_folder, name_a_file_outside,
    plant_a_pickle,
    change_the_weights, swap_labels_everywhere_but_the_model, swap_labels_in_the_model, swap_labels_everywhere,
    change_the_tokenizer, empty_the_reference_rows, garble_the_reference_rows, plant_code,
    plant_a_pickle_of_the_same_name, misspell_the_recipe, lose_a_fact, come_from_the_future,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_refused_with_its_name(copy, damage):
    said = damage(copy)
    with pytest.raises(BundleError) as caught:
        weitiao.Bundle(copy)
    assert said in str(caught.value)
    assert str(copy) in str(caught.value)
    assert not (copy.parent / "pwned").exists()


def test_damage_is_found_before_the_first_answer_where_opening_looked_at_files_only(copy):
    said = change_the_weights(copy)
    bundle = weitiao.Bundle(copy, verify=False)
    with pytest.raises(BundleError, match=said):
        bundle.predict("good")


def test_what_is_no_bundle_is_told_apart(tmp_path, folder):
    (tmp_path / "mine").mkdir()
    with pytest.raises(BundleError, match=r"no such folder\. Did you mean 'mine'"):
        weitiao.Bundle(tmp_path / "mime")
    with pytest.raises(BundleError, match="is a file; a bundle is a folder"):
        weitiao.Bundle(folder / "bundle.json")
    with pytest.raises(BundleError, match="is not a bundle"):
        weitiao.Bundle(tmp_path)
    for name in ("recipe.yaml", "events.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(BundleError, match=r"not finished\. Finish it with: weitiao run"):
        weitiao.Bundle(tmp_path)


# --- whole bundles: anywhere, any form ---


def test_it_reproduces_itself_bit_for_bit(opened):
    assert opened.verified == 0.0
    assert opened.verify() == 0.0


def test_one_by_one_or_together_is_the_same(opened):
    together = opened.predict(TEXTS)
    alone = [opened.predict(text) for text in TEXTS]
    for one, other in zip(together, alone, strict=True):
        assert one.label == other.label
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
    assert all(sum(p.probabilities.values()) == pytest.approx(1) for p in together)


def test_every_form_of_rows(opened):
    expected = opened.predict(TEXTS)
    mappings = [{"text": text, "id": 7} for text in TEXTS]
    for rows in (tuple(TEXTS), mappings, iter(TEXTS), (row for row in mappings), np.array(TEXTS, dtype=object)):
        assert [p.label for p in opened.predict(rows)] == [p.label for p in expected]
    assert opened.predict({"text": TEXTS[0]}).label == expected[0].label
    assert opened.predict([]) == []
    assert [p.label for p in opened.predict(TEXTS, batch_size=1)] == [p.label for p in expected]


def test_rows_are_streamed(opened):
    taken = []

    def rows():
        for i in range(1000):
            taken.append(i)
            yield "good room"

    answers = opened.stream(rows(), batch_size=4)
    next(answers)
    assert len(taken) == 64  # 16 batches, and no more before they are asked for


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (7, "int is no kind of row"),
        (None, "NoneType is no kind of row"),
        (b"good", "bytes is no kind of row. Give a text"),
        (["good", 7], "row 2: int is no kind of row"),
        ([None], "row 1: NoneType is"),
        ([["good"]], "row 1: list is"),
        ("", "row 1: text is empty or missing"),
        (["good", " \n"], "row 2: text is empty or missing"),
        ({"txt": "good"}, "text is empty or missing. Did you mean 'txt'"),
        ({"text": None}, "text is empty or missing"),
        ({"text": 5}, "text is empty or missing"),
        ({"text": "a", "text_pair": "b"}, "has text_pair, which this bundle does not read"),
        ("half \ud800", "half a character"),
    ],
)
def test_rows_that_cannot_be_predicted(opened, rows, said):
    with pytest.raises(DataError, match=said.replace("?", r"\?")):
        opened.predict(rows)


def test_the_number_of_a_wrong_row_is_its_own(opened):
    with pytest.raises(DataError, match="row 100: text is empty"):
        opened.predict(["good"] * 99 + [""], batch_size=2)


def test_long_and_strange_texts(opened):
    for text in ("good " * 5000, "好" * 3000, "\x00", "🙂", "ａｂｃ　１２３", "a\nb\r\nc"):
        assert opened.predict(text).label in ("positive", "negative")


def test_pairs_need_both_texts(pairs):
    assert pairs.text_fields == ("text", "text_pair")
    row = {"text": "the room is good", "text_pair": "the food is good"}
    assert pairs.predict(row).label in ("same", "other")
    with pytest.raises(DataError, match=r"text_pair is empty or missing.*needs text and text_pair"):
        pairs.predict("the room is good")
    swapped = pairs.ask([{"text": row["text_pair"], "text_pair": "bad card"}])
    assert not np.array_equal(swapped, pairs.ask([row]))  # the second text is read


def test_it_opens_wherever_it_is_put(folder, opened, tmp_path, monkeypatch):
    saved = opened.save(tmp_path / "deep" / "our bundle 一")
    moved = Path(shutil.move(saved.folder, tmp_path / "moved"))
    monkeypatch.chdir(tmp_path)
    for path in ("moved", Path("moved"), "./moved/", moved):
        again = weitiao.Bundle(path)
        assert np.array_equal(again.ask([{"text": t} for t in TEXTS]), opened.ask([{"text": t} for t in TEXTS]))
    link = tmp_path / "link"
    link.symlink_to(moved, target_is_directory=True)
    assert weitiao.Bundle(link).verified == 0.0
    for path in [*moved.rglob("*"), moved]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert weitiao.Bundle(moved).verified == 0.0
    for path in [*moved.rglob("*"), moved]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_saving_refuses_what_would_lose_something(opened, tmp_path):
    with pytest.raises(BundleError, match="exists already"):
        opened.save(tmp_path)
    with pytest.raises(BundleError, match="inside the bundle itself"):
        opened.save(opened.folder / "copy")


def test_the_runs_folder_will_do(folder):
    assert weitiao.Bundle(folder.parent, verify=False).folder == folder


def test_files_can_be_read_by_whoever_may_read_the_folder(folder):
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert len(modes) == 1


@pytest.mark.parametrize("sections", [{}, {"method": "lora"}, {"method": "head", "training": {}}], ids=str)
def test_nothing_tells_where_it_was_made(tiny_bundle, sections):
    """Only the recipe may: it says what the user wrote."""
    folder = tiny_bundle(**sections)
    own = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["base"]["name"]
    place = str(folder.parents[1])
    for name in list_files(folder):
        if name in ("recipe.yaml", "report.html", "report.json") or name.endswith(".safetensors"):
            continue
        text = (folder / name).read_text(encoding="utf-8")
        assert place not in text, name
        if name not in ("bundle.json", "README.md", "adapter/adapter_config.json"):
            assert own not in text, name
    report = weitiao.Bundle(folder, verify=False).report
    assert "/" not in report.title


# --- other people's tools ---


def plain_logits(model, tokenizer):
    import torch

    with torch.no_grad():
        return model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.numpy()


def our_logits(folder):
    return np.stack(weitiao.Bundle(folder).ask([{"text": text} for text in TEXTS]))


def test_plain_transformers_opens_it(folder):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    np.testing.assert_allclose(plain_logits(model, tokenizer), our_logits(folder), atol=1e-5)
    assert model.config.id2label == {0: "negative", 1: "positive"}


def test_plain_sentence_transformers_opens_a_mean_pooled_one(tiny_bundle, tiny_bert):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = tiny_bundle(model={"name": str(tiny_bert), "pooling": "mean"})
    model = sentence_transformers.SentenceTransformer(str(folder / "model"), device="cpu")
    logits = model.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(logits, our_logits(folder), atol=1e-5)


def test_plain_transformers_refuses_a_mean_pooled_one(tiny_bundle, tiny_bert):
    """Rather than give it a head of random weights."""
    from transformers import AutoModelForSequenceClassification

    folder = tiny_bundle(model={"name": str(tiny_bert), "pooling": "mean"})
    with pytest.raises((OSError, ValueError)):
        AutoModelForSequenceClassification.from_pretrained(folder / "model")


def test_plain_peft_opens_an_adapter(tiny_bundle):
    from peft import AutoPeftModelForSequenceClassification, PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from weitiao.models.quiet import quiet

    folder = tiny_bundle(method="lora")
    name = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["base"]["name"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    with quiet():  # transformers says that the head is new, which the adapter's then replaces
        base = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
        model = PeftModel.from_pretrained(base, folder / "adapter").eval()
        auto = AutoPeftModelForSequenceClassification.from_pretrained(folder / "adapter", num_labels=2).eval()
    for each in (model, auto):
        np.testing.assert_allclose(plain_logits(each, tokenizer), our_logits(folder), atol=1e-5)


def test_an_adapter_refuses_another_base(tiny_bundle, tiny_bert, tmp_path):
    import tiny

    base = shutil.copytree(tiny_bert, tmp_path / "base")
    folder = tiny_bundle(method="lora", model=str(base))
    assert weitiao.Bundle(folder).verified == 0.0
    tiny.make("bert", base, seed=1)
    with pytest.raises(BundleError, match=r"its adapter was trained on .* with content"):
        weitiao.Bundle(folder)


def test_merged_updates_are_a_plain_model(tiny_bundle):
    folder = tiny_bundle(method={"name": "lora", "merge": True})
    assert (folder / "model" / "model.safetensors").is_file()
    assert not (folder / "adapter").exists()
    assert weitiao.Bundle(folder).verified <= 1e-5


def test_the_card_says_what_it_is(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    for words in (
        "`negative`, `positive`",
        "64 rows were read",
        "BertForSequenceClassification.from_pretrained",
        "weitiao verify",
    ):
        assert words in card


@pytest.mark.parametrize("method", ["bitfit", "houlsby", "p_tuning_v2", "prompt_tuning"])
def test_the_card_says_how_an_adapter_of_our_own_opens(tiny_bundle, method):
    folder = tiny_bundle(method=method)
    assert not (folder / "model").exists()
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert 'weitiao.Bundle(".").model' in card
    assert 'from_pretrained("model")' not in card
    assert "PEFT" not in card
