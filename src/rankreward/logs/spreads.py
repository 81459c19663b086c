"""How rewards spread within the groups of a step, however its chunks cut them.

Goes in: groups and rewards, chunk by chunk. Comes out: groups, dead groups, and their spread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Spreads:
    """Count, mean, sum of squares, smallest and largest reward of each group: 40 bytes, a name."""

    def __init__(self) -> None:
        self._numbers: dict[str | None, int] = {}
        self._count, self._mean, self._squares = np.zeros(0), np.zeros(0), np.zeros(0)
        self._low, self._high = np.zeros(0), np.zeros(0)

    def add(self, groups: Sequence[str | None], totals: Floats) -> None:
        """Take a chunk: B groups and B rewards."""
        numbers = self._numbers
        at, group = np.unique(
            [numbers.setdefault(each, len(numbers)) for each in groups], return_inverse=True
        )
        self._grow(len(numbers))
        count = np.bincount(group)
        mean = np.bincount(group, totals) / count
        squares = np.bincount(group, (totals - mean[group]) ** 2)
        before, apart = self._count[at], mean - self._mean[at]
        self._count[at] = whole = before + count
        self._mean[at] += apart * count / whole
        self._squares[at] += squares + apart**2 * before * count / whole
        low, high = np.full(len(at), np.inf), np.full(len(at), -np.inf)
        np.minimum.at(low, group, totals)
        np.maximum.at(high, group, totals)
        self._low[at] = np.minimum(self._low[at], low)
        self._high[at] = np.maximum(self._high[at], high)

    def _grow(self, size: int) -> None:
        more = max(size, 2 * len(self._count)) - len(self._count) if size > len(self._count) else 0
        nothing = np.zeros(more)
        self._count = np.concatenate([self._count, nothing])
        self._mean = np.concatenate([self._mean, nothing])
        self._squares = np.concatenate([self._squares, nothing])
        self._low = np.concatenate([self._low, nothing + np.inf])
        self._high = np.concatenate([self._high, nothing - np.inf])

    def figures(self) -> dict[str, float]:
        """Of the step; empty where all groups are of one, as a log that does not know them has."""
        size = len(self._numbers)
        if not size or self._count[:size].max() < 2:
            return {}
        dead = self._low[:size] == self._high[:size]
        spread = np.where(dead, 0.0, np.sqrt(self._squares[:size] / self._count[:size]))
        return {
            "rankreward/group_std": float(spread.mean()),
            "rankreward/dead_groups": float(dead.mean()),
            "rankreward/groups": size,
        }
