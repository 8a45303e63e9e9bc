"""Whether a model gives a row one class, or one number, by one vector of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["why_not_one_class"]


def why_not_one_class(model: nn.Module, *, or_value: bool = False) -> str | None:
    """Return ``None`` if `model` gives a row one class of several, or a sentence that says what else it does.

    Parameters
    ----------
    or_value
        A number will do too.
    """
    from weitiao.models.pooled import SentenceClassifier

    name, config = type(model).__name__, getattr(model, "config", None)
    problem: Any = getattr(config, "problem_type", None)
    if not isinstance(model, SentenceClassifier) and not name.endswith("ForSequenceClassification"):
        return f"it looks at one vector and one class a row, and a {name} does something else"
    if problem == "multi_label_classification":
        return "it looks at one class a row, and here a row can have several labels"
    if problem == "regression" and not or_value:
        return "it looks at one class a row, and here a row has a number"
    return None
