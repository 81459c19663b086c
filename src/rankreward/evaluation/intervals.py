"""Intervals: how far a measure would move on other samples of the same kind.

Goes in: a `Measure`, or two of them. Comes out: its value and the ends of its percentile bootstrap
interval over samples (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13),
alone, as a difference, or as a table by stratum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rankreward.errors import InputError
from rankreward.evaluation.measures import Floats, Measure

_CELLS = 1 << 21  # counts held at a time, 16 MB of them: memory does not grow with the resamples


@dataclass(frozen=True)
class Interval:
    """A value and its bootstrap interval.

    Attributes:
        value: the measure, or the difference of two; NaN where nothing defines it.
        low: lower end; NaN if no resample defines the measure.
        high: upper end.
        undefined: how many resamples did not define the measure and were left out, as happens to
            the share of no-target samples rejected when there are few of them.
    """

    value: float
    low: float
    high: float
    undefined: int = 0


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        stratum: its name, ``"all"`` where there are none.
        measure: its name.
        n: how many samples of the stratum the measure is of.
        interval: its value and ends.
    """

    stratum: str
    measure: str
    n: int
    interval: Interval


def interval(
    measure: Measure, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """A measure with its interval.

    Args:
        measure: of n samples.
        resamples: how many times n samples are drawn with replacement.
        level: share of the resamples that the interval holds, in (0, 1).
        seed: of the drawing; equal seeds give equal intervals.

    Returns:
        The value and the interval.

    Raises:
        InputError: there is no sample, `resamples` is less than 1, or `level` is not in (0, 1).

    Cost:
        O(n resamples) for a ratio: under a second for 10,000 samples and 2,000 resamples.

    Example:
        >>> from rankreward.evaluation.measures import mean
        >>> found = interval(mean([0.0, 1.0] * 200))
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (0.5, 0.45, 0.55)
    """
    spread = _spread([measure], resamples, seed)[0]
    return _ends(measure.value, spread, level)


def difference(
    before: Measure,
    after: Measure,
    *,
    paired: bool,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """`after` less `before`, with its interval.

    Args:
        before: of n samples.
        after: of m samples.
        paired: True if both are of the same samples in the same order, so that each resample
            draws the same ones for both and what they share cancels; False if they are of
            different samples, each drawn by itself.
        resamples: as in `interval`.
        level: likewise.
        seed: likewise.

    Returns:
        The difference and its interval.

    Raises:
        InputError: as in `interval`, or `paired` and the lengths differ.

    Example:
        >>> from rankreward.evaluation.measures import mean
        >>> worse, better = mean([0.1, 0.9] * 20), mean([0.2, 1.0] * 20)
        >>> found = difference(worse, better, paired=True)
        >>> round(found.low, 3), round(found.high, 3)
        (0.1, 0.1)
    """
    if paired:
        if len(before) != len(after):
            raise InputError(
                f"difference: expected the same samples, got {len(before)} and {len(after)}; "
                "pass paired=False if they are different ones"
            )
        first, second = _spread([before, after], resamples, seed)
    else:
        seeds = np.random.SeedSequence(seed).spawn(2)
        first = _spread([before], resamples, seeds[0])[0]
        second = _spread([after], resamples, seeds[1])[0]
    return _ends(after.value - before.value, second - first, level)


def table(
    measures: Mapping[str, Measure],
    *,
    by: Sequence[str] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Row]:
    """Measures with their intervals, a stratum at a time.

    Args:
        measures: name to measure, all of the same n samples.
        by: n names, the stratum of each sample; one stratum of all samples unless given.
        resamples: as in `interval`; samples are drawn within their stratum.
        level: likewise.
        seed: likewise.

    Returns:
        A row for each stratum, in the order of their names, and in it for each measure.

    Raises:
        InputError: as in `interval`; the measures differ in length; or `by` is not n texts.

    Example:
        >>> from rankreward.evaluation.measures import mean
        >>> rows = table({"found": mean([1.0, 1.0, 0.0])}, by=["cat", "dog", "dog"])
        >>> [(row.stratum, row.n, row.interval.value) for row in rows]
        [('cat', 1, 1.0), ('dog', 2, 0.5)]
    """
    lengths = {len(measure) for measure in measures.values()}
    if len(lengths) != 1:
        raise InputError(f"measures: expected one number of samples, got {sorted(lengths)}")
    names = ["all"] * lengths.pop() if by is None else _names(by, lengths.pop())
    column, rows = np.array(names), []
    for stratum in sorted(set(names)):
        index = np.flatnonzero(column == stratum)
        parts = [measure.take(index) for measure in measures.values()]
        spreads = _spread(parts, resamples, seed)
        for name, part, spread in zip(measures, parts, spreads, strict=True):
            rows.append(Row(stratum, name, part.size, _ends(part.value, spread, level)))
    return rows


def _names(by: Sequence[str], count: int) -> list[str]:
    names = list(by)
    if len(names) != count or not all(isinstance(name, str) for name in names):
        raise InputError(f"by: expected {count} texts, one a sample, got {len(names)}: {names[:3]}")
    return names


def _spread(
    measures: Sequence[Measure], resamples: int, seed: int | np.random.SeedSequence
) -> list[Floats]:
    """Each measure over the same resamples, (resamples,)."""
    parts = [
        [measure.over(counts) for measure in measures]
        for counts in _draws(len(measures[0]), resamples, seed)
    ]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _draws(count: int, resamples: int, seed: int | np.random.SeedSequence) -> Iterator[Floats]:
    """How often each resample holds each sample, (r, count), some resamples at a time."""
    if count < 1 or resamples < 1:
        raise InputError(f"expected at least 1 sample and 1 resample, got {count} and {resamples}")
    rng, most = np.random.default_rng(seed), max(_CELLS // count, 1)
    for start in range(0, resamples, most):
        rows = min(most, resamples - start)
        drawn = rng.integers(0, count, (rows, count))
        drawn += np.arange(rows)[:, None] * count  # each resample its own bins
        counts = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield counts.astype(np.float64)


def _ends(value: float, spread: Floats, level: float) -> Interval:
    if not 0 < level < 1:
        raise InputError(f"level: expected a number in (0, 1), got {level!r}")
    defined = spread[~np.isnan(spread)]
    undefined = len(spread) - len(defined)
    if not len(defined):
        return Interval(value, math.nan, math.nan, undefined)
    tail = 50 * (1 - level)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Interval(value, float(low), float(high), undefined)
