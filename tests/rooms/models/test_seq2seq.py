"""Translation models are opened by name, write the same for the same seed, and say what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from translation import make_translator
from weitiao.errors import ModelError
from weitiao.models.seq2seq import Translator, open_translator

TEXTS = ["the room is clean", "房间很干净", "good hotel", "the staff was very nice and the food great"]


@pytest.fixture(scope="module", params=["t5", "marian"])
def translator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Translator:
    return open_translator(str(make_translator(request.param, tmp_path_factory.mktemp(request.param))))


def test_search_gives_one_text_each_whatever_the_seed(translator: Translator) -> None:
    one, other = (translator(TEXTS, seed=seed, sample_from=1, beams=2) for seed in (0, 1))
    assert len(one) == len(TEXTS)
    assert one == other


def test_drawing_follows_the_seed(translator: Translator) -> None:
    one, same, other = (translator(TEXTS, seed=seed, sample_from=20, beams=1) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_a_text_comes_back_at_its_own_place(translator: Translator) -> None:
    """Although texts are written in the order of their lengths."""
    alone = [translator([text], seed=0, sample_from=1, beams=1)[0] for text in TEXTS]
    assert translator(TEXTS, seed=0, sample_from=1, beams=1) == alone


def test_the_random_state_outside_is_left_alone(translator: Translator) -> None:
    import torch

    before = torch.random.get_rng_state()
    translator(TEXTS, seed=0, sample_from=20, beams=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_texts_that_cannot_be_taken_whole_come_back_empty(translator: Translator) -> None:
    long = "good " * (translator.longest + 1)
    said = translator([long, "the room"], seed=0, sample_from=1, beams=1)
    assert said[0] == ""
    assert translator([], seed=0, sample_from=1, beams=1) == []


def test_a_model_that_cannot_translate_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot translate: .*It takes a stock encoder-decoder"):
        open_translator(str(tiny_bert))
