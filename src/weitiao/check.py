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
    task: str | None = None,
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
    task
        What is to be learnt; that of a recipe that names none when left out.

    Raises
    ------
    DataError, ModelError
        A file, a column or the model cannot be had.
    """
    chosen = find_member("tasks", task or DEFAULTS["task"])
    given = {name: read(list(paths), options, chosen.formats) for name, paths in files.items() if paths}
    tables = {name: map_fields(table, chosen.fields, fields) for name, table in given.items()}
    if list(tables) == ["train"]:
        tables = {"all": tables["train"]}
    texts = chosen.text_fields(next(iter(tables.values())).column_names)
    tokenizer, max_length = _tokenizer(model)
    data = CheckInput(tables, texts, chosen.label_field(), tokenizer, None if chosen.cuts_by_itself else max_length)
    return run_checks(data, found=chosen().findings(tables, tokenizer))


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
