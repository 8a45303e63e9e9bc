"""The scripts in benchmarks/ go with the code: each that calls inner functions runs, on a tiny model and few rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.slow
def test_train_speed_measures_both_sides(real_data: Path, tiny_bert: Path, tmp_path: Path) -> None:
    few = {
        "--rows": "120",
        "--test-rows": "20",
        "--epochs": "1",
        "--pairs": "1",
        "--max-length": "16",
        "--threads": "1",
    }
    told = few | {"--model": str(tiny_bert), "--methods": "head", "--out": str(tmp_path / "out.json")}
    words = [word for pair in told.items() for word in pair]
    done = subprocess.run(
        [sys.executable, str(_FOLDER / "train_speed.py"), *words, "--second"],
        env={**os.environ, "WEITIAO_DATA": str(real_data), "WEITIAO_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| head |" in done.stdout or "| `head` |" in done.stdout, done.stdout
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
