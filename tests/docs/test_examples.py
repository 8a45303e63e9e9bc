"""Every fenced example of the documentation runs: Python, YAML recipes, and commands.

The blocks of a page run in order, in one folder, with a tiny model in place of those that are named, so that this
takes seconds. Blocks marked ``<!-- not run: reason -->`` and those of other languages (text, json) are left out.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.pages import PAGES, ROOT, Block, blocks
from weitiao.recipe import Recipe
from weitiao.stages import Stages, is_staged

_RUN = {"python", "sh", "yaml"}
_PAGES = [page for page in PAGES if page.parent.name != "how-to-add"]  # tests/test_new_member.py follows those
_WITH_EXAMPLES = [page for page in _PAGES if any(b.language in _RUN and b.reason is None for b in blocks(page))]


@pytest.fixture
def tiny_everywhere(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a tiny model under every packaged name, and let a training end after a few steps."""
    rooms = [importlib.import_module(f"weitiao.{name}") for name in ("models.find", "check", "run")]
    # Importing a submodule puts it where the function of that name was; `weitiao` finds the function again.
    vars(importlib.import_module("weitiao")).pop("run", None)
    real = rooms[0].find

    def find(name: str) -> Any:
        found = real(str(tiny_bert) if name.startswith("package:") else name)
        return dataclasses.replace(found, name=name)

    for module in rooms:
        monkeypatch.setattr(module, "find", find)
    order = importlib.import_module("weitiao.training.loop").epoch_order
    monkeypatch.setattr("weitiao.training.loop.epoch_order", lambda *args, **kwargs: order(*args, **kwargs)[:2])


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", _WITH_EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.usefixtures("tiny_everywhere")
def test_examples_of_a_page_run(page: Path, workplace: Path) -> None:
    if page.name == "README.zh.md":
        pytest.skip("its blocks are those of README.md, which test_generated.py compares")
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.reason is None and block.language in _RUN:
            _run(block, names, workplace)


def test_every_block_says_what_it_is() -> None:
    for page in _PAGES:
        for block in blocks(page):
            where = f"{page.relative_to(ROOT)}:{block.line}"
            assert block.language in {*_RUN, "text", "json"}, f"{where}: {block.language!r} is neither run nor plain"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_example_recipes_run_with_their_own_models(recipe: Path, workplace: Path, minilm: str) -> None:
    import weitiao

    read = Recipe.load(recipe)
    header, *rows = Path(read.data.train).read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(rows) == 480
    thin = workplace / "thin.csv"  # every class, a quarter of the rows: the Chinese model is not small
    thin.write_text("".join([header, *rows[::4]]), encoding="utf-8")
    quick = [] if read.method.name == "head" else ["training.max_steps=3"]
    bundle = weitiao.run(Recipe.load(recipe, [*quick, f"data.train={thin}"]), "run", show=False)
    assert bundle.verified is not None
    assert bundle.facts["rows"]["in"] == 120


def _run(block: Block, names: dict[str, Any], folder: Path) -> None:
    where = f"{block.page.relative_to(ROOT)}:{block.line}"
    if block.language == "python":
        exec(compile("\n" * (block.line - 1) + block.code, str(block.page), "exec"), names)
    elif block.language == "yaml":
        path = folder / "recipe.yaml"  # the page's later commands may use it
        path.write_text(block.code, encoding="utf-8")
        Stages.load(path).recipes(folder) if is_staged(path) else Recipe.load(path)
    else:
        for line in block.code.replace("\\\n", " ").splitlines():
            if line.partition("#")[0].strip():
                _command(shlex.split(line, comments=True), where)


def _command(words: list[str], where: str) -> None:
    from typer.testing import CliRunner

    from weitiao.cli import app

    assert words[0] == "weitiao", f"{where}: {words[0]} cannot be run here; mark the block <!-- not run: reason -->"
    if ">" in words:
        words = words[: words.index(">")]
    with warnings.catch_warnings(), _environment_kept():
        result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, f"{where}: {' '.join(words)}\n{result.output}\n{result.exception!r}"


class _environment_kept:
    """Commands set defaults of third parties in the environment; a test must leave none behind."""

    def __enter__(self) -> None:
        self.before = dict(os.environ)

    def __exit__(self, *_: object) -> None:
        os.environ.clear()
        os.environ.update(self.before)
