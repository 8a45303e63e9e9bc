"""Whether a bundle's files are those that were saved: looked at before any of them is opened.

A bundle holds text and safetensors and nothing that could run: a file of another kind, a link out of the folder,
or a member of a family that comes as a Python file inside the bundle is refused whatever the checksums say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weitiao.errors import BundleError, did_you_mean
from weitiao.files import list_files, sha256, write_json

__all__ = ["SUMS", "check_files", "check_labels", "find_bundle", "read_object", "read_reference", "seal"]

SUMS = "checksums.json"
# What tokenizers, configs, weights and our own files are written as. A pickle (.bin, .pt), a script or a library is
# none of these.
_KINDS = {".codes", ".html", ".jinja", ".json", ".jsonl", ".md", ".model", ".safetensors", ".txt", ".yaml"}
_AGAIN = "Copy the bundle again from where it was made, or run its recipe.yaml again."


def find_bundle(folder: Path) -> Path:
    """Return the bundle at `folder`, which is one, or the folder of the run that made one.

    Raises
    ------
    BundleError
        There is none; says what is there instead.
    """
    for place in (folder / "bundle", folder):
        if (place / SUMS).is_file():
            return place
    if not folder.exists():
        near = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        raise BundleError(f"there is no such folder.{did_you_mean(folder.name, near)}", where=folder)
    if not folder.is_dir():
        raise BundleError("is a file; a bundle is a folder.", where=folder)
    if (folder / "recipe.yaml").is_file() and (folder / "events.jsonl").is_file():
        raise BundleError(
            "holds a run that is not finished.", where=folder, fix=f"Finish it with: weitiao run {folder}"
        )
    raise BundleError(
        f"is not a bundle: it has no {SUMS}.", where=folder, fix="Name the folder that holds bundle.json."
    )


def seal(folder: Path) -> None:
    """Write the checksums of all files, and let everybody read them who may read the folder."""
    mode = (folder / "bundle.json").stat().st_mode & 0o777  # some libraries write weights for the owner alone
    for name in list_files(folder):
        (folder / name).chmod(mode)
    write_json(folder / SUMS, {name: sha256(folder / name) for name in list_files(folder)})


def check_files(folder: Path) -> None:
    """Compare the files of a bundle with its checksums.

    Raises
    ------
    BundleError
        A file is missing, more, changed, a link, or of a kind that a bundle does not hold; names it.
    """
    hashes = read_object(folder, SUMS)
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            name = path.relative_to(folder).as_posix()
            raise BundleError(f"was changed: {name} is a link.", where=folder, fix="Put the file itself there.")
    there = set(list_files(folder)) - {SUMS}
    for name in sorted(set(hashes) - there):
        raise BundleError(f"is damaged: {name} is missing.", where=folder, fix=_AGAIN)
    for name in sorted(there - set(hashes)):
        raise BundleError(f"was changed: {name} was not in it when it was made.", where=folder, fix="Take it out.")
    for name in sorted(hashes):
        if Path(name).suffix not in _KINDS:
            raise BundleError(
                f"holds {name}, a kind of file that no bundle holds; it could run when it is opened.",
                where=folder,
                fix="Do not use this bundle unless you know who changed it.",
            )
        if sha256(folder / name) != hashes[name]:
            raise BundleError(f"was damaged or edited: {name} is not what was saved.", where=folder, fix=_AGAIN)


def check_labels(folder: Path, config: Path, labels: Sequence[str]) -> None:
    """Compare the label names inside the saved model with those of the task.

    Raises
    ------
    BundleError
        They are others, or in another order.
    """
    name = config.relative_to(folder).as_posix()
    names = read_object(folder, name).get("id2label") or {}
    if names != {str(i): label for i, label in enumerate(labels)}:
        raise BundleError(
            f"was edited: the labels of {name} are {', '.join(map(str, names.values()))}, those of bundle.json are "
            f"{', '.join(labels)}.",
            where=folder,
            fix=_AGAIN,
        )


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    BundleError
        It cannot be read, or holds something else.
    """
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"is damaged: {name} cannot be read.", where=folder, fix=_AGAIN) from error
    if not isinstance(value, dict):
        raise BundleError(f"is damaged: {name} holds no settings.", where=folder, fix=_AGAIN)
    return value


def read_reference(folder: Path) -> list[dict[str, Any]]:
    """Read the reference rows: ``row``, ``said`` and ``answer`` of each.

    Raises
    ------
    BundleError
        They cannot be read, or there are none.
    """
    name = "reference.jsonl"
    try:
        lines = [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        reference = [{key: line[key] for key in ("row", "said", "answer")} for line in lines]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BundleError(f"is damaged: {name} cannot be read.", where=folder, fix=_AGAIN) from error
    if not reference:
        raise BundleError("holds no reference rows, so nothing proves what it answers.", where=folder, fix=_AGAIN)
    return reference
