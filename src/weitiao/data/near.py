"""Texts that are equal, or nearly so: MinHash finds the candidates, exact Jaccard decides.

Two texts are compared as sets of character shingles of their `normalise`d form. The
similarity is the Jaccard index of the two sets; MinHash signatures cut into bands find the
pairs worth comparing without looking at all pairs, and every candidate is then verified on
the sets themselves, so no pair is reported that is not one. With 20 bands of 6 a pair at the
default threshold is missed less than once in 10,000, and less often above it.

The threshold was chosen on labelled real sets, by reading pairs and by how often near pairs
(equal ones left out) carry different labels, which a duplicate hardly ever does: of 78 pairs
of banking questions at 0.85 or above 2 do, of 77 between 0.80 and 0.85 3, of 399 between 0.70
and 0.80 26; in 150 intents 1 of 135, 7 of 301, 28 of 1,230. Between 0.80 and 0.85 stand pairs
that say different things ("a fee for paying by card?", "Why was there a fee ...?"); "how do I
activate my card" and "how do I deactivate my card" have 0.63. Counting repeats wants certainty;
keeping a test set honest may want more, so every function takes its own `threshold`.

Source: Broder, On the Resemblance and Containment of Documents, 1997. Banding: Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, 2014, chapter 3.
Differs: the width of a shingle follows its first character (`_WIDTH_CJK`, `_WIDTH`), because
one Chinese character says as much as several letters; texts too short for a similarity to
mean anything match only when they are equal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weitiao.errors import DataError

__all__ = ["THRESHOLD", "near_groups", "near_pairs", "near_pairs_between", "normalise"]

THRESHOLD = 0.85  # Jaccard index; the evidence is above
_WIDTH = 5  # characters a shingle
_WIDTH_CJK = 3  # ... where it begins with a Chinese, Japanese or Korean character
_MIN_SHINGLES = 10  # with fewer, one appended word already passes for a near duplicate
_BANDS, _ROWS = 20, 6
_WINDOW = 50  # in one LSH bucket each text is compared with this many next ones
_CHUNK = 1 << 20  # characters worked on at a time
_CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_SPACE_BESIDE_CJK = re.compile(rf"(?<=[{_CJK}]) | (?=[{_CJK}])")

Pair = tuple[int, int, float]
_Indices = NDArray[np.int64]


def normalise(text: str) -> str:
    """Return the form in which texts are compared: what is left when only the typing differs.

    Compatibility forms are folded (full-width to half-width), case too; apostrophes and invisible
    characters go, other punctuation counts as a space, runs of spaces as one, and spaces beside
    Chinese, Japanese and Korean characters as none. A text of punctuation only keeps it.

    Examples
    --------
    >>> normalise("Ｈｅｌｌｏ， World!!"), normalise("房间 很干净。")
    ('hello world', '房间很干净')
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(folded.translate(_STRIP).split())
    return _SPACE_BESIDE_CJK.sub("", words) or " ".join(folded.split())


def near_groups(texts: Sequence[str], *, threshold: float = THRESHOLD) -> list[int]:
    """Give every row the number of its group of equal and nearly equal texts.

    Parameters
    ----------
    texts
        One text a row.
    threshold
        Jaccard index in (0, 1] from which two texts count as near.

    Returns
    -------
    One group number a row, counted from 0 in order of first appearance. Rows linked through
    others are in one group.
    """
    shown = _Distinct(texts)
    parent = list(range(len(shown.firsts)))
    for i, j, _ in _verified(shown.texts, threshold, None):
        a, b = _root(parent, i), _root(parent, j)
        parent[max(a, b)] = min(a, b)
    number: dict[int, int] = {}
    return [number.setdefault(_root(parent, d), len(number)) for d in shown.of_row]


def near_pairs(texts: Sequence[str], *, threshold: float = THRESHOLD) -> list[Pair]:
    """Pairs of rows `(i, j, jaccard)` with `i < j` that are equal or nearly so, in order.

    A row equal to an earlier one (similarity 1.0) is paired with the first such row only, and near
    pairs are given between first rows, so that a thousand copies make a thousand pairs and not half
    a million. Where more than 50 different texts resemble one another, not every pair among them is
    listed.
    """
    shown = _Distinct(texts)
    pairs = [(shown.firsts[d], row, 1.0) for row, d in enumerate(shown.of_row) if shown.firsts[d] != row]
    near = _verified(shown.texts, threshold, None)
    pairs += [(shown.firsts[i], shown.firsts[j], similarity) for i, j, similarity in near]
    return sorted(pairs)


