"""The prefix law: that frozen layers run once a row, and not once an epoch, changes nothing but the time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from trial import Trial, make, train, trial, weights
from weitiao.models import parts
from weitiao.models.frozen import FrozenLayers
from weitiao.training import store as stores
from weitiao.training.hook import Hook
from weitiao.training.prefix import Reader, plan, probe
from weitiao.training.settings import CacheSettings
from weitiao.training.store import Store, TokenStates

FAMILIES = [family for family in tiny.FAMILIES if family != "albert"]  # its layers are one
NONE = np.zeros(0, dtype=np.int64)
METHODS = {"top_layers": {}, "lora": {"last_layers": 1}}


@contextmanager
def stored(model: nn.Module, at: Trial, folder: Path, **settings: Any) -> Iterator[Trial]:
    """Give the trial with states in place of the frozen layers of `model`."""
    frozen = FrozenLayers.of(model, probe(at.task, at.features))
    assert frozen.depth == 1
    assert frozen.why_not(probe(at.task, at.features)) is None
    store = Store(CacheSettings(**settings), folder)
    states = Reader(at.build(), at.task, at.pooling, depth=1, base="weights", store=store).read(at.features)
    with frozen.skipped():
        yield replace(at, features=replace(at.features, states=states.tokens))


def adapted(method: str, at: Trial) -> nn.Module:
    return make("methods", method, METHODS[method]).apply(at.build(), seed=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_training_on_kept_states_gives_the_same_weights(
    family: str, method: str, tmp_path: Path, record_property: Any
) -> None:
    at = trial("classification", tiny.make(family, tmp_path / "model"))
    plain, quick = adapted(method, at), adapted(method, at)
    how = {"batch_size": 4, "epochs": 3, "learning_rate": 1e-3}
    train(plain, at, **how)  # with the dropout of what trains
    with stored(quick, at, tmp_path / "states") as kept:
        train(quick, kept, **how)
    far = (weights(plain) - weights(quick)).abs().max().item()
    record_property("table", f"{family}, {method}: largest difference of a weight {far:.1e}")
    assert far <= 1e-4
    assert not torch.equal(weights(quick), weights(adapted(method, at)))


def test_frozen_layers_do_not_run_again(tmp_path: Path, tiny_bert: Path) -> None:
    at = trial("classification", tiny_bert)
    model = adapted("top_layers", at)
    with stored(model, at, tmp_path) as kept:
        ran: list[int] = []
        for module in parts.layers(model)[0].modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(lambda *_: ran.append(1))
        train(model, kept, epochs=1)
        to_find_them = len(ran)
        train(model, kept, epochs=5)
        assert len(ran) == 2 * to_find_them, "as often for five epochs as for one"


def test_states_are_found_again_by_their_content_alone(tmp_path: Path, tiny_bert: Path) -> None:
    at = trial("classification", tiny_bert)
    store = Store(CacheSettings(), tmp_path)

    def read(features: Any = at.features, **other: Any) -> tuple[int, torch.Tensor]:
        given = {"depth": 1, "base": "weights", "store": store} | other
        reader = Reader(at.build(), at.task, at.pooling, **given)
        hidden = reader.read(features).hidden
        return reader.computed, hidden

    count, first = read()
    assert count == len(at.features)
    assert read()[0] == 0, "the same rows and model: nothing to compute"
    assert torch.equal(read()[1], first)
    assert read(base="other weights")[0] == len(at.features)
    assert read(depth=2)[0] == len(at.features), "another layer: read as far as that one"
    turned = replace(at.features, inputs=list(reversed(at.features.inputs)))
    assert read(turned)[0] == len(at.features)
    assert read(batch_size=2)[0] == len(at.features), "sums in another order are other bits"
    off = Store(CacheSettings(frozen_states="off"), tmp_path)
    assert read(store=off)[0] == len(at.features)


def test_the_labels_are_no_part_of_what_states_are_found_by(tmp_path: Path, tiny_bert: Path) -> None:
    at = trial("classification", tiny_bert)
    reader = Reader(at.build(), at.task, at.pooling, depth=1, base="weights", store=Store(CacheSettings(), tmp_path))
    reader.read(at.features)
    other = replace(at.features, inputs=[{**row, "labels": 0} for row in at.features.inputs])
    reader.read(other)
    assert reader.computed == len(at.features)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_batch_gets_the_states_of_its_rows(dtype: str, tmp_path: Path, tiny_bert: Path) -> None:
    at = trial("classification", tiny_bert)
    store = Store(CacheSettings(frozen_states=dtype), tmp_path)
    model = at.build()
    states = Reader(model, at.task, at.pooling, depth=1, base="w", batch_size=3, store=store).read(at.features)
    assert states.tokens is not None
    rows = [4, 0, 6]
    batch = at.batch(rows)
    frozen = FrozenLayers(model, 1)
    with torch.no_grad(), frozen.reading() as taken:
        at.outputs(model, batch)
    expected = taken()[0] * batch["attention_mask"][..., None]
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    torch.testing.assert_close(states.tokens(rows, batch["attention_mask"]), expected, rtol=0, atol=tolerance)


def test_a_limit_keeps_nothing_and_says_why(tmp_path: Path, tiny_bert: Path) -> None:
    at = trial("classification", tiny_bert)
    model = adapted("top_layers", at)
    splits = {"train": at.features}
    assert plan(model, at.task, splits, [], Store(CacheSettings(), tmp_path)) == (1, None)
    depth, why = plan(model, at.task, splits, [], Store(CacheSettings(limit_gib=1e-6), tmp_path))
    assert depth == 1
    assert "more than cache.limit_gib 1e-06" in str(why)
    depth, why = plan(model, at.task, splits, [], Store(CacheSettings(frozen_states="off"), tmp_path))
    assert (depth, why) == (1, "cache.frozen_states is off")


def test_a_hook_that_works_below_keeps_nothing(tmp_path: Path, tiny_bert: Path) -> None:
    class Below(Hook):
        name = "below"
        changes_frozen = True

    at = trial("classification", tiny_bert)
    _, why = plan(
        adapted("top_layers", at), at.task, {"train": at.features}, [Below()], Store(CacheSettings(), tmp_path)
    )
    assert why == "the regularizer below works below them"


def test_the_longest_unused_states_go_first(tmp_path: Path) -> None:
    store = Store(CacheSettings(limit_gib=3e-5), tmp_path)  # some 32 kB

    def write(key: str) -> None:
        with store.writing(key) as folder:
            Store.finish(folder, {"x": torch.zeros(3000)})

    for i, key in enumerate(("first", "second")):
        write(key)
        os.utime(tmp_path / key, (i, i))
    assert store.open("first", NONE) is not None  # used just now
    write("third")
    assert store.open("second", NONE) is None
    assert store.open("first", NONE) is not None
    assert store.open("third", NONE) is not None


def test_an_entry_half_written_is_none(tmp_path: Path) -> None:
    store = Store(CacheSettings(), tmp_path)

    def die() -> None:
        with store.writing("key") as folder:
            (folder / "facts.json").write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    assert store.open("key", NONE) is None
    assert list(tmp_path.iterdir()) == []
    abandoned = tmp_path / ".abandoned"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    with store.writing("key") as folder:
        Store.finish(folder, {"x": torch.zeros(1)})
    assert not abandoned.exists()
    (tmp_path / "key" / "facts.json").write_text("{")
    assert store.open("key", NONE) is None, "damaged: computed again"


def test_rows_are_read_from_the_disk_and_not_held(tmp_path: Path) -> None:
    lengths = np.array([2, 3, 1])
    path = tmp_path / stores.TOKENS
    writer = stores.Writer(path, torch.float32, lengths)
    value = torch.arange(6, dtype=torch.float32)[:, None].expand(6, 4)
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])  # padding may stand in front
    padded = torch.stack([torch.stack([torch.zeros(4), value[0], value[1]]), value[2:5]])
    writer.write(np.array([0, 1]), padded, mask)
    writer.write(np.array([2]), value[None, 5:], torch.ones(1, 1))
    writer.close()
    states: Sequence[Any] = TokenStates(path, torch.float32, 4, lengths)([1, 0], mask.flip(0))
    torch.testing.assert_close(states, padded.flip(0), rtol=0, atol=0)
