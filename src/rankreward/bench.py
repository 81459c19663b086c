"""Timing in pairs, and a short benchmark for users.

Goes in: functions that do the same thing. Comes out: how many times as long as one of them each of
the others takes. A machine's speed drifts by more than what is to be told apart, so the functions
take turns and are compared round by round.
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankreward.compiled import warmup
from rankreward.quantiles import QuantileService

Floats = NDArray[np.float64]
Call = Callable[[], object]

METRICS = ("iou", "count", "point")
_VALUES = 2**16  # different values before any comes back, more than a branch predictor learns
_ROUNDS = 21


class Quartiles(NamedTuple):
    """The quartiles of a sample."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, sample: Floats) -> Quartiles:
        """The quartiles of (n,) numbers."""
        low, median, high = np.quantile(sample, [0.25, 0.5, 0.75]).tolist()
        return cls(low, median, high)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep the collector out of the timing, and leave it as it was."""
    before = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def seconds_per_call(call: Call, loops: int) -> float:
    """The mean time of `loops` calls."""
    turns = itertools.repeat(None, loops)
    begin = time.perf_counter()
    for _ in turns:
        call()
    return (time.perf_counter() - begin) / loops


def calibrate(call: Call, min_time: float) -> int:
    """How many calls take `min_time` seconds at least; the first, a cold one, does not count."""
    call()
    loops = 1
    while (spent := loops * seconds_per_call(call, loops)) < min_time:
        wanted = math.ceil(1.1 * loops * min_time / max(spent, 1e-9))
        loops = min(max(wanted, loops + 1), 10 * loops)  # one lucky measurement is not believed
    return loops


def paired(
    candidates: Mapping[str, Call], rounds: int = _ROUNDS, min_time: float = 2e-3
) -> dict[str, Floats]:
    """Time functions in turns.

    Args:
        candidates: name to function.
        rounds: how often each has its turn; who begins changes from round to round.
        min_time: seconds that one turn takes at least; a fast function is called many times.

    Returns:
        name to (rounds,) seconds per call.
    """
    loops = {name: calibrate(call, min_time) for name, call in candidates.items()}
    times = {name: np.empty(rounds) for name in candidates}
    order = list(candidates)
    with no_garbage_collection():
        for turn in range(rounds):
            for name in order:
                times[name][turn] = seconds_per_call(candidates[name], loops[name])
            order.append(order.pop(0))
    return times


def ratios(times: Mapping[str, Floats], ours: str) -> dict[str, Quartiles]:
    """How many times as long as `ours` the others take, round by round.

    Example:
        >>> import numpy as np
        >>> from rankreward.bench import ratios
        >>> times = {"ours": np.array([1.0, 2.0, 1.0]), "rival": np.array([3.0, 6.0, 4.0])}
        >>> ratios(times, "ours")["rival"].median
        3.0
    """
    return {
        name: Quartiles.of(seconds / times[ours]) for name, seconds in times.items() if name != ours
    }


def cycle(batches: Floats) -> Callable[[], Floats]:
    """A function that gives the batches (K, B, N) one after the other, over and over."""
    return itertools.cycle(list(batches)).__next__


def batches_of(rows: int, rng: np.random.Generator) -> Floats:
    """(K, rows, 3) uniform values, enough of them that none is known by heart."""
    count = min(4096, max(4, -(-_VALUES // (rows * len(METRICS)))))
    return rng.random((count, rows, len(METRICS)))


def filled(rows: Floats) -> QuantileService:
    """A service whose window is exactly these rows, ready to rank at full speed."""
    service = QuantileService(METRICS, window=len(rows), warm_start=0)
    service.push(rows)
    service.flush(0)
    for _ in range(2):  # the index is built once enough has been ranked to repay it
        service.rank(rows[: max(4096, len(rows) // 16)])
    return service


@dataclass(frozen=True)
class Row:
    """One line of the benchmark: seconds per call (medians), and how many times as long."""

    what: str
    ours: float
    rival: str
    theirs: float
    ratio: Quartiles


CASES = (
    ("rank", 1, 2048),
    ("rank", 128, 2048),
    ("rank", 4096, 2048),
    ("rank", 4096, 65536),
    ("flush", 128, 2048),
    ("flush", 128, 65536),
)


def short(seconds: float = 10.0) -> Iterator[Row]:
    """The benchmark of `rankreward bench`, a row for each of `CASES`.

    Args:
        seconds: how long the timing takes in all, roughly; loading the kernels comes on top.
    """
    warmup()
    rng = np.random.default_rng(0)
    for kind, rows, window in CASES:
        rival, candidates = (_ranking if kind == "rank" else _flushing)(rows, window, rng)
        share = seconds / len(CASES) / len(candidates) / (_ROUNDS + 2)  # calibrating takes two
        times = paired(candidates, min_time=share)
        yield Row(
            f"{kind} {rows} row{'s' * (rows > 1)}, window {window}",
            float(np.median(times["rankreward"])),
            rival,
            float(np.median(times[rival])),
            ratios(times, "rankreward")[rival],
        )


def _ranking(rows: int, window: int, rng: np.random.Generator) -> tuple[str, dict[str, Call]]:
    history = rng.random((window, len(METRICS)))
    service, batches = filled(history), batches_of(rows, rng)
    mine, theirs = cycle(batches), cycle(batches)
    columns = np.sort(np.ascontiguousarray(history.T), axis=1)

    def searchsorted() -> Floats:
        values = theirs()
        ranks = np.empty_like(values)
        for j, column in enumerate(columns):
            ranks[:, j] = np.searchsorted(column, values[:, j], side="right")
        ranks /= window
        return ranks

    candidates: dict[str, Call] = {
        "rankreward": lambda: service.rank(mine()),
        "np.searchsorted": searchsorted,
    }
    return "np.searchsorted", candidates


def _flushing(rows: int, window: int, rng: np.random.Generator) -> tuple[str, dict[str, Call]]:
    service = filled(rng.random((window, len(METRICS))))
    batch = cycle(rng.random((1024, rows, len(METRICS))))  # more rows than the largest window
    step = itertools.count(1)
    whole = cycle(rng.random((max(2, _VALUES // window), len(METRICS), window)))

    def flush() -> None:
        service.push(batch())
        service.flush(next(step))

    return "np.sort", {"rankreward": flush, "np.sort": lambda: np.sort(whole(), axis=1)}
