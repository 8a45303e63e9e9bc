"""Search among many texts: an index of vectors that a bundle has made which finds the text that belongs to another.

::

    index = Index.build(bundle, documents)
    index.search("怎么还款", 5)
    index.save("index");  Index.open("index", bundle)

Of a bundle that reads and sees, ``Index.build(bundle, paths, field="image")`` is searched by texts, and any index by
``index.search(path, field="image")``.

Every text is compared with the query: exact, some thousand texts a millisecond, no approximation to tune.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weitiao.bundle import Bundle
from weitiao.errors import BundleError, DataError
from weitiao.files import whole_folder, write_json
from weitiao.integrity import read_object
from weitiao.tasks.base import Rows

__all__ = ["Hit", "Index"]

_BLOCK = 100_000  # texts scored at a time


@dataclass(frozen=True)
class Hit:
    """A text that was found: its cosine with the query, and its number among the documents, from 0."""

    document: str
    score: float
    number: int


class Index:
    """Texts and their vectors.

    Parameters
    ----------
    bundle
        Turns queries into vectors.
    documents
        The texts.
    vectors
        ``(documents, hidden)``, each of length 1.
    """

    def __init__(self, bundle: Bundle, documents: Sequence[str], vectors: np.ndarray) -> None:
        self.bundle, self.documents, self.vectors = bundle, list(documents), vectors

    @classmethod
    def build(cls, bundle: Bundle, documents: Sequence[str], *, field: str | None = None) -> Index:
        """Read all documents once.

        Parameters
        ----------
        field
            Which of the task's fields the documents are, such as ``image``; ``None``: the text that asks.

        Raises
        ------
        DataError
            There are none, one is empty, or the bundle gives no vectors.
        """
        if not documents:
            raise DataError("there are no documents.", fix="Give the texts to be searched.")
        return cls(bundle, documents, _vectors(bundle, documents, field))

    def search(self, query: str, k: int = 10, *, field: str | None = None) -> list[Hit]:
        """Return the `k` nearest documents, the nearest first; of equals, the earlier. `field` is as in `build`."""
        if k < 1:
            raise DataError(f"k is {k}; at least one text has to be asked for.")
        vector = _vectors(self.bundle, [query], field)[0]
        starts = range(0, len(self.vectors), _BLOCK)
        scores = np.concatenate([self.vectors[start : start + _BLOCK] @ vector for start in starts])
        best = np.argsort(-scores, kind="stable")[:k]
        return [Hit(self.documents[i], float(scores[i]), i) for i in best.tolist()]

    def save(self, folder: str | Path) -> None:
        """Write the index as a folder that is there whole or not at all, replacing one that was there."""
        from safetensors.numpy import save_file

        with whole_folder(Path(folder)) as aside:
            save_file({"vectors": np.ascontiguousarray(self.vectors)}, aside / "vectors.safetensors")
            lines = (json.dumps(text, ensure_ascii=False) + "\n" for text in self.documents)
            (aside / "documents.jsonl").write_text("".join(lines), encoding="utf-8")
            write_json(aside / "index.json", {"documents": len(self.documents), "model": _identity(self.bundle)})

    @classmethod
    def open(cls, folder: str | Path, bundle: Bundle) -> Index:
        """Open an index that `save` wrote, with the bundle that built it.

        Raises
        ------
        BundleError
            It is not whole, or another bundle built it.
        """
        from safetensors.numpy import load_file

        root = Path(folder)
        facts = read_object(root, "index.json")
        if facts.get("model") != _identity(bundle):
            raise BundleError(
                "was built by another bundle, whose vectors say nothing to this one.",
                where=root,
                fix="Build it again with Index.build.",
            )
        try:
            lines = (root / "documents.jsonl").read_text(encoding="utf-8").splitlines()
            documents = [json.loads(line) for line in lines]
            vectors = load_file(root / "vectors.safetensors")["vectors"]
        except (OSError, ValueError, KeyError) as error:
            raise BundleError(f"is damaged: {error}.", where=root, fix="Build it again with Index.build.") from error
        if not len(documents) == len(vectors) == facts.get("documents"):
            raise BundleError("is damaged: texts and vectors do not agree.", where=root, fix="Build it again.")
        return cls(bundle, documents, vectors)


def _vectors(bundle: Bundle, documents: Sequence[str], field: str | None) -> np.ndarray:
    """Return the vector of each document, ``(documents, hidden)``."""
    if bundle.verified is None:
        bundle.verify()
    if "ranks" not in bundle.task.gives:
        raise DataError("the bundle gives no vectors to search by.", fix="Train one with the task that retrieves.")
    sides = [each.name for each in bundle.task.fields if each.kind in ("text", "image")]
    if field is not None and field not in sides:
        raise DataError(f"the bundle has no field {field!r} to search by.", fix=f"Fields: {', '.join(sides)}.")
    rows: Rows = [{field or bundle.text_fields[0]: document} for document in documents]
    return np.array([one[0] for one in bundle.ask(rows)], dtype=np.float32)


def _identity(bundle: Bundle) -> str:
    """Return what tells a bundle's vectors from those of another: the checksum of its reference rows' answers."""
    return read_object(bundle.folder, "checksums.json")["reference.jsonl"]
