"""``weitiao rate``: lay out a recipe's data, model and loop, and find a learning rate for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weitiao.bundle import Bundle
from weitiao.data.augment import Context
from weitiao.data.prepare import prepare
from weitiao.errors import RecipeError
from weitiao.evaluation.plots import Series, clean, curves_svg
from weitiao.files import write_text
from weitiao.models import parts
from weitiao.models.find import find
from weitiao.models.load import load_tokenizer
from weitiao.models.seq2seq import open_translator
from weitiao.randomness import derive_seed
from weitiao.tasks.base import Features
from weitiao.training.loop import Loop, Outside
from weitiao.training.rate_finder import RateCurve, find_rate
from weitiao.training.supplies import Supplies

if TYPE_CHECKING:
    from rich.console import Console

    from weitiao.recipe import Recipe

__all__ = ["RateReport", "recommend_rate"]

_ROWS = 9  # of the printed table


@dataclass(frozen=True)
class RateReport:
    """The curve of a recipe, for people.

    Attributes
    ----------
    method, optimizer
        Their names: a rate suits both together.
    before
        What the recipe would have trained with.
    """

    curve: RateCurve
    method: str
    optimizer: str
    before: float

    @property
    def line(self) -> str:
        """The suggestion in one line."""
        return (
            f"learning rate {self.curve.suggestion:.1e} for {self.method} with {self.optimizer} "
            f"({len(self.curve.losses)} steps; the recipe has {self.before:.1e})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        curve = {"rates": self.curve.rates, "losses": self.curve.losses, "smoothed": self.curve.smoothed}
        names = {"method": self.method, "optimizer": self.optimizer, "before": self.before}
        return {"suggestion": self.curve.suggestion, **names, **curve}

    def show(self, console: Console) -> None:
        """Print the suggestion and a small table."""
        from rich.table import Table

        table = Table("rate", "loss", "", title=None, box=None)
        for i in self._rows():
            mark = "<- falls fastest" if self.curve.rates[i] == self.curve.suggestion else ""
            table.add_row(f"{self.curve.rates[i]:.1e}", f"{self.curve.smoothed[i]:.4f}", mark)
        console.print(table)
        console.print(self.line, highlight=False)

    def write_html(self, path: Path) -> None:
        """Write a page with the curve."""
        at = [math.log10(rate) for rate in self.curve.rates]
        roof = 1.5 * max(self.curve.smoothed[: self.curve.rates.index(self.curve.suggestion) + 1])
        series = [
            Series(name, tuple(at), tuple(min(value, roof) for value in values))
            for name, values in (("step", self.curve.losses), ("smoothed", self.curve.smoothed))
        ]
        found = Series("suggestion", (math.log10(self.curve.suggestion),) * 2, (min(self.curve.smoothed), roof))
        plot = curves_svg([*series, found], title="loss by learning rate", axes=("log10 of the learning rate", "loss"))
        rows = "".join(
            f"<tr><td>{self.curve.rates[i]:.1e}</td><td>{self.curve.smoothed[i]:.4f}</td></tr>" for i in self._rows()
        )
        write_text(path, _PAGE.format(line=clean(self.line), plot=plot, rows=rows))

    def _rows(self) -> list[int]:
        last, best = len(self.curve.rates) - 1, self.curve.rates.index(self.curve.suggestion)
        return sorted({best, *(round(i * last / (_ROWS - 1)) for i in range(_ROWS))})


def recommend_rate(
    recipe: Recipe,
    *,
    lowest: float = 1e-7,
    highest: float = 1.0,
    steps: int = 100,
    report: Callable[[dict[str, Any]], None] = lambda event: None,
) -> RateReport:
    """Find a learning rate for a recipe; nothing is kept of the steps it takes.

    Parameters
    ----------
    lowest, highest, steps
        Of the search, as `find_rate` takes them.
    report
        Called with an event after each step.

    Raises
    ------
    RecipeError
        The method has no rate, or does not fit the model.
    DataError, ModelError, TrainingError
        The data, the model or the search does not allow it.
    """
    task, method = recipe.task.make("tasks"), recipe.method.make("methods")
    if method.trains == "pairs":
        raise RecipeError(
            f"no rate is looked for with the method {recipe.method.name}: its steps are on pairs of rows."
        )
    if method.trains != "gradient":
        raise RecipeError(f"the method {recipe.method.name} has no learning rate: it takes no steps.")
    data = prepare(recipe.data, task.fields, derive_seed(recipe.seed, "split"), task.accepts, task.formats)
    task.learn(data.splits.train)
    data, pretrained = data.without(task.accepts), find(recipe.model.name)
    task.meet(pretrained)
    max_length = min(recipe.model.max_length or pretrained.max_length, pretrained.max_length)
    tokenizer = task.extend(load_tokenizer(pretrained))
    train = Features.encode(task, data.splits.train, tokenizer, max_length)
    pooling = pretrained.pooling if recipe.model.pooling == "auto" else recipe.model.pooling
    seed = derive_seed(recipe.seed, "training", 0)
    model = task.build(pretrained, pooling=pooling, dropout=recipe.model.dropout, seed=seed)
    if reason := method.suits(model):
        raise RecipeError(f"the method {recipe.method.name} cannot be applied: {reason}.")
    hooks = [member.make("regularizers") for member in recipe.regularizers]
    vectors = lambda: parts.token_vectors(task.build(pretrained, pooling=pooling, dropout=None, seed=0))  # noqa: E731
    supplies = Supplies(
        data.splits.train,
        lambda rows: Features.encode(task, rows, tokenizer, max_length),
        Bundle,
        data.unlabeled,
        Context(tokenizer, vectors, open_translator),
    )
    outside = Outside(report=report, supplies=supplies)
    loop = Loop(method.apply(model, seed=seed), task, train, recipe.training, seed, hooks, outside)
    curve = find_rate(loop, lowest=lowest, highest=highest, steps=steps)
    return RateReport(curve, recipe.method.name, recipe.training.optimizer.name, loop.learning_rate)


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Learning rate</title>
<style>
:root {{ color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e9ee; --muted: #9aa5b4; --line: #333c48; --accent: #6ea2ff; --second: #e79a63; }}
}}
body {{ font: 16px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; max-width: 46rem; margin: 3rem auto; padding: 1rem }}
td {{ padding: .1rem 1.5rem .1rem 0; font-variant-numeric: tabular-nums }}
</style>
<h1>Learning rate</h1>
<p>{line}</p>
{plot}
<p>The rate rises from step to step; the suggestion is where the smoothed loss falls fastest.
学习率逐步升高，建议值是平滑后损失下降最快之处。</p>
<table><tr><th>rate</th><th>loss</th></tr>{rows}</table>
</html>
"""
