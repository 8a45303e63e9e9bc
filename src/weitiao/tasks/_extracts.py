"""How much of a summary stands in the text that it sums up.

Greedy matching takes, from the left, the longest run of a summary's words that also stands in the text. With these runs
F of a summary of n words:

    coverage = sum |f| / n        (the share of its words that are in such runs)
    density  = sum |f|^2 / n      (the mean length of the run that a word is in)

Source: Grusky et al., Newsroom: A Dataset of 1.3 Million Summaries with Diverse Extractive Strategies, 2018,
arXiv:1804.11283, section 4.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from weitiao.data.sentences import words

__all__ = ["Extract", "extract"]


@dataclass(frozen=True)
class Extract:
    """What a summary has in common with its text.

    Attributes
    ----------
    coverage, density
        See the module.
    novel
        Its words and numbers that the text has nowhere, each once, in their order.
    """

    coverage: float
    density: float
    novel: tuple[str, ...]

    @property
    def novel_numbers(self) -> tuple[str, ...]:
        """Those of `novel` with a digit: a figure that the text does not have is made up."""
        return tuple(word for word in self.novel if any(map(str.isdigit, word)))


def extract(text: str, summary: str) -> Extract:
    """Compare a summary with its text; one without words is covered."""
    there, said = words(text), words(summary)
    places: dict[str, list[int]] = defaultdict(list)
    for i, word in enumerate(there):
        places[word].append(i)
    runs, at = [], 0
    while at < len(said):
        run = max((_shared(said, at, there, i) for i in places.get(said[at], ())), default=0)
        runs.append(run)
        at += max(run, 1)
    count = max(1, len(said))
    novel = tuple(dict.fromkeys(word for word in said if word not in places))
    return Extract(sum(runs) / count if said else 1.0, sum(run * run for run in runs) / count, novel)


def _shared(left: Sequence[str], i: int, right: Sequence[str], j: int) -> int:
    length = 0
    while i + length < len(left) and j + length < len(right) and left[i + length] == right[j + length]:
        length += 1
    return length
