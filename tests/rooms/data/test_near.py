"""Equal and nearly equal texts are found, all others are not."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weitiao.data.near import near_groups, near_pairs, near_pairs_between, normalise
from weitiao.errors import DataError

LONG = "I have been waiting for my new card for two weeks now and nobody can tell me where it is at the moment"
LONG_ZH = "酒店的位置非常好，离地铁站只有五分钟，房间干净整洁，前台服务员的态度也很热情，下次来上海出差还会住这里"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Hello,   World!", "hello world"),
        ("ＡＢＣ１２３", "abc123"),
        ("房间 很干净。", "房间很干净！"),
        ("iPhone 手机", "IPHONE手机"),
        ("I don't know", "I dont know"),
        ("zero\u200bwidth", "zerowidth"),
    ],
)
def test_typing_does_not_count(a: str, b: str) -> None:
    assert normalise(a) == normalise(b)
    assert near_pairs([a, b]) == [(0, 1, 1.0)]


@pytest.mark.parametrize(("a", "b"), [("3.5", "35"), ("???", "!!!"), ("", "!"), ("好", "好的"), ("no", "no no")])
def test_meaning_counts(a: str, b: str) -> None:
    assert normalise(a) != normalise(b)
    assert near_pairs([a, b]) == []


@given(st.text())
def test_normalise_is_done_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize("text", [LONG, LONG_ZH])
def test_small_changes_are_near(text: str) -> None:
    (pair,) = near_pairs(["something else altogether, which is not like it", text, text[:-1] + "x"])
    assert pair[:2] == (1, 2)
    assert 0.85 <= pair[2] < 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("how do I activate my card", "how do I deactivate my card"),
        ("Is there a fee for paying by card?", "Why was there a fee for paying by card?"),
        ("这家店的菜很好吃", "这家店的菜不好吃"),
        ("我想退款", "我不想退款"),
    ],
)
def test_different_questions_in_the_same_words_are_not_near(a: str, b: str) -> None:
    assert near_pairs([a, b]) == []


def test_similarity_is_the_jaccard_index_of_the_shingles() -> None:
    a, b = "abcdefghijklmnop", "abcdefghijklmnopqr"  # 12 and 14 shingles of 5 letters, 12 shared
    assert near_pairs([a, b]) == [(0, 1, round(12 / 14, 4))]
    assert near_pairs([a, b], threshold=0.86) == []
    zh = "一二三四五六七八九十甲乙丙丁"  # 12 shingles of 3 characters
    assert near_pairs([zh, zh + "戊己"]) == [(0, 1, round(12 / 14, 4))]


def test_groups_hold_together_and_are_numbered_as_met() -> None:
    texts = [LONG, "short", LONG + " a", LONG + " a bc", "SHORT!", "other"]
    assert near_groups(texts) == [0, 1, 0, 0, 1, 2]
    assert near_groups([]) == []
    assert near_groups([LONG, LONG + " a"], threshold=1.0) == [0, 1]


def test_between_lists_every_row_of_the_second() -> None:
    a = ["x", LONG, "x"]
    b = ["X.", "y", LONG + " please", "x"]
    pairs = near_pairs_between(a, b)
    assert [(i, j) for i, j, _ in pairs] == [(0, 0), (1, 2), (0, 3)]
    assert pairs[0][2] == 1.0
    assert pairs[1][2] < 1.0
    assert near_pairs_between([], b) == near_pairs_between(a, []) == []


@pytest.mark.parametrize("threshold", [0.0, 1.5, -1.0])
def test_a_threshold_that_means_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(DataError, match="at most 1"):
        near_pairs([LONG, LONG_ZH], threshold=threshold)


def test_no_pair_is_missed_and_none_invented() -> None:
    rng = random.Random(5)
    words = [f"{a}{b}" for a in ("pay", "card", "bank", "trans", "fer", "top", "up") for b in ("", "s", "ing", "ed")]
    texts = [" ".join(rng.choices(words, k=rng.randint(6, 14))) for _ in range(150)]
    texts += [" ".join(t.split()[:-1]) for t in texts] + [f"{t} now" for t in texts]
    plain = [normalise(t) for t in texts]
    found = {(i, j): s for i, j, s in near_pairs(texts) if plain[i] != plain[j]}
    sets = [{t[k : k + 5] for k in range(len(t) - 4)} for t in plain]
    firsts = [i for i, t in enumerate(plain) if plain.index(t) == i]
    for at, i in enumerate(firsts):
        for j in firsts[at + 1 :]:
            similarity = len(sets[i] & sets[j]) / len(sets[i] | sets[j])
            if min(len(sets[i]), len(sets[j])) >= 10 and similarity >= 0.85:
                assert found.pop((i, j)) == round(similarity, 4)
    assert found == {}


@given(st.lists(st.text(max_size=40), max_size=12))
def test_any_text_goes(texts: list[str]) -> None:
    groups = near_groups(texts)
    for i, j, similarity in near_pairs(texts):
        assert i < j
        assert groups[i] == groups[j]
        assert 0.85 <= similarity <= 1
    assert len(near_pairs_between(texts, texts)) >= len(texts)


def test_thousands_of_copies_and_of_one_template_take_no_time() -> None:
    start = time.perf_counter()
    copies = [LONG] * 20_000
    assert len(near_pairs(copies)) == 19_999
    template = [f"{LONG} order number {i}" for i in range(1_500)]
    assert len(set(near_groups(template))) == 1
    assert len({j for _, j, _ in near_pairs_between(template[:700], template[700:])}) == 800
    assert time.perf_counter() - start < 20
