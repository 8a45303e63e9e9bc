"""What any model must beat: the majority class, and TF-IDF with logistic regression.

Source: Salton and Buckley, Term-weighting approaches in automatic text retrieval, 1988 (TF-IDF); Wang and Manning,
Baselines and Bigrams: Simple, Good Sentiment and Topic Classification, 2012 (linear models on bigrams).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["is_unspaced", "majority", "ngrams", "tfidf"]

# scripts written without spaces between words (and Korean, whose words carry their particles with them):
# Thai to Khmer, kana, CJK ideographs with extensions, Hangul
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
_LETTER = re.compile(r"[^\W\d_]")


def majority(train_targets: np.ndarray, rows: int, classes: int) -> np.ndarray:
    """Return the same prediction for every row: the shares of the classes in train.

    Its largest entry is the majority class (the first of several), and its log loss is the best that a
    constant can have on train.

    Returns
    -------
    ``(rows, classes)``; uniform where train is empty.
    """
    counts = np.bincount(np.asarray(train_targets, dtype=np.int64), minlength=classes).astype(np.float64)
    shares = counts / counts.sum() if counts.sum() else np.full(classes, 1 / classes)
    return np.tile(shares, (rows, 1))


def is_unspaced(texts: Sequence[str]) -> bool:
    """Say whether most letters are of a script without spaces between words; looks at the first 2,000 texts."""
    sample = "".join(texts[:2000])
    return 2 * len(_UNSPACED.findall(sample)) > len(_LETTER.findall(sample))


def tfidf(
    train_texts: Sequence[tuple[str, ...]],
    train_targets: np.ndarray,
    test_texts: Sequence[tuple[str, ...]],
    *,
    classes: int,
    seed: int,
    most_rows: int = 100_000,
) -> np.ndarray:
    """Train TF-IDF of 1-2-grams with logistic regression on train; return probabilities for test.

    Words, or characters where the text is mostly of a script without spaces. Each text field is a block of
    features of its own. Term counts by their logarithm, C=10, all else as scikit-learn has it.

    Parameters
    ----------
    train_texts, test_texts
        One tuple of text fields a row: ``(text,)``, or ``(text, text_pair)``.
    train_targets
        ``(train rows,)``, class indices; classes that do not occur get probability 0.
    seed
        Chooses the rows where there are more than `most_rows`.
    most_rows
        Train rows used at most, so that the baseline stays minutes and not hours.

    Returns
    -------
    ``(test rows, classes)``; the majority prediction where train has one class, or no text has a feature.
    """
    targets = np.asarray(train_targets, dtype=np.int64)
    if len(targets) > most_rows:
        chosen = np.sort(np.random.default_rng(seed).choice(len(targets), most_rows, replace=False))
        train_texts, targets = [train_texts[i] for i in chosen], targets[chosen]
    seen = np.unique(targets)
    blocks = ngrams(train_texts, test_texts) if len(seen) > 1 and len(test_texts) else None
    if blocks is None:
        return majority(targets, len(test_texts), classes)
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=10.0, max_iter=1000).fit(blocks[0], targets)
    probabilities = np.zeros((len(test_texts), classes))
    probabilities[:, seen] = model.predict_proba(blocks[1])
    return probabilities


def ngrams(train: Sequence[tuple[str, ...]], test: Sequence[tuple[str, ...]]) -> tuple[Any, Any] | None:
    """Return sparse features of train and test, one block a text field; ``None`` where no text has any."""
    from scipy.sparse import hstack

    blocks = [_block([row[i] for row in train], [row[i] for row in test]) for i in range(len(train[0]))]
    found = [block for block in blocks if block is not None]
    if not found:
        return None
    return hstack([b[0] for b in found], format="csr"), hstack([b[1] for b in found], format="csr")


def _block(train: list[str], test: list[str]) -> tuple[Any, Any] | None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # texts of single letters or signs have no words of two letters: their characters still say something
    for analyzer in ["char"] if is_unspaced(train) else ["word", "char"]:
        vectorizer = TfidfVectorizer(analyzer=analyzer, ngram_range=(1, 2), sublinear_tf=True)
        try:
            return vectorizer.fit_transform(train), vectorizer.transform(test)
        except ValueError:  # scikit-learn's "empty vocabulary"
            continue
    return None
