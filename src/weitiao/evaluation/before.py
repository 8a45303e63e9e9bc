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
    import torch

    from weitiao.models.neighbors import unit, vote

    train, test = unit(torch.as_tensor(train_features)), unit(torch.as_tensor(test_features))
    values = torch.nn.functional.one_hot(torch.as_tensor(train_targets, dtype=torch.long), classes).double()
    step = max(1, _CHUNK // max(len(train), 1))
    return torch.cat([vote(train, values, some, k) for some in test.split(step)]).numpy()


def label_names(label_features: np.ndarray, test_features: np.ndarray, *, scale: float | None = None) -> np.ndarray:
    """Compare each row with the names of the labels; needs no labelled row.

    Parameters
    ----------
    label_features
        ``(classes, hidden)``, features of the label names in their order.
    test_features
        ``(rows, hidden)``.
    scale
        Cosines are multiplied by it before the softmax; as sentence encoders are trained when left out.

    Returns
    -------
    ``(rows, classes)``, each row summing to 1.
    """
    import torch

    from weitiao.models.neighbors import LABEL_SCALE, unit

    cosines = unit(torch.as_tensor(test_features)) @ unit(torch.as_tensor(label_features)).T
    return softmax((LABEL_SCALE if scale is None else scale) * cosines.numpy())
