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

from study_design import Design

RESAMPLES = 10_000
METRICS = ("iou", "count", "point")
PARTS = (*METRICS, "box")
Record = dict[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """One variant less another, over the seeds that both have.

    `low` and `high` are the 95% percentile interval of a bootstrap over seeds; `p` is the exact
    two-sided p-value of the mean under all flips of signs.
    """

    seeds: int
    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        if not self.seeds:
            return ""
        if self.seeds < 3:
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

    def difference(self, first: str, second: str, of: Callable[[Record], float]) -> Difference:
        """`first` less `second`, over the seeds that both have."""
        seeds = [seed for seed in self.seeds(first) if (second, seed) in self.by]
        pairs = [of(self.by[first, seed]) - of(self.by[second, seed]) for seed in seeds]
        return difference(np.array(pairs))


def difference(values: Floats) -> Difference:
    """The mean of paired differences, its bootstrap interval and its sign-flip p-value."""
    n = len(values)
    if n == 0:
        return Difference(0, *[float("nan")] * 4)
    draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return Difference(n, float(values.mean()), float(low), float(high), sign_flip(values))


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


def collect(folder: Path, design: Design) -> list[Record]:
    """The records of a folder that are of this design, in its order.

    Raises:
        SystemExit: one was run with other settings than the design has now.
    """
    records = []
    for name, seed in design.runs():
        path = folder / f"{name}-{seed}.json"
        if path.exists():
            records.append(json.loads(path.read_text()))
            if records[-1]["fingerprint"] != design.fingerprint(name):
                raise SystemExit(f"{path}: expected settings as the design has them, got others")
    order = list(design.variants)
    return sorted(records, key=lambda record: (order.index(record["variant"]), record["seed"]))


def save(records: Iterable[Record], path: Path) -> None:
    """One run a line; the same records give the same bytes."""
    text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(path: Path) -> list[Record]:
    """What `save` wrote."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
