"""Without hooks and on whole batches, the weights equal those of the Hugging Face Trainer: the referee."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

import made
from weitiao.data.batch import epoch_order
from weitiao.plugins import find
from weitiao.training.loop import Loop
from weitiao.training.settings import TrainingSettings

_ROWS, _BATCH = 48, 8


class _InOurOrder(Trainer):
    def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.train_dataset)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equal_to_trainer(tmp_path: Path, tiny_bert: Path, schedule: str, weight_decay: float) -> None:
    folder = made.without_dropout(tiny_bert, tmp_path / "still")
    task, features, build = made.training(folder, _ROWS)
    settings = TrainingSettings(
        batch_size=_BATCH,
        learning_rate=1e-3,
        epochs=3,
        schedule={"name": schedule, "warmup_share": 0.2},
        weight_decay=weight_decay,
        clip_norm=0.5,
    )
    ours = find("methods", "full")().apply(build(), seed=0)
    loop = Loop(ours, task, features, settings, 7)
    loop.run()

    orders = [epoch_order(features.lengths, _BATCH, seed=7, epoch=e) for e in range(3)]
    rows = [features.inputs[i] for order in orders for step in order for i in step]
    names = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
    theirs = build()
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        num_train_epochs=1,
        per_device_train_batch_size=_BATCH,
        learning_rate=1e-3,
        lr_scheduler_type=names[schedule],
        warmup_steps=math.ceil(0.2 * loop.total_steps),
        weight_decay=weight_decay,
        max_grad_norm=0.5,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        logging_strategy="no",
    )
    clean = [{k: v for k, v in row.items() if k != "tokens_lost"} for row in rows]
    _InOurOrder(
        model=theirs, args=arguments, train_dataset=clean, data_collator=lambda part: features.collate(part)
    ).train()
    theirs.to("cpu")
    gap = max(float((a - b).detach().abs().max()) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    moved = max(
        float((a - b).detach().abs().max()) for a, b in zip(ours.parameters(), build().parameters(), strict=True)
    )
    assert moved > 1e-3
    assert gap < 1e-6, f"largest difference {gap} after {loop.total_steps} steps that moved weights by {moved}"
