"""Rows, features and models for tests, made here from the tiny vocabulary."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path
from typing import Any

import tiny

GOOD = ("good", "great", "nice", "clean", "love", "best", "lovely", "喜欢", "干净", "推荐")
BAD = ("bad", "poor", "dirty", "slow", "broken", "hate", "worst", "讨厌", "糟糕", "脏")


def rows(count: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Make labelled rows of 3 to 20 words; the label can be learnt from one word of them."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        label = ("negative", "positive")[i % 2]
        words = rng.choices(tiny.WORDS[:40], k=rng.randint(2, 19))
        words.insert(rng.randint(0, len(words)), rng.choice(GOOD if label == "positive" else BAD))
        made.append({"text": " ".join(words), "label": label})
    return made


def write_csv(path: Path, table: list[dict[str, str]]) -> Path:
    """Write rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


def without_dropout(source: Path, folder: Path) -> Path:
    """Copy a model's folder with every dropout of its config set to 0."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {k: 0.0 if "drop" in k and isinstance(v, float) else v for k, v in config.items()}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def training(folder: Path, count: int = 40, **recipe: Any) -> tuple[Any, Any, Any]:
    """Return (task, features, a function that gives a fresh model) for rows on the model in `folder`."""
    from weitiao.data.table import Table
    from weitiao.models.find import find
    from weitiao.models.load import load_tokenizer
    from weitiao.plugins import find as member
    from weitiao.tasks.base import Features

    table = Table.from_rows(rows(count))
    cls = member("tasks", "classification")
    task = cls(cls.Settings(**recipe))
    task.learn(table)
    pretrained = find(str(folder))
    features = Features.encode(task, table, load_tokenizer(pretrained), 64)
    return task, features, lambda seed=0: task.build(pretrained, pooling="cls", dropout=None, seed=seed)