def near_pairs_between(a: Sequence[str], b: Sequence[str], *, threshold: float = THRESHOLD) -> list[Pair]:
    """Pairs `(i, j, jaccard)` of a row of `a` and a row of `b` that are equal or nearly so.

    Every row of `b` that resembles some row of `a` is listed, with the first row of each text of `a`
    it resembles; ordered by `j`, the most similar first.
    """
    left, right = _Distinct(a), _Distinct(b)
    index = {text: d for d, text in enumerate(left.texts)}
    matches: dict[int, list[tuple[float, int]]] = {}
    for d, text in enumerate(right.texts):
        if text in index:
            matches[d] = [(-1.0, left.firsts[index[text]])]
    for i, j, similarity in _verified(left.texts + right.texts, threshold, len(left.texts)):
        matches.setdefault(j - len(left.texts), []).append((-similarity, left.firsts[i]))
    return [(i, row, -s) for row, d in enumerate(right.of_row) for s, i in sorted(matches.get(d, ()))]


class _Strip(dict[int, str]):
    """What becomes of a character: filled in as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Cf" or character in "'\u2019\u02bc`":
            kept = ""
        else:
            kept = " " if category[0] == "P" or category == "Cc" else character
        self[code] = kept
        return kept


_STRIP = _Strip()


class _Distinct:
    """Texts with exact repeats (after `normalise`) folded together."""

    def __init__(self, texts: Sequence[str]) -> None:
        seen: dict[str, int] = {}
        self.of_row = [seen.setdefault(normalise(text), len(seen)) for text in texts]
        self.texts = list(seen)
        self.firsts = [0] * len(seen)  # distinct text -> first row that has it
        for row in range(len(self.of_row) - 1, -1, -1):
            self.firsts[self.of_row[row]] = row


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


def _verified(texts: list[str], threshold: float, border: int | None) -> Iterator[Pair]:
    """Near pairs among distinct texts; with a border, only those with one text on each side of it."""
    if not 0 < threshold <= 1:
        raise DataError(f"the threshold of near duplicates is {threshold}.", fix="Give a number above 0, at most 1.")
    sets = _shingle_sets(texts)
    sizes = np.diff(sets.starts)
    long_enough = np.flatnonzero(sizes >= _MIN_SHINGLES)
    if len(long_enough) < 2:
        return
    signatures = _signatures(sets, long_enough)
    # The signature's share of equal entries estimates the similarity; four standard deviations below
    # the threshold a pair is not worth the exact count.
    floor = threshold - 4 * np.sqrt(threshold * (1 - threshold) / signatures.shape[1])
    for first, second in _candidates(signatures, None if border is None else int(np.searchsorted(long_enough, border))):
        i, j = long_enough[first], long_enough[second]
        small, large = np.minimum(sizes[i], sizes[j]), np.maximum(sizes[i], sizes[j])
        maybe = small >= threshold * large
        estimate = np.zeros(len(i))
        for part in _parts(np.flatnonzero(maybe), 100_000):
            estimate[part] = (signatures[first[part]] == signatures[second[part]]).mean(axis=1)
        maybe &= estimate >= floor
        i, j = i[maybe], j[maybe]
        for part in _parts(np.arange(len(i)), 20_000):
            similarity = _jaccard(sets, i[part], j[part])
            near = similarity >= threshold
            yield from zip(
                i[part][near].tolist(), j[part][near].tolist(), similarity[near].round(4).tolist(), strict=True
            )


class _Sets:
    """The shingles of all texts in one sorted array of `text << 40 | hash`; text t owns starts[t]:starts[t+1]."""

    def __init__(self, keys: NDArray[np.uint64], num_texts: int) -> None:
        self.keys = keys
        texts = np.arange(num_texts + 1, dtype=np.uint64)
        self.starts: _Indices = np.searchsorted(keys, texts << np.uint64(40)).astype(np.int64)


def _shingle_sets(texts: list[str]) -> _Sets:
    keys, begin = [np.zeros(0, np.uint64)], 0
    while begin < len(texts):
        end, size = begin, 0
        while end < len(texts) and (end == begin or size + len(texts[end]) <= _CHUNK):
            size += len(texts[end])
            end += 1
        keys.append(_shingle_keys(texts[begin:end], begin))
        begin = end
    return _Sets(np.concatenate(keys), len(texts))


def _shingle_keys(texts: list[str], first: int) -> NDArray[np.uint64]:
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    owner = np.repeat(np.arange(len(texts)), lengths)
    room = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(codes))  # characters to the end of the text
    is_cjk = (codes >= 0x2E80) & (codes <= 0x9FFF) | (codes >= 0xAC00) & (codes <= 0xD7AF)
    is_cjk |= (codes >= 0xF900) & (codes <= 0xFAFF) | (codes >= 0x20000) & (codes <= 0x3FFFF)
    width = np.where(is_cjk, _WIDTH_CJK, _WIDTH)
    padded = np.concatenate([codes, np.zeros(max(_WIDTH, _WIDTH_CJK), np.uint64)])
    value = np.zeros(len(codes), np.uint64)
    for k in range(max(_WIDTH, _WIDTH_CJK)):  # characters of a shingle, not permutations
        value = value * np.uint64(0x100000001B3) + np.where(k < width, padded[k : k + len(codes)] + np.uint64(1), 0)
    whole = room >= width
    text = owner[whole].astype(np.uint64) + np.uint64(first)
    return _sorted_unique((text << np.uint64(40)) | (_mixed(value[whole]) >> np.uint64(24)))


def _sorted_unique(values: NDArray[Any]) -> NDArray[Any]:
    # np.unique goes through a hash table and was five times slower than sorting on these
    values = np.sort(values)
    return values[np.concatenate([np.ones(min(1, len(values)), bool), values[1:] != values[:-1]])]


def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The finaliser of splitmix64: every bit of the input reaches every bit of the output.
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _signatures(sets: _Sets, chosen: _Indices) -> NDArray[np.uint32]:
    """MinHash signatures, (texts, bands * rows): the least hash of a text under each permutation."""
    drawn = np.random.default_rng(1997).integers(0, 1 << 31, (_BANDS * _ROWS, 1), dtype=np.uint32)
    odd = drawn * np.uint32(2) + np.uint32(1)  # multiplying by an odd number permutes the 32-bit integers
    low = (sets.keys & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    signatures = np.empty((len(chosen), len(odd)), np.uint32)
    for part in _runs(sets.starts[chosen], sets.starts[chosen + 1], 1 << 14):
        spans = chosen[part]
        begin, end = sets.starts[spans[0]], sets.starts[spans[-1] + 1]
        offsets = np.stack([sets.starts[spans], sets.starts[spans + 1]], axis=1).ravel() - begin
        hashes = odd * low[None, begin:end]  # (permutations, shingles), modulo 2**32
        # reduceat takes [start, next start): every other cell is the gap after a text that was left out
        offsets = offsets if offsets[-1] < end - begin else offsets[:-1]
        signatures[part] = np.minimum.reduceat(hashes, offsets, axis=1)[:, ::2].T
    return signatures


def _candidates(signatures: NDArray[np.uint32], border: int | None) -> Iterator[tuple[_Indices, _Indices]]:
    """Pairs of texts that agree on a whole band, each pair once; first index below second."""
    total = len(signatures)
    weights = np.random.default_rng(2).integers(1, 1 << 62, _ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    found: list[NDArray[np.int64]] = []
    for band in range(_BANDS):
        key = _mixed((signatures[:, band * _ROWS : (band + 1) * _ROWS] * weights).sum(axis=1, dtype=np.uint64))
        order = np.argsort(key, kind="stable")  # stable: of two texts in one bucket the first comes first
        for lower, upper in _bucket_pairs(key[order]):
            first, second = order[lower], order[upper]
            if border is not None:
                across = (first < border) & (second >= border)
                first, second = first[across], second[across]
            found.append(first * total + second)
    pairs = _sorted_unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
    for part in _parts(pairs, 1 << 20):
        yield part // total, part % total


def _bucket_pairs(ranked: NDArray[np.uint64]) -> Iterator[tuple[_Indices, _Indices]]:
    """Positions of two equal keys: every pair of a small bucket, a linear number of a large one."""
    for step in range(1, min(_WINDOW, len(ranked) - 1) + 1):
        same = np.flatnonzero(ranked[step:] == ranked[:-step])
        if not len(same):
            return
        yield same, same + step
    # In a large bucket also with its first text, so that all of it hangs together, across a border too.
    begins = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    leader = np.repeat(begins, np.diff(np.append(begins, len(ranked))))
    far = np.flatnonzero(np.arange(len(ranked)) - leader > _WINDOW)
    yield leader[far], far


def _jaccard(sets: _Sets, i: _Indices, j: _Indices) -> NDArray[np.float64]:
    """Exact Jaccard indices of pairs of shingle sets."""
    sizes = np.diff(sets.starts)
    swap = sizes[i] > sizes[j]
    small, large = np.where(swap, j, i), np.where(swap, i, j)
    counts = sizes[small]
    pair = np.repeat(np.arange(len(i)), counts)
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    shingle = sets.keys[np.repeat(sets.starts[small], counts) + inside] & np.uint64((1 << 40) - 1)
    wanted = large[pair].astype(np.uint64) << np.uint64(40) | shingle
    at = np.minimum(np.searchsorted(sets.keys, wanted), len(sets.keys) - 1)
    shared = np.bincount(pair, weights=sets.keys[at] == wanted, minlength=len(i))
    return shared / (sizes[i] + sizes[j] - shared)


def _parts(items: _Indices, size: int) -> Iterator[_Indices]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _runs(begins: _Indices, ends: _Indices, size: int) -> Iterator[slice]:
    """Slices of consecutive texts that own about `size` shingles together."""
    at = 0
    while at < len(begins):
        stop = max(at + 1, int(np.searchsorted(ends, begins[at] + size, side="right")))
        yield slice(at, stop)
        at = stop
