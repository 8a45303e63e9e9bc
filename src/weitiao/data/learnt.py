"""Which rows a model has learnt from: a bundle keeps one number a row, so that a later run can tell them in its test.

A model that is tuned on, or taught by, a bundle knows what that bundle was trained on, and what the bundles before it
were. Where such a row is in test now, the test measures memory. A row is known by the hash of its text as texts are
compared (`weitiao.data.near.normalise`): who has a text can ask whether it was learnt, and nobody can read one back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np

from weitiao.findings import Finding

__all__ = ["FILE", "Learnt", "marks"]

FILE = "learnt.safetensors"  # in a bundle
_EXAMPLES = 10


def marks(texts: Iterable[str]) -> np.ndarray:
    """Return a number for each text, sorted, each once; equal texts have equal ones, and an empty text has none."""
    hashes = {
        int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True) for text in texts if text
    }
    return np.array(sorted(hashes), dtype=np.int64)


@dataclass(frozen=True)
class Learnt:
    """What the bundles that a model is made of have learnt from.

    Parameters
    ----------
    before
        The marks of each, by what is said of it: ``"the model runs/first"``.
    """

    before: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, bundles: Mapping[str, Path]) -> Learnt:
        """Read what the bundles in some folders have kept."""
        from safetensors.numpy import load_file

        there = {told: folder / FILE for told, folder in bundles.items() if (folder / FILE).is_file()}
        return cls({told: load_file(path)["rows"] for told, path in there.items()})

    def findings(self, texts: Sequence[str], places: Sequence[object]) -> list[Finding]:
        """Return a finding for each of them that has learnt rows of test, given their texts and where they stand."""
        own = [marks([text]) for text in texts]  # of an empty text there is none
        found = []
        for told, rows in self.before.items():
            known = [i for i, mark in enumerate(own) if np.isin(mark, rows).any()]
            if known:
                found.append(
                    Finding(
                        "learnt_before",
                        "error",
                        f"{len(known):,} of {len(texts):,} test rows ({len(known) / len(texts):.1%}) were learnt by "
                        f"{told}.",
                        "Keep one test file out of every stage and name it as data.test in each.",
                        places=tuple(str(places[i]) for i in known[:_EXAMPLES]),
                        count=len(known),
                    )
                )
        return found

    def write(self, path: Path, texts: Iterable[str]) -> None:
        """Write the marks of these texts and of all that was learnt before."""
        from safetensors.numpy import save_file

        rows = np.unique(np.concatenate([marks(texts), *self.before.values()]))
        save_file({"rows": rows}, path)
