"""Where new rows come from, what is counted, and what each way of writing again does to real sentences."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weitiao.data.augment import Augmentation, Context, augment
from weitiao.data.augmentations.back_translation import BackTranslation
from weitiao.data.augmentations.deletion import Deletion
from weitiao.data.augmentations.mixing import Mixing
from weitiao.data.augmentations.noise import Noise
from weitiao.data.augmentations.swap import Swap
from weitiao.data.augmentations.synonym import Synonym
from weitiao.data.table import Table
from weitiao.data.words import bigrams, is_chinese, kept, spans
from weitiao.errors import DataError

RNG = np.random.default_rng


def made(member: Augmentation, texts: list[str], labels: list[str] | None = None, seed: int = 0, **context: Any) -> Any:
    name = type(member).__name__.lower()
    type(member).name = name
    rows = Table.from_rows([{"text": t, "label": x} for t, x in zip(texts, labels or ["a"] * len(texts), strict=True)])
    both, counts = augment(
        rows, [member], text_fields=("text",), label_field="label", seed=seed, context=Context(**context)
    )
    return both.column("text")[len(texts) :], counts[name]


# --- words ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's a well-known café, isn't it?", ["It's", "a", "well-known", "café", "it"]),
        ("not good, never 3 times, twenty", ["good", "times"]),
        ("房间不干净，三百元", ["房间", "干净", "元"]),
        ("订单A17的iPhone 15 Pro", ["订单", "的", "iPhone", "Pro"]),
        ("see www.a.cn/你好 or a@b.cn, {name} [DATE] <br> %s @tom #tag", ["see", "你好", "or"]),
        ("Цена очень хорошая 한국어 텍스트", ["Цена", "очень", "хорошая", "한국어", "텍스트"]),
        ("😀 ...", []),
    ],
)
def test_words_are_what_may_be_changed(text: str, words: list[str]) -> None:
    assert [text[s.start : s.end] for s in spans(text)] == words


@given(st.text())
def test_words_lie_in_order_and_apart_from_what_is_kept(text: str) -> None:
    found = sorted([(s.start, s.end) for s in spans(text)] + kept(text))
    assert all(a < b for a, b in found)
    assert all(one[1] <= other[0] for one, other in pairwise(found))
    for offset in (0, 1):
        pieces = bigrams(spans(text), offset)
        assert sum(p.end - p.start for p in pieces) == sum(s.end - s.start for s in spans(text))
        assert all(p.end - p.start <= 2 for p in pieces if p.is_han)


@pytest.mark.parametrize(
    ("text", "chinese"),
    [("房间很干净", True), ("iPhone 的屏幕碎了", True), ("I love 火锅", False), ("the room", False), ("", False)],
)
def test_the_language_of_a_row_is_told_by_its_characters(text: str, chinese: bool) -> None:
    assert is_chinese(text) == chinese


@pytest.mark.parametrize("piece", ["a", "很", "@", "{", "<a", "1,", "a.", "不", "http://", "[A"])
def test_a_long_text_takes_no_longer_than_its_length_asks(piece: str) -> None:
    started = time.perf_counter()
    spans(piece * 50_000)
    assert time.perf_counter() - started < 2


# --- members ---


def test_swap_keeps_every_word_and_moves_some() -> None:
    text = "the staff was friendly, the room clean"
    (new,), _ = made(Swap(), [text])
    assert Counter(new.replace(",", "").split()) == Counter(text.replace(",", "").split())
    assert new.index(",") > 0


def test_swap_of_chinese_moves_two_characters_at_a_time() -> None:
    text = "酒店房间干净"
    seen = {Swap().edit(text, RNG(seed)) for seed in range(40)}
    assert {"房间酒店干净", "干净房间酒店", "酒店干净房间"} <= seen
    assert all(Counter(new) == Counter(text) for new in seen)


def test_deletion_leaves_an_order_of_words_and_no_double_space() -> None:
    text = "we really like this hotel and its food, the staff and the rooms"
    for seed in range(30):
        new = Deletion(Deletion.Settings(share=0.5)).edit(text, RNG(seed))
        left = iter(text.replace(",", "").split())
        assert all(word in left for word in new.replace(",", "").split()), "in the same order"
        assert "  " not in new
        assert new.strip()


def test_deletion_takes_its_share() -> None:
    words = " ".join(f"word{'x' * (i % 7)}" for i in range(200))
    left = [len(Deletion(Deletion.Settings(share=0.3)).edit(words, RNG(s)).split()) for s in range(20)]
    assert np.mean(left) == pytest.approx(140, abs=6)


def test_noise_is_what_its_kinds_say() -> None:
    def some(kind: str, text: str) -> set[str]:
        noise = Noise(Noise.Settings(kinds=(kind,)))
        return {noise.edit(text, RNG(seed)) for seed in range(60)}

    assert some("transposition", "hotel") == {"htoel", "hoetl", "hotle"}
    assert some("duplication", "Food") == {"Foood", "Foodd"}
    assert some("deletion", "good") == {"god", "goo"}
    assert {"gokd", "gpod", "goof"} <= some("keyboard", "good")
    assert all(sum(a != b for a, b in zip(new, "good", strict=True)) == 1 for new in some("keyboard", "good"))
    assert some("transposition", "房间好") == {"间房好", "房好间"}
    assert some("duplication", "很好") == {"很很好", "很好好"}
    assert some("deletion", "很好") == {"很", "好"}
    assert some("width", "好,我用WiFi。") == {
        f"好{a}我用{b}{c}" for a, b, c in [("，", "WiFi", "。"), (",", "WiFi", ".")]
    } | {f"好,我用{w}。" for w in ("ＷiFi", "WｉFi", "WiＦi", "WiFｉ")}
    assert some("width", "the room") == some("keyboard", "很好") - {"很好"} | {"the room"}


def test_noise_in_a_short_word_or_a_negation_is_none() -> None:
    for text in ("it is so", "no", "12 45", "😀", "不"):
        assert Noise(Noise.Settings(share=1.0)).edit(text, RNG(0)) == text


def test_mixing_joins_rows_of_one_label_only() -> None:
    texts = ["good room", "nice food!", "很好", "bad room", "poor food"]
    new, count = made(Mixing(), texts, ["p", "p", "p", "n", "n"])
    assert count["made"] == 5
    for text in new:
        parts = [i for i, old in enumerate(texts) if old in text]
        assert len(parts) == 2
        assert len({i < 3 for i in parts}) == 1
    assert any(text in new for text in ("bad room. poor food", "poor food. bad room"))


def test_mixing_leaves_out_a_row_that_is_alone() -> None:
    new, count = made(Mixing(), ["good", "great", "bad"], ["p", "p", "n"])
    assert count == {"made": 2, "unchanged": 1, "empty": 0, "repeated": 0}
    assert all("bad" not in text for text in new)


@pytest.mark.parametrize(
    ("text", "all_new"),
    [
        ("A Good room", {"A Great room", "A Really nice room"}),
        ("GOOD", {"GREAT", "REALLY NICE"}),
        ("really  nice!", {"good!", "great!"}),
        ("酒店房间很干净", {"酒店客房很干净", "酒店房间很整洁"}),
        ("goodness", {"goodness"}),
    ],
)
def test_synonyms_of_a_file(text: str, all_new: set[str], tmp_path: Path) -> None:
    file = tmp_path / "同义词.txt"
    file.write_text("# a comment\n\ngood, great, really nice\n房间 客房\n干净、整洁\n", encoding="utf-8")
    member = Synonym(Synonym.Settings(file=str(file)))
    member.begin(None, Context())  # type: ignore[arg-type]
    assert {member.edit(text, RNG(seed)) for seed in range(30)} == all_new


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"good great\nalone\n", r"synonyms.txt:2: 'alone' is one word alone\. Write words of one meaning\."),
        ("好 佳".encode("gbk"), r"synonyms.txt: is not UTF-8\. Save the list of synonyms as UTF-8\."),
        (b"# nothing\n", r"synonyms.txt: holds no words\."),
        (None, r"synonyms.txt: cannot be read: No such file"),
    ],
)
def test_a_file_that_does_not_do_is_named(content: bytes | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "synonyms.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=words):
        made(Synonym(Synonym.Settings(file=str(file))), ["good"])


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_neighbors_are_the_tokens_with_the_nearest_vectors(family: str, tiny_model: Any) -> None:
    from weitiao.models.find import find
    from weitiao.models.load import load_tokenizer

    tokenizer = load_tokenizer(find(str(tiny_model(family))))
    one, near, han, han_near = (
        tokenizer(word, add_special_tokens=False)["input_ids"][-1] for word in (" room", " hotel", "房", "间")
    )
    vectors = RNG(0).normal(size=(len(tokenizer), 64))
    vectors[near] = vectors[one] + 0.1
    vectors[han] = vectors[one] + 0.05  # nearer still, but of another script
    vectors[han_near] = vectors[han] + 0.01
    texts = ["the room", "the book", "房"]
    if family == "bert":
        new, count = made(Synonym(), texts, tokenizer=tokenizer, vectors=lambda: vectors)
        assert new == ["the hotel", "间"]
        assert count["unchanged"] == 1
    else:  # its few merges know these words only in part; what it does know is found
        member = Synonym(Synonym.Settings(similarity=0.01))
        new, _ = made(member, [*texts, "my phone and the food"], tokenizer=tokenizer, vectors=lambda: vectors)
        assert new


def test_real_vectors_know_words_of_like_meaning(minilm: str) -> None:
    from weitiao.data.augment import Rows
    from weitiao.models.find import find
    from weitiao.models.load import load_encoder, load_tokenizer

    pretrained = find(minilm)
    context = Context(
        load_tokenizer(pretrained), lambda: load_encoder(pretrained).get_input_embeddings().weight.detach().numpy()
    )
    member = Synonym()
    member.begin(Rows([("the phone in that hotel was cheap",)], ["a"], ["0"]), context)
    assert set(member.others) == {"phone", "hotel", "cheap"}
    assert "telephone" in member.others["phone"]
    assert "inexpensive" in member.others["cheap"]


def test_back_translation_goes_there_once_and_back_for_every_copy() -> None:
    calls: list[tuple[str, int, int]] = []

    def opened(name: str) -> Any:
        def translate(texts: list[str], *, seed: int, sample_from: int, beams: int) -> list[str]:
            calls.append((name, sample_from, beams))
            return [f"{text} {name}{seed % 1000 if sample_from > 1 else ''}" for text in texts]

        return translate

    settings = BackTranslation.Settings(there="zh-en", back="en-zh", copies=2)
    new, count = made(BackTranslation(settings), ["很好", "太差了"], open_translator=opened)
    assert count["made"] == 4
    assert len(set(new)) == 4
    assert all(text.startswith(("很好 zh-en en-zh", "太差了 zh-en en-zh")) for text in new)
    assert calls == [("zh-en", 1, 4), ("en-zh", 10, 1), ("en-zh", 10, 1)]


# --- all together ---


def test_every_member_works_on_the_rows_that_were_given() -> None:
    Swap.name, Deletion.name = "swap", "deletion"
    rows = Table.from_rows([{"text": "the clean room of this hotel", "label": "a"}], file="t.csv")
    both, counts = augment(rows, [Swap(), Deletion(), Swap()], text_fields=("text",), label_field="label", seed=0)
    assert list(counts) == ["swap", "deletion", "swap 2"]
    assert [str(place) for place in both.places] == ["t.csv:1"] * 4
    assert len(set(both.ids)) == len(set(both.column("text"))) == 4
    assert sorted(both.column("text")[3].split()) == sorted(["the", "clean", "room", "of", "this", "hotel"])


def test_one_member_more_changes_nothing_of_the_others() -> None:
    Swap.name, Deletion.name = "swap", "deletion"
    rows = Table.from_rows([{"text": "the clean room of this nice hotel", "label": "a"}])
    alone, beside = (
        augment(rows, members, text_fields=("text",), label_field="label", seed=0)[0].column("text")[-1]
        for members in ([Swap()], [Deletion(), Swap()])
    )
    assert alone == beside


def test_a_member_that_changes_nothing_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"the augmentation noise could change none of the 2 training rows\. .*leave it out"
    ):
        made(Noise(Noise.Settings(kinds=("width",))), ["the room", "a hotel"])


def test_no_text_that_stands_in_another_row_is_made() -> None:
    """A deletion may give the text of another row, which may have another label."""
    rows = ["good room", "good", "room", "a very nice hotel"]
    new, count = made(Deletion(), rows, ["a", "b", "b", "a"])
    assert count == {"made": 1, "unchanged": 2, "empty": 0, "repeated": 1}
    assert not set(new) & set(rows)


def test_an_empty_table_stays_empty() -> None:
    Swap.name = "swap"
    rows = Table.from_rows([{"text": "x", "label": "a"}]).take([])
    both, counts = augment(rows, [Swap()], text_fields=("text",), label_field="label", seed=0)
    assert len(both) == 0
    assert counts["swap"]["made"] == 0
