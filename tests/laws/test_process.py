"""How many processes share a step changes nothing beyond rounding, and losing one costs no more than an interval."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

import made

_HERE = Path(__file__).parent
_CLI = ("-m", "weitiao.cli", "run")
_LIMIT_S = 240


def _start(command: list[str], world: int = 2) -> list[subprocess.Popen[bytes]]:
    """Start Python once for each process, with what a launcher would put into the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = []
    for rank in range(world):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
        if world > 1:
            env |= {k: str(v) for k, v in {"RANK": rank, "LOCAL_RANK": rank, **together}.items()}
        started.append(subprocess.Popen([sys.executable, *command], env=env))
    return started


def _end(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    try:
        return [process.wait(timeout=_LIMIT_S) for process in processes]
    finally:
        for process in processes:
            process.kill()


def _steps(folder: Path) -> list[dict[str, Any]]:
    """Return what was told of each step, without a line that is being written."""
    path = folder / "events.jsonl"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    events = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [event for event in events if event["event"] == "step"]


def _await_step(folder: Path, step: int, alive: Callable[[], bool]) -> None:
    until = time.monotonic() + _LIMIT_S
    while not any(event["step"] >= step for event in _steps(folder)):
        assert alive(), "it ended before it was to be killed"
        assert time.monotonic() < until
        time.sleep(0.005)


def _gap(one: Path, other: Path) -> tuple[float, float]:
    """Return the largest difference of a weight, and of the loss of a step, however often that was taken."""
    weights = [load_file(folder / "bundle" / "model" / "model.safetensors") for folder in (one, other)]
    curve = {event["step"]: event for event in _steps(one)}
    assert {event["step"] for event in _steps(other)} == set(curve)
    assert all(event["rows"] == curve[event["step"]]["rows"] for event in _steps(other))
    return (
        max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]),
        max(abs(event["loss"] - curve[event["step"]]["loss"]) for event in _steps(other)),
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """Folder of a whole run in one process; its recipe lies beside it."""
    from weitiao.recipe import Recipe
    from weitiao.run import run

    folder = tmp_path_factory.mktemp("processes")
    recipe = {
        "data": str(made.write_csv(folder / "rows.csv", made.rows(72))),
        "model": str(made.without_dropout(tiny_bert, folder / "still")),
        "training": {"batch_size": 8, "micro_batch_size": 3, "optimizer": "sgd", "learning_rate": 0.05}
        | {"epochs": 6, "evaluate_steps": 21, "checkpoint_seconds": 0},
        "evaluation": {"resamples": 100, "main_metric": "log_loss"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    run(Recipe.load(folder / "recipe.yaml"), folder / "alone", show=False)
    return folder / "alone"


@pytest.fixture(scope="module")
def left(alone: Path) -> Path:
    """Folder of a run of two processes of which one was killed; the other has to end by itself."""
    folder = alone.with_name("left")
    pair = _start([*_CLI, str(alone.with_name("recipe.yaml")), "--folder", str(folder), "--quiet"])
    _await_step(folder, 9, lambda: pair[0].poll() is None)
    pair[1].send_signal(signal.SIGKILL)
    codes = _end(pair)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] > 0
    assert not (folder / "bundle").exists()
    return folder


@pytest.mark.slow
def test_two_processes_train_as_one_and_resume_with_the_same_bits(tmp_path: Path, tiny_bert: Path) -> None:
    plain = made.without_dropout(tiny_bert, tmp_path / "still")
    command = [str(_HERE / "process_driver.py"), str(plain), str(tiny_bert)]
    started = [*_start([*command, str(tmp_path / "one")], world=1), *_start([*command, str(tmp_path / "two")])]
    assert _end(started) == [0, 0, 0]
    one, two = load_file(tmp_path / "one"), load_file(tmp_path / "two")
    gap = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert gap < 1e-6, f"largest difference {gap}"


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one(alone: Path, record_property: Any) -> None:
    folder = alone.with_name("pair")
    assert _end(_start([*_CLI, str(alone.with_name("recipe.yaml")), "--folder", str(folder), "--quiet"])) == [0, 0]
    weights, loss = _gap(alone, folder)
    record_property("table", f"two processes and one: largest difference of a weight {weights:.1e}, a loss {loss:.1e}")
    assert weights < 1e-6
    assert loss < 1e-6
    assert len(_steps(folder)) == len(_steps(alone)), "one process tells of a step, not each"


@pytest.mark.slow
def test_a_run_with_a_part_of_the_weights_in_each_process_is_that_of_one(alone: Path, record_property: Any) -> None:
    folder = alone.with_name("parts")
    words = [str(alone.with_name("recipe.yaml")), "resources.shard=true", "--folder", str(folder), "--quiet"]
    pair = _start([*_CLI, *words])
    _await_step(folder, 9, lambda: pair[0].poll() is None)
    pair[1].send_signal(signal.SIGKILL)
    _end(pair)
    on = [*_CLI, str(folder), "resources.shard=true", "--quiet"]
    assert _end(_start(on)) == [0, 0]
    weights, loss = _gap(alone, folder)
    record_property("table", f"parts, one killed, and one process: weights {weights:.1e}, losses {loss:.1e}")
    assert max(weights, loss) < 1e-6


@pytest.mark.slow
def test_a_run_that_lost_a_process_goes_on_with_two(alone: Path, left: Path) -> None:
    folder = Path(shutil.copytree(left, left.with_name("left-two")))
    assert _end(_start([*_CLI, str(folder), "--quiet"])) == [0, 0]
    assert max(_gap(alone, folder)) < 1e-6
    assert len(_steps(folder)) < 2 * len(_steps(alone)), "it went on, and did not begin again"


@pytest.mark.slow
def test_a_run_that_lost_a_process_goes_on_with_one(alone: Path, left: Path) -> None:
    from weitiao.recipe import Recipe
    from weitiao.run import run

    folder = Path(shutil.copytree(left, left.with_name("left-one")))
    run(Recipe.load(folder / "recipe.yaml"), folder, show=False)
    assert max(_gap(alone, folder)) < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='ray is not installed: pip install -e ".[ray]"')
def test_a_ray_cluster_of_two_nodes_loses_a_worker_and_finishes(alone: Path, record_property: Any) -> None:
    folder = alone.with_name("ray")
    driver = subprocess.Popen(
        [sys.executable, str(_HERE / "ray_driver.py"), str(alone.with_name("recipe.yaml")), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        said = driver.communicate(timeout=_LIMIT_S)[0].decode()
    finally:
        driver.kill()
    assert driver.returncode == 0, said
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [event["event"] for event in events].count("resumed") == 1, said
    weights, loss = _gap(alone, folder)
    record_property("table", f"Ray, one of two workers killed: weights {weights:.1e}, losses {loss:.1e}")
    assert max(weights, loss) < 1e-6
