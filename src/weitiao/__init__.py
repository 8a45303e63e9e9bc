"""weitiao: from labelled text to a model that can be trusted.

::

    import weitiao as wt

    bundle = wt.run(wt.Recipe(data="reviews.csv", method="lora"))
    bundle.predict("房间很干净")

Names are imported when they are first used, so that ``import weitiao`` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weitiao.bundle import Bundle as Bundle
    from weitiao.data.read import read as load
    from weitiao.recipe import Recipe as Recipe
    from weitiao.run import run as run

__all__ = ["Bundle", "Recipe", "__version__", "load", "run"]

__version__ = "0.1.0"
_HOMES = {
    "Bundle": ("weitiao.bundle", "Bundle"),
    "Recipe": ("weitiao.recipe", "Recipe"),
    "load": ("weitiao.data.read", "read"),
    "run": ("weitiao.run", "run"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'weitiao' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Whoever imports the submodule `run` makes Python put it here, where the function of that name belongs.
        if name in _HOMES and isinstance(value, ModuleType):
            value = getattr(value, _HOMES[name][1])
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
