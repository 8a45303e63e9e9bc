"""Runs one after another, each on the model of the one before: pretrain, then tune; one task, then another.

A recipe file may have ``stages``, a list of partial recipes, each with a name::

    data: reviews.csv
    stages:
      - {name: pretrain, task: language_modeling, data: raw.txt}
      - {name: tune, method: lora}

A stage takes over what the file says beside the stages: of the groups of settings (`MERGED`) each setting that it does
not name itself, every other section whole. The first stage begins with the file's model, each later one with the bundle
of the stage before, unless it names a model. Each is an ordinary run in ``FOLDER/NAME``; what was killed goes on where
it stood. ``FOLDER/bundle`` leads to the bundle of the last.

Source: Phang, Fevry and Bowman, Sentence Encoders on STILTs: Supplementary Training on Intermediate Labeled-data Tasks,
2018, arXiv:1811.01088; Gururangan et al., Don't Stop Pretraining, 2020, arXiv:2004.10964.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from weitiao.errors import RecipeError, did_you_mean
from weitiao.files import write_text
from weitiao.plugins import Options
from weitiao.recipe import DEFAULTS, Recipe, overridden, parsed, text_of

if TYPE_CHECKING:
    from weitiao.bundle import Bundle

__all__ = ["FILE", "MERGED", "Stages", "is_staged"]

FILE = "stages.yaml"  # in the folder of the whole: its recipe, with what was overridden
# groups of which a stage names single settings; rows, and members with their settings, are replaced whole
_WHOLE = {"data", *DEFAULTS}
MERGED = tuple(
    name
    for name, section in Recipe.model_fields.items()
    if isinstance(section.annotation, type) and issubclass(section.annotation, Options) and name not in _WHOLE
)
_NAME = re.compile(r"[\w-]+")
_TAKEN = ("bundle",)  # names in the folder of the whole

Lines = Mapping[tuple[Any, ...], int]


def is_staged(path: Path) -> bool:
    """Whether a recipe file, or the folder of a run, has stages."""
    if path.is_dir():
        return (path / FILE).is_file()
    text = text_of(path)
    return re.search(r"^stages\s*:", text, re.MULTILINE) is not None


@dataclass(frozen=True)
class Stages:
    """A recipe in stages.

    Parameters
    ----------
    raw, lines
        The settings of the file, and the line of each.
    name
        Of the file.
    """

    raw: Mapping[str, Any]
    lines: Lines
    name: str

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Stages:
        """Read a file with stages, or the folder of a run in stages.

        Parameters
        ----------
        overrides
            Such as ``training.epochs=3``, for all stages, or ``stages.tune.training.epochs=3``, for one.

        Raises
        ------
        RecipeError
            It cannot be read, or what is wrong is about stages.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        raw, lines = parsed(text_of(path), str(path))
        _check(raw.get("stages"), str(path), lines)
        for override in sorted(overrides, key=_is_of_a_stage):  # stages take over what is said of all
            raw = _overridden(raw, override)
        return cls(raw, lines, str(path))

    @property
    def names(self) -> list[str]:
        """The names of the stages, in order."""
        return [stage["name"] for stage in self.raw["stages"]]

    def recipes(self, folder: Path) -> dict[str, Recipe]:
        """Return the recipe of each stage, for runs in folders inside `folder`.

        Raises
        ------
        RecipeError
            What is wrong with the first stage that cannot be run, with names and lines; or a stage hands on no model.
        """
        found: dict[str, Recipe] = {}
        for i, stage in enumerate(self.raw["stages"]):
            before = str(folder / self.names[i - 1]) if i else None
            found[stage["name"]] = Recipe.of(
                self._merged(stage, before), self.name, self._lines(i), about=f"stage {stage['name']}: "
            )
        for (name, recipe), (later, next_) in zip(found.items(), list(found.items())[1:], strict=False):
            if next_.model.name == str(folder / name) and recipe.method.make("methods").part != "model":
                raise RecipeError(
                    f"stage {name}: the method {recipe.method.name} leaves an adapter, and {later} goes on from "
                    "a whole model.",
                    where=self.name,
                    fix=f"Set method.merge: true in {name} if the method has it, or take method: full.",
                )
        return found

    def run(self, folder: str | Path = "runs/run", *, show: bool = True) -> Bundle:
        """Execute the stages in order and return the bundle of the last.

        What is finished is opened; what was begun goes on.

        Raises
        ------
        RecipeError
            A stage cannot be run as it is written, or the folder holds runs of another recipe.
        DataError, ModelError, TrainingError
            As `weitiao.run.run`; stages before it are kept.
        """
        from weitiao.bundle import Bundle
        from weitiao.run import run
        from weitiao.training.processes import Processes

        folder = Path(folder)
        recipes = self.recipes(folder)
        processes = Processes()
        processes.on_main(lambda: _refuse_other_runs(folder, recipes))
        processes.on_main(lambda: self._keep(folder))
        made = [str(folder / name) for name in recipes]
        for name, recipe in recipes.items():
            if recipe.model.name in made:
                processes.on_main(lambda at=folder / name, base=recipe.model.name: _refuse_stale(at, base))
            run(recipe, folder / name, show=show)
        last = self.names[-1]
        processes.on_main(lambda: _lead_to(folder / last / "bundle", folder / "bundle"))
        return Bundle(folder / last, verify=False)

    def _keep(self, folder: Path) -> None:
        """Write the recipe into the folder of the whole, so that naming the folder goes on."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, yaml.safe_dump(dict(self.raw), allow_unicode=True, sort_keys=False))

    def _merged(self, stage: Mapping[str, Any], before: str | None) -> dict[str, Any]:
        """Return the whole recipe of a stage; `before` is the run that it goes on from."""
        shared = {key: value for key, value in self.raw.items() if key != "stages"}
        own = {key: value for key, value in stage.items() if key != "name"}
        model, general = _group("model", own.get("model")), _group("model", shared.get("model"))
        if before is not None and "name" not in model:
            general = {**general, "name": before}
        groups = {
            key: {**_group(key, shared.get(key)), **_group(key, own.get(key))}
            for key in MERGED
            if isinstance(shared.get(key), Mapping) and isinstance(own.get(key), Mapping)
        }
        return {**shared, **own, **groups, "model": {**general, **model}}

    def _lines(self, i: int) -> dict[tuple[Any, ...], int]:
        """Return the line of each setting of a stage, in the stage or in what it takes over."""
        here = {place[2:]: line for place, line in self.lines.items() if place[:2] == ("stages", i)}
        shared = {place: line for place, line in self.lines.items() if place[0] != "stages"}
        return shared | {place: line for place, line in here.items() if place}


def _group(key: str, value: Any) -> dict[str, Any]:
    """Return a group of settings; a lone value stands for the model's name."""
    if key == "model" and isinstance(value, str):
        return {"name": value}
    return dict(value) if isinstance(value, Mapping) else {}


