"""The command line: parse, call, print. Exit codes: 0 done, 1 failed for a stated reason, 2 misused."""

from __future__ import annotations

import json
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from weitiao import __version__

app = typer.Typer(
    name="weitiao",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FieldOption = Annotated[list[str] | None, typer.Option("--field", help="FIELD=COLUMN, such as text=comment.")]
Encoding = Annotated[str | None, typer.Option(help="Found when left out: utf-8, gb18030, utf-16, latin-1, ...")]
Delimiter = Annotated[str | None, typer.Option(help="Found when left out.")]
Header = Annotated[bool | None, typer.Option(help="Whether the first line names the columns; found when left out.")]
Pattern = Annotated[str | None, typer.Option(help=r"Regular expression for each line: (?P<label>\S+) (?P<text>.*)")]
# typer may carry a click of its own; this is the root of its errors, whichever it is.
_Misuse: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
_INTERRUPTED = 130  # what typer makes of Ctrl-C
_FILES = {".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".xlsx", ".gz"}

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, or the folder of the run that made it.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"weitiao {__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From labelled text to a model you can trust.

    Example: weitiao run recipe.yaml, then: weitiao predict runs/recipe "where is my parcel?"
    """


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Rows to train on.")],
    dev: Annotated[list[str] | None, typer.Option(help="Rows to choose by.")] = None,
    test: Annotated[list[str] | None, typer.Option(help="Rows to measure by.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Check lengths and vocabulary for it; 'none' leaves them out.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What is to be learnt; see: weitiao list tasks.")] = None,
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
        {"train": files, "dev": dev, "test": test},
        model,
        _pairs(field),
        _read_options(encoding, delimiter, header, pattern),
        task,
    )
    if html:
        report.write_html(html)
    if as_json:
        _print_json(report.to_json())
    else:
        report.print(_console(soft_wrap=not sys.stdout.isatty()))  # a pipe has no width
        if html:
            typer.echo(f"page: {html}")
    raise typer.Exit(1 if any(f.severity == "error" for f in report.findings) else 0)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, or the folder of a run to go on with.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTING=VALUE]...", help="Such as method=lora.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Of the run; runs/ and the recipe's name when left out.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Draw no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Run a recipe: data, training, honest test, bundle. Killed at any instant, the same command goes on.

    A recipe with stages runs them in order, each on the model of the one before.

    Example: weitiao run recipe.yaml method=lora training.epochs=5
    """
    _be_calm()
    bundle, page = _execute(recipe, overrides or [], folder, show=not quiet)
    from weitiao.training.processes import Processes

    if not Processes().main:  # one of several tells
        return
    report = bundle.report
    if as_json:
        _print_json({"bundle": str(bundle.folder), "line": report.line, "report": str(page)})
    else:
        typer.echo(report.line)
        typer.echo(report.headline)
        typer.echo(report.headline_zh)
        typer.echo(f"bundle: {bundle.folder}\nreport: {page}")


def _execute(path: Path, overrides: list[str], folder: Path | None, *, show: bool) -> tuple[Any, Path]:
    """Run a recipe or its stages; return the bundle, and where the page of the report is."""
    from weitiao.recipe import Recipe
    from weitiao.stages import Stages, is_staged

    if folder is None:
        folder = path if path.is_dir() else Path("runs") / path.stem
    if is_staged(path):
        stages = Stages.load(path, overrides)
        for name, recipe in stages.recipes(folder).items():
            _look_for_data(recipe, folder / name)
        return stages.run(folder, show=show), folder / stages.names[-1] / "report.html"
    read = Recipe.load(path / "recipe.yaml" if path.is_dir() else path, overrides)
    _look_for_data(read, folder)
    from weitiao.run import run as execute

    return execute(read, folder, show=show), folder / "report.html"


def _look_for_data(recipe: Any, folder: Path) -> None:
    """Say that a file is missing before the seconds that the engine takes to load; a finished run needs none."""
    if not (folder / "bundle").is_dir():
        recipe.data.must_exist()


@app.command()
def compare(
    recipe: Annotated[Path, typer.Argument(help="A recipe file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTING=VALUE]...", help="Such as training.epochs=5.")
    ] = None,
    methods: Annotated[str, typer.Option(help="Joined by commas, or all; see: weitiao list methods.")] = "all",
    folder: Annotated[
        Path | None, typer.Option(help="Of the comparison; runs/compare/ and the recipe's name when left out.")
    ] = None,
    share_rate: Annotated[
        bool, typer.Option("--share-rate", help="Give the learning rates of the recipe to every method.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Tell nothing on the way.")] = False,
    as_json: Json = False,
) -> None:
    """Run several methods on the same rows and print one table, the best first.

    Settings under method: and the learning rates of the recipe hold for the recipe's own method; the other methods
    take their defaults, since a rate that suits one ruins another. All else holds for all. What only a training loop
    reads is left out for methods that take no steps, and said. A method that cannot be used here is a line that says
    why. Killed at any instant, the same command goes on; finished methods are not run again.

    Example: weitiao compare recipe.yaml --methods head,lora,full
    """
    from weitiao.recipe import Recipe

    read = Recipe.load(recipe, overrides or [])
    _be_calm()
    from weitiao.compare import compare as run_all

    folder = folder or Path("runs") / "compare" / recipe.stem
    say = (lambda line: None) if quiet else (lambda line: typer.echo(line, err=True))
    found = run_all(read, methods, folder, share_rate=share_rate, say=say)
    if as_json:
        _print_json(found.to_json())
    else:
        found.show(_console(soft_wrap=False) if sys.stdout.isatty() else _console(width=160))
        typer.echo(f"page: {folder / 'comparison.html'}")
    raise typer.Exit(0 if found.done else 1)


@app.command()
def tokens(
    recipe: Annotated[Path, typer.Argument(help="A recipe file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTING=VALUE]...", help="Such as task.learn=last.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Training rows shown, the first ones.")] = 3,
    as_json: Json = False,
) -> None:
    """Show which tokens a recipe learns, before anything is trained: learnt ones green, those that are read dim.

    Example: weitiao tokens recipe.yaml --rows 5
    """
    _be_calm()
    from weitiao.learned import learned, show
    from weitiao.recipe import Recipe

    read = Recipe.load(recipe, overrides or [])
    if as_json:
        _print_json(learned(read, rows))
    else:
        show(read, rows, _console(soft_wrap=not sys.stdout.isatty()))


@app.command()
def rate(
    recipe: Annotated[Path, typer.Argument(help="A recipe file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTING=VALUE]...", help="Such as method=lora.")
    ] = None,
    steps: Annotated[int, typer.Option(min=10, help="Optimizer steps of the search.")] = 100,
    lowest: Annotated[float, typer.Option(help="Rate of the first step.")] = 1e-7,
    highest: Annotated[float, typer.Option(help="Rate of the last step.")] = 1.0,
    html: Annotated[Path, typer.Option(help="Where the page with the plot goes.")] = Path("rate.html"),
    as_json: Json = False,
) -> None:
    """Find a learning rate for a recipe: it rises from step to step, and the loss says where it falls fastest.

    Example: weitiao rate recipe.yaml method=lora --steps 200
    """
    if not 0 < lowest < highest:
        _misused("--lowest must be above 0 and below --highest.")
    _be_calm()
    from weitiao.rate import recommend_rate
    from weitiao.recipe import Recipe

    found = recommend_rate(Recipe.load(recipe, overrides or []), lowest=lowest, highest=highest, steps=steps)
    found.write_html(html)
    if as_json:
        _print_json(found.to_json() | {"page": str(html)})
    else:
        found.show(_console(soft_wrap=not sys.stdout.isatty()))
        typer.echo(f"page: {html}")


@app.command()
def predict(
    bundle: BundlePath,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="TEXT...|FILE", help="Texts (the two of a pair: 'one|||other'), or one file of rows."),
    ],
    field: FieldOption = None,
    out: Annotated[Path | None, typer.Option(help="Of a file: write to this .csv or .jsonl.")] = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    header: Header = None,
    pattern: Pattern = None,
    as_json: Json = False,
) -> None:
    """Predict texts, or the rows of a file in constant memory.

    Prints label, calibrated confidence and text (of a file: its place); with --json one object a line.

    Example: weitiao predict runs/demo/bundle "where is my parcel?"
    """
    _be_calm()
    from weitiao.bundle import Bundle
    from weitiao.predict import answer_each

    options = _read_options(encoding, delimiter, header, pattern)
    if any(map(_is_file, inputs)):
        if len(inputs) > 1:
            _misused("one file at a time, or texts: these are several inputs, and a file among them.")
        _predict_file(Bundle(bundle), inputs[0], _pairs(field), options, out, as_json)
        return
    if out or field or any(value is not None for _, value in options):
        _misused("--out, --field and the options about reading concern a file; the inputs here are texts.")
    opened = Bundle(bundle)
    rows = [_row_of(text, opened.text_fields) for text in inputs]
    answers = answer_each(opened, rows) if len(rows) > 1 else opened.predict(rows)
    refused = [text for text, answer in zip(inputs, answers, strict=True) if isinstance(answer, str)]
    for text, answer in zip(inputs, answers, strict=True):
        said = {"error": answer} if isinstance(answer, str) else answer.to_json()
        _print_prediction({**said, "text": text}, text, as_json)
    if refused:
        raise typer.Exit(1)


