"""A full disk or a torn checkpoint costs at most one interval, and is said."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import made
from weitiao.plugins import find
from weitiao.training.checkpoint import Checkpoints
from weitiao.training.loop import Loop, Outside
from weitiao.training.settings import TrainingSettings


def _loop(model_folder: Path, folder: Path, events: list[dict[str, Any]]) -> Loop:
    task, features, build = made.training(model_folder, 48)
    model = find("methods", "full")().apply(build(), seed=0)
    settings = TrainingSettings(batch_size=8, epochs=2, checkpoint_seconds=0.0)
    return Loop(model, task, features, settings, 0, (), Outside(Checkpoints(folder), report=events.append))


def _weights(loop: Loop) -> list[torch.Tensor]:
    return [p.detach().clone() for p in loop.plain_model.parameters()]


@contextmanager
def _no_room() -> Iterator[None]:
    """Let the kernel refuse to write files of more than 4 KiB, as a full disk refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path: Path, tiny_bert: Path) -> None:
    calm: list[dict[str, Any]] = []
    reference = _loop(tiny_bert, tmp_path / "calm", calm)
    reference.run()

    events: list[dict[str, Any]] = []
    loop = _loop(tiny_bert, tmp_path / "full", events)
    step = loop.take_step
    save = loop.save

    def save_on_a_full_disk() -> None:
        if 4 <= loop.position.step <= 6:
            with _no_room():
                save()
            assert [p.name for p in sorted((tmp_path / "full").iterdir())] == ["step-00000002", "step-00000003"]
        else:
            save()

    loop.take_step, loop.save = step, save_on_a_full_disk  # type: ignore[method-assign]
    loop.run()
    failed = [e for e in events if e["event"] == "checkpoint_failed"]
    assert [e["step"] for e in failed] == [4, 5, 6]
    assert "Make room on the disk" in failed[0]["reason"]
    assert [p.name for p in sorted((tmp_path / "full").iterdir())] == ["step-00000011", "step-00000012"]
    assert all(torch.equal(a, b) for a, b in zip(_weights(reference), _weights(loop), strict=True))


def _stop_after(loop: Loop, step: int) -> None:
    """Run, and press Ctrl-C in the step after which `step` are taken."""
    take_step = loop.take_step

    def interrupted() -> None:
        take_step()
        if loop.position.step == step:
            signal.raise_signal(signal.SIGINT)

    loop.take_step = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        loop.run()


@pytest.mark.parametrize("damage", ["cut short", "one byte flipped", "a file gone", "manifest garbled"])
def test_a_torn_checkpoint_is_left_out_and_the_one_before_taken(tmp_path: Path, tiny_bert: Path, damage: str) -> None:
    reference = _loop(tiny_bert, tmp_path / "calm", [])
    reference.run()

    _stop_after(_loop(tiny_bert, tmp_path / "torn", []), 7)
    newest = tmp_path / "torn" / "step-00000007"
    weights = newest / "weights.safetensors"
    if damage == "cut short":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "one byte flipped":
        content = bytearray(weights.read_bytes())
        content[-50] ^= 1
        weights.write_bytes(bytes(content))
    elif damage == "a file gone":
        weights.unlink()
    else:
        (newest / "manifest.json").write_text("{", encoding="utf-8")

    events: list[dict[str, Any]] = []
    loop = _loop(tiny_bert, tmp_path / "torn", events)
    loop.run()
    resumed = events[0]
    assert (resumed["event"], resumed["step"], resumed["torn"]) == ("resumed", 6, ["step-00000007"])
    assert all(torch.equal(a, b) for a, b in zip(_weights(reference), _weights(loop), strict=True))


def test_resuming_goes_on_with_the_same_bits(tmp_path: Path, tiny_bert: Path) -> None:
    reference = _loop(tiny_bert, tmp_path / "calm", [])
    reference.run()
    _stop_after(_loop(tiny_bert, tmp_path / "stopped", []), 5)
    events: list[dict[str, Any]] = []
    second = _loop(tiny_bert, tmp_path / "stopped", events)
    torch.rand(3)  # whatever the process did before must not matter
    second.run()
    assert events[0]["event"] == "resumed"
    assert events[0]["step"] == 5
    assert all(torch.equal(a, b) for a, b in zip(_weights(reference), _weights(second), strict=True))


def test_an_interrupt_in_the_last_step_keeps_it_and_the_next_run_only_finishes(tmp_path: Path, tiny_bert: Path) -> None:
    reference = _loop(tiny_bert, tmp_path / "calm", [])
    reference.run()
    _stop_after(_loop(tiny_bert, tmp_path / "stopped", []), reference.total_steps)
    newest = max(p.name for p in (tmp_path / "stopped").iterdir())
    assert newest == f"step-{reference.total_steps:08d}"
    events: list[dict[str, Any]] = []
    second = _loop(tiny_bert, tmp_path / "stopped", events)
    assert second.run().done
    assert [(e["event"], e["step"]) for e in events] == [("resumed", reference.total_steps)]
    assert all(torch.equal(a, b) for a, b in zip(_weights(reference), _weights(second), strict=True))
