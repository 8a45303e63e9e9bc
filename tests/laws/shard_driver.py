"""Train with whole weights and with a part of them in each process; started as two processes by test_shard.py.

Usage: shard_driver.py BERT LLAMA T5 FOLDER

Models are without dropout. The main process prints one JSON object: of every optimizer, regularizer, method and model
the largest difference of a weight, or why it is refused; and what share of the weights a process held.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trial import make, trial
from weitiao import plugins
from weitiao.errors import WeitiaoError
from weitiao.evaluation.inference import ask, mean_loss
from weitiao.training.checkpoint import Checkpoints
from weitiao.training.hook import Hook
from weitiao.training.loop import Loop, Outside
from weitiao.training.method_hook import method_hooks
from weitiao.training.settings import TrainingSettings

_HOW: dict[str, Any] = {"batch_size": 4, "learning_rate": 1e-2, "max_steps": 4, "epochs": 2, "micro_batch_size": 3}
_HOW |= {"evaluate_steps": 2}


class Leave(Hook):
    """Stops as Ctrl-C would, after the third step."""

    def after_step(self, loop: Loop) -> None:
        if loop.position.step == 3:
            loop._note_interrupt()


def train(at: Any, method: str, hooks: list[Any], told: dict[str, Any], outside: dict[str, Any]) -> tuple[Any, Any]:
    """Return the model after a few steps, and the loop."""
    chosen = make("methods", method)
    model = at.build()
    if reason := chosen.suits(model):
        raise WeitiaoError(reason)
    model = chosen.apply(model, seed=0)
    around = {"supplies": at.supplies(), **outside}

    def measure(m: Any) -> dict[str, float]:
        if at.task.selects_by == "loss":
            return {"loss": mean_loss(m, at.task, at.features)}
        said = ask(m, at.task, at.features)
        return {"score": float(sum(at.task.numbers(one).sum() for one in said))}

    hooks = [*method_hooks(chosen), *hooks]
    settings = TrainingSettings(**{**_HOW, **told})
    loop = Loop(model, at.task, at.features, settings, 0, hooks, Outside(measure=measure, **around))
    loop.run()
    return model, loop


def gap(at: Any, method: str = "full", hooks: Any = list, **told: Any) -> float | str:
    """Return the largest difference that parts make, or why they are refused."""
    try:
        whole, _ = train(at, method, hooks(), told, {})
    except WeitiaoError as error:
        return f"refused whole: {error}"
    try:
        parts, _ = train(at, method, hooks(), told, {"shard": True})
    except WeitiaoError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"failed: {type(error).__name__}: {error}"
    pairs = zip(whole.parameters(), parts.parameters(), strict=True)
    return max((one - other).detach().abs().max().item() for one, other in pairs)


def resumed(at: Any, folder: Path) -> bool:
    """Return whether a training in parts that was left in the middle ends with the bits of one that was not."""
    through, _ = train(at, "full", [], {"optimizer": "adamw"}, {"shard": True})
    outside = {"shard": True, "checkpoints": Checkpoints(folder)}
    try:
        train(at, "full", [Leave()], {}, outside)
    except KeyboardInterrupt:
        again, _ = train(at, "full", [], {}, outside)
        return all(torch.equal(a, b) for a, b in zip(through.parameters(), again.parameters(), strict=True))
    return False


def held(at: Any) -> float:
    """Return what share of the weights this process holds while it trains."""
    shares: list[float] = []

    class Look(Hook):
        def after_step(self, loop: Loop) -> None:
            own = sum(p.to_local().numel() for p in loop.model.parameters())
            shares.append(own / sum(p.numel() for p in loop.model.parameters()))

    train(at, "full", [Look()], {}, {"shard": True})
    return max(shares)


def main() -> None:
    torch.set_num_threads(1)
    bert, llama, t5, folder = (Path(word) for word in sys.argv[1:])
    at = trial("classification", bert)
    found: dict[str, Any] = {"held": held(at), "resumed": resumed(at, folder)}
    for name in plugins.names("optimizers"):
        settings = {"optimizer": name, "schedule": {"name": "constant"}}
        found[f"optimizer {name}"] = gap(at, **settings)
    for name in plugins.names("regularizers"):
        found[f"regularizer {name}"] = gap(
            at, hooks=lambda name=name: [make("regularizers", name)], micro_batch_size=None
        )
    for name in plugins.names("methods"):
        if plugins.find("methods", name).trains == "gradient":
            found[f"method {name}"] = gap(at, name)
    found["model llama"] = gap(trial("classification", llama))
    found["model t5"] = gap(trial("summarization", t5))
    _, loop = train(at, "full", [], {}, {})
    if loop.processes.main:
        print(json.dumps(found))
    loop.accelerator.end_training()


if __name__ == "__main__":
    main()
