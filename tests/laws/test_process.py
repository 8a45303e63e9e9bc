"""How many processes share a step changes nothing beyond rounding."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

import made

_DRIVER = Path(__file__).with_name("process_driver.py")


def _start(folder: Path, out: Path, rank: int, world: int, port: int) -> subprocess.Popen[bytes]:
    world_env = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    env |= {k: str(v) for k, v in world_env.items()} if world > 1 else {}
    return subprocess.Popen([sys.executable, str(_DRIVER), str(folder), str(out)], env=env)


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(tmp_path: Path, tiny_bert: Path) -> None:
    folder = made.without_dropout(tiny_bert, tmp_path / "still")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = [_start(folder, tmp_path / "one", 0, 1, port)]
    pair = [_start(folder, tmp_path / "two", rank, 2, port) for rank in range(2)]
    assert [process.wait(timeout=300) for process in alone + pair] == [0, 0, 0]
    one, two = load_file(tmp_path / "one"), load_file(tmp_path / "two")
    gap = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert gap < 1e-6, f"largest difference {gap}"