def _is_file(text: str) -> bool:
    """Whether an input is a file, or can only have been meant as one."""
    if text.startswith("hub:") or (len(text.encode()) < 256 and os.path.isfile(text)):
        return True
    path = Path(text)
    if not path.suffix or any(c.isspace() for c in text):
        return False
    from weitiao.errors import did_you_mean

    near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return path.suffix.lower() in _FILES or bool(did_you_mean(path.name, near))


def _predict_file(
    bundle: Any, source: str, fields: dict[str, str], options: Any, out: Path | None, as_json: bool
) -> None:
    from weitiao.predict import predict_file, write_file

    rows = predict_file(bundle, source, fields, options)
    if out is not None:
        answered, not_answered = write_file(rows, out)
        if as_json:
            _print_json({"out": str(out), "answered": answered, "not_answered": not_answered})
    else:
        answered = not_answered = 0
        for row in rows:
            answered += "error" not in row
            not_answered += "error" in row
            _print_prediction(row, row["place"], as_json)
    if not (as_json and out):
        total = answered + not_answered
        typer.echo(f"{total:,} rows: {answered:,} answered, {not_answered:,} not", err=True)


def _print_prediction(answer: dict[str, Any], name: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(answer, ensure_ascii=False, default=str))
    elif "error" in answer:
        typer.echo(f"-\t-\t{name}\t{answer['error']}")
    else:
        said, sure = answer.get("label", answer.get("answer")), answer.get("confidence")
        said = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        typer.echo(f"{said}\t{'-' if sure is None else f'{sure:.3f}'}\t{name}")


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
            f"{opened.folder}: whole and unchanged; reference rows reproduced, largest difference of a number "
            f"{opened.verified:.2e} (tolerance {opened.facts['tolerance']:g})"
        )


