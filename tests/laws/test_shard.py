"""That each process holds a part of the weights, and not all, changes nothing beyond rounding, or is refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import made
from trial import train, trial
from weitiao import plugins
from weitiao.errors import RecipeError
from weitiao.recipe import Recipe
from weitiao.run import run
from weitiao.training.loop import Outside

_DRIVER = Path(__file__).with_name("shard_driver.py")
# what works on whole weights, or on the rows of a step together
_REFUSED = {"optimizer adafactor", "optimizer adamw_8bit", "method adalora", "method qlora"} | {
    f"regularizer {name}"
    for name in ("ema", "swa", "l2_sp", "mixout", "gradual_unfreezing", "mixup", "supervised_contrastive")
}


@pytest.mark.slow
def test_every_optimizer_regularizer_and_method_trains_in_parts_as_whole(
    tiny_model: Any, tmp_path: Path, record_property: Any
) -> None:
    bert, llama = (made.without_dropout(tiny_model(family), tmp_path / family) for family in ("bert", "llama"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""}
    env |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words = [str(bert), str(llama), str(tiny_model("t5", writer=True)), str(tmp_path / "checkpoints")]
    pair = [
        subprocess.Popen(
            [sys.executable, str(_DRIVER), *words],
            env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=400)[0] for process in pair]
    finally:
        for process in pair:
            process.kill()
    assert [process.returncode for process in pair] == [0, 0], said[0]
    found = json.loads(next(line for line in said[0].splitlines() if line.startswith("{")))
    assert found.pop("resumed")
    assert found.pop("held") == pytest.approx(0.5, abs=0.05)
    assert {name for name, value in found.items() if isinstance(value, str)} == _REFUSED, found
    assert all(value.startswith("refused") for value in found.values() if isinstance(value, str)), found
    gaps = {name: value for name, value in found.items() if isinstance(value, float)}
    assert {name for name in found if name.startswith("method")} == {
        f"method {name}" for name in plugins.names("methods") if plugins.find("methods", name).trains == "gradient"
    }
    worst = max(gaps, key=lambda name: gaps[name])
    record_property(
        "table", f"weights in parts and whole, {len(gaps)} kinds: largest difference {gaps[worst]:.1e} ({worst})"
    )
    assert gaps[worst] < 5e-6


def test_one_process_holds_all(tiny_bert: Path) -> None:
    at = trial("classification", tiny_bert)
    with pytest.raises(RecipeError, match=r"resources\.shard has no effect in one process"):
        train(at.build(), at, outside=Outside(shard=True))


def test_a_head_that_is_solved_has_no_parts(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        data=str(made.write_csv(tmp_path / "rows.csv", made.rows(40))),
        model={"name": str(tiny_bert), "pooling": "mean"},
        method="head",
        resources={"shard": True},
    )
    with pytest.raises(RecipeError, match=r"resources\.shard has no effect with the method head"):
        run(recipe, tmp_path / "run", show=False)
