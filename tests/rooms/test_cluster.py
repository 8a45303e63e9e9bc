"""What is asked of a cluster, and what is refused; tests/laws/test_process.py runs on a real one."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from weitiao.cluster import in_workers, scaling
from weitiao.errors import DataError, MissingExtra, RecipeError, WeitiaoError
from weitiao.recipe import Recipe
from weitiao.training.settings import ResourceSettings


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({}, {"num_workers": 1, "use_gpu": False, "resources_per_worker": {"CPU": 1}}),
        ({"workers": 4}, {"num_workers": 4}),
        ({"workers": 4, "min_workers": 2}, {"num_workers": (2, 4)}),
        ({"cpus_per_worker": 3}, {"resources_per_worker": {"CPU": 3}}),
        ({"use_gpu": True}, {"use_gpu": True, "resources_per_worker": {"CPU": 1, "GPU": 1}}),
    ],
)
def test_every_setting_reaches_ray(settings: dict[str, Any], asked: dict[str, Any]) -> None:
    found = scaling(ResourceSettings(cluster="ray", **settings))
    assert {name: found[name] for name in asked} == asked


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 2}, "workers has no effect without cluster: ray"),
        ({"use_gpu": True, "max_failures": 0}, "use_gpu, max_failures has no effect"),
        ({"cluster": "ray", "workers": 2, "min_workers": 2}, "min_workers 2 has no effect beside workers 2"),
        ({"cluster": "slurm"}, "should be 'local' or 'ray'"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match="resources") as caught:
        Recipe(data="rows.csv", resources=settings)
    assert words in str(caught.value)


def test_a_run_may_go_on_with_other_resources() -> None:
    one = Recipe(data="rows.csv")
    other = Recipe(data="rows.csv", resources={"cluster": "ray", "workers": 2, "min_workers": 1, "cpus_per_worker": 2})
    assert one.differences(other) == []


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "weitiao\[ray\]"'):
        in_workers(print, {"folder": str(tmp_path), "show": False}, ResourceSettings(cluster="ray"))


@pytest.mark.parametrize(
    "error", [DataError("没有行。", where="评论.csv:3", fix="Add some."), MissingExtra("ray", "ray", "it")]
)
def test_an_error_of_a_worker_says_the_same_here(error: WeitiaoError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_processes_that_hold_parts_of_the_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from weitiao.training.processes import Processes

    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as accelerate launch --use_fsdp sets it
    with pytest.raises(RecipeError, match="started for FSDP, where each holds a part of the weights"):
        Processes()
