"""``weitiao check``: read files, find the columns, and let every check look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weitiao.data.check import run_checks
from weitiao.data.checks.base import CheckInput
from weitiao.data.fields import map_fields
from weitiao.data.read import ReadOptions, read
from weitiao.errors import MissingExtra
from weitiao.models.find import DEFAULT_MODEL, find
from weitiao.plugins import find as find_member
from weitiao.recipe import DEFAULTS

if TYPE_CHECKING:
    from weitiao.data.check import CheckReport

__all__ = ["check_files"]


def check_files(
    files: Mapping[str, Sequence[str] | None],
    model: str | None = None,
    fields: Mapping[str, str] | None = None,
    options: ReadOptions | None = None,
    task: str = DEFAULTS["task"],
) -> CheckReport:
    """Check labelled files.

    Parameters
    ----------
    files
        Split name to files; a lone ``train`` is checked as the whole it is before splitting.
    model
        Whose tokenizer counts tokens; ``None``: the packaged one if it is installed; ``"none"``: no model.
    fields
        Field of the task to column; found where left out.

    Raises
    ------
    DataError, ModelError
        A file, a column or the model cannot be had.
    """
    wanted = find_member("tasks", task).fields
    tables = {name: map_fields(read(list(paths), options), wanted, fields) for name, paths in files.items() if paths}
    if list(tables) == ["train"]:
        tables = {"all": tables["train"]}
    there = set(next(iter(tables.values())).column_names)
    texts = tuple(f.name for f in wanted if f.kind == "text" and f.name in there)
    label = next((f.name for f in wanted if f.kind == "label"), None)
    tokenizer, max_length = _tokenizer(model)
    return run_checks(CheckInput(tables, texts, label, tokenizer, max_length))


def _tokenizer(model: str | None) -> tuple[Any, int | None]:
    if model == "none":
        return None, None
    try:
        pretrained = find(model or DEFAULT_MODEL)
    except MissingExtra:
        if model is None:
            return None, None
        raise
    from weitiao.models.load import load_tokenizer

    return load_tokenizer(pretrained), pretrained.max_length
