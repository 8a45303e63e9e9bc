"""A folder is a family, a file in it is a member, and the file's name is the member's name.

Nothing is registered. `names` looks into the folder and imports nothing; `find`
imports the one file that was asked for. A member can also come from a path to a
``.py`` file, or from another distribution through an entry point in the group
``weitiao.<family>``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_serializer

from weitiao.errors import RecipeError, UnknownName, did_you_mean

__all__ = ["FAMILIES", "Member", "Named", "Options", "as_member", "find", "import_object", "names", "summary"]

# family -> (folder inside the package, base class its members derive from)
FAMILIES: dict[str, tuple[str, str]] = {
    "tasks": ("tasks", "weitiao.tasks.base:Task"),
    "methods": ("methods", "weitiao.methods.base:Method"),
    "formats": ("data/formats", "weitiao.data.formats.base:Format"),
    "augmentations": ("data/augmentations", "weitiao.data.augment:Augmentation"),
    "regularizers": ("training/regularizers", "weitiao.training.hook:Hook"),
    "optimizers": ("training/optimizers", "weitiao.training.optimizer:Optimizer"),
    "schedules": ("training/schedules", "weitiao.training.schedule:Schedule"),
    "baselines": ("evaluation/baselines", "weitiao.evaluation.baselines.base:Baseline"),
    "metrics": ("evaluation/metrics", "weitiao.evaluation.metrics.base:Metric"),
    "checks": ("data/checks", "weitiao.data.checks.base:Check"),
}
_ROOT = Path(__file__).parent
_FROM_FILE = "weitiao_member_"  # what modules from files of a user's own are called before their name


class Options(BaseModel):
    """Base of every settings class: unknown keys are refused, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Named:
    """Base of the base classes of families: a member is called as its file is, however it was imported."""

    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = cls.__module__.rpartition(".")[2].removeprefix(_FROM_FILE)


class Member(Options):
    """A member of a family, chosen by name, with its settings."""

    name: str
    settings: Any

    def make(self, family: str, *args: Any) -> Any:
        """Return the member itself."""
        return find(family, self.name)(self.settings, *args)

    @model_serializer
    def dump(self) -> dict[str, Any]:
        """Return name and settings as one mapping of JSON values."""
        return {"name": self.name, **self.settings.model_dump(mode="json")}


def as_member(family: str, value: Any) -> Member:
    """Return the member that a name, or a mapping of ``name`` and settings, stands for.

    Raises
    ------
    UnknownName
        There is no such member.
    pydantic.ValidationError
        A setting is wrong.
    """
    if isinstance(value, Member):
        return value
    settings = dict(value) if isinstance(value, Mapping) else {"name": value}
    name = str(settings.pop("name", None))
    return Member(name=name, settings=find(family, name).Settings(**settings))


def names(family: str) -> list[str]:
    """List the members of a family, without importing any of them."""
    folder = _ROOT / FAMILIES[family][0]
    own = (p.stem for p in folder.glob("*.py") if p.stem != "base" and not p.stem.startswith("_"))
    return sorted({*own, *(point.name for point in _entry_points(family))})


def summary(family: str, name: str) -> str:
    """Return the first docstring line of a member, read without importing it."""
    path = _ROOT / FAMILIES[family][0] / f"{name}.py"
    if not path.is_file():
        return ""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]


def find(family: str, name: str) -> type[Any]:
    """Import the member called `name` and return its class.

    Parameters
    ----------
    family
        A key of `FAMILIES`.
    name
        A member's name, or a path to a ``.py`` file that defines one.

    Raises
    ------
    UnknownName
        There is no such member; the message offers the nearest.
    RecipeError
        The file defines none, or more than one, subclass of the family's base.
    """
    if name.endswith(".py"):
        path = Path(name)
        return _find_file(family, path, path.stat().st_mtime_ns if path.is_file() else 0)
    return _find_named(family, name)


@cache  # an edited file is another one
def _find_file(family: str, path: Path, _edited: int) -> type[Any]:
    return _only_subclass(_import_file(path, family), import_object(FAMILIES[family][1]), family)


@cache  # a schedule is asked for at every step, and looking into folders takes longer than answering
def _find_named(family: str, name: str) -> type[Any]:
    folder, base_path = FAMILIES[family]
    base = import_object(base_path)
    if name not in names(family):
        raise UnknownName(
            f"no {family.removesuffix('s')} is called {name!r}.{did_you_mean(name, names(family))}",
            fix=f"Known: {', '.join(names(family))}. A path to a .py file of your own works too.",
        )
    for point in _entry_points(family):
        if point.name == name:
            return point.load()
    module = importlib.import_module(f"weitiao.{folder.replace('/', '.')}.{name}")
    return _only_subclass(module, base, family)


def import_object(path: str) -> Any:
    """Import ``"package.module:attribute"``."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _entry_points(family: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"weitiao.{family}"))


def _import_file(path: Path, family: str) -> ModuleType:
    if not path.is_file():
        raise UnknownName(f"{path} is not a file.", fix=f"It was named as a member of {family}.")
    name = f"{_FROM_FILE}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UnknownName(f"{path} cannot be imported.", fix="It must be a Python source file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic and pickle-free dataclasses look the module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        line = error.lineno if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1].lineno
        raise RecipeError(f"cannot be imported: {type(error).__name__}: {error}.", where=f"{path}:{line}") from error
    return module


def _only_subclass(module: ModuleType, base: type, family: str) -> type[Any]:
    own = [
        value
        for key, value in vars(module).items()
        if not key.startswith("_")
        and isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        found = ", ".join(c.__name__ for c in own) or "none"
        raise RecipeError(
            f"a member of {family} defines exactly one public subclass of {base.__name__}; found: {found}.",
            where=module.__file__,
        )
    return own[0]
