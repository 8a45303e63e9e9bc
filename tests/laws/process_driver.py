"""Train for the process law; started once alone and once as two processes by test_process.py."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import made
from weitiao.plugins import find
from weitiao.training.loop import Loop
from weitiao.training.settings import TrainingSettings


def main() -> None:
    torch.set_num_threads(1)
    folder, out = Path(sys.argv[1]), sys.argv[2]
    task, features, build = made.training(folder, 45)  # the last step has 13 rows: no even share
    model = find("methods", "full")().apply(build(), seed=0)
    smoothing = find("regularizers", "label_smoothing")
    settings = TrainingSettings(batch_size=16, micro_batch_size=5, optimizer="sgd", learning_rate=0.05, epochs=2)
    loop = Loop(model, task, features, settings, 0, [smoothing()])
    loop.run()
    if loop.accelerator.is_main_process:
        save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, out)
    loop.accelerator.end_training()


if __name__ == "__main__":
    main()
