"""The command line: parse, call, print. Exit codes: 0 done, 1 failed for a stated reason, 2 misused."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="From labelled text to a model you can trust.",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FieldOption = Annotated[list[str] | None, typer.Option("--field", help="FIELD=COLUMN, such as text=comment.")]
Encoding = Annotated[str | None, typer.Option(help="Found when left out: utf-8, gb18030, utf-16, latin-1, ...")]
Delimiter = Annotated[str | None, typer.Option(help="Found when left out.")]
Header = Annotated[bool | None, typer.Option(help="Whether the first line names the columns; found when left out.")]
Pattern = Annotated[str | None, typer.Option(help=r"Regular expression for each line: (?P<label>\S+) (?P<text>.*)")]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, or the folder of the run that made it.")]


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Rows to train on.")],
    dev: Annotated[list[str] | None, typer.Option(help="Rows to choose by.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="Rows to measure by.")] = None,
    model: Annotated[str | None, typer.Option(help="Check lengths and vocabulary for it; 'none' leaves them out.")] = None,
    field: FieldOption = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    header: Header = None,
    pattern: Pattern = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots.")] = None,
    as_json: Json = False,
) -> None:
    """Say what is wrong with labelled data, before a minute is spent on it.

    Ends with 1 when there is a finding of severity error.

    Example: weitiao check reviews.csv --test reviews_test.csv --html check.html
    """
    from weitiao.check import check_files

    report = check_files(
        {"train": files, "dev": dev, "test": test}, model, _pairs(field), _read_options(encoding, delimiter, header, pattern)
    )
    if html:
        report.write_html(html)
    if as_json:
        _print_json(report.to_json())
    else:
        report.print(_console())
        if html:
            typer.echo(f"page: {html}")
    raise typer.Exit(1 if any(f.severity == "error" for f in report.findings) else 0)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, or the folder of a run to go on with.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[SETTING=VALUE]...", help="Such as method=lora.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Of the run; runs/ and the recipe's name when left out.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Draw no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Run a recipe: data, training, honest test, bundle. Killed at any instant, the same command goes on.

    Example: weitiao run recipe.yaml method=lora training.epochs=5
    """
    from weitiao.recipe import Recipe

    is_run = recipe.is_dir()
    read = Recipe.load(recipe / "recipe.yaml" if is_run else recipe, overrides or [])
    folder = folder or (recipe if is_run else Path("runs") / recipe.stem)
    _be_calm()
    from weitiao.run import run as execute

    bundle = execute(read, folder, show=not quiet)
    report = bundle.report
    if as_json:
        _print_json({"bundle": str(bundle.folder), "line": report.line, "report": str(folder / "report.html")})
    else:
        typer.echo(report.line)
        typer.echo(report.headline)
        typer.echo(report.headline_zh)
        typer.echo(f"bundle: {bundle.folder}\nreport: {folder / 'report.html'}")


@app.command()
def predict(
    bundle: BundlePath,
    inputs: Annotated[list[str], typer.Argument(metavar="TEXT...|FILE", help="Texts, or one file of rows.")],
    field: FieldOption = None,
    out: Annotated[Path | None, typer.Option(help="Write here (.csv or .jsonl) in place of the terminal.")] = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    header: Header = None,
    pattern: Pattern = None,
    as_json: Json = False,
) -> None:
    """Predict texts, or the rows of a file in constant memory.

    Example: weitiao predict runs/demo/bundle "where is my parcel?"
    """
    _be_calm()
    from weitiao.bundle import Bundle

    opened = Bundle(bundle)
    if len(inputs) == 1 and Path(inputs[0]).is_file():
        from weitiao.predict import predict_file, write_predictions

        options = _read_options(encoding, delimiter, header, pattern)
        rows = predict_file(opened, inputs[0], _pairs(field), options)
        if out is None:
            done, failed = write_predictions(rows, sys.stdout, as_csv=False)
        else:
            with out.open("w", encoding="utf-8", newline="") as file:
                done, failed = write_predictions(rows, file, as_csv=out.suffix == ".csv")
        typer.echo(f"{done + failed:,} rows: {done:,} answered, {failed:,} not", err=True)
        return
    if out or field or encoding or delimiter or pattern or header is not None:
        _misused("--out, --field and the options about reading concern a file; the inputs here are texts.")
    answers = opened.predict([_pair_of(text) for text in inputs])
    for text, answer in zip(inputs, answers, strict=True):
        typer.echo(json.dumps({"text": text, **answer.to_json()}, ensure_ascii=False)) if as_json else typer.echo(
            f"{answer.label}\t{answer.confidence:.3f}\t{text}"
        )


