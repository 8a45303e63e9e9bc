"""``weitiao compare``: several methods on the same rows, and one table, the best first.

::

    FOLDER/   comparison.json  comparison.html
              METHOD/   the folder of an ordinary run, and: resampled.json  cost.json  log.txt

Each method is a run in a process of its own, so that its seconds and its memory are its own, and its death costs one
line of the table. What a killed comparison had finished is kept: the same call does the rest.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from weitiao.errors import RecipeError, TrainingError, UnknownName, WeitiaoError, did_you_mean
from weitiao.evaluation.document import MetricInfo, Report
from weitiao.evaluation.ranking import Comparison, Cost, Entry, Measured, rank
from weitiao.files import list_files, write_text
from weitiao.integrity import read_object
from weitiao.plugins import find, names
from weitiao.recipe import NOT_OF_PAIRS, Recipe

__all__ = ["Comparison", "compare", "recipe_for"]

_RATES = ("learning_rate", "head_learning_rate")
_LAST_LINES = 4
_PATIENCE_S = 20
Say = Callable[[str], None]


def compare(
    recipe: Recipe,
    methods: str | Sequence[str] = "all",
    folder: str | Path = "runs/compare",
    *,
    share_rate: bool = False,
    say: Say = lambda line: None,
) -> Comparison:
    """Run methods on the same rows with the same seed, and rank them on the same test rows.

    Parameters
    ----------
    recipe
        Its method's settings and learning rates hold for that method alone; see `recipe_for`.
    methods
        Their names, joined by commas or a sequence, or ``"all"``.
    folder
        Holds the table and a run's folder for each method. One that holds an unfinished comparison of the same recipe
        is gone on with: methods that are done are not run again.
    share_rate
        Give the recipe's learning rates to all methods.
    say
        Called with a line when a method begins and when it ends.

    Raises
    ------
    UnknownName
        There is no method of a name; nothing was run.
    RecipeError
        The folder holds a comparison of another recipe, or the recipe cannot be compared with.
    DataError, ModelError
        The rows or the model cannot be had at all. What only one method cannot do is a line of the table.
    """
    folder, chosen = Path(folder), _chosen(methods)
    _refuse(recipe, share_rate)
    recipes, left_out, stopped = {}, {}, {}
    for key, name in chosen.items():
        try:
            recipes[key], left_out[key] = recipe_for(recipe, name, share_rate=share_rate)
        except WeitiaoError as error:
            stopped[key] = Entry(key, "refused", str(error))
        except Exception as error:  # a method's file that cannot be imported is its own misfortune
            stopped[key] = Entry(key, "failed", f"{type(error).__name__}: {error}")
    with _claimed(folder):
        _refuse_another(recipe, folder, "recipe.yaml")
        for key, one in recipes.items():
            _refuse_another(one, folder / key, "run.json")
        write_text(folder / "recipe.yaml", recipe.to_yaml())
        if any(not _finished(folder / key) for key in recipes):
            _look(recipe)
        for number, key in enumerate(chosen, 1):
            if key in recipes and not _finished(folder / key):
                say(f"{key} ({number} of {len(chosen)}) ...")
                if (entry := _run_apart(recipes[key], folder / key)) is not None:
                    stopped[key] = entry
                done = {k: left_out[k] for k in recipes if _finished(folder / k)}
                say(_line(_rank(recipe, folder, done, stopped), key))  # a killed comparison leaves its table
        return _rank(recipe, folder, {k: left_out[k] for k in recipes if _finished(folder / k)}, stopped)


def recipe_for(recipe: Recipe, method: str, *, share_rate: bool = False) -> tuple[Recipe, tuple[str, ...]]:
    """Return the recipe with another method, and the settings that had to be left out for it.

    What says how a method works stays with the method of the recipe: its settings, its learning rates (a rate that is
    right for an adapter ruins a model whose every weight moves, and the other way round), and the settings of the
    task that such a method brings along (a prompt, which all methods that ask in words share, and examples in it).
    Others take their defaults. All else holds for all, so that a difference is one of the methods; but what a method
    has no part for is left out: all that only a training loop reads, where it takes no steps.

    Raises
    ------
    RecipeError
        The method cannot be combined with the rest of the recipe.
    """
    if method == recipe.method.name:
        return recipe, ()
    own, other = find("methods", recipe.method.name), find("methods", method)
    raw: dict[str, Any] = recipe.dump() | {"method": method}
    if not share_rate:
        raw["training"] |= dict.fromkeys(_RATES)
    given = recipe.task.settings.model_dump(mode="json", exclude_defaults=True)
    raw["task"] = _without(given, own.task_defaults, other.task_defaults) | {"name": recipe.task.name}
    if other.trains == "gradient":
        return Recipe(**raw), ()
    plain, training = type(recipe.training)().model_dump(mode="json"), raw["training"]
    dropped = set(NOT_OF_PAIRS if other.trains == "pairs" else training)
    if other.trains == "pairs" and find("schedules", recipe.training.schedule.name).measures:
        dropped.add("schedule")
    left_out = [f"training.{k}" for k, v in training.items() if k in dropped and k not in _RATES and v != plain[k]]
    left_out += ["regularizers"] if raw["regularizers"] else []
    left_out += ["model.dropout"] if raw["model"]["dropout"] is not None else []
    raw["training"] = {k: v for k, v in training.items() if k not in dropped}
    raw |= {"regularizers": [], "model": raw["model"] | {"dropout": None}}
    if recipe.self_training.rounds and other.trains == "nothing":
        left_out += ["self_training", "data.unlabeled"]
        raw |= {"self_training": {}, "data": raw["data"] | {"unlabeled": None}}
    if raw["data"]["unlabeled"] is not None and not recipe.self_training.rounds:  # they were the regularizers'
        left_out.append("data.unlabeled")
        raw["data"] |= {"unlabeled": None}
    return Recipe(**raw), tuple(left_out)


def _without(given: Mapping[str, Any], own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of the task less those that belong to a method and not to another, inside groups, too."""
    left: dict[str, Any] = {}
    for key, value in given.items():
        if key not in own:
            left[key] = value
        elif key in other:
            inner = all(isinstance(one, Mapping) for one in (value, own[key], other[key]))
            left[key] = _without(value, own[key], other[key]) if inner else value
    return left


