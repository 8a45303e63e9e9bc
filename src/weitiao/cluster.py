"""Workers of a Ray cluster, on one machine or many: start them, and start them again when some are lost.

Ray finds the machines, starts the workers and connects them; what they do is the same run that one process would do.
They meet in the run's folder, which all machines must see under the same path: its checkpoints are where workers
that are started again go on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weitiao.errors import MissingExtra, TrainingError
from weitiao.training.settings import ResourceSettings

__all__ = ["in_workers"]

_PATIENCE_S = 12 * 3600  # how long workers wait for each other; Ray itself notices those that died


def in_workers(work: Callable[[dict[str, Any]], Any], job: dict[str, Any], resources: ResourceSettings) -> Any:
    """Call `work` with `job` in every worker, and return what it returned in the first.

    A Ray cluster that runs here, or whose address is in ``RAY_ADDRESS``, is used; if there is none, one is started on
    this machine for as long as this process lives.

    Parameters
    ----------
    work
        A function of a module that the workers can import.
    job
        JSON values; ``job["folder"]`` is the run's folder, where Ray puts its own notes while the workers work, and
        ``job["show"]`` says whether what the workers print is printed here.

    Raises
    ------
    MissingExtra
        Ray is not installed.
    TrainingError
        Workers failed more often than ``max_failures`` allows.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]  # an extra
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError  # pyright: ignore[reportMissingImports]  # an extra
        from ray.train.torch import TorchConfig, TorchTrainer  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError as error:
        raise MissingExtra("ray", "ray", "resources.cluster: ray") from error
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of a run is told to anybody
        ray.init(log_to_driver=job["show"])
    notes = Path(job["folder"]) / "ray"
    trainer = TorchTrainer(
        work,
        train_loop_config=job,
        torch_config=TorchConfig(timeout_s=_PATIENCE_S),
        scaling_config=ScalingConfig(**scaling(resources)),
        run_config=RunConfig(
            storage_path=str(notes), failure_config=FailureConfig(max_failures=resources.max_failures)
        ),
    )
    try:
        returned = trainer.fit().return_value
    except TrainingFailedError as error:
        raise TrainingError(
            f"the workers failed {resources.max_failures + 1} times; the last time: {error}.",
            fix=f"What Ray says of each attempt is under {notes}. The same command goes on where training stopped.",
        ) from error
    shutil.rmtree(notes, ignore_errors=True)
    return returned


def scaling(resources: ResourceSettings) -> dict[str, Any]:
    """Return what is asked of Ray, as arguments of its ``ScalingConfig``."""
    few, many = resources.min_workers, resources.workers
    return {
        "num_workers": many if few is None else (few, many),
        "use_gpu": resources.use_gpu,
        "resources_per_worker": {"CPU": resources.cpus_per_worker, **({"GPU": 1} if resources.use_gpu else {})},
    }
