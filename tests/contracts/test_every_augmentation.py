"""What every augmentation must do: new rows, the same label, from the training rows and the seed alone."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from translation import make_translator
from weitiao import plugins
from weitiao.data.augment import Augmentation, Context, Rows, augment
from weitiao.data.table import Table
from weitiao.data.words import kept
from weitiao.errors import RecipeError
from weitiao.randomness import generator

FAMILY = "augmentations"
FOLDER = Path(plugins.__file__).parent / "data" / "augmentations"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
every_augmentation = pytest.mark.parametrize("name", NAMES)

ENGLISH = (
    "the room was really clean and the staff very nice",
    "good hotel with great food, we love it",
    "the battery is bad and the phone slow",
    "Where is my card? It has not arrived",
)
CHINESE = (
    "房间很干净，服务员态度也非常好",
    "我非常喜欢这家酒店的早餐",
    "手机屏幕太差了，电池也慢",
    "请问我的卡怎么还没到？",
)


def member_class(name: str) -> type[Augmentation]:
    module = importlib.import_module(f"weitiao.data.augmentations.{name}")
    own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    (found,) = [v for v in own if issubclass(v, Augmentation)]
    found.name = name
    return found


def make(name: str, chosen: Mapping[str, Any] | None = None) -> Augmentation:
    member = member_class(name)
    return member(member.Settings(**(member.tiny()["settings"] if chosen is None else chosen)))


def cases(name: str) -> list[dict[str, Any]]:
    tiny = member_class(name).tiny()
    return [tiny["settings"], *tiny["variants"]]


def table(texts: tuple[str, ...] = ENGLISH + CHINESE) -> Table:
    return Table.from_rows(
        [{"text": text, "label": "ab"[i % 2], "day": i} for i, text in enumerate(texts)], file="train.csv"
    )


@pytest.fixture(scope="module")
def translators(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    from weitiao.models.seq2seq import open_translator

    folders = {
        name: make_translator("t5", tmp_path_factory.mktemp(name), seed=seed)
        for seed, name in enumerate(["there", "back"])
    }
    opened = {name: open_translator(str(folder)) for name, folder in folders.items()}
    return opened.__getitem__


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2000, 16))


@pytest.fixture
def context(
    tiny_bert: Path, vectors: np.ndarray, translators: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Context:
    from weitiao.models.find import find
    from weitiao.models.load import load_tokenizer

    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        for file, content in member_class(name).tiny().get("files", {}).items():
            Path(file).write_text(content, encoding="utf-8")
    return Context(load_tokenizer(find(str(tiny_bert))), lambda: vectors, translators)


def made(
    name: str, context: Context, rows: Table | None = None, *, chosen: Mapping[str, Any] | None = None, seed: int = 0
) -> tuple[Table, dict[str, int]]:
    """Return the new rows alone, and what was counted."""
    rows = table() if rows is None else rows
    both, counts = augment(
        rows, [make(name, chosen)], text_fields=("text", "text_pair"), label_field="label", seed=seed, context=context
    )
    assert both.take(range(len(rows))).fingerprint == rows.fingerprint, "the training rows themselves were changed"
    return both.take(range(len(rows), len(both))), counts[name]


@every_augmentation
def test_introduces_itself(name: str) -> None:
    member = member_class(name)
    module = inspect.getmodule(member)
    doc = inspect.getdoc(module) or ""
    assert doc.partition("\n")[0].endswith(".")
    assert "Source:" in doc
    assert inspect.getdoc(member)
    tiny = member.tiny()
    with pytest.raises(ValidationError, match="no_such_setting"):
        member.Settings(**tiny["settings"], no_such_setting=1)
    assert all(setting.description for setting in member.Settings.model_fields.values())
    shown = {key for case in cases(name) for key in case}
    assert shown >= set(member.Settings.model_fields), "tiny() has no variant for some setting"


@every_augmentation
def test_refuses_what_would_do_nothing(name: str) -> None:
    member = member_class(name)
    assert member.tiny()["idle"]
    for idle in member.tiny()["idle"]:
        with pytest.raises(ValidationError):
            member.Settings(**idle)


@every_augmentation
def test_says_the_same_twice_and_other_things_for_another_seed(name: str, context: Context) -> None:
    one, same, other = (made(name, context, seed=seed)[0] for seed in (0, 0, 1))
    assert one.ids == same.ids
    assert one.column("text") == same.column("text")
    assert one.column("text") != other.column("text")


@every_augmentation
def test_the_order_of_the_rows_plays_no_part(name: str, context: Context) -> None:
    rows = table()
    turned = rows.take(range(len(rows) - 1, -1, -1))
    one, other = (made(name, context, each)[0] for each in (rows, turned))
    assert sorted(zip(one.ids, one.column("text"), strict=True)) == sorted(
        zip(other.ids, other.column("text"), strict=True)
    )


@every_augmentation
def test_keeps_label_place_and_all_other_columns(name: str, context: Context) -> None:
    rows = table()
    new, _ = made(name, context, rows)
    before = {str(row.place): row for row in rows}
    assert new.column_names == rows.column_names
    for row in new:
        old = before[str(row.place)]
        assert (row["label"], row["day"]) == (old["label"], old["day"])
        assert row.id != old.id


@every_augmentation
def test_no_new_row_is_unchanged_empty_or_there_already(name: str, context: Context) -> None:
    rows = table()
    new, _ = made(name, context, rows, chosen=cases(name)[0])
    texts = new.column("text")
    assert all(text.strip() for text in texts)
    assert not {" ".join(t.split()) for t in texts} & {" ".join(t.split()) for t in rows.column("text")}
    assert len(set(texts)) == len(texts)


@every_augmentation
@pytest.mark.parametrize("texts", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_works_in_english_and_in_chinese(name: str, texts: tuple[str, ...], context: Context) -> None:
    new, count = made(name, context, table(texts))
    assert len(new) >= 3
    assert count["made"] == len(new)


@every_augmentation
def test_copies_are_as_many_as_asked(name: str, context: Context) -> None:
    chosen = cases(name)[0] | {"copies": 3}
    rows = table()
    new, count = made(name, context, rows, chosen=chosen)
    assert sum(count.values()) == 3 * len(rows)
    assert len(new) == count["made"] > 1.5 * len(rows)
    assert len({*new.ids, *rows.ids}) == len(new) + len(rows)
    places = [str(place) for place in new.places]
    assert max(places.count(place) for place in places) == 3


@every_augmentation
def test_every_setting_changes_something(name: str, context: Context) -> None:
    outcomes = [made(name, context, chosen=chosen)[0].column("text") for chosen in cases(name)]
    for one, other in combinations(outcomes, 2):
        assert one != other


@every_augmentation
def test_pairs_are_written_again_too(name: str, context: Context) -> None:
    things = ("food", "room", "hotel", "book", "film", "card", "phone", "screen")
    pairs = [f"the {thing} was really nice" for thing in things]
    new, _ = made(name, context, table().with_columns({"text_pair": pairs}))
    assert {text is not None and bool(text.strip()) for text in new.column("text_pair")} == {True}
    assert not set(new.column("text_pair")) <= set(pairs)
    lonely, _ = made(name, context, table().with_columns({"text_pair": ["very good room", *[None] * 7]}))
    at = {str(place): text for place, text in zip(lonely.places, lonely.column("text_pair"), strict=True)}
    assert all((text is None) == (place != "train.csv:1") for place, text in at.items())


@every_augmentation
def test_numbers_addresses_placeholders_and_negations_stay(name: str, context: Context) -> None:
    if member_class(name).edit is Augmentation.edit:
        return  # it does not write words one by one
    facts = ["{name}", "30.50", "https://a.cn/x?id=7", "me@home.cn", "not", "A17", "三百", "不"]
    text = (
        "room {name} was not very good, pay 30.50 at https://a.cn/x?id=7 or me@home.cn; "
        "订单 A17 的房间很干净，三百元，早餐不好，the staff was really nice and the food great"
    )
    new, _ = made(name, context, table((text, *ENGLISH[1:])), chosen=cases(name)[0] | {"copies": 6})
    mine = [t for t, place in zip(new.column("text"), new.places, strict=True) if place.line == 1]
    assert mine
    for written in mine:
        assert all(fact in written for fact in facts), written
        assert sorted(written[a:b] for a, b in kept(written)) == sorted(text[a:b] for a, b in kept(text))


@every_augmentation
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_bears_any_text(name: str, texts: list[str], context: Context) -> None:
    member = make(name)
    rows = Rows([(text,) for text in texts], ["a"] * len(texts), [str(i) for i in range(len(texts))])
    member.begin(rows, context)
    new = member.rewrite(rows, range(len(texts)), lambda i: generator(0, i))
    assert len(new) == len(texts)
    assert all(len(row) == 1 and isinstance(row[0], str) for row in new)


@every_augmentation
def test_says_what_it_lacks(name: str, context: Context) -> None:
    member = make(name)
    assert member.suits(context) is None
    if reason := member.suits(Context()):
        with pytest.raises(RecipeError, match=f"the augmentation {name} cannot work here: "):
            augment(table(), [member], text_fields=("text",), label_field="label", seed=0)
        assert not reason.endswith(".")
