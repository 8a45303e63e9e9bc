"""Checkpoints: all that a killed run needs to end with the same bits as one that was never killed.

A checkpoint is a folder written aside, flushed to the disk, and renamed; a manifest of hashes tells a whole
one from a torn one. Tensors are kept as safetensors and everything else as JSON: nothing is unpickled.
The two newest are kept, so a torn one costs one interval. The best weights so far lie beside them, in a file of their
own that is written when they are found, so that they take no memory; a checkpoint names its file and that file's hash.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from weitiao.files import flush, list_files, safetensors_errors, sha256, whole_folder, write_json

__all__ = ["Checkpoints", "load_optimizer", "optimizer_state"]

_MANIFEST = "manifest.json"
Tensors = Mapping[str, torch.Tensor]


class Checkpoints:
    """The checkpoints of one training, in a folder.

    Parameters
    ----------
    folder
        Where they are; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hashes: dict[int, str] = {}  # of files of best weights, by step
        folder.mkdir(parents=True, exist_ok=True)
        for half_written in folder.glob(".*.aside"):
            shutil.rmtree(half_written, ignore_errors=True)

    def keep_best(self, step: int, weights: Tensors) -> None:
        """Write the best weights so far, those of `step`.

        Raises
        ------
        OSError
            The disk is full, say. Those of earlier steps are untouched.
        """
        aside = self.folder / f".best-{step:08d}.aside"
        try:
            with safetensors_errors():
                _save(weights, aside)
            aside.rename(self._best_file(step))
        finally:
            aside.unlink(missing_ok=True)
        self._hashes.pop(step, None)

    def best(self, step: int) -> dict[str, torch.Tensor]:
        """Return what `keep_best` wrote."""
        return load_file(self._best_file(step))

    def write(self, step: int, tensors: Mapping[str, Tensors], state: Mapping[str, Any], best: int = 0) -> None:
        """Write the checkpoint of `step`, then drop all but the two newest, and best weights that none of them names.

        Parameters
        ----------
        best
            The step of the best weights so far; 0: there are none.

        Raises
        ------
        OSError
            The disk is full, say. Older checkpoints are untouched.
        """
        with whole_folder(self.folder / f"step-{step:08d}") as folder:
            for name, group in tensors.items():
                _save(group, folder / f"{name}.safetensors")
            write_json(folder / "state.json", state)
            hashes = {name: sha256(folder / name) for name in list_files(folder)}
            if best:
                hashes[f"../{self._best_file(best).name}"] = self._hash_of_best(best)
            write_json(folder / _MANIFEST, hashes)
        for old in self._steps()[:-2]:
            shutil.rmtree(old, ignore_errors=True)
        named = {self._best_file(best)} | {self.folder / Path(n).name for kept in self._steps() for n in _hashes(kept)}
        for file in set(self.folder.glob("best-*.safetensors")) - named:
            file.unlink(missing_ok=True)

    def newest(self) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]] | None:
        """Read the newest whole checkpoint; torn ones are removed, and named in the state under ``"torn"``."""
        torn = []
        for folder in reversed(self._steps()):
            found = _read(folder)
            if found is not None:
                tensors, state = found
                return tensors, {**state, "torn": torn}
            torn.append(folder.name)
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def _best_file(self, step: int) -> Path:
        return self.folder / f"best-{step:08d}.safetensors"

    def _hash_of_best(self, step: int) -> str:
        if step not in self._hashes:
            flush(self._best_file(step))
            self._hashes[step] = sha256(self._best_file(step))
        return self._hashes[step]

    def _steps(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if p.is_dir())


def _read(folder: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]] | None:
    try:
        hashes = _hashes(folder)
        if any(sha256(folder / name) != value for name, value in hashes.items()):
            return None
        tensors = {p.stem: load_file(p) for p in folder.glob("*.safetensors")}
        return tensors, json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # torn; any other trouble of the disk is raised, and costs no checkpoint
        return None


def _hashes(folder: Path) -> dict[str, str]:
    return json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))


def _save(tensors: Tensors, path: Path) -> None:
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimizer's state as tensors, ``"parameter.name"`` to value.

    Learning rates are not kept: they are a function of the step.
    """
    flat = {}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if value is not None:
                flat[f"{index}.{name}"] = value if isinstance(value, torch.Tensor) else torch.tensor(value)
    return flat


def load_optimizer(optimizer: torch.optim.Optimizer, flat: Tensors) -> None:
    """Give the optimizer back what `optimizer_state` returned."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in flat.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
