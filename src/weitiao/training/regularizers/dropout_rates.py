"""Set the rates of dropout for the time of training, in the whole model.

    x_i -> 0 with probability p, else x_i / (1 - p)

`hidden` goes to embeddings, to the outputs of sublayers and inside feed-forward layers, `attention` to attention
weights, `head` to what lies before or inside the head; what is left out stays as the model was made. After training
the model has its own rates back. Measuring and answering never drop anything.

Layers below all that trains drop too, if `hidden` or `attention` is above 0, and then cannot be skipped.

Which of the model's places are for hidden states and which for attention is read off the model's own class: it is
built once more, without memory for weights, from a config in which every rate is marked.

Source: Hinton et al., Improving neural networks by preventing co-adaptation of feature detectors, 2012,
arXiv:1207.0580; where it stands in a layer: Vaswani et al., Attention Is All You Need, 2017, arXiv:1706.03762.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from weitiao.models import parts
from weitiao.plugins import Options
from weitiao.training.hook import Hook

if TYPE_CHECKING:
    from torch import nn

    from weitiao.tasks.base import Task
    from weitiao.training.loop import Loop

__all__ = ["DropoutRates"]


class DropoutRates(Hook):
    """Rates other than those the model came with."""

    class Settings(Options):
        """One rate for each kind of place; 0 switches dropout off there."""

        hidden: float | None = Field(None, ge=0, lt=1, description="of hidden states; null: as the model was made")
        attention: float | None = Field(None, ge=0, lt=1, description="of attention weights; null: as it was made")
        head: float | None = Field(None, ge=0, lt=1, description="around the head; null: as the model was made")

        @model_validator(mode="after")
        def _some_rate(self) -> DropoutRates.Settings:
            if self.model_fields_set and not _asked(self):
                raise ValueError("all of hidden, attention and head are null, so nothing would change")
            return self

    settings: Settings

    def __init__(self, settings: Options | None = None) -> None:
        super().__init__(settings)
        self._own: list[tuple[nn.Module, str, float]] = []
        below = any(rate for kind, rate in _asked(self.settings).items() if kind != _HEAD)
        # otherwise layers that do not train are as they were
        self.changes_frozen = self.drops_frozen = below  # type: ignore[misc]

    def suits(self, model: nn.Module, task: Task) -> str | None:
        """Refuse a rate for which there is no place, and rates that the model has already."""
        asked, places = _asked(self.settings), _places(model)
        if not asked:
            return "no rate is given; set hidden, attention or head"
        for kind in asked:
            if not places[kind]:
                return f"{type(parts.unwrap(model)).__name__} has no place for {kind} dropout; leave {kind} out"
        if all(getattr(module, key) == rate for kind, rate in asked.items() for module, key in places[kind]):
            return "the model has these rates already"
        return None

    def begin(self, loop: Loop) -> None:
        """Set the rates."""
        places = _places(loop.plain_model)
        for kind, rate in _asked(self.settings).items():
            for module, key in places[kind]:
                self._own.append((module, key, getattr(module, key)))
                setattr(module, key, rate)

    def finish(self, loop: Loop) -> None:
        """Give the model its own rates back."""
        for module, key, rate in self._own:
            setattr(module, key, rate)
        self._own = []

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return one rate of each kind."""
        return {
            "settings": {"hidden": 0.5},
            "variants": [{"attention": 0.5}, {_HEAD: 0.5}],
            "idle": [dict.fromkeys(DropoutRates.Settings.model_fields)],
        }


_HEAD = list(DropoutRates.Settings.model_fields)[-1]  # not as a literal: a method has this name too


def _asked(settings: DropoutRates.Settings) -> dict[str, float]:
    return {kind: rate for kind, rate in settings.model_dump().items() if rate is not None}


def _places(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Return the modules with a rate, and the rate's name in each, by kind."""
    from torch import nn

    body = parts.backbone(model)
    inside = {id(module) for module in body.modules()}
    outside = (module for module in parts.unwrap(model).modules() if id(module) not in inside)
    head: list[tuple[nn.Module, str]] = [(module, "p") for module in outside if isinstance(module, nn.Dropout)]
    places: dict[str, list[tuple[nn.Module, str]]] = {"hidden": [], "attention": [], _HEAD: head}
    here = dict(body.named_modules())
    for path, key, kind in _marked(body):
        # a place that the class makes only for rates above 0 is not there in a model made with 0
        if isinstance(getattr(here.get(path), key, None), float | int):
            places[kind].append((here[path], key))
    return places


def _marked(body: nn.Module) -> list[tuple[str, str, str]]:
    """Return path, attribute and kind of every rate of `body`'s class, found by building it with marked rates."""
    import torch

    config: Any = copy.deepcopy(getattr(body, "config", None))
    if config is None:
        return []
    kinds = {}
    for key, value in config.to_dict().items():
        if "drop" in key and "layerdrop" not in key and type(value) in (int, float):
            rate = (2 * len(kinds) + 3) / 1024  # exact in binary, and no rate anyone would write
            kinds[rate] = "attention" if "att" in key else "hidden"
            setattr(config, key, rate)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            twin = type(body)(config)
    except Exception:  # code that came with a model may do anything; then it has no place that we know
        return []
    return [
        (path, key, kinds[value])
        for path, module in twin.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, float) and value in kinds
    ]
