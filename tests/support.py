"""Which task and which method works on which kind of model: tried out on tiny models, and written as a page.

    PYTHONPATH=src:tests python tests/support.py      writes docs/support.md

`tests/docs/test_support.py` tries it again and compares with the page.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import tiny
from trial import adapt, make, trial, weights
from weitiao import plugins
from weitiao.errors import WeitiaoError
from weitiao.recipe import with_task_defaults

FAMILIES = {
    "bert": "BERT", "roberta": "RoBERTa", "llama": "Llama, Qwen and kin", "gpt2": "GPT-2", "t5": "T5", "bart": "BART",
}  # fmt: skip
METHODS, TASKS = tuple(plugins.names("methods")), tuple(plugins.names("tasks"))
# where methods are tried: family of model, and a task that reads, or one that writes
COLUMNS = {
    "BERT, reads": ("bert", "classification"),
    "RoBERTa, reads": ("roberta", "classification"),
    "Llama, reads": ("llama", "classification"),
    "Llama, writes": ("llama", "summarization"),
    "GPT-2, reads": ("gpt2", "classification"),
    "GPT-2, writes": ("gpt2", "summarization"),
    "T5, writes": ("t5", "summarization"),
    "BART, writes": ("bart", "summarization"),
}
PAGE = Path(__file__).resolve().parents[1] / "docs" / "support.md"
_HEAD = """<!-- Written by tests/support.py, and tried again by the tests. -->
# What works with what

Tried on tiny models of each kind: the model is built, the method applied, a few steps are taken, and what trains has
moved; or, where nothing trains, the model answers. A number says why something is refused; what is refused says so
before any time is spent.

## Tasks and models

With the method `full`.

"""
_METHODS = """
## Methods and models

Methods that read a pooled sentence are tried on sentence encoders and on decoders as classifiers; "writes" is a model
with the head it was pretrained with, in the task `summarization`. What holds for `summarization` holds for translation,
dialogue and answers that are written.

"""
Cells = Mapping[tuple[str, str], str]


def cell(task: str, family: str, method: str, folder: Callable[[str, bool], Path]) -> str:
    """Return ``works``, or the sentence that refuses."""
    writes = "likelihood" in plugins.find("tasks", task).gives
    path = folder(family, writes or family in ("t5", "bart"))
    try:
        chosen = make("methods", method)
        own = {"name": task, **plugins.find("tasks", task).tiny()["settings"]}
        asked = with_task_defaults(method, own)
        if asked != own:  # it asks for a prompt, and a model that writes
            path = folder(family, family in tiny.WRITERS or writes or family in ("t5", "bart"))
        at = trial(task, path, {k: v for k, v in asked.items() if k != "name"}, pooling=_pooling(task, family))
        if chosen.trains in ("convex", "pairs") and not at.task.pooled:
            return "The task reads more than one vector a row, or writes: there is no head alone to solve for."
        model = at.build()
        if reason := chosen.suits(model):
            return f"{reason[:1].upper()}{reason[1:]}."
        applied = chosen.apply(model, seed=0)
        before = weights(applied).clone() if chosen.trains != "nothing" else None
        adapt(chosen, applied, at, steps=1)
        if before is None:
            return "works" if len(at.said(applied)) else "NOTHING SAID"
        return "works" if not before.equal(weights(applied)) else "NOTHING MOVED"
    except WeitiaoError as error:
        return str(error).replace(str(path), FAMILIES[family]).splitlines()[0]


def _pooling(task: str, family: str) -> str | None:
    """A sentence encoder, where the task reads pooled vectors and the model is an encoder."""
    return "mean" if plugins.find("tasks", task).pooled and family in ("bert", "roberta") else None


def task_cells(task: str, folder: Callable[[str, bool], Path]) -> Cells:
    """Return the row of a task: a cell each family."""
    return {(task, shown): cell(task, family, "full", folder) for family, shown in FAMILIES.items()}


def method_cells(method: str, folder: Callable[[str, bool], Path]) -> Cells:
    """Return the row of a method: a cell each column."""
    return {(method, shown): cell(task, family, method, folder) for shown, (family, task) in COLUMNS.items()}


def page(tasks: Cells, methods: Cells) -> str:
    """Return the page: two tables of works and numbers, and what the numbers say."""
    reasons: dict[str, int] = {}
    lines = [_HEAD, *_table("task", tasks, reasons), _METHODS, *_table("method", methods, reasons)]
    told = "\n".join(f"{number}. {reason}" for reason, number in reasons.items())
    return f"{''.join(lines)}\n## Why not\n\n{told}\n"


def _table(what: str, cells: Cells, reasons: dict[str, int]) -> Iterator[str]:
    columns = list(dict.fromkeys(column for _, column in cells))
    yield f"| {what} | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}\n"
    for name in dict.fromkeys(row for row, _ in cells):
        said = [cells[name, column] for column in columns]
        shown = [one if one == "works" else f"[{reasons.setdefault(one, len(reasons) + 1)}]" for one in said]
        yield f"| `{name}` | {' | '.join(shown)} |\n"


def maker(base: Path) -> Callable[[str, bool], Path]:
    """Return what makes a tiny model of a family once."""
    made: dict[tuple[str, bool], Path] = {}

    def make_model(family: str, writer: bool) -> Path:
        if (family, writer) not in made:
            made[family, writer] = tiny.make(
                family, base / f"{family}-{writer}", **({"writer": True} if writer else {})
            )
        return made[family, writer]

    return make_model


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        folder = maker(Path(place))
        tasks = {key: said for task in TASKS for key, said in task_cells(task, folder).items()}
        methods = {key: said for method in METHODS for key, said in method_cells(method, folder).items()}
        PAGE.write_text(page(tasks, methods), encoding="utf-8")
