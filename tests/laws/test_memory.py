"""The memory law: a training that memory gets short for ends with the weights it was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trial import Trial, make, train, trial, weights, without_dropout
from weitiao.errors import RecipeError, TrainingError
from weitiao.evaluation.inference import ask
from weitiao.training.checkpoint import Checkpoints
from weitiao.training.hook import Hook
from weitiao.training.loop import Outside
from weitiao.training.prefix import Reader


def give_room_for(rows: int, model: nn.Module, *, training: bool = False) -> nn.Module:
    """Let the model raise what a full device raises, when it is called with more rows (in training only)."""

    def refuse(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if len(kwargs["input_ids"]) > rows and (module.training or not training):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    model.register_forward_pre_hook(refuse, with_kwargs=True)
    return model


@pytest.fixture
def at(tiny_bert: Path) -> Trial:
    return trial("classification", tiny_bert)


def plain(at: Trial) -> nn.Module:
    return without_dropout(at.build()).requires_grad_(True)


@pytest.mark.parametrize("room", [1, 2, 5])
def test_the_weights_are_those_of_the_batch_asked_for(room: int, at: Trial) -> None:
    whole, tight = plain(at), give_room_for(room, plain(at))
    events: list[dict[str, Any]] = []
    how = {"optimizer": {"name": "sgd", "momentum": 0.0}, "epochs": 3}
    train(whole, at, **how)
    loop = train(tight, at, outside=Outside(report=events.append), **how)
    torch.testing.assert_close(weights(tight), weights(whole), rtol=0, atol=1e-6)
    assert loop.position.step == 3
    assert loop.position.micro_batch_size in range(1, room + 1)
    assert [e["micro_batch_size"] for e in events if e["event"] == "memory"][-1] == loop.position.micro_batch_size
    assert [e["rows"] for e in events if e["event"] == "step"] == [len(at.features)] * 3


def test_a_killed_run_goes_on_with_what_memory_had_room_for(at: Trial, tmp_path: Path) -> None:
    def go(folder: Path, steps: int) -> torch.Tensor:
        model = give_room_for(3, at.build().requires_grad_(True))  # with dropout: the masks have to be the same
        outside = Outside(checkpoints=Checkpoints(folder))
        train(model, at, outside=outside, batch_size=8, epochs=4, max_steps=steps, checkpoint_seconds=0)
        return weights(model)

    whole = go(tmp_path / "whole", 6)

    class Killed(Exception):
        pass

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 4:
            raise Killed

    model = give_room_for(3, at.build().requires_grad_(True))
    outside = Outside(checkpoints=Checkpoints(tmp_path / "killed"), report=report)
    with pytest.raises(Killed):
        train(model, at, outside=outside, batch_size=8, epochs=4, max_steps=6, checkpoint_seconds=0)
    assert torch.equal(go(tmp_path / "killed", 6), whole)


def test_a_row_that_does_not_fit_says_what_to_do(at: Trial) -> None:
    with pytest.raises(TrainingError, match=r"memory ran out at step 1 with 1 rows.*a single row does not fit"):
        train(give_room_for(0, plain(at), training=True), at)


class Couples(Hook):
    name = "couples"
    couples_rows = True


def test_a_hook_that_needs_the_rows_together_is_not_cut_silently(at: Trial) -> None:
    with pytest.raises(TrainingError, match="couples needs the rows of a step together"):
        train(give_room_for(2, plain(at)), at, hooks=[Couples()])
    with pytest.raises(RecipeError, match="the regularizer couples compares the rows of a step"):
        train(plain(at), at, hooks=[Couples()], micro_batch_size=2)


def test_other_errors_are_not_taken_for_it(at: Trial) -> None:
    model = plain(at)

    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="a bug"):
        ask(model, at.task, at.features)


def test_measurement_goes_on_with_smaller_batches(at: Trial) -> None:
    model = at.build()
    expected = ask(model, at.task, at.features, batch_size=64)
    said = ask(give_room_for(2, model), at.task, at.features, batch_size=64)
    np.testing.assert_allclose(said, expected, rtol=0, atol=1e-6)


def test_reading_with_the_untuned_model_goes_on_with_smaller_batches(at: Trial) -> None:
    expected = Reader(at.build(), at.task, at.pooling).read(at.features).hidden
    model = at.build()
    from weitiao.models import parts

    give_room_for(2, parts.backbone(model))
    said = Reader(model, at.task, at.pooling).read(at.features).hidden
    torch.testing.assert_close(said, expected, rtol=0, atol=1e-6)


def test_keeping_fewer_activations_changes_no_weight(at: Trial) -> None:
    kept, again = plain(at), plain(at)
    train(kept, at)
    train(again, at, gradient_checkpointing=True)
    torch.testing.assert_close(weights(again), weights(kept), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["top_layers", "lora"])
def test_and_wakes_no_frozen_layer(method: str, at: Trial) -> None:
    model = make("methods", method).apply(at.build(), seed=0)
    train(model, at, gradient_checkpointing=True, epochs=1)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    assert not model.get_input_embeddings()._forward_hooks


def test_an_optimizer_that_does_not_fit_is_told(at: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(TrainingError, match=r"while the optimizer took step 1.*remembers less"):
        train(plain(at), at)
