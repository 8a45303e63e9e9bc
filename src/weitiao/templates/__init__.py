"""Start a member of a family from a commented template."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from weitiao.errors import RecipeError, did_you_mean
from weitiao.plugins import FAMILIES

__all__ = ["template_families", "write_template"]

_PLACE = "Example"  # what the class is called in a template


def template_families() -> list[str]:
    """List the families in the singular, as the command line takes them."""
    return [family.removesuffix("s") for family in FAMILIES]


def write_template(family: str, name: str, folder: Path) -> Path:
    """Write the template of a family as ``folder/name.py`` and return the path.

    Raises
    ------
    RecipeError
        There is no such family, the name is not a Python name in small letters, or the file exists.
    """
    if family not in template_families():
        raise RecipeError(
            f"there is no family {family!r}.{did_you_mean(family, template_families())}",
            fix=f"Known: {', '.join(template_families())}.",
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise RecipeError(f"{name!r} cannot be a file's name.", fix="Use small letters, digits and _.")
    path = folder / f"{name}.py"
    if path.exists():
        raise RecipeError("exists already.", where=path, fix="Choose another name.")
    text = (files("weitiao") / "templates" / f"{family}.txt").read_text(encoding="utf-8")
    title = "".join(part.capitalize() for part in name.split("_"))
    path.write_text(text.replace(_PLACE, title), encoding="utf-8")
    return path
