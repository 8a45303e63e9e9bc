"""``weitiao rate``: from a recipe to a suggestion and a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from weitiao.cli import app, main
from weitiao.errors import RecipeError
from weitiao.rate import recommend_rate
from weitiao.recipe import Recipe

runner = CliRunner()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, tiny_rows: list[dict[str, str]]) -> Path:
    folder = tmp_path_factory.mktemp("rate")
    data = folder / "评论.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in tiny_rows), encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(f"data: {data}\nmodel: {tiny_bert}\n", encoding="utf-8")
    return path


def test_the_command_says_a_rate_and_writes_a_page(recipe: Path, tmp_path: Path) -> None:
    page = tmp_path / "rate.html"
    arguments = [
        "rate",
        str(recipe),
        "method=lora",
        "training.batch_size=8",
        "--steps",
        "40",
        "--lowest",
        "1e-5",
        "--html",
        str(page),
    ]
    done = runner.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "falls fastest" in done.output
    assert "for lora with adamw" in done.output
    html = page.read_text(encoding="utf-8")
    assert "<svg" in html
    assert "学习率" in html
    said = json.loads(runner.invoke(app, [*arguments, "--json"]).output)
    assert said["suggestion"] in said["rates"]
    assert (said["method"], said["optimizer"], said["page"]) == ("lora", "adamw", str(page))


def test_the_report_holds_what_it_prints(recipe: Path) -> None:
    found = recommend_rate(
        Recipe.load(recipe, ["training.optimizer=lion", "training.batch_size=8"]), lowest=1e-6, highest=0.1, steps=40
    )
    assert found.line.startswith(f"learning rate {found.curve.suggestion:.1e} for full with lion")
    assert found.to_json()["losses"] == found.curve.losses


def test_a_method_without_steps_has_no_rate(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecipeError, match="the method head has no learning rate: it takes no steps"):
        recommend_rate(Recipe.load(recipe, ["method=head"]))
    assert main(["rate", str(recipe), "method=head"]) == 2
    assert "has no learning rate" in capsys.readouterr().err


def test_limits_the_wrong_way_round_are_misuse(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rate", str(recipe), "--lowest", "1", "--highest", "0.1"]) == 2
    assert "--lowest must be above 0 and below --highest" in capsys.readouterr().err