@app.command("list")
def list_members(
    family: Annotated[str | None, typer.Argument(help="tasks, methods, optimizers, schedules, metrics, ...")] = None,
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
    family: Annotated[str, typer.Argument(help="task, method, optimizer, schedule, metric, ...")],
    name: Annotated[str, typer.Argument(help="Name of the new member; its file is called so.")],
    folder: Annotated[Path, typer.Option(help="Where the file goes.")] = Path(),
    as_json: Json = False,
) -> None:
    """Start a member of a family from its commented template.

    Example: weitiao new metric balanced_accuracy
    """
    from weitiao.templates import write_template

    path = write_template(family, name, folder)
    if as_json:
        _print_json({"path": str(path)})
    else:
        typer.echo(f"{path}: edit it, then name it in a recipe by its path, or put it into the family's folder.")


@app.command()
def schema(as_json: Annotated[bool, typer.Option("--json", help="As it is in any case.")] = False) -> None:
    """Print the JSON Schema of a recipe, for editors.

    Example: weitiao schema > recipe.schema.json
    """
    from weitiao.recipe import Recipe

    _print_json(Recipe.json_schema())


def main(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code; a user's own mistake never ends in a traceback."""
    from weitiao.errors import RecipeError, WeitiaoError

    args = sys.argv[1:] if args is None else args
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Chinese still shows something
    try:
        code = app(args, prog_name="weitiao", standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        sys.stdout.flush()
        return code or 0
    except _Misuse as error:
        return _complain_of_misuse(error)
    except WeitiaoError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        return 2 if isinstance(error, RecipeError) else 1
    except (KeyboardInterrupt, typer.Abort):
        goes_on = " The same command goes on where it stopped." if args[:1] in (["run"], ["compare"]) else ""
        typer.echo(f"Interrupted.{goes_on}", err=True)
        return 1
    except BrokenPipeError:  # the reader of a pipe has gone, which is no mistake of anybody's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"{where}{error.strerror or error}. What was finished is kept.", err=True)
        return 1


def _complain_of_misuse(error: Any) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "weitiao"
    message = error.format_message().strip().removesuffix(".")
    if "Usage:" in message:  # nothing was asked, and the whole help is the answer
        typer.echo(message, err=True)
    else:
        end = "" if message.endswith("?") else "."
        typer.echo(f"{command}: {message}{end} See {command} --help.", err=True)
    return 2


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


def _row_of(text: str, fields: tuple[str, ...]) -> Any:
    if len(fields) < 2:
        return text
    return dict(zip(fields, text.split("|||", len(fields) - 1), strict=False))


def _misused(text: str) -> NoReturn:
    raise typer.BadParameter(text)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def _console(**settings: Any) -> Any:
    from rich.console import Console

    return Console(**settings)


def _be_calm() -> None:
    """Keep the libraries' own bars and hints off the terminal; what matters we say ourselves."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


if __name__ == "__main__":
    sys.exit(main())