@app.command()
def report(
    bundle: BundlePath,
    html: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
    as_json: Json = False,
) -> None:
    """Show the honest account of a bundle: before and after, intervals, mistakes.

    Example: weitiao report runs/demo --html report.html
    """
    from weitiao.bundle import Bundle

    account = Bundle(bundle, verify=False).report
    if html:
        account.write_html(html)
    if as_json:
        _print_json(account.to_json())
    else:
        account.show(_console())


@app.command()
def verify(bundle: BundlePath, as_json: Json = False) -> None:
    """Compare every file of a bundle with its checksum, and recompute its reference rows.

    Example: weitiao verify runs/demo/bundle
    """
    _be_calm()
    from weitiao.bundle import Bundle

    opened = Bundle(bundle)
    if as_json:
        _print_json({"bundle": str(opened.folder), "largest_difference": opened.verified})
    else:
        typer.echo(
            f"{opened.folder}: whole and unchanged; reference rows reproduced, largest difference of a logit "
            f"{opened.verified:.2e} (tolerance {opened.facts['tolerance']:g})"
        )


@app.command("list")
def list_members(
    family: Annotated[str | None, typer.Argument(help="tasks, methods, regularizers, metrics or checks.")] = None,
    as_json: Json = False,
) -> None:
    """List what a recipe can name.

    Example: weitiao list methods
    """
    from weitiao.errors import UnknownName, did_you_mean
    from weitiao.plugins import FAMILIES, names, summary

    if family is not None and family not in FAMILIES:
        raise UnknownName(
            f"there is no family {family!r}.{did_you_mean(family, FAMILIES)}", fix=f"Known: {', '.join(FAMILIES)}."
        )
    found = {f: {n: summary(f, n) for n in names(f)} for f in ([family] if family else FAMILIES)}
    if as_json:
        _print_json(found)
        return
    for name, members in found.items():
        typer.echo(name)
        for member, line in members.items():
            typer.echo(f"  {member:20} {line}")


@app.command()
def new(
    family: Annotated[str, typer.Argument(help="task, method, regularizer, metric or check.")],
    name: Annotated[str, typer.Argument(help="Name of the new member; its file is called so.")],
    folder: Annotated[Path, typer.Option(help="Where the file goes.")] = Path(),
) -> None:
    """Start a member of a family from its commented template.

    Example: weitiao new metric balanced_accuracy
    """
    from weitiao.templates import write_template

    path = write_template(family, name, folder)
    typer.echo(f"{path}: edit it, then name it in a recipe by its path, or put it into the family's folder.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, for editors.

    Example: weitiao schema > recipe.schema.json
    """
    from weitiao.recipe import Recipe

    _print_json(Recipe.json_schema())


def main() -> None:
    """Run the command line; a user's own mistake never ends in a traceback."""
    from weitiao.errors import RecipeError, WeitiaoError

    try:
        app(standalone_mode=True)
    except WeitiaoError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(2 if isinstance(error, RecipeError) else 1)
    except KeyboardInterrupt:
        typer.echo("Interrupted. The same command goes on where it stopped.", err=True)
        sys.exit(1)
    except BrokenPipeError:  # the reader of a pipe has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"{where}{error.strerror or error}. What was finished is kept.", err=True)
        sys.exit(1)


def _read_options(encoding: str | None, delimiter: str | None, header: bool | None, pattern: str | None) -> Any:
    from pydantic import ValidationError

    from weitiao.data.read import ReadOptions

    try:
        return ReadOptions(encoding=encoding, delimiter=delimiter, header=header, pattern=pattern)
    except ValidationError as error:
        _misused("; ".join(f"--{e['loc'][0]}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()))


def _pairs(items: list[str] | None) -> dict[str, str]:
    pairs = {}
    for item in items or []:
        name, equals, column = item.partition("=")
        if not equals:
            _misused(f"--field {item!r}: write FIELD=COLUMN, such as text=comment.")
        pairs[name] = column
    return pairs


def _pair_of(text: str) -> Any:
    first, bar, second = text.partition("|||")
    return {"text": first, "text_pair": second} if bar else text


def _misused(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(2)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def _console() -> Any:
    from rich.console import Console

    return Console()


def _be_calm() -> None:
    """Keep the libraries' own bars and hints off the terminal; what matters we say ourselves."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


if __name__ == "__main__":
    main()
