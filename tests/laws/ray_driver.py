"""Run a recipe on a Ray cluster of two nodes, and kill one of its two workers on the way.

Usage: ray_driver.py RECIPE FOLDER
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import psutil
import ray
from ray.cluster_utils import Cluster

from weitiao.recipe import Recipe
from weitiao.run import run


def kill_one(folder: Path) -> None:
    """Kill the youngest worker when a few steps have been taken."""
    events = folder / "events.jsonl"
    while not (events.is_file() and events.read_text(encoding="utf-8").count('"event": "step"') >= 9):
        time.sleep(0.005)
    workers = [p for p in psutil.Process().children(recursive=True) if "ray::RayTrainWorker" in " ".join(p.cmdline())]
    newest = max(workers, key=lambda process: process.create_time())
    print(f"{len(workers)} workers; {newest.pid} is killed", flush=True)
    newest.kill()


def main() -> None:
    """Do as the usage says."""
    recipe, folder = sys.argv[1], Path(sys.argv[2])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.connect()
    threading.Thread(target=kill_one, args=(folder,), daemon=True).start()
    overrides = ["resources.cluster=ray", "resources.workers=2", "resources.max_failures=1"]
    run(Recipe.load(recipe, overrides), folder, show=False)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
