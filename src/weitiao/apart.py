"""The run of a comparison, in the process that was started for it alone.

It is told what to do on standard input. Beside the run it leaves ``resampled.json`` (the main metric of the tuned model
in every resample of the test rows, by which it is compared row by row with others, and no row itself), ``cost.json``
and, where it had to stop for a stated reason, ``stopped.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import torch

from weitiao.errors import TrainingError, WeitiaoError
from weitiao.evaluation.comparison import Resamples, suited
from weitiao.evaluation.document import Report
from weitiao.files import write_json
from weitiao.integrity import read_object
from weitiao.recipe import Recipe
from weitiao.run import Material, Run, Trained

__all__ = ["work"]

_LOOK_S = 0.5


class _Kept(Run):
    """A run that keeps its main metric in every resample."""

    def test(self, material: Material, best: Trained, scores: Sequence[float]) -> Report:
        report, rows = super().test(material, best, scores), material.rows["test"]
        labels, metric = self.task.labels, self.metrics[self.main_metric]
        targets, answers = (
            suited(metric, found, labels)
            for found in (self.task.truth(rows), self.task.answer(best.said["test"], rows, best.calibration))
        )
        resamples = Resamples(len(rows), report.seed, report.resamples)  # those of the report's own interval
        (draws,) = resamples.values([(metric, targets, answers)], classes=len(labels))
        ids = hashlib.sha256("\n".join(map(str, material.data.splits.test.ids)).encode()).hexdigest()
        write_json(self.folder / "resampled.json", {"rows": ids, "draws": draws.tolist()})
        return report


def work() -> None:
    """Do the run of the job that stands on the first line of standard input, and end when that is closed."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _run_here(Recipe(**job["recipe"]), Path(job["folder"]), job["started"])


def _end_with_parent() -> None:
    """Wait until the process that asked is gone: nobody would read the answer, and the memory is somebody's."""
    while os.read(0, 1024):
        pass
    os._exit(1)


def _run_here(recipe: Recipe, folder: Path, started: float) -> None:
    """Run a recipe, and leave beside it what it cost and how its metric varies."""
    path = folder / "cost.json"
    before = read_object(folder, path.name) if path.is_file() else {"starts": []}
    starts = [*before["starts"], started]
    write_json(path, {**before, "starts": starts})
    try:
        with _watched(path):
            _Kept(recipe, folder).execute()
        if not (folder / "resampled.json").is_file():
            raise TrainingError(
                "this run was not made by a comparison, and kept nothing to compare it by.",
                where=folder,
                fix="Choose another folder with --folder, or delete this one.",
            )
    except WeitiaoError as error:
        state = "failed" if isinstance(error, TrainingError) else "refused"
        write_json(folder / "stopped.json", {"state": state, "reason": str(error)})
        return
    write_json(path, {**read_object(folder, path.name), "seconds": _spent(folder, starts)})


def _spent(folder: Path, starts: Sequence[float]) -> float:
    """Return the seconds of all processes that had a part in a run: of one that was killed, up to its last event."""
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    times = [json.loads(line)["time"] for line in lines]
    spent = time.time() - starts[-1]
    for begin, end in pairwise(starts):
        spent += max((at for at in times if begin <= at < end), default=begin) - begin
    return spent


@contextmanager
def _watched(path: Path) -> Iterator[None]:
    """Write the peaks down as they grow: a process that is killed can say nothing of its own, and others go on."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_S):
            _keep_peaks(path, 0.01)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        _keep_peaks(path, 0.0)


def _keep_peaks(path: Path, share: float) -> None:
    """Write down the peaks that grew by this share."""
    cost, peaks = read_object(path.parent, path.name), _peaks()
    grown = {key: peak for key, peak in peaks.items() if (peak or 0.0) > (cost.get(key) or 0.0) * (1 + share)}
    if grown or not cost.keys() >= peaks.keys():
        write_json(path, {**peaks, **cost, **grown})


def _peaks() -> dict[str, float | None]:
    """Return the largest memory of this process, and of the GPU, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    with suppress(OSError):  # Linux counts the memory of the process that started this one into ru_maxrss
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), peak)
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    return {"peak_mib": peak / 2**20, "peak_gpu_mib": gpu}
