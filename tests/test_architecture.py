"""The plan of the house, held by reading the source: nothing here imports a member."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from weitiao import plugins

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "weitiao"

# What every run passes through: to be read in a sitting.
CORE = (
    "__init__.py", "errors.py", "plugins.py", "recipe.py", "run.py", "bundle.py",
    "data/table.py", "data/batch.py", "models/load.py", "models/parts.py", "tasks/base.py", "methods/base.py",
    "training/loop.py", "training/hook.py", "training/optimizer.py", "training/checkpoint.py",
)  # fmt: skip

# budget -> most it may be; a budget is raised only with a reason in docs/decisions
LIMITS = {
    "core, lines": 4650,
    "file, p90 lines": 300,
    "function, median lines": 10,
    "function, p90 lines": 35,
    "function, longest": 80,
    "arguments, most": 7,
    "public names without docstring": 0,
    "functions not wholly annotated": 0,
    "asserts": 0,
}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}

# Families whose members a user chooses by a word that has no other meaning in the code. Metrics and checks
# are left out: a task says which metrics it is measured by, and a finding says which check found it.
UNNAMED = ("tasks", "methods", "regularizers", "optimizers", "schedules")
# they implement something published
# Names that are ordinary words elsewhere: the head of a model or of a relation, what transformers calls a problem, and
# what a translator makes, a key in files of dialogues; a baseline is called as the method that does the same.
ORDINARY = {"head", "regression", "translation", "dialogue", "label_names"}
SOURCED = ("methods", "regularizers", "optimizers", "schedules", "metrics", "formats")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Source:
    """One file, parsed once, with what several tests ask of it."""

    path: Path
    text: str = field(init=False)
    tree: ast.Module = field(init=False)

    def __post_init__(self) -> None:
        self.text = self.path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)

    @property
    def name(self) -> str:
        return self.path.relative_to(PACKAGE).as_posix()

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    def at(self, node: ast.AST) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 1)}"

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def public(self) -> Iterator[tuple[Function | ast.ClassDef, ast.ClassDef | None]]:
        """Public functions and classes, and the methods and classes of public classes, each with its owner."""

        def within(body: list[ast.stmt], owner: ast.ClassDef | None) -> Iterator:
            for node in body:
                if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                    yield node, owner
                    if isinstance(node, ast.ClassDef):
                        yield from within(node.body, node)

        return within(self.tree.body, None)


@cache
def sources() -> tuple[Source, ...]:
    return tuple(Source(path) for path in sorted(PACKAGE.rglob("*.py")))


@cache
def classes() -> dict[str, ast.ClassDef]:
    return {node.name: node for s in sources() for node in ast.walk(s.tree) if isinstance(node, ast.ClassDef)}


def members() -> list[tuple[str, str]]:
    """(family, file name without .py) of every member in the package."""
    return [
        (family, path.stem)
        for family, (folder, _) in plugins.FAMILIES.items()
        for path in sorted((PACKAGE / folder).glob("*.py"))
        if path.stem != "base" and not path.stem.startswith("_")
    ]


def above(node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    """The package's own classes that `node` derives from, the nearest first."""
    seen = {node.name}
    bases = list(node.bases)
    while bases:
        name = ast.unparse(bases.pop(0)).partition("[")[0].rpartition(".")[2]
        if name in classes() and name not in seen:
            seen.add(name)
            yield classes()[name]
            bases += classes()[name].bases


def member_of(node: ast.ClassDef, name: str) -> ast.stmt | None:
    return next((item for item in node.body if getattr(item, "name", None) == name), None)


def overrides(node: Function | ast.ClassDef, owner: ast.ClassDef | None) -> bool:
    """Whether a class above `owner` has this name too, so that its docstring is there to read."""
    return owner is not None and any(member_of(base, node.name) for base in above(owner))


def arguments(node: Function) -> list[ast.arg]:
    """Arguments without the `self` or `cls` that a call does not write."""
    spec = node.args
    return [a for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs) if a.arg not in ("self", "cls")]


# --- the doors ---


def test_doors_open_one_way():
    """import-linter's contracts of pyproject.toml hold."""
    code = "from importlinter.cli import lint_imports_command as run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("family", plugins.FAMILIES)
def test_members_of_a_family_do_not_import_each_other(family):
    folder = plugins.FAMILIES[family][0]
    package = f"weitiao.{folder.replace('/', '.')}"
    others = {f"{package}.{name}" for kind, name in members() if kind == family}
    wrong = []
    for source in sources():
        if source.path.parent != PACKAGE / folder:
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                imported = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                start = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level]) if node.level else ""
                module = ".".join(filter(None, (start, node.module)))
                imported = {module, *(f"{module}.{alias.name}" for alias in node.names)}
            else:
                continue
            wrong += [f"{source.at(node)} imports {name}" for name in sorted(imported & others)]
    assert not wrong, "\n".join(wrong)


# --- the words ---


def _recipe_defaults(tree: ast.Module) -> Iterator[ast.AST]:
    """Everything that stands to the right of a `=` in the sections of the recipe, and its table of defaults."""
    for section in ast.walk(tree):
        if isinstance(section, ast.Assign) and ast.unparse(section.targets[0]) == "DEFAULTS":
            yield from ast.walk(section.value)
        if isinstance(section, ast.ClassDef):
            for item in section.body:
                if isinstance(item, ast.AnnAssign) and item.value:
                    yield from ast.walk(item.value)


