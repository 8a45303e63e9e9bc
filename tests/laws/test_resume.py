"""Killed at any instant, a run goes on and ends with the bits of the run that was never killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import made

_DRIVER = Path(__file__).with_name("kill_driver.py")
_TRAINING = {
    "full": {"epochs": 2, "evaluate_steps": 4, "micro_batch_size": 3, "patience": 9, "checkpoint_seconds": 0.15},
    "lora": {"epochs": 2, "optimizer": "sgd", "schedule": "cosine", "checkpoint_seconds": 0.15},
    "top_layers": {"epochs": 2, "seeds": 2, "checkpoint_seconds": 0.0},
    "adalora": {"epochs": 2, "checkpoint_seconds": 0.0},  # it has a state of its own
    "contrastive": {"epochs": 1, "checkpoint_seconds": 0.0},  # pairs follow from their number
    "head": {},  # no checkpoints: it is solved anew, and comes out the same
}


@pytest.mark.slow
@pytest.mark.parametrize("method", list(_TRAINING))
def test_bit_identical_after_kills(tmp_path: Path, tiny_bert: Path, method: str, record_property: Any) -> None:
    data = made.write_csv(tmp_path / "rows.csv", made.rows(72))
    training: dict[str, Any] = _TRAINING[method] | ({"batch_size": 8} if method != "head" else {})
    recipe = {
        "data": str(data),
        "model": {"name": str(tiny_bert)},
        "method": method,
        "regularizers": ["r_drop"] if method == "full" else [],
        "training": training,
        "evaluation": {"resamples": 100},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    seed = 100 * list(_TRAINING).index(method)
    done = subprocess.run(
        [sys.executable, str(_DRIVER), str(tmp_path), str(tmp_path / "recipe.yaml"), "5", str(seed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    every = f", checkpoints every {training['checkpoint_seconds']} s" if "checkpoint_seconds" in training else ""
    record_property("table", f"{method}{every}, killed: " + "; ".join(found["kills"]))
    assert len(found["kills"]) >= 5
    assert found["differences"] == []
