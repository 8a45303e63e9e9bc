"""What the untuned model can already do, from its features alone.

Without this, a tuned model is praised for what it could do all along.

Source: Cover and Hart, Nearest neighbor pattern classification, 1967; Dudani, The distance-weighted k-nearest-neighbor
rule, 1976; for label names, Yin, Hay and Roth, Benchmarking Zero-shot Text Classification, 2019.
"""

from __future__ import annotations

import numpy as np

from weitiao.probability import softmax

__all__ = ["label_names", "nearest"]

_CHUNK = 16_000_000  # similarities held at once: 64 MiB
_CLOSEST = 1e-6  # cosine distance below which float32 cannot tell two rows apart


def nearest(
    train_features: np.ndarray, train_targets: np.ndarray, test_features: np.ndarray, *, classes: int, k: int = 10
) -> np.ndarray:
    """Let the `k` nearest labelled rows vote, each with the inverse of its cosine distance.

    Parameters
    ----------
    train_features, test_features
        ``(rows, hidden)``, of the untuned model; any length, they are normalised here.
    train_targets
        ``(train rows,)``, class indices.
    k
        Neighbours asked; all rows where train has fewer.

    Returns
    -------
    ``(test rows, classes)``, each row summing to 1.
    """
    train, test = _unit(train_features), _unit(test_features)
    targets = np.asarray(train_targets, dtype=np.int64)
    k = min(k, len(train))
    votes = np.zeros((len(test), classes))
    step = max(1, _CHUNK // max(len(train), 1))
    for start in range(0, len(test), step):
        similar = test[start : start + step] @ train.T  # (chunk, train rows)
        near = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        weight = 1.0 / np.maximum(1.0 - np.take_along_axis(similar, near, axis=1), _CLOSEST)
        rows = np.arange(start, start + len(similar))[:, None]
        np.add.at(votes, (rows, targets[near]), weight)
    return votes / votes.sum(axis=1, keepdims=True)


def label_names(label_features: np.ndarray, test_features: np.ndarray, *, scale: float = 20.0) -> np.ndarray:
    """Compare each row with the names of the labels; needs no labelled row.

    Parameters
    ----------
    label_features
        ``(classes, hidden)``, features of the label names in their order.
    test_features
        ``(rows, hidden)``.
    scale
        Cosines are multiplied by it before the softmax; 20 is what sentence encoders are trained with.

    Returns
    -------
    ``(rows, classes)``, each row summing to 1.
    """
    return softmax(scale * (_unit(test_features) @ _unit(label_features).T))


def _unit(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, dtype=np.float32)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length == 0, 1, length)  # a row of zeros stays zeros: as near to one row as to another
