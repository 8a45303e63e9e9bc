"""Pairs of rows: which they are, what they cost, and that a training on them obeys the loop's laws."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made
from trial import weights
from weitiao import plugins
from weitiao.errors import RecipeError, TrainingError
from weitiao.training.checkpoint import Checkpoints
from weitiao.training.contrastive import PairFeatures, Pairs, _Supervised, by_pairs
from weitiao.training.loop import Outside
from weitiao.training.settings import TrainingSettings

CLASSES = np.array([0] * 40 + [1] * 7 + [2] * 2 + [3])  # as unequal as classes are; the last has a single row


def test_half_of_the_pairs_are_of_one_class_and_classes_take_turns() -> None:
    first, second, same = Pairs(CLASSES, 1200, seed=0).of_round(0)
    assert (CLASSES[first] == CLASSES[second]).tolist() == same.astype(bool).tolist()
    assert same.sum() == 600
    assert (first != second).all(), "a row is no pair with itself"
    alike = np.bincount(CLASSES[first[same == 1]], minlength=4)
    assert alike.tolist() == [200, 200, 200, 0]
    assert np.bincount(CLASSES[first[same == 0]], minlength=4).tolist() == [150] * 4
    assert set(first) | set(second) == set(range(len(CLASSES)))
    assert Pairs(CLASSES, 90, seed=0, of_one_class=True).of_round(0)[2].all()


def test_a_pair_follows_from_seed_and_number_alone() -> None:
    count = 40_000  # three rounds
    pairs, again = Pairs(CLASSES, count, seed=5), Pairs(CLASSES, count, seed=5)
    numbers = np.random.default_rng(0).integers(2 * count, size=50)
    together = pairs[numbers.tolist()]
    alone = np.concatenate([again[[int(number)]] for number in reversed(numbers)], axis=1)[:, ::-1]
    np.testing.assert_array_equal(together, alone)
    assert not np.array_equal(together, Pairs(CLASSES, count, seed=6)[numbers.tolist()])
    assert not np.array_equal(pairs.of_round(0), pairs.of_round(1)), "later epochs see other pairs"


def test_memory_does_not_grow_with_the_pairs_there_could_be() -> None:
    """Drawn pairs are counted, and bytes; of 100,000 rows there are 5,000,000,000 pairs."""
    held, peaks = [], []
    for rows in (1_000, 100_000):
        count = 16_384 * rows // 1_000
        pairs = Pairs(np.arange(rows) % 10, count, seed=0)
        tracemalloc.start()
        pairs[[count - 1]]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        held.append(pairs.of_round(3).shape[1])
    assert max(held) <= 16_384
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize(("classes", "why"), [([0, 0, 0], "of one class"), ([0, 1, 2], "a single row")])
def test_where_there_are_no_pairs_it_says_so(classes: list[int], why: str) -> None:
    with pytest.raises(TrainingError, match=why):
        Pairs(np.array(classes), 10, seed=0)


def material(folder: Path, **settings: Any) -> tuple[Any, Any, Any, Any]:
    """Return the task, the rows, what builds the model, and the method, of twenty made rows."""
    task, features, build = made.training(folder, 20)
    cls = plugins.find("methods", "contrastive")
    return task, features, build, cls(cls.Settings(**{"iterations": 3, **settings}))


def tuned(folder: Path, outside: Outside | None = None, told: dict[str, Any] | None = None, **training: Any) -> Any:
    task, features, build, method = material(folder, **told or {})
    model = method.apply(build(), seed=0)
    chosen = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "checkpoint_seconds": 0.0, **training}
    how = TrainingSettings(**chosen), 0, outside or Outside()
    position = by_pairs(model, task, "cls", features, method.settings, how)
    assert position.step == 2 * -(-120 // 16)  # 20 rows, 3 pairs of one class and 3 of two for each
    return weights(model)


def test_a_text_is_read_once_in_a_step(tiny_bert: Path) -> None:
    task, features, _, _ = material(tiny_bert)
    paired = PairFeatures.of(features, Pairs(task.classes(features.inputs), 120, seed=0))
    batch = paired.batch(range(60))
    assert len(batch["input_ids"]) <= len(features) < 60 == len(batch["same"])
    for i in range(60):
        for place, row in zip(batch["pairs"][:, i], paired.pairs[[i]][:2, 0], strict=True):
            ids = features.inputs[row]["input_ids"]
            assert batch["input_ids"][place, : len(ids)].tolist() == list(ids)
    assert " with " in paired.places[0]


def test_killed_it_ends_with_the_same_bits(tmp_path: Path, tiny_bert: Path) -> None:
    """With dropout, in the middle of the second epoch."""
    whole = tuned(tiny_bert)
    steps = []

    def report(event: dict[str, Any]) -> None:
        steps.append(event.get("step"))
        if steps[-1] == 11:
            raise MemoryError  # nothing that the loop knows how to go on from

    with pytest.raises(MemoryError):
        tuned(tiny_bert, Outside(checkpoints=Checkpoints(tmp_path / "c"), report=report))
    events: list[dict[str, Any]] = []
    again = tuned(tiny_bert, Outside(checkpoints=Checkpoints(tmp_path / "c"), report=events.append))
    assert (events[0]["event"], events[0]["step"]) == ("resumed", 10)
    assert torch.equal(whole, again)
    assert not torch.equal(whole, tuned(tiny_bert, told={"iterations": 3, "loss": "supervised"}))


def test_micro_batches_change_nothing_and_are_refused_where_texts_are_compared(tmp_path: Path, tiny_bert: Path) -> None:
    still = made.without_dropout(tiny_bert, tmp_path / "still")
    plain = {"optimizer": "sgd", "learning_rate": 0.05}
    whole, cut = tuned(still, **plain), tuned(still, micro_batch_size=5, **plain)
    assert float((whole - cut).abs().max()) < 1e-6
    with pytest.raises(RecipeError, match="compares the rows of a step"):
        tuned(still, told={"loss": "supervised"}, micro_batch_size=5)


def test_the_supervised_loss_is_that_of_the_paper(tiny_bert: Path) -> None:
    task, *_ = material(tiny_bert)
    hidden = torch.randn(5, 1, 8, dtype=torch.float64)
    batch = {"labels": torch.tensor([0, 0, 1, 1, 1]), "same": torch.ones(3), "attention_mask": torch.ones(5, 1)}
    outputs = type("Outputs", (), {"last_hidden_state": hidden})()
    u = torch.nn.functional.normalize(hidden[:, 0], dim=-1).numpy()
    by_hand = []
    for i in range(5):
        others = [k for k in range(5) if k != i]
        total = sum(np.exp(u[i] @ u[k] / 0.1) for k in others)
        near = [k for k in others if batch["labels"][k] == batch["labels"][i]]
        by_hand.append(-np.mean([np.log(np.exp(u[i] @ u[p] / 0.1) / total) for p in near]))
    found = _Supervised(task, "cls", 0.1).loss(outputs, batch)
    assert found.item() == pytest.approx(3 * np.mean(by_hand))  # the loop divides by the three pairs
