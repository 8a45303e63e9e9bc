"""Which task works on which kind of model by which method: tried out on tiny models, and written as a page.

    PYTHONPATH=src:tests python tests/support.py      writes docs/support.md

`tests/docs/test_support.py` tries it again and compares with the page.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import tiny
from trial import adapt, make, trial, weights
from weitiao import plugins
from weitiao.errors import WeitiaoError

FAMILIES = {
    "bert": "BERT", "roberta": "RoBERTa", "llama": "Llama, Qwen and kin", "gpt2": "GPT-2", "t5": "T5", "bart": "BART",
}  # fmt: skip
METHODS = tuple(plugins.names("methods"))
PAGE = Path(__file__).resolve().parents[1] / "docs" / "support.md"
_HEAD = """<!-- Written by tests/support.py, and tried again by the tests. -->
# What works with what

Every task, tried on tiny models of each kind with every method: the model is built, a few steps are taken, and some of
its weights have moved. A number says why something is refused; what is refused says so before any time is spent.

"""


def cell(task: str, family: str, method: str, folder: Callable[[str, bool], Path]) -> str:
    """Return ``works``, or the sentence that refuses."""
    writes = "likelihood" in plugins.find("tasks", task).gives
    try:
        at = trial(task, folder(family, writes or family in ("t5", "bart")))
        chosen = make("methods", method)
        if chosen.trains == "convex" and not at.task.pooled:
            return "The task reads more than one vector a row, or writes: there is no head alone to solve for."
        model = at.build()
        if reason := chosen.suits(model):
            return f"{reason[:1].upper()}{reason[1:]}."
        applied = chosen.apply(model, seed=0)
        before = weights(applied).clone()
        adapt(chosen, applied, at, steps=1)
        return "works" if not before.equal(weights(applied)) else "NOTHING MOVED"
    except WeitiaoError as error:
        said = str(error).replace(str(folder(family, writes or family in ("t5", "bart"))), FAMILIES[family])
        return said.splitlines()[0]


def rows(task: str, folder: Callable[[str, bool], Path]) -> dict[tuple[str, str], str]:
    """Return the cell of each family and method."""
    return {(family, method): cell(task, family, method, folder) for family in FAMILIES for method in METHODS}


def page(found: dict[str, dict[tuple[str, str], str]]) -> str:
    """Return the page: a table of works and numbers, and what the numbers say."""
    reasons: dict[str, int] = {}
    lines = [f"| task | {' | '.join(FAMILIES.values())} |", "|---" * (1 + len(FAMILIES)) + "|"]
    for task, cells in found.items():
        shown = []
        for family in FAMILIES:
            parts = []
            for method in METHODS:
                said = cells[family, method]
                number = "" if said == "works" else f" [{reasons.setdefault(said, len(reasons) + 1)}]"
                parts.append(f"~~{method}~~{number}" if number else method)
            shown.append(", ".join(parts))
        lines.append(f"| `{task}` | {' | '.join(shown)} |")
    told = "\n".join(f"{number}. {reason}" for reason, number in reasons.items())
    return f"{_HEAD}{chr(10).join(lines)}\n\n{told}\n"


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
        PAGE.write_text(page({task: rows(task, folder) for task in plugins.names("tasks")}), encoding="utf-8")
