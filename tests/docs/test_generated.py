"""What the documentation says about the code is what the code says."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType
from typing import Any

import pytest

from docs.pages import PAGES, ROOT, blocks
from weitiao import errors
from weitiao.plugins import FAMILIES, names
from weitiao.recipe import Recipe


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(generate: ModuleType) -> None:
    for name, text in generate.pages().items():
        there = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert there == text, f"docs/{name} is not up to date: run python docs/generate.py"


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    recipe = Recipe(data="rows.csv").dump()
    for chosen in ("optimizer", "schedule"):  # members; what they set is documented with each of them
        recipe["training"][chosen] = recipe["training"][chosen]["name"]
    for place in _leaves({key: recipe[key] for key in ("data", "model", "training", "evaluation")}):
        assert f"`{place}`" in text
    for family in FAMILIES:
        for name in names(family):
            assert f"`{name}`" in text


def test_every_command_is_documented() -> None:
    import typer

    from weitiao.cli import app

    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        section = text.partition(f"## `weitiao {name}`")[2].partition("\n## ")[0]
        options = [name for p in command.params for name in p.opts if name.startswith("--")]
        assert all(option in section for option in options), name


def test_every_error_is_documented() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for name in errors.__all__:
        if name[0].isupper():
            assert f"| `{name}` |" in text


def test_the_doors_in_the_docs_are_those_of_the_import_linter() -> None:
    import tomllib

    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [set(re.split(r"\s*[|:]\s*", layer)) for layer in contract["contracts"][0]["layers"]]
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    arrow = re.search(r"```text\n(errors < .*?)```", text, re.S)
    assert arrow is not None
    documented = [set(re.split(r"\s*\|\s*", room.strip())) for room in arrow[1].split("<")]
    assert documented == layers[::-1]


def test_both_readmes_have_the_same_code() -> None:
    english, chinese = ([(b.language, b.code, b.reason) for b in blocks(ROOT / f"README{x}.md")] for x in ("", ".zh"))
    assert english == chinese


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Any) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "#", "mailto:")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def _leaves(value: Any, place: str = "") -> list[str]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, f"{place}.{key}".lstrip("."))]
    return [place]
