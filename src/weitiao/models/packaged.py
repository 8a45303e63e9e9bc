"""Models that come as installed packages: a folder with safetensors, a ``.gguf``, or one cut into parts.

Nothing here knows a package by name. A package is looked at through the list of
files its installer wrote down, so it is never imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from weitiao.errors import ModelError, did_you_mean

__all__ = ["available", "cache_folder", "locate"]

_PART = re.compile(r"^(?P<stem>.+\.gguf)\.part(?P<number>\d+)$")
_REQUIREMENT = re.compile(r"^[A-Za-z0-9._-]+")


def cache_folder() -> Path:
    """Return the folder for files that can be made again: ``WEITIAO_CACHE``, else ``~/.cache/weitiao``."""
    return Path(os.environ.get("WEITIAO_CACHE") or Path.home() / ".cache" / "weitiao")


def available() -> list[str]:
    """List the installed packages that carry a model, as names `find` takes (``package:...``)."""
    carriers, parts, requirements = [], set(), {}
    for distribution in metadata.distributions():
        record = distribution.read_text("RECORD") or ""
        name = _normal(distribution.metadata["Name"] or "")
        requirements[name] = _requirements(distribution)
        if ".gguf.part" in record:
            parts.add(name)
        elif ".gguf," in record or (".safetensors," in record and "config.json," in record):
            carriers.append(name)
    owners = {name for name, needs in requirements.items() if parts & set(needs)}
    owned = {part for owner in owners for part in requirements[owner]}
    return sorted(f"package:{name}" for name in {*carriers, *owners, *(parts - owned)})


def locate(package: str) -> Path:
    """Return the model folder, or the ``.gguf`` file, that an installed package carries.

    A GGUF cut into parts (``x.gguf.part00``, ``.part01``, ... in the package or in
    the packages it requires) is put together in the cache folder, once.

    Raises
    ------
    ModelError
        The package carries no model, or a part is missing or damaged.
    importlib.metadata.PackageNotFoundError
        There is no such package.
    """
    distribution = metadata.distribution(package)
    files = _files(distribution)
    for file in files:
        if file.name == "config.json" and any(f.parent == file.parent and f.suffix == ".safetensors" for f in files):
            return file.parent
    for file in files:
        if file.suffix == ".gguf":
            return file
    for name in _requirements(distribution):
        with contextlib.suppress(metadata.PackageNotFoundError):
            files += [f for f in _files(metadata.distribution(name)) if _PART.match(f.name)]
    parts = {file: match for file in files if (match := _PART.match(file.name))}
    if not parts:
        known = available()
        raise ModelError(
            f"the package {package} is installed but carries no model (no safetensors with a config.json, no GGUF)."
            f"{did_you_mean(f'package:{package}', known)}",
            fix=f"Installed packages with a model: {', '.join(known) or 'none'}.",
        )
    _refuse_lone_part(package)
    stem = min(match["stem"] for match in parts.values())
    ordered = sorted((int(match["number"]), file) for file, match in parts.items() if match["stem"] == stem)
    missing = sorted(set(range(ordered[-1][0] + 1)) - {number for number, _ in ordered})
    if missing:
        raise ModelError(
            f"{package} comes in parts, and part {missing[0]:02d} of {stem} is not installed.",
            fix=f"Install it again with its requirements: pip install --force-reinstall {package}",
        )
    target = cache_folder() / "packages" / f"{_normal(package)}-{distribution.version}" / stem
    return _assemble([file for _, file in ordered], target, _checksum(files, stem))


def _assemble(parts: list[Path], target: Path, checksum: str | None) -> Path:
    """Write the parts one after the other to `target`; whole or not at all."""
    size = sum(part.stat().st_size for part in parts)
    if target.is_file() and target.stat().st_size == size:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    handle, aside = tempfile.mkstemp(dir=target.parent, suffix=".aside")
    try:
        with os.fdopen(handle, "wb") as out:
            for part in parts:
                with part.open("rb") as piece:
                    while block := piece.read(1 << 20):
                        digest.update(block)
                        out.write(block)
            out.flush()
            os.fsync(out.fileno())
        with open(aside, "rb") as whole:
            is_gguf = whole.read(4) == b"GGUF"
        if not is_gguf or (checksum and digest.hexdigest() != checksum):
            raise ModelError(
                f"the {len(parts)} parts of {target.name} do not make the file their package describes.",
                where=parts[0].parent,
                fix="A part is damaged: install the package again.",
            )
        os.replace(aside, target)
    except OSError as error:
        raise ModelError(
            f"cannot write {target.name} ({size / 2**20:.0f} MiB): {error.strerror or error}.",
            where=target.parent,
            fix=f"Free space there ({shutil.disk_usage(target.parent).free / 2**20:.0f} MiB are free), "
            "or set WEITIAO_CACHE to another folder.",
        ) from error
    finally:
        Path(aside).unlink(missing_ok=True)
    return target


def _refuse_lone_part(package: str) -> None:
    """Stop at a package that is one part of another's model: alone it makes a torn file."""
    name = _normal(package)
    own = set(_requirements(metadata.distribution(package)))
    for distribution in metadata.distributions():
        if name not in _requirements(distribution):
            continue
        owner = _normal(distribution.metadata["Name"])
        others = {n for n in _requirements(distribution) if n != name and _carries_part(n)}
        if others - own:
            raise ModelError(f"{package} is one part of a model.", fix=f"Name the whole: package:{owner}.")


def _carries_part(package: str) -> bool:
    try:
        return ".gguf.part" in (metadata.distribution(package).read_text("RECORD") or "")
    except metadata.PackageNotFoundError:
        return False


def _checksum(files: list[Path], name: str) -> str | None:
    """Return the sha256 the package's own ``SHA256SUMS`` gives for `name`, if it has one."""
    for file in files:
        if file.name == "SHA256SUMS":
            for line in file.read_text(encoding="utf-8").splitlines():
                digest, _, listed = line.partition(" ")
                if listed.strip(" *") == name:
                    return digest.lower()
    return None


def _files(distribution: metadata.Distribution) -> list[Path]:
    return [Path(str(file.locate())) for file in distribution.files or []]


def _requirements(distribution: metadata.Distribution) -> list[str]:
    """Return the packages it always needs; those of its extras are not its own."""
    lines = [line for line in distribution.requires or [] if "extra ==" not in line]
    return [_normal(match[0]) for line in lines if (match := _REQUIREMENT.match(line))]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