def _chosen(methods: str | Sequence[str]) -> dict[str, str]:
    """Return the name of each method's folder to the name of the method."""
    known = names("methods")
    if isinstance(methods, str):
        methods = known if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    for name in methods:
        if name not in known and not name.endswith(".py"):
            fix = f"Known: all, {', '.join(known)}."
            raise UnknownName(f"no method is called {name!r}.{did_you_mean(name, known)}", fix=fix)
    chosen = {Path(name).stem if name.endswith(".py") else name: name for name in methods}
    if len(chosen) < len(set(methods)):
        raise RecipeError("two of the methods are called alike, and would share a folder.", fix="Rename the file.")
    if not chosen:
        raise RecipeError("no method was named to compare.", fix="Name some, or all.")
    return chosen


def _refuse(recipe: Recipe, share_rate: bool) -> None:
    if recipe.resources.cluster != "local" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "methods are compared on one machine, each in one process of its own.",
            fix="Leave resources out, and start it without a launcher.",
        )
    if share_rate and find("methods", recipe.method.name).trains not in ("gradient", "pairs"):
        raise RecipeError(f"there is no learning rate to share: the method {recipe.method.name} takes no steps.")


def _look(recipe: Recipe) -> None:
    """Raise now what is wrong with the rows or the model for every method, and keep nothing of it."""
    from weitiao.data.prepare import prepare
    from weitiao.models.find import find as find_model
    from weitiao.randomness import derive_seed

    find_model(recipe.model.name)
    task = recipe.task.make("tasks")
    prepare(recipe.data, task.fields, derive_seed(recipe.seed, "split"), task.accepts, task.formats)


def _refuse_another(recipe: Recipe, folder: Path, sign: str) -> None:
    """Refuse a folder that holds the work of another recipe; `sign` is a file that there is once it was begun."""
    if (folder / sign).is_file() and (there := recipe.differences(Recipe.load(folder / "recipe.yaml"))):
        raise RecipeError(
            f"holds a {'run' if sign == 'run.json' else 'comparison'} of another recipe ({'; '.join(there[:5])}).",
            where=folder,
            fix="Choose another folder with --folder, or delete this one.",
        )


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold the folder alone; the kernel lets go of it when the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError("another comparison is running in this folder.", where=folder) from error
        yield


# --- what is done ---


