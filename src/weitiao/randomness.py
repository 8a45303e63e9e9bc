"""One seed, many independent streams: every consumer of randomness derives its own by name.

Adding a consumer therefore never shifts another, and a resumed run only has to restore
the one stream that cannot be derived: torch's, which dropout draws from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["derive_seed", "generator", "torch_seed"]


def derive_seed(seed: int, *names: object) -> int:
    """Return a 63-bit seed that depends on `seed` and on the path of `names` alone."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> np.random.Generator:
    """Return a numpy generator for the stream called `names`."""
    return np.random.default_rng(derive_seed(seed, *names))


@contextmanager
def torch_seed(seed: int, *names: object) -> Iterator[None]:
    """Seed torch inside the block for the stream called `names`; the state outside is left as it was."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, *names))
        yield
