"""Kill a run again and again at random instants, let it end, and compare it with a run never killed.

Usage: kill_driver.py FOLDER RECIPE KILLS SEED

Prints one JSON object: the kills, and every difference found (none, if the law holds). The libraries are imported
once; every attempt is a child process of its own, killed by SIGKILL, either after a random time or at a random call
of a place where a kill hurts most: between the files of a checkpoint, before its rename, in the middle of a
measurement or of the bundle.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import weitiao.files as files
import weitiao.training.checkpoint as checkpoint
import weitiao.training.store as store
from weitiao import bundle
from weitiao.recipe import Recipe
from weitiao.run import Run
from weitiao.tasks.base import Features
from weitiao.training.loop import Loop

# name -> (object, attribute); the child dies at the n-th call
SITES: dict[str, tuple[Any, str]] = {
    "between the steps": (Loop, "take_step"),
    "in a measurement": (Run, "_measure"),
    "before a forward pass": (Features, "batch"),
    "between the tensors of a checkpoint": (checkpoint, "save_file"),
    "while a checkpoint is flushed": (files, "flush"),
    "while frozen states are flushed": (store, "flush"),
    "between frozen states": (store.Writer, "write"),
    "before a bundle's files": (bundle, "write_json"),
    "while a checkpoint is written": (checkpoint.Checkpoints, "write"),
    "before the honest test": (Run, "test"),
    "before the bundle is verified": (Run, "finish"),
}
WITHOUT_STEPS = (
    "in a measurement",
    "before a forward pass",
    "while frozen states are flushed",
    "before a bundle's files",
    "before the honest test",
    "before the bundle is verified",
)
MOST_CALLS = {
    "between the steps": 14,
    "in a measurement": 3,
    "before a forward pass": 12,
    "between the tensors of a checkpoint": 30,
    "while a checkpoint is flushed": 60,
    "while frozen states are flushed": 12,
    "between frozen states": 3,
    "before a bundle's files": 2,
    "while a checkpoint is written": 10,
    "before the honest test": 1,
    "before the bundle is verified": 1,
}


def attempt(recipe: Recipe, folder: Path, prepare: Callable[[], None]) -> int:
    """Run in a child; return how it ended: 0 done, -9 killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            os.environ["WEITIAO_CACHE"] = str(folder.parent / f"cache-{folder.name}")  # nothing comes from the other
            prepare()
            Run(recipe, folder, show=False).execute()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at(site: str, call: int) -> None:
    """Arrange that this process dies at the n-th call of a place."""
    owner, name = SITES[site]
    original, calls = getattr(owner, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def die_after(seconds: float) -> None:
    """Arrange that this process dies at whatever instruction it is then: the kernel's alarm kills it."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def plan(rng: random.Random, duration: float, sites: list[str]) -> tuple[str, Callable[[], None]]:
    """Choose where the next attempt dies."""
    if rng.random() < 0.35:
        seconds = rng.uniform(0.02, duration)
        return f"after {seconds:.3f} s", lambda: die_after(seconds)
    site = rng.choice(sites)
    call = rng.randint(1, MOST_CALLS[site])
    return f"{site}, call {call}", lambda: die_at(site, call)


def differences(reference: Path, killed: Path) -> list[str]:
    """Return what differs: weights, tokenizer, report (but for seconds), and the loss of every step ever taken."""
    found = []
    if not (killed / "report.html").is_file():
        found.append("there is no report.html")
    if (killed / "checkpoints").exists():
        found.append("the checkpoints are still there")
    for name in files.list_files(reference / "bundle"):
        if name in ("checksums.json", "report.html"):  # hold the seconds, or hashes of what does
            continue
        one, two = (folder / "bundle" / name for folder in (reference, killed))
        if name == "report.json":
            a, b = (json.loads(path.read_text(encoding="utf-8")) for path in (one, two))
            a["training"]["seconds"] = b["training"]["seconds"] = 0
            if a != b:
                found.append(f"{name}: {[k for k in a if a[k] != b[k]]}")
        elif one.read_bytes() != two.read_bytes():
            found.append(name)
    steps = [json.loads(line) for line in (reference / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    right = {(e["seed"], e["step"]): (e["loss"], e["learning_rate"], e["rows"]) for e in steps if e["event"] == "step"}
    for line in (killed / "events.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # the line that was being written
            continue
        if event["event"] != "step":
            continue
        expected = right[event["seed"], event["step"]]
        if (event["loss"], event["learning_rate"], event["rows"]) != expected:
            found.append(f"step {event['step']}: loss {event['loss']} and not {expected[0]}")
    return found


def main() -> None:
    """Do as the usage says."""
    folder, recipe_path, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    recipe, rng = Recipe.load(recipe_path), random.Random(seed)
    started = time.monotonic()
    if attempt(recipe, folder / "reference", lambda: None) != 0:
        raise SystemExit("the run that is not killed failed")
    duration = time.monotonic() - started
    text = (folder / "reference" / "events.jsonl").read_text(encoding="utf-8")
    sites = list(SITES if '"step"' in text else WITHOUT_STEPS)
    done: list[str] = []
    wrong: list[str] = []
    while len(done) < kills:
        run = folder / "killed"
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(folder / "cache-killed", ignore_errors=True)
        for _ in range(rng.randint(2, 6)):
            where, prepare = plan(rng, duration, sites)
            code = attempt(recipe, run, prepare)
            if code in (-signal.SIGKILL, -signal.SIGALRM):
                done.append(where)
            elif code == 0:
                break
            else:
                wrong.append(f"an attempt to die {where} ended with {code}")
        if attempt(recipe, run, lambda: None) != 0:
            wrong.append(f"could not go on after {done[-3:]}")
        else:
            wrong += differences(folder / "reference", run)
    print(json.dumps({"kills": done, "differences": wrong, "seconds": duration}))


if __name__ == "__main__":
    main()
