"""The model card: the README of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weitiao.evaluation.report import Report
from weitiao.recipe import Recipe

__all__ = ["model_card"]

_OPEN_STOCK = """```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("model")
tokenizer = AutoTokenizer.from_pretrained("model")
```"""
_OPEN_POOLED = """The model reads the {pooling} of all token vectors, so it is a sentence-transformers model
whose output is the logits:

```python
from sentence_transformers import SentenceTransformer

logits = SentenceTransformer("model").encode(["..."])
```"""
_OPEN_ADAPTER = """`adapter/` holds a PEFT adapter with its head, for the base model named above:

```python
import weitiao

model = weitiao.Bundle(".").model  # a PeftModel on the base model
```

Without weitiao, where the base reads its `cls` or `last` token: `peft.PeftModel.from_pretrained(base, "adapter")` on
`AutoModelForSequenceClassification.from_pretrained({base!r}, num_labels={count})`.

With `method.merge: true` in the recipe, a bundle holds whole weights instead."""

_LIMITS = "It knows the labels above and no others, and answers with them whatever it is given. "


def model_card(recipe: Recipe, facts: Mapping[str, Any], report: Report, *, part: str, pooled: bool) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    facts
        Those of ``bundle.json``.
    part
        ``"model"`` or ``"adapter"``.
    pooled
        Whether the model is a sentence-transformers one.
    """
    rows = facts["rows"]
    how = _OPEN_ADAPTER if part == "adapter" else _OPEN_POOLED if pooled else _OPEN_STOCK
    aside = "".join(f"\n- {count:,} set aside: {reason}" for reason, count in rows["set_aside"].items())
    scores = "\n".join(
        f"| {name} | {value:.3f} | [{low:.3f}, {high:.3f}] |" for name, (value, low, high) in facts["metrics"].items()
    )
    labels = ", ".join(f"`{label}`" for label in facts["labels"])
    labels = f" Labels: {labels}." if labels else ""
    return f"""# {report.title}

{report.headline}

{report.headline_zh}

## What it is

{recipe.task.name} by the method {recipe.method.name}, on `{facts["base"]["name"]}`
(content `{facts["base"]["content_hash"][:12]}`).{labels}

## Use

```
weitiao predict . "..."
weitiao verify .
```

{how.format(pooling=facts["base"]["pooling"], base=facts["base"]["name"], count=len(facts["labels"]))}

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
