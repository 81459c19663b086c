"""The records of a study and their statistics.

Goes in: one record a run. Comes out: values by variant and seed, and paired differences: runs of
one seed have the same start and the same scenes in the same order.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from study_design import Design

RESAMPLES = 10_000
METRICS = ("iou", "count", "point")
PARTS = (*METRICS, "box")
Record = dict[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """One variant less another, over the seeds that both have.

    `low` and `high` are the 95% interval of a bootstrap over seeds, NaN for fewer than three;
    `p` is the exact two-sided p-value of the mean under all flips of signs.
    """

    seeds: int
    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        if not self.seeds:
            return ""
        if np.isnan(self.low):
            return f"{self.mean:+.3f}"
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


class Runs:
    """The records of a study, by variant and seed."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.by = {(record["variant"], record["seed"]): record for record in records}
        self.variants = list(dict.fromkeys(name for name, _ in self.by))

    def seeds(self, variant: str) -> list[int]:
        return sorted(seed for name, seed in self.by if name == variant)

    def values(self, variant: str, of: Callable[[Record], float]) -> Floats:
        """What each run of a variant came to, in the order of its seeds."""
        return np.array([of(self.by[variant, seed]) for seed in self.seeds(variant)])

    def first(self, seeds: int) -> Runs:
        """The runs of the first so many seeds, of which every variant has as many in the end."""
        return Runs(record for (_, seed), record in self.by.items() if seed < seeds)

    def difference(self, first: str, second: str, of: Callable[[Record], float]) -> Difference:
        """`first` less `second`, over the seeds that both have."""
        return difference(self.differences([first], [second], of))

    def differences(
        self, first: Sequence[str], second: Sequence[str], of: Callable[[Record], float]
    ) -> Floats:
        """The mean of some variants less that of others, for every seed that all of them have."""
        seeds = sorted({seed for _, seed in self.by})
        shared = [s for s in seeds if all((name, s) in self.by for name in (*first, *second))]
        return np.array(
            [
                np.mean([of(self.by[name, seed]) for name in first])
                - np.mean([of(self.by[name, seed]) for name in second])
                for seed in shared
            ]
        )


def difference(values: Floats) -> Difference:
    """The mean of paired differences, its bootstrap interval and its sign-flip p-value.

    The interval is the expanded percentile interval (Hesterberg, "What teachers should know about
    the bootstrap", The American Statistician 2015): the plain one of eight seeds covers 89%.
    """
    n = len(values)
    if n == 0:
        return Difference(0, *[float("nan")] * 4)
    low, high = interval(values) if n > 2 else (float("nan"), float("nan"))
    return Difference(n, float(values.mean()), low, high, sign_flip(values))


def interval(values: Floats) -> tuple[float, float]:
    """The bootstrap's percentiles that a normal sample of this size would need for 95%."""
    n = len(values)
    tail = stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1))
    draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    low, high = np.quantile(values[draws].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def sign_flip(values: Floats) -> float:
    """The share of all 2^n choices of signs whose mean is at least as far from 0."""
    n = len(values)
    signs = (np.arange(2**n)[:, None] >> np.arange(n) & 1) * 2 - 1
    means = np.abs(signs @ values)
    return float((means >= np.abs(values.sum()) - 1e-12).mean())


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: the smallest times n, the next times n - 1, never falling."""
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, place in enumerate(np.argsort(ps, kind="stable")):
        worst = max(worst, min(1.0, ps[place] * (len(ps) - rank)))
        adjusted[place] = worst
    return adjusted


def end(held_out: str, measure: str) -> Callable[[Record], float]:
    """A measure on a held-out set after training."""
    return lambda record: float(record["after"][held_out][measure])


def late(name: str) -> Callable[[Record], float]:
    """The mean of a curve over the last quarter of training."""

    def mean(record: Record) -> float:
        curve = record["curves"].get(name, [float("nan")])
        return float(np.mean(curve[-max(len(curve) // 4, 1) :]))

    return mean


def whole(name: str) -> Callable[[Record], float]:
    """The mean of a curve over all of training."""
    return lambda record: float(np.mean(record["curves"][name]))


def collect(folder: Path, design: Design, kept: Iterable[Record] = ()) -> list[Record]:
    """The records of a folder, and those `kept` earlier that it lacks, in the design's order.

    Raises:
        SystemExit: there is no such folder, or one was run with other settings than the design has.
    """
    if not folder.is_dir():
        raise SystemExit(f"{folder}: expected a folder of runs, and there is none")
    runs = {(record["variant"], record["seed"]): record for record in kept}
    for name, seed in design.runs():
        path = folder / f"{name}-{seed}.json"
        if path.exists():
            runs[name, seed] = json.loads(path.read_text())
    for (name, seed), record in runs.items():
        if name not in design.variants or record["fingerprint"] != design.fingerprint(name):
            raise SystemExit(
                f"{name}, seed {seed}: expected a run with the settings of the design, got one "
                "with others"
            )
    order = list(design.variants)
    return [runs[key] for key in sorted(runs, key=lambda key: (order.index(key[0]), key[1]))]


def save(records: Iterable[Record], path: Path) -> None:
    """One run a line; the same records give the same bytes."""
    text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(path: Path) -> list[Record]:
    """What `save` wrote."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
