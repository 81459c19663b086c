"""Sums of many steps, and the measures that they make, with intervals.

Goes in: the sums of each step. Comes out: each measure over all steps, its bootstrap interval over
steps, and its value in each third of them. Memory grows with the steps, by about a kilobyte each
for three recipes, and not with the rollouts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rankreward.replay.agreement import Ratio

Floats = NDArray[np.float64]
Key = tuple[tuple[str, ...], str]  # labels of the recipes, and the name of a sum or a measure

THIRDS = 3
FEWEST = 10  # steps that an interval needs: with fewer it holds the truth too seldom
_CELLS = 1 << 20  # counts held at a time, 8 MB of them


@dataclass(frozen=True)
class Measured:
    """A measure of a log.

    Attributes:
        labels: of the recipe, or of the two, that it is of.
        name: the measure's; see `rankreward.replay.agreement` and `rankreward.replay.shares`.
        value: over all steps; NaN where nothing defines it.
        low: lower end of its interval; NaN with fewer than ten steps.
        high: upper end.
        groups: how many groups it rests on.
        thirds: its value in the first, the second and the last third of the steps, the first being
            the longer ones; NaN each with fewer than three steps.
    """

    labels: tuple[str, ...]
    name: str
    value: float
    low: float
    high: float
    groups: int
    thirds: tuple[float, float, float]


class StepSums:
    """Sums by step, kept as one array a step."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self._names: list[Key] = []
        self._rows: list[Floats] = []

    def add(self, step: int, sums: Mapping[Key, float]) -> None:
        """Add sums of a step, all of them or a part; every call names the same sums."""
        self._names = self._names or list(sums)
        row = np.array([sums[name] for name in self._names])
        if self.steps and self.steps[-1] == step:
            self._rows[-1] += row
        else:
            self.steps.append(step)
            self._rows.append(row)

    def by_step(
        self, measures: Mapping[Key, Ratio]
    ) -> Iterator[tuple[int, dict[Key, float], dict[Key, float]]]:
        """Each step with its sums and its measures, NaN where nothing defines one."""
        for step, row in zip(self.steps, self._rows, strict=True):
            sums = dict(zip(self._names, row.tolist(), strict=True))
            found = self._measure(row[None], measures)
            yield step, sums, {key: float(values[0]) for key, values in found.items()}

    def total(self, labels: tuple[str, ...], name: str) -> float:
        """A sum over all steps."""
        return float(sum(row[self._names.index((labels, name))] for row in self._rows))

    def measured(
        self,
        measures: Mapping[Key, Ratio],
        *,
        resamples: int = 1000,
        level: float = 0.95,
        seed: int = 0,
    ) -> list[Measured]:
        """The measures over all steps.

        Args:
            measures: what they are called, and of which sums they are made.
            resamples: how often as many steps are drawn with replacement for the interval, the
                same ones for each measure. What nearby steps share makes it too narrow.
            level: how often the interval is to hold the truth. As few steps make a bootstrap too
                narrow, it goes further out than that share of the resamples, as Student's t does.
            seed: of the drawing.
        """
        rows = np.stack(self._rows)
        whole = self._measure(rows.sum(axis=0, keepdims=True), measures)
        drawn = [self._measure(some, measures) for some in _resampled(rows, resamples, seed)]
        thirds = [self._measure(part, measures) for part in _thirds(rows)]
        found = []
        for key, ratio in measures.items():
            spread = np.concatenate([each[key] for each in drawn]) if drawn else np.empty(0)
            groups = int(rows[:, self._names.index((key[0], ratio.groups))].sum())
            first, second, last = (float(third[key][0]) for third in thirds)
            ends, value = _ends(spread, _tail(level, len(rows))), float(whole[key][0])
            found.append(Measured(*key, value, *ends, groups, (first, second, last)))
        return found

    def _measure(self, sums: Floats, measures: Mapping[Key, Ratio]) -> dict[Key, Floats]:
        """Each measure of R sets of sums, (R, K) to (R,)."""
        column = {name: sums[:, place] for place, name in enumerate(self._names)}
        found = {}
        for (labels, name), ratio in measures.items():
            below = column[labels, ratio.bottom]
            if ratio.other:
                below = np.sqrt(below * column[labels, ratio.other])
            empty = np.full(len(sums), np.nan)
            top = column[labels, ratio.top]
            found[labels, name] = np.divide(top, below, out=empty, where=below > 0)
        return found


def _resampled(rows: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Sums over steps drawn again, (r, K) some resamples at a time; nothing for few steps."""
    count, rng = len(rows), np.random.default_rng(seed)
    most = max(_CELLS // count, 1)
    for start in range(0, resamples if count >= FEWEST else 0, most):
        size = min(most, resamples - start)
        yield rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64) @ rows


def _thirds(rows: Floats) -> list[Floats]:
    if len(rows) < THIRDS:
        return [np.zeros((1, rows.shape[1]))] * THIRDS
    return [part.sum(axis=0, keepdims=True) for part in np.array_split(rows, THIRDS)]


def _tail(level: float, steps: int) -> float:
    """The share of resamples outside each end: what the normal law has beyond Student's quantile.

    The root makes up for a resample's variance, which is that of the steps over their number, and
    not over one less.
    """
    student = stats.t.ppf((1 - level) / 2, steps - 1) if steps >= FEWEST else 0.0
    return float(stats.norm.cdf(student * math.sqrt(steps / max(steps - 1, 1))))


def _ends(spread: Floats, tail: float) -> tuple[float, float]:
    defined = spread[~np.isnan(spread)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