def _check(stages: Any, name: str, lines: Lines) -> None:
    """Refuse what is no list of named stages."""
    if not isinstance(stages, list) or not stages:
        where = f"{name}:{lines.get(('stages',), 1)}"
        raise RecipeError("stages should be a list of partial recipes, each with a name.", where=where)
    seen: list[str] = []
    for i, stage in enumerate(stages):
        where = f"{name}:{lines.get(('stages', i), 1)}"
        own = stage.get("name") if isinstance(stage, Mapping) else None
        if not isinstance(own, str) or not _NAME.fullmatch(own) or own in _TAKEN:
            raise RecipeError(
                f"stage {i + 1} needs a name that a folder can have; got {own!r}.",
                where=where,
                fix="Such as name: pretrain.",
            )
        if own in seen:
            raise RecipeError(f"two stages are called {own}.", where=where, fix="Give each a name of its own.")
        seen.append(own)


def _is_of_a_stage(override: str) -> bool:
    return override.startswith("stages.")


def _overridden(raw: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Put one setting into what all stages share, or with ``stages.NAME.`` before it into one of them."""
    if not _is_of_a_stage(text):
        return overridden(raw, text)
    name, _, rest = text.removeprefix("stages.").partition(".")
    names = [stage["name"] for stage in raw["stages"]]
    if name not in names or not rest:
        raise RecipeError(
            f"no stage is called {name!r}.{did_you_mean(name, names)}", where=text, fix=f"Stages: {', '.join(names)}."
        )
    section = re.split("[.=]", rest)[0]
    shared = raw.get(section)
    merged = section == "model" or (section in MERGED and isinstance(shared, Mapping))  # with what is shared, later
    taken_over = {section: copy.deepcopy(shared)} if section in raw and not merged else {}
    stages = [overridden({**taken_over, **one}, rest) if one["name"] == name else one for one in raw["stages"]]
    return {**raw, "stages": stages}


def _refuse_other_runs(folder: Path, recipes: Mapping[str, Recipe]) -> None:
    """Refuse a folder that holds a run without stages, or one whose stages are of another recipe."""
    if (folder / "run.json").is_file() or ((folder / "bundle").exists() and not (folder / "bundle").is_symlink()):
        raise RecipeError(
            "holds a run without stages.", where=folder, fix="Choose another folder with --folder, or delete this one."
        )
    for name, recipe in recipes.items():
        at = folder / name
        if (at / "run.json").is_file() and (there := recipe.differences(Recipe.load(at / "recipe.yaml"))):
            raise RecipeError(
                f"holds a run of another recipe ({'; '.join(there[:5])}).",
                where=at,
                fix="Choose another folder with --folder, or delete this one.",
            )


def _refuse_stale(folder: Path, base: str) -> None:
    """Refuse a finished stage whose base is another model now: the stage before it was run again."""
    from weitiao.models.find import find

    kept = folder / "run.json"
    if not (folder / "bundle").is_dir() or not kept.is_file():
        return
    if json.loads(kept.read_text(encoding="utf-8"))["model"] != find(base).content_hash:
        raise RecipeError(
            f"was made from another {base} than there is now.",
            where=folder,
            fix="Delete this folder, and the stages after it, to make them again.",
        )


def _lead_to(bundle: Path, link: Path) -> None:
    """Make `link` lead to a bundle beside it."""
    target = bundle.relative_to(link.parent)
    if link.is_symlink() and link.readlink() == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target, target_is_directory=True)