def _line(comparison: Comparison, key: str) -> str:
    entry = next(entry for entry in comparison.entries if entry.name == key)
    if entry.state != "done":
        return f"{key}: {entry.state}: because {entry.reason.splitlines()[0]}"
    return f"{key}: {entry.score}, {entry.cost.seconds if entry.cost else 0:,.0f} s"


def _finished(folder: Path) -> bool:
    path = folder / "cost.json"
    return path.is_file() and "seconds" in read_object(folder, path.name)


def _rank(
    recipe: Recipe, folder: Path, done: Mapping[str, tuple[str, ...]], stopped: Mapping[str, Entry]
) -> Comparison:
    """Read what finished methods left, rank them, and write the table."""
    measured, others, rows, info, before = {}, dict(stopped), "", None, None
    for key, left_out in done.items():
        try:
            found, info, own_rows = _read(folder / key, left_out)
        except WeitiaoError as error:
            others[key] = Entry(key, "failed", str(error))
            continue
        data = read_object(folder / key, "run.json").get("data")
        before = before or data
        if data != before:
            reason = (
                f"it learnt from other files than {next(iter(measured), 'those before it')}: they have changed since."
            )
            others[key] = Entry(key, "failed", f"{reason} Delete {folder / key}, or choose another folder.")
            continue
        rows = rows or own_rows
        if rows != own_rows:  # its settings of the task set other rows aside, say
            others[key] = Entry(key, "failed", "it was measured on other test rows than those before it.")
            continue
        measured[key] = found
    comparison = rank(f"{recipe.task.name}: {_source(recipe)}", measured, list(others.values()), info)
    comparison.write(folder)
    return comparison


def _read(folder: Path, left_out: tuple[str, ...]) -> tuple[Measured, MetricInfo, str]:
    bundle = folder / "bundle"
    report = Report.from_json(read_object(bundle, "report.json"))
    kept, cost = read_object(folder, "resampled.json"), read_object(folder, "cost.json")
    trained = report.training
    found = Cost(
        trained.trainable_parameters if trained else 0,
        trained.total_parameters if trained else 0,
        sum((bundle / name).stat().st_size for name in list_files(bundle)),
        trained.seconds if trained else 0.0,
        cost["seconds"],
        cost["peak_mib"],
        cost["peak_gpu_mib"],
    )
    return Measured(report.main, np.array(kept["draws"]), found, left_out), report.main_info, kept["rows"]


def _source(recipe: Recipe) -> str:
    train = recipe.data.train
    files = [train] if isinstance(train, str) else list(train)
    return ", ".join(Path(file).name for file in files)


# --- the other process ---


def _run_apart(recipe: Recipe, folder: Path) -> Entry | None:
    """Run a recipe in a process of its own; returns a line of the table if that has no result."""
    folder.mkdir(exist_ok=True)
    (folder / "stopped.json").unlink(missing_ok=True)
    job = {"recipe": recipe.dump(), "folder": str(folder), "started": time.time()}
    here = os.pathsep.join(path or os.getcwd() for path in sys.path)  # it finds what this process finds
    command = [sys.executable, "-P", "-c", "from weitiao.apart import work; work()"]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": here, "PYTHONIOENCODING": "utf-8"},
        )
        try:
            with suppress(BrokenPipeError):  # it died at once, as the log will say
                _tell(process, json.dumps(job) + "\n")
            code = process.wait()
        finally:
            if process.poll() is None:  # Ctrl-C reached both: it writes a checkpoint first
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_PATIENCE_S)
            process.kill()
            with suppress(BrokenPipeError):
                process.communicate()
    if (folder / "stopped.json").is_file():
        return Entry(folder.name, **read_object(folder, "stopped.json"))
    return None if code == 0 and _finished(folder) else Entry(folder.name, "failed", _last_words(code, folder))


def _tell(process: subprocess.Popen[bytes], text: str) -> None:
    if process.stdin is not None:
        process.stdin.write(text.encode())
        process.stdin.flush()  # and stays open: when this process dies, the other reads the end of it


def _last_words(code: int, folder: Path) -> str:
    died = f"its process ended with {code}"
    if code < 0:
        name = signal.Signals(-code).name
        died = f"its process was ended by {name}"
        died += ", most likely because memory ran out" if -code == signal.SIGKILL else ""
    text = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()][-_LAST_LINES:]
    return "\n".join([f"{died}; the last lines of {folder / 'log.txt'}:" if lines else f"{died}.", *lines])
