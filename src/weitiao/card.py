"""The model card: the README of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weitiao.bundle import told
from weitiao.evaluation.report import Report
from weitiao.methods.base import Method
from weitiao.recipe import Recipe

__all__ = ["model_card"]

_OPEN_STOCK = """```python
from transformers import AutoTokenizer, {name}

model = {name}.from_pretrained("model")
tokenizer = AutoTokenizer.from_pretrained("model")
```"""
_OPEN_ADAPTER = """`adapter/` holds a PEFT adapter with its head, for the base model named above:

```python
import weitiao

model = weitiao.Bundle(".").model  # a PeftModel on the base model
```

Without weitiao: `peft.PeftModel.from_pretrained(model, "adapter")` on a `{name}` of the base model{labels}.

With `method.merge: true` in the recipe, a bundle holds whole weights instead."""

_LIMITS = "It knows the labels above and no others, and answers with them whatever it is given. "


def model_card(recipe: Recipe, facts: Mapping[str, Any], report: Report, method: Method, model: Any) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    facts
        Those of ``bundle.json``.
    model
        As it is saved.
    """
    rows = facts["rows"]
    aside = "".join(f"\n- {count:,} set aside: {reason}" for reason, count in rows["set_aside"].items())
    scores = "\n".join(
        f"| {name} | {value:.3f} | [{low:.3f}, {high:.3f}] |" for name, (value, low, high) in facts["metrics"].items()
    )
    labels = ", ".join(f"`{label}`" for label in facts["labels"])
    labels = f" Labels: {labels}." if labels else ""
    descent = f"\n\nWhat it was made of, in turn: {told(facts['lineage'])}." if facts["lineage"] else ""
    return f"""# {report.title}

{report.headline}

{report.headline_zh}

## What it is

{recipe.task.name} by the method {recipe.method.name}, on `{facts["base"]["name"]}`
(content `{facts["base"]["content_hash"][:12]}`).{labels}{descent}

## Use

```
weitiao predict . "..."
weitiao verify .
```

{_how_to_open(method, model, len(facts["labels"]))}

## How good it is

On {rows["test"]:,} test rows, met once; intervals hold 95% of {report.resamples:,} bootstrap resamples.

| metric | value | interval |
|---|---|---|
{scores}

{report.line}

`report.html` has the comparison with what is cheaper, the worst mistakes, and where the rows went.

## Data

{rows["in"]:,} rows were read: {rows["train"]:,} train, {rows["dev"]:,} dev, {rows["test"]:,} test.{aside}

## Limits

{_LIMITS if labels else ""}The numbers hold for rows like the test rows.
`reference.jsonl` holds some of the test rows as they are: share the bundle as you would share them.
"""


def _how_to_open(method: Method, model: Any, labels: int) -> str:
    """Say how the saved model opens without weitiao: classes of ours know, others are transformers' own."""
    if method.part == "adapter" and method.how_to_open:
        return method.how_to_open
    if hasattr(type(model), "how_to_open"):
        return model.how_to_open
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    stock = next((c.__name__ for c in type(inner).__mro__ if c.__module__.startswith("transformers.")), "")
    if inner is not model:
        count = f" with {labels} labels" if labels else ""
        return _OPEN_ADAPTER.format(
            name=stock if not hasattr(inner, "how_to_open") else type(inner).__name__, labels=count
        )
    return _OPEN_STOCK.format(name=stock)