def _string_constants(source: Source) -> Iterator[ast.Constant]:
    """Strings that are values: no docstrings, no parts of f-strings, no `__all__`, no defaults of the recipe."""
    skip: set[int] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr | ast.JoinedStr):
            skip.update(id(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.Constant))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            skip.update(id(child) for child in ast.walk(node.value))
        elif isinstance(node, ast.FunctionDef) and node.name == "tiny":  # cases for the contract tests
            skip.update(id(child) for child in ast.walk(node))
    if source.name in ("recipe.py", "training/settings.py"):
        skip.update(id(node) for node in _recipe_defaults(source.tree))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skip:
            yield node


def test_no_file_outside_a_family_names_a_member():
    wrong = []
    for family in UNNAMED:
        folder = PACKAGE / plugins.FAMILIES[family][0]
        known = {name for kind, name in members() if kind == family} - ORDINARY
        for source in sources():
            if source.path.is_relative_to(folder):
                continue
            hits = (node for node in _string_constants(source) if node.value in known)
            wrong += [f"{source.at(node)} says {node.value!r}, a member of {family}" for node in hits]
    assert not wrong, "\n".join(wrong)


def test_no_file_has_a_name_that_says_nothing():
    vague = [s.name for s in sources() if {part.removesuffix(".py") for part in s.path.parts} & VAGUE]
    assert not vague


def test_no_assert_in_the_package():
    """What a user can cause is an error with words; what nobody can cause needs no line."""
    wrong = [s.at(node) for s in sources() for node in ast.walk(s.tree) if isinstance(node, ast.Assert)]
    assert not wrong, "\n".join(wrong)


# --- the members ---


@pytest.mark.parametrize(("family", "name"), members())
def test_member_introduces_itself(family, name):
    """A first line for `weitiao list`, a smallest example for the contracts, and where it comes from."""
    source = next(s for s in sources() if s.path == PACKAGE / plugins.FAMILIES[family][0] / f"{name}.py")
    top = [node for node in source.tree.body if isinstance(node, ast.ClassDef)]
    words = [ast.get_docstring(node) or "" for node in (source.tree, *top)]
    assert plugins.summary(family, name).endswith("."), "the docstring's first line is one whole sentence"
    assert any(_has_tiny(node) for node in top), "it has no tiny(), nor one above it that does more than raise"
    if family in SOURCED:
        assert any("Source" in text for text in words), "no docstring says Source"


def _has_tiny(node: ast.ClassDef) -> bool:
    found = next(filter(None, (member_of(each, "tiny") for each in (node, *above(node)))), None)
    return isinstance(found, ast.FunctionDef) and not isinstance(found.body[-1], ast.Raise)


# --- the budgets ---


def undocumented() -> list[str]:
    return [
        f"{s.at(node)} {node.name} has no docstring"
        for s in sources()
        for node, owner in s.public()
        if not ast.get_docstring(node) and not overrides(node, owner) and not _is_validator(node)
    ]


def unannotated() -> list[str]:
    wrong = []
    for s in sources():
        for node in s.functions():
            spec = node.args
            every = [*arguments(node), *filter(None, (spec.vararg, spec.kwarg))]
            missing = [a.arg for a in every if a.annotation is None] + ["return"] * (node.returns is None)
            wrong += [f"{s.at(node)} {node.name}: no type for {', '.join(missing)}"] if missing else []
    return wrong


def _is_validator(node: ast.AST) -> bool:
    """Whether pydantic calls it, and nobody else."""
    return any("validator" in ast.unparse(d) or "serializer" in ast.unparse(d) for d in node.decorator_list)


def p90(values: list[int]) -> int:
    return sorted(values)[int(0.9 * (len(values) - 1))]


def longest(values: dict[str, int]) -> tuple[int, str]:
    name = max(values, key=values.__getitem__)
    return values[name], name


def test_public_names_are_documented():
    assert not undocumented(), "\n".join(undocumented())


def test_functions_are_annotated():
    assert not unannotated(), "\n".join(unannotated())


def test_budgets(record_property):
    """The size of things, printed as a table at the end of the session; growth beyond a limit fails."""
    core = {path for pattern in CORE for path in PACKAGE.glob(pattern)}
    files = {s.name: s.lines for s in sources() if s.lines}
    sizes = {f"{s.at(f)} {f.name}": f.end_lineno - f.lineno + 1 for s in sources() for f in s.functions()}
    # a command's arguments are its options: users name them, nobody passes them by hand
    plain = [s for s in sources() if s.name != "cli.py"]
    widths = {f"{s.at(f)} {f.name}": len(arguments(f)) for s in plain for f in s.functions()}
    asserts = sum(isinstance(node, ast.Assert) for s in sources() for node in ast.walk(s.tree))
    measured: dict[str, tuple[float, str]] = {
        "core, lines": (sum(s.lines for s in sources() if s.path in core), f"{len(core)} files"),
        "file, p90 lines": (p90(list(files.values())), "longest {1}: {0}".format(*longest(files))),
        "function, median lines": (statistics.median(sizes.values()), f"{len(sizes)} functions"),
        "function, p90 lines": (p90(list(sizes.values())), ""),
        "function, longest": longest(sizes),
        "arguments, most": longest(widths),
        "public names without docstring": (len(undocumented()), ""),
        "functions not wholly annotated": (len(unannotated()), ""),
        "asserts": (asserts, ""),
    }
    rows = [f"{name:<32}{value:>8g}{LIMITS[name]:>8}  {note}" for name, (value, note) in measured.items()]
    table = "\n".join([f"{'budget':<32}{'now':>8}{'most':>8}", *rows])
    record_property("table", table)
    over = [name for name, (value, _) in measured.items() if value > LIMITS[name]]
    assert not over, f"over budget: {', '.join(over)}\n{table}"
