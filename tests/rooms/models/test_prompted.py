"""A prompted model's logits, beside what plain transformers says of each label by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

import tiny
from trial import without_dropout
from weitiao.errors import ModelError
from weitiao.models import parts
from weitiao.models.find import find
from weitiao.models.prompted import LabelWords, PromptedClassifier, entailment_of, load_prompted, open_prompted

WORDS = (((7,), (11, 12)), ((21, 22, 23),), ((31,),))  # of three labels; the first has two words
LABELS = ("a", "b", "c")
Make = Callable[..., Path]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of nine, six and two tokens, padded on the right."""
    mask = torch.tensor([[1] * n + [0] * (9 - n) for n in (9, 6, 2)])
    ids = torch.randint(40, 120, mask.shape, generator=torch.Generator().manual_seed(0))
    return ids.masked_fill(mask == 0, 5), mask


def by_label(each: dict[tuple[int, ...], float]) -> list[float]:
    scores = [torch.tensor([each[word] for word in own]) for own in WORDS]
    return [float(own.exp().mean().log()) for own in scores]


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "gemma3_text"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_decoder_scores_labels_as_if_each_were_read_alone(family: str, checkpointing: bool, tiny_model: Make) -> None:
    model = load_prompted(find(str(tiny_model(family, writer=True))), LabelWords("causal", LABELS, WORDS, pad=5))
    ids, mask = batch()
    expected = []
    for row, own in zip(ids, mask, strict=True):
        prompt, each = row[own.bool()].tolist(), {}
        for word in (word for words in WORDS for word in words):
            log_p = model.model(input_ids=torch.tensor([[*prompt, *word]])).logits[0].log_softmax(-1)
            each[word] = sum(log_p[len(prompt) - 1 + j, token].item() for j, token in enumerate(word)) / len(word)
        expected.append(by_label(each))
    if checkpointing:  # keeps nothing, so the text is read again
        body: Any = parts.backbone(model)
        getattr(body, "activation_checkpointing_enable", body.gradient_checkpointing_enable)()
        without_dropout(model).train()
    logits = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(logits, torch.tensor(expected), atol=1e-4, rtol=1e-4)
    # the score of a word of several tokens trains what reads the text
    logits[:, 1].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parts.layers(model)[0].parameters())


def test_a_masked_model_reads_each_token_at_its_own_mask(tiny_model: Make) -> None:
    folder = tiny_model("bert_lm")
    model = load_prompted(find(str(folder)), LabelWords("masked", LABELS, WORDS))
    ids, mask = batch()
    places = torch.tensor([[5, 6, 7], [2, 3, 4], [0, 1, 1]])
    log_p = AutoModelForMaskedLM.from_pretrained(folder)(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
    expected = []
    for i, at in enumerate(places):
        flat = [word for words in WORDS for word in words]
        each = {w: sum(log_p[i, at[j], token].item() for j, token in enumerate(w)) / len(w) for w in flat}
        expected.append(by_label(each))
    logits = model(input_ids=ids, attention_mask=mask, mask_places=places).logits
    torch.testing.assert_close(logits, torch.tensor(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder_writes_labels(family: str, tiny_model: Make) -> None:
    start = (1, 60)
    model = load_prompted(find(str(tiny_model(family))), LabelWords("seq2seq", LABELS, WORDS, start=start, pad=5))
    ids, mask = batch()
    expected = []
    for row, own in zip(ids, mask, strict=True):
        each = {}
        for word in (word for words in WORDS for word in words):
            told = {"input_ids": row[own.bool()][None], "decoder_input_ids": torch.tensor([[*start, *word]])}
            log_p = model.model(**told).logits[0].log_softmax(-1)
            each[word] = sum(log_p[1 + j, token].item() for j, token in enumerate(word)) / len(word)
        expected.append(by_label(each))
    logits = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(logits, torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_entailment_reads_each_sentence_after_the_text(tmp_path: Path) -> None:
    folder = tiny.make("bert", tmp_path, labels=3)
    config = transformers.AutoConfig.from_pretrained(folder)
    with pytest.raises(ModelError, match="none of its classes is called entailment"):
        entailment_of(config)
    config.id2label = {0: "not_entailment", 1: "ENTAILMENT", 2: "neutral"}
    config.save_pretrained(folder)
    words = (((7, 8, 3),), ((9, 3),), ((4, 4, 4, 3),))
    model = load_prompted(find(str(folder)), LabelWords("entailment", LABELS, words, segment=1))
    stock: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    ids, mask = batch()
    expected = torch.zeros(3, 3)
    for i, (row, own) in enumerate(zip(ids, mask, strict=True)):
        first = row[own.bool()].tolist()
        for j, (word,) in enumerate(words):
            types = torch.tensor([[0] * len(first) + [1] * len(word)])
            expected[i, j] = stock(input_ids=torch.tensor([[*first, *word]]), token_type_ids=types).logits[0, 1]
    logits = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert_lm", "llama", "t5"])
def test_label_vectors_start_from_words_and_are_saved_with_the_prior(
    family: str, tiny_model: Make, tmp_path: Path
) -> None:
    kind: Any = {"bert_lm": "masked", "llama": "causal", "t5": "seq2seq"}[family]
    single = (((7,),), ((21,),), ((31,),))
    folder, told = find(str(tiny_model(family, writer=family == "llama"))), {"start": (1,), "pad": 5}
    hard = load_prompted(folder, LabelWords(kind, LABELS, single, **told))
    soft = load_prompted(folder, LabelWords(kind, LABELS, single, **told, soft=True), [-1.0, -0.5, -2.0])
    assert parts.head_parameters(soft) == {"verbalizer.vectors", "verbalizer.bias"}
    assert parts.head_modules(soft) == ["verbalizer"]
    assert not parts.head_parameters(hard)
    ids, mask = batch()
    inputs = {"input_ids": ids, "attention_mask": mask}
    if kind == "masked":
        inputs["mask_places"] = torch.tensor([[5], [2], [1]])
    # with words of one token, logits differ from log-probabilities by what is the same for all labels
    said = soft(**inputs).logits + torch.tensor([-1.0, -0.5, -2.0])
    torch.testing.assert_close(said.log_softmax(-1), hard(**inputs).logits.log_softmax(-1), atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        soft.verbalizer.vectors.mul_(2.0)
    soft.save_pretrained(tmp_path)
    again = open_prompted(tmp_path)
    assert torch.equal(again(**inputs).logits, soft(**inputs).logits)
    assert isinstance(again, PromptedClassifier)


def test_refuses_a_checkpoint_without_the_head(tiny_bert: Path) -> None:
    with pytest.raises(ModelError, match=r"no weights for cls.predictions.*sentence encoders"):
        load_prompted(find(str(tiny_bert)), LabelWords("masked", LABELS, WORDS))
