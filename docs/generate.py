"""Write ``docs/recipe.md`` and ``docs/cli.md`` from the code, so that they cannot say anything else.

::

    python docs/generate.py            write them
    python docs/generate.py --check    exit with 1 if they are not up to date
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from weitiao.plugins import FAMILIES, Options, find, names
from weitiao.recipe import Recipe

DOCS = Path(__file__).parent
_GENERATED = "<!-- Written by docs/generate.py. Change the code, then run it again. -->\n"
# section of the recipe -> family, and what the section is for
_MEMBERS = {
    "task": ("tasks", "What the model learns."),
    "method": ("methods", "How the pretrained weights are adapted: which numbers move."),
    "augmentation": ("augmentations", "New training rows made of those there are; a list, none by default."),
    "regularizers": ("regularizers", "Changes to how they are moved; a list, none by default."),
    "training.optimizer": ("optimizers", "How a gradient becomes a step."),
    "training.schedule": ("schedules", "How the rate rises and falls."),
}
_TRAINS = {  # how a method trains -> what is said of it
    "gradient": "Trains by gradient; its default rate is `{rate:g}`.",
    "convex": "Is solved to its optimum, without the loop.",
    "pairs": "Trains by gradient on pairs of rows, with the default rate `{rate:g}`; then its head is solved.",
    "nothing": "Trains nothing.",
}
_SECTIONS = (
    "data", "model", "task", "method", "augmentation", "regularizers", "training", "evaluation", "cache", "resources",
)  # fmt: skip


def pages() -> dict[str, str]:
    """Return the generated pages, file name to text."""
    return {"recipe.md": recipe_page(), "cli.md": cli_page()}


def recipe_page() -> str:
    """Return the reference of the recipe."""
    parts = [_RECIPE_HEAD]
    for section in _SECTIONS:
        parts.append(f"## `{section}`\n")
        if section in _MEMBERS:
            family, purpose = _MEMBERS[section]
            parts.append(f"{purpose}\n")
            parts += [_member(family, name) for name in names(family)]
        else:
            parts.append(_settings(Recipe.model_fields[section].annotation, section))
        for place, (family, purpose) in _MEMBERS.items():
            if place.startswith(f"{section}."):
                parts.append(f"## `{place}`\n\n{purpose}\n")
                parts += [_member(family, name) for name in names(family)]
    seed = Recipe.model_fields["seed"]
    parts.append(f"## `seed`\n\n{_upper(seed.description or '')}. Default `{seed.default}`.\n")
    for family, purpose in (
        ("metrics", "named in `evaluation.metrics` and `evaluation.main_metric`"),
        ("baselines", "what a tuned model has to beat; those of the task, or named in `evaluation.baselines`"),
        ("formats", "files of tasks that are no plain table; found, or named in `data.read.format`"),
        ("checks", "what `weitiao check` and the start of every run look for; nothing has to be named"),
    ):
        parts.append(f"## {_upper(family)}\n\n{_upper(purpose)}.\n")
        parts.append(_list(family))
    return _GENERATED + "\n" + "\n".join(parts)


def _list(family: str) -> str:
    rows = [f"| `{name}` | {_summary(family, name)} |" for name in names(family)]
    return "\n".join(["| name | what it is |", "|---|---|", *rows]) + "\n"


def _member(family: str, name: str) -> str:
    cls = find(family, name)
    module = inspect.getdoc(sys.modules[cls.__module__]) or ""
    text = f"### `{name}`\n\n{module.partition(chr(10))[0]}\n"
    if rate := getattr(cls, "learning_rate", None):
        text += f"\n{_TRAINS[cls.trains].format(rate=rate)}\n"
    if cls.Settings.model_fields:
        text += "\n" + _settings(cls.Settings, "")
    if source := _source(module):
        text += f"\nSource: {source}\n"
    return text


def _settings(model: Any, section: str) -> str:
    rows = [
        f"| `{place}` | {_type(field, place)} | {_default(field)} | {_said(field)} |"
        for place, field in _flat(model, section)
    ]
    return "\n".join(["| setting | type | default | what it does |", "|---|---|---|---|", *rows]) + "\n"


def _flat(model: Any, place: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        at = f"{place}.{name}" if place else name
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Options) and at not in _MEMBERS:
            yield from _flat(inner, at)
        else:
            yield at, field


def _said(field: FieldInfo) -> str:
    return _cell(_upper(field.description or "one of these"))


def _type(field: FieldInfo, place: str) -> str:
    if place in _MEMBERS:
        return f"[one of these](#{place.replace('.', '')})"
    limits = [
        f"{sign} {getattr(item, key):g}"
        for item in field.metadata
        for key, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if getattr(item, key, None) is not None
    ]
    return _cell(", ".join([_type_name(field.annotation), *limits]))


def _type_name(kind: Any) -> str:
    plain = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
    if kind in plain:
        return plain[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in inner)
    if origin is tuple:
        return f"list of {_plural(_type_name(inner[0]))}"
    if origin is dict:
        return f"mapping of {_type_name(inner[0])} to {_type_name(inner[1])}"
    return _type_name(inner[0]) if inner else getattr(kind, "__name__", str(kind))


def _plural(name: str) -> str:
    return {"text": "texts", "number": "numbers", "whole number": "whole numbers"}.get(name, name)


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "must be given"
    if isinstance(value, tuple):
        return _cell(f"`[{', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in value)}]`")
    if isinstance(value, dict):
        return "`{}`"
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _summary(family: str, name: str) -> str:
    path = Path(sys.modules["weitiao"].__file__ or "").parent / FAMILIES[family][0] / f"{name}.py"
    return _cell((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0])


def _source(module: str) -> str:
    _, found, rest = module.partition("Source: ")
    return " ".join(rest.partition("\n\n")[0].partition("Differs:")[0].split()) if found else ""


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


def cli_page() -> str:
    """Return the help of every command."""
    import typer
    from typer.testing import CliRunner

    from weitiao.cli import app

    group = typer.main.get_command(app)
    runner = CliRunner()
    parts = [_CLI_HEAD]
    for command in ("", *group.commands):  # type: ignore[attr-defined]
        arguments = [command, "--help"] if command else ["--help"]
        result = runner.invoke(app, arguments, prog_name="weitiao", terminal_width=100)
        title = f"weitiao {command}".strip()
        parts.append(f"## `{title}`\n\n```text\n{result.output.strip()}\n```\n")
    return _GENERATED + "\n" + "\n".join(parts)


_RECIPE_HEAD = """# The recipe

