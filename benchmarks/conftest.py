"""What the benchmarks share.

`versus` times ours and its rivals in turns, one turn each a round, so that their ratio is taken
round by round. No benchmark fails for being slow; `report.py` sets the figures beside the goals.
"""

from __future__ import annotations

import itertools
import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

import rankreward as rr
from rankreward.bench import calibrate, no_garbage_collection, seconds_per_call

PACKAGES = (
    "rankreward", "numpy", "numba", "scipy", "pandas", "torch", "Bottleneck", "sortedcontainers",
)  # fmt: skip


def pytest_benchmark_update_machine_info(machine_info):
    """Say what the figures depend on."""
    machine_info["cores"] = os.cpu_count()
    machine_info["versions"] = {
        "python": platform.python_version(),
        **{name.lower(): version(name) for name in PACKAGES},
    }


@pytest.fixture(scope="session", autouse=True)
def _ready():
    """Kernels loaded, and one thread for each rival."""
    torch.set_num_threads(1)
    rr.warmup()


@pytest.fixture
def versus(benchmark):
    """A function that times ours against rivals.

    Args:
        row: what the report calls it.
        ours: a function without arguments.
        rivals: name to function; those with a goal and those without.
        goal: rival to the ratio to reach, rival's time over ours.
        limit: seconds that ours may take, where the goal is a time.
        fresh: called with the round's number before each turn, outside the timing; a turn is
            then one call with what `fresh` gave: equal in a round, but never the same objects.
        rounds, min_time: as in `rankreward.bench.paired`.
    """

    def run(
        row: str,
        ours: Callable[..., object],
        rivals: Mapping[str, Callable[..., object]] | None = None,
        goal: Mapping[str, float] | None = None,
        *,
        limit: float | None = None,
        fresh: Callable[[int], object] | None = None,
        rounds: int = 51,
        min_time: float = 5e-3,
    ) -> None:
        rivals = dict(rivals or {})
        assert set(goal or {}) <= set(rivals)
        everyone = {"": ours, **rivals}
        if fresh is None:
            loops = {name: calibrate(call, min_time) for name, call in everyone.items()}
        else:
            loops = dict.fromkeys(everyone, 1)
            for call in everyone.values():
                call(fresh(0))
        times: dict[str, list[float]] = {name: [] for name in rivals}
        order, done = list(rivals), itertools.count(1)

        def turn(name: str, number: int) -> Callable[[], object]:
            if fresh is None:
                return everyone[name]
            given = fresh(number)
            return lambda: everyone[name](given)

        def setup() -> tuple[tuple[Callable[[], object]], dict[str, object]]:
            number = next(done)
            for name in order:
                times[name].append(seconds_per_call(turn(name, number), loops[name]))
            order[:] = order[1:] + order[:1]
            return (turn("", number),), {}

        def timed(call: Callable[[], object]) -> None:
            for _ in range(loops[""]):
                call()

        with no_garbage_collection():
            benchmark.pedantic(timed, setup=setup, rounds=rounds)
        mine = [seconds / loops[""] for seconds in benchmark.stats.stats.data]
        assert {len(each) for each in times.values()} <= {len(mine)}
        benchmark.extra_info.update(
            row=row, loops=loops, ours=mine, rivals=times, goal=dict(goal or {}), limit=limit
        )

    return run
