"""What holds for the local service holds for those of many processes."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch.distributed as dist
from hypothesis import HealthCheck, settings
from services import DirectQuantileService, distributed, on_ray, start_group
from test_quantiles import Window

import rankreward as rr

KINDS = {
    "local": rr.QuantileService,
    "distributed": distributed,
    "direct": DirectQuantileService,
    "ray": on_ray,
}


@pytest.fixture(scope="module", autouse=True)
def _end() -> Iterator[None]:
    yield
    if ray.is_initialized():
        ray.shutdown()
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Any:
    made = []

    def factory(metrics: Any = ("a", "b"), **arguments: Any) -> Any:
        made.append(KINDS[request.param](metrics, **arguments))
        return made[-1]

    yield factory
    for service in made:
        if hasattr(service, "close"):
            service.close()


def test_it_is_a_quantile_service(make: Any) -> None:
    """Whoever takes the one takes them all."""
    assert isinstance(make(), rr.QuantileService)


def test_ranks_stand_still_within_a_step(make: Any) -> None:
    """What is pushed counts from the next flush on."""
    service = make(("a",), window=8, warm_start=0)
    service.push([[0.1], [0.2]])
    assert service.pending == 2
    assert service.rank([[0.0]]).tolist() == [[1.0]]
    assert service.flush(0) == rr.FlushStats(added=2, evicted=0, size=2, step=0)
    assert service.rank([[0.0], [0.1], [0.3]]).tolist() == [[0.0], [0.5], [1.0]]
    assert (service.pending, service.size, service.step) == (0, 2, 0)


def test_the_window_is_that_of_the_local_service(make: Any) -> None:
    """Step after step, to the bit, with keys, whatever the number of threads that push."""
    rng = np.random.default_rng(4)
    arguments = {"window": 90, "warm_start": 5, "ties": "mid", "keys": ("x", "y")}
    service, local = make(**arguments), rr.QuantileService(("a", "b"), **arguments)
    for step in range(4):
        rows = rng.choice([0.0, 0.5, 1.0, math.nan, 0.1], (60, 2))
        keys = rng.choice(["x", "y"], 60).tolist()
        local.push(rows, keys)
        parts = np.array_split(np.arange(60), 5)
        threads = [
            threading.Thread(target=service.push, args=(rows[p], [keys[n] for n in p]))
            for p in parts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert service.flush(step) == local.flush(step)
        assert service.rows.tobytes() == local.rows.tobytes()
        assert service.rank(rows, keys).tobytes() == local.rank(rows, keys).tobytes()
        assert repr(service.summary("x")) == repr(local.summary("x"))


def test_save_and_load(make: Any, tmp_path: Path) -> None:
    """A saved state goes on in any kind, pending rows included."""
    service = make(("a",), window=8, warm_start=2)
    service.push([[0.5], [0.25]])
    service.flush(3)
    service.push([[0.75]])
    service.save(tmp_path / "state.npz")
    local, other = rr.QuantileService(("a",), 8, 2), make(("a",), window=8, warm_start=2)
    for each in (local, other):
        each.load(tmp_path / "state.npz")
        assert (each.step, each.pending) == (3, 1)
        assert each.flush(4).added == 1
    assert other.rows.tobytes() == local.rows.tobytes()
    with pytest.raises(rr.CheckpointError, match="expected window=9"):
        make(("a",), window=9, warm_start=2).load(tmp_path / "state.npz")


def test_discard_and_reset(make: Any) -> None:
    """Pending rows are dropped, or everything."""
    service = make(("a",), window=4, warm_start=1)
    service.push([[1.0], [2.0]])
    assert service.discard() == 2
    assert service.flush(1).added == 0
    service.push([[1.0]])
    service.flush(5)
    service.reset()
    assert (service.rows.tolist(), service.pending, service.step) == ([[0.0]], 0, None)
    assert service.rank([[-1.0]]).tolist() == [[0.0]]


def test_errors_are_those_of_the_local_service(make: Any) -> None:
    """And a refused call changes nothing."""
    service = make(window=200, keys=("x", "y"))
    service.push([[0.5, 0.5]], "x")
    service.flush(2)
    with pytest.raises(rr.StepOrderError, match="at least 2, the last one flushed, got 1"):
        service.flush(1)
    with pytest.raises(rr.InputError, match="step: expected an integer"):
        service.flush(-1)
    with pytest.raises(rr.InputError, match=r"expected shape \(B, 2\)"):
        service.push([[1.0]], "x")
    with pytest.raises(rr.InputError, match="expected one of x, y, got 'z'"):
        service.rank([[1.0, 1.0]], "z")
    with pytest.raises(rr.InputError, match="expected one of x, y, got 'z'"):
        service.summary("z")
    with pytest.raises(rr.CheckpointError, match="state: expected"):
        service.load_state_dict({})
    assert (service.size, service.pending, service.step) == (257, 0, 2)


def test_it_serves_a_scorer(make: Any) -> None:
    """A scorer takes whatever makes a service of the recipe's arguments."""
    recipe = rr.Recipe.load("dr_seg")
    scorers = [rr.Scorer(recipe, quantiles=kind) for kind in (make, rr.QuantileService)]
    entry = '[{"bbox_2d": [10, 10, 90, 90], "point_2d": [50, 50]}]'
    texts = [f"<think><look>a</look></think><answer>{a}</answer>" for a in (entry, "[]", "[")]
    totals = []
    for scorer in scorers:
        scorer.score(texts, [entry] * 3)
        scorer.flush(1)
        totals.append(scorer.score(texts, [entry] * 3).total.tobytes())
    assert totals[0] == totals[1]


def quick(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


class DistributedWindow(Window):
    """The model of the local service, on the distributed one."""

    @staticmethod
    def make(**arguments: Any) -> Any:
        start_group()
        return distributed(**arguments)


class DirectWindow(Window):
    """The same on an owner and a client."""

    make = DirectQuantileService


class RayWindow(Window):
    """The same on Ray."""

    @staticmethod
    def make(**arguments: Any) -> Any:
        return on_ray(**arguments)


TestDistributedWindow = DistributedWindow.TestCase
TestDistributedWindow.settings = quick(15)
TestDirectWindow = DirectWindow.TestCase
TestDirectWindow.settings = quick(30)
TestRayWindow = RayWindow.TestCase
TestRayWindow.settings = quick(4)
