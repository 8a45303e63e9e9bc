"""What a recipe lets its model learn, shown token by token before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weitiao.errors import RecipeError
from weitiao.recipe import Recipe

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["learned", "show"]


def learned(recipe: Recipe, rows: int = 3) -> list[list[tuple[str, bool]]]:
    """Return the first training inputs of a recipe, each token as text with whether it is learnt.

    Parameters
    ----------
    rows
        Training rows, the first ones; one that is read in several inputs gives as many.

    Raises
    ------
    RecipeError
        The task does not learn tokens of its input.
    DataError, ModelError
        The data or the model cannot be had.
    """
    from weitiao.data.prepare import prepare
    from weitiao.models.find import find
    from weitiao.models.load import load_tokenizer
    from weitiao.randomness import derive_seed

    task = recipe.task.make("tasks")
    tell = getattr(task, "learned", None)
    if tell is None:
        raise RecipeError(f"{recipe.task.name} learns what stands beside a text, not tokens of it.", where="task.name")
    seed = derive_seed(recipe.seed, "split")
    data = prepare(recipe.data, task.fields, seed, task.accepts, task.formats)
    task.learn(data.splits.train)
    train = data.without(task.accepts).splits.train
    pretrained = find(recipe.model.name)
    task.meet(pretrained)
    tokenizer = task.extend(load_tokenizer(pretrained))
    first = [dict(train[i]) for i in range(min(rows, len(train)))]
    return tell(task.encode(first, tokenizer, recipe.model.max_length or pretrained.max_length), tokenizer)


def show(recipe: Recipe, rows: int = 3, console: Console | None = None) -> None:
    """Print the first training inputs of a recipe: what is learnt in green, what is only read dim.

    Where there are no colors, what is learnt stands between ⟦ and ⟧.

    Raises
    ------
    WeitiaoError
        As `learned`.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    for number, tokens in enumerate(learned(recipe, rows), 1):
        count = sum(flag for _, flag in tokens)
        console.print(Text(f"input {number}: {count:,} of {len(tokens):,} tokens are learnt", style="bold"))
        text, inside = Text(), False
        for token, flag in [*tokens, ("", False)]:
            if flag != inside and console.color_system is None:
                text.append("⟦" if flag else "⟧")
            inside = flag
            text.append(token, style="green" if flag else "dim")
        console.print(text, end="\n\n", soft_wrap=True)