Everything that decides a run, in one YAML file. Two equal recipes give equal results. A run writes the recipe it
used, every default spelt out, into its folder as `recipe.yaml`, and from there into the bundle.

The shortest recipe names only the rows:

```yaml
data: examples/data/customer_service_en.csv
```

`data: FILE` is short for `data: {train: FILE}`, and `model: NAME` for `model: {name: NAME}`. A task, a method, a
regularizer, an optimizer or a schedule is its name, or a mapping of its name and its settings:

```yaml
data: examples/data/customer_service_en.csv
method:
  name: lora
  rank: 16
regularizers:
  - name: label_smoothing
    strength: 0.1
training:
  optimizer: lion
  schedule: {name: cosine, warmup_steps: 20}
```

On the command line any setting can be put on top: `weitiao run recipe.yaml method=lora method.rank=16`.
Paths are relative to the folder the command runs in. A name that ends in `.py` is a file of your own
(see [how to add](how-to-add/)). For completion in an editor: `weitiao schema > recipe.schema.json`.

A setting that does not exist is refused with the nearest that does. A setting that would have no effect in its
combination is refused too, with the reason (not yet: `max_steps` or `patience` larger than the run is long). All
mistakes of a file are told at once, each with its line.
"""

_CLI_HEAD = """# The command line

Every command prints what is for people by default, and JSON with `--json`. It ends with 0 when done, 1 when it failed
for a stated reason, 2 when it was misused. A mistake of yours never ends in a traceback.
"""


def main() -> int:
    """Write the pages, or compare."""
    there = {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}
    stale = [name for name, text in pages().items() if there.get(name) != text]
    if "--check" in sys.argv:
        print(f"not up to date: {', '.join(stale)}" if stale else "up to date")
        return 1 if stale else 0
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
