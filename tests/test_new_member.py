"""A new member is one new file: no existing file is edited, and the contracts hold for it at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from weitiao import plugins
from weitiao.errors import RecipeError
from weitiao.recipe import Recipe
from weitiao.templates import template_families, write_template
from weitiao.training.schedule import rate_factor

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(plugins.__file__).parent
NAME = "newcomer"


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one member more in every family; its ``src`` folder."""
    source = tmp_path_factory.mktemp("house") / "src"
    shutil.copytree(PACKAGE, source / "weitiao", ignore=shutil.ignore_patterns("__pycache__"))
    for family, (folder, _) in plugins.FAMILIES.items():
        write_template(family.removesuffix("s"), NAME, source / "weitiao" / folder)
    return source


def python(house: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(house), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for key in [key for key in environment if key.startswith("PYTEST_")]:
        del environment[key]
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_no_existing_file_is_edited(house: Path) -> None:
    before, after = hashes(PACKAGE), hashes(house / "weitiao")
    assert {name for name in before if after.get(name) != before[name]} == set()
    assert after.keys() - before.keys() == {f"{folder}/{NAME}.py" for folder, _ in plugins.FAMILIES.values()}


def test_every_family_has_a_template_and_contracts() -> None:
    assert {f"{family}s" for family in template_families()} == set(plugins.FAMILIES)
    for family in template_families():
        assert (ROOT / "tests" / "contracts" / f"test_every_{family}.py").is_file()
        assert (ROOT / "docs" / "how-to-add" / f"{family}.md").is_file()


def test_the_contracts_hold_for_it(house: Path) -> None:
    done = python(
        house, "-m", "pytest", "tests/contracts", "-k", NAME, "-vv", "-p", "no:cacheprovider", "-p", "no:xdist"
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    passed = [line for line in done.stdout.splitlines() if "PASSED" in line and NAME in line]
    for family in template_families():
        assert sum(f"test_every_{family}.py" in line for line in passed) >= 5, family
    skipped = [line for line in done.stdout.splitlines() if "SKIPPED" in line and "::" in line]
    assert all("test_works_with_every_task_or_says_why_not" in line for line in skipped), skipped  # another's reason


def test_it_is_listed_and_a_recipe_can_name_it(house: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import weitiao
from weitiao import plugins
assert Path(weitiao.__file__).is_relative_to({str(house)!r})
for family in plugins.FAMILIES:
    assert "{NAME}" in plugins.names(family)
    assert plugins.summary(family, "{NAME}").startswith("Say in one whole sentence")
assert "torch" not in sys.modules
from weitiao.cli import main
assert main(["list"]) == 0
from weitiao.recipe import Recipe
recipe = Recipe(
    data="rows.csv",
    task="{NAME}",
    method={{"name": "{NAME}", "layers_below": 1}},
    regularizers=["{NAME}"],
    training={{"optimizer": "{NAME}", "schedule": {{"name": "{NAME}", "end_share": 0.5}}}},
    evaluation={{"metrics": ["accuracy", "{NAME}"]}},
)
assert recipe.method.dump() == {{"name": "{NAME}", "layers_below": 1}}
assert "{NAME}" in str(Recipe.json_schema())
"""
    done = python(house, "-c", code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(NAME) == len(plugins.FAMILIES)


# --- a member outside the package ---


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """One file of the user's own for every family."""
    return {family: str(write_template(family, f"my_{family}", tmp_path)) for family in template_families()}


def test_a_member_can_be_named_by_its_path(own: dict[str, str]) -> None:
    recipe = Recipe(
        data="rows.csv",
        task={"name": own["task"], "prefix": "hotel"},
        method=own["method"],
        regularizers=[{"name": own["regularizer"], "strength": 0.5}],
        training={"optimizer": {"name": own["optimizer"], "momentum": 0.5}, "schedule": own["schedule"]},
        evaluation={"main_metric": own["metric"]},
    )
    task, hook = recipe.task.make("tasks"), recipe.regularizers[0].make("regularizers")
    assert (type(task).__name__, task.name, task.settings.prefix) == ("MyTask", "my_task", "hotel")
    assert (type(hook).__name__, hook.settings.strength) == ("MyRegularizer", 0.5)
    assert recipe.training.learning_rate == recipe.method.make("methods").learning_rate == 1e-3
    assert isinstance(recipe.method.settings, BaseModel)
    assert recipe.training.optimizer.settings.momentum == 0.5
    assert rate_factor(50, 100, recipe.training, []) < 0.5
    assert Recipe(**recipe.dump()) == recipe


def test_settings_of_such_a_member_are_checked_too(own: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"method\.layers_belo is not a setting\. Did you mean 'layers_below'\?"):
        Recipe(data="rows.csv", method={"name": own["method"], "layers_belo": 1})
    with pytest.raises(RecipeError, match=r"regularizers\.0\.strength .*greater than 0"):
        Recipe(data="rows.csv", regularizers=[{"name": own["regularizer"], "strength": 0}])


def test_a_path_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.py is not a file"):
        Recipe(data="rows.csv", method=str(tmp_path / "nowhere.py"))


def test_a_file_without_a_member_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text('"""Nothing."""\n', encoding="utf-8")
    with pytest.raises(RecipeError, match=r"empty\.py: .*exactly one public subclass of Method; found: none"):
        Recipe(data="rows.csv", method=str(empty))


# --- writing one ---


def test_a_template_is_called_as_asked(tmp_path: Path) -> None:
    path = write_template("metric", "error_rate", tmp_path)
    assert path == tmp_path / "error_rate.py"
    text = path.read_text(encoding="utf-8")
    assert "class ErrorRate(Metric):" in text
    assert "Example" not in text


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"there is no family 'metrik'. Did you mean 'metric'\?"):
        write_template("metrik", "x", tmp_path)
    with pytest.raises(RecipeError, match=r"'Error Rate' cannot be a file's name\. Use small letters"):
        write_template("metric", "Error Rate", tmp_path)
    write_template("metric", "x", tmp_path)
    with pytest.raises(RecipeError, match=r"x\.py: exists already\. Choose another name"):
        write_template("metric", "x", tmp_path)
