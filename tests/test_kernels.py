"""The compiled kernels give what their twins in NumPy give, to the bit, on any numbers."""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import optimize

import rankreward as rr
from rankreward import compiled as loading
from rankreward.metrics import ragged
from rankreward.quantiles import kernels
from rankreward.quantiles.window import Snapshot

twins = importlib.import_module("rankreward.quantiles.ecdf")  # its function has the name too
QUANTILES = "rankreward.quantiles.kernels"
TIES = ["weak", "strict", "mid"]
ANY = st.floats(allow_nan=False, allow_infinity=False)
ATOMS = st.sampled_from([0.0, 1.0, 0.5, 5e-324, 1e-310, -1e308, 1e308, 0.1, np.nextafter(0.1, 1)])
DECADES = st.builds(lambda m, e: m * 10.0**e, st.floats(1, 10), st.integers(-15, 15))
CELL = st.one_of(ATOMS, ANY, DECADES, st.floats(0, 1), st.just(math.nan))


def slow(snapshot: Snapshot, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The twin, column by column."""
    ranks = np.empty_like(rows)
    for j, (column, count) in enumerate(zip(snapshot.columns, snapshot.counts, strict=True)):
        ranks[:, j] = twins.ecdf(column[:count], rows[:, j], snapshot.ties)
    return ranks


def compiled(snapshot: Snapshot, rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """What both kernels make of the rows, through the snapshot's own grid."""
    rr.warmup()
    snapshot._ranked = 2**60  # the grid repays
    snapshot._prepare(0)
    assert snapshot._grid is not None
    *calls, floats, index = snapshot._grid
    answers = []
    for call in calls:
        out = np.full(rows.shape, -1.0)
        assert call(floats, index, rows, out) == kernels.FINE  # type: ignore[operator]
        answers.append(out)
    return answers


@settings(max_examples=400)
@given(data=st.data(), ties=st.sampled_from(TIES), width=st.integers(1, 16))
def test_ranks_are_those_of_the_twin(data: st.DataObject, ties: Any, width: int) -> None:
    """Ties, constants, denormals, thirty decades and NaN; fewer and more rows than a block."""
    history = data.draw(arrays(np.float64, (data.draw(st.integers(0, 70)), width), elements=CELL))
    rows = data.draw(arrays(np.float64, (data.draw(st.integers(0, 70)), width), elements=CELL))
    if len(history) and len(rows):
        rows[: len(history) // 2] = history[: len(rows)][: len(history) // 2]  # hits as well
    snapshot = Snapshot.of(history, ties)
    for got in compiled(snapshot, rows):
        assert got.tobytes() == slow(snapshot, rows).tobytes()


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("size", [128, 2048, 65536, 1_000_000])
def test_ranks_at_every_size(size: int, ties: Any) -> None:
    """Uniform, tied, normal, log-uniform over thirty decades, constant, and one far outlier."""
    rng = np.random.default_rng(size)
    uniform = rng.random(size)
    history = np.column_stack([
        uniform,
        np.where(uniform < 0.4, 0.0, np.where(uniform > 0.7, 1.0, uniform)),
        rng.normal(size=size),
        10.0 ** rng.uniform(-15, 15, size),
        np.full(size, 0.25),
        np.where(np.arange(size) == 7, 1e300, uniform * 1e-300),
        np.where(uniform < 0.5, np.nan, uniform),
    ])  # fmt: skip
    rows = np.concatenate([history[:3000], history[:3000] * 1.0000001, -history[:100]])
    snapshot = Snapshot.of(history, ties)
    for got in compiled(snapshot, rows):
        assert got.tobytes() == slow(snapshot, rows).tobytes()


@settings(max_examples=300)
@given(data=st.data(), width=st.integers(1, 4), size=st.integers(1, 120))
def test_merge_is_that_of_the_twin(data: st.DataObject, width: int, size: int) -> None:
    """A snapshot that moved is the one sorted anew, in NumPy and compiled."""
    cells = st.one_of(st.sampled_from([0.0, 1.0, 0.5, math.nan]), CELL)
    rows = data.draw(arrays(np.float64, (size, width), elements=cells))
    new = data.draw(arrays(np.float64, (data.draw(st.integers(0, 40)), width), elements=cells))
    gone = data.draw(st.integers(0, size))
    expected = Snapshot.of(np.concatenate([rows[gone:], new]), "weak")
    for module in (None, kernels):
        loaded, loading._loaded = loading._loaded, {QUANTILES: module} if module else {}
        spent, loading._spent = loading._spent, -math.inf
        try:
            moved = Snapshot.of(rows, "weak").moved(rows[:gone], new)
        finally:
            loading._loaded, loading._spent = loaded, spent
        assert moved.counts.tolist() == expected.counts.tolist()
        for a, b, count in zip(moved.columns, expected.columns, moved.counts, strict=True):
            assert np.array_equal(a[:count], b[:count])


def test_long_runs_merge() -> None:
    """Few changes far apart, where whole runs are copied."""
    rng = np.random.default_rng(0)
    rows = rng.choice([0.0, 1.0, 0.5, math.nan], (50_000, 2))
    rows[::3] = rng.random((len(rows[::3]), 2))
    new = rng.random((40, 2))
    rr.warmup()
    moved = Snapshot.of(rows, "weak").moved(rows[:10], new)
    expected = Snapshot.of(np.concatenate([rows[10:], new]), "weak")
    for a, b, count in zip(moved.columns, expected.columns, expected.counts, strict=True):
        assert np.array_equal(a[:count], b[:count])


@given(
    rows=arrays(np.float64, st.tuples(st.integers(0, 90), st.integers(1, 3)), elements=CELL),
    seed=st.integers(0, 2**63 - 1),
)
def test_shuffle_is_that_of_the_twin(rows: NDArray[np.float64], seed: int) -> None:
    """The same generator, and an order in which the rows are the same."""
    answers = []
    for module in (twins, kernels):
        order, keys = np.empty(len(rows), np.int64), np.empty(len(rows), np.uint64)
        module.shuffle_keys(rows + 0.0, np.uint64(seed), order, keys)
        assert sorted(order.tolist()) == list(range(len(rows)))
        answers.append((rows + 0.0)[order].tobytes() + keys.tobytes())
    assert answers[0] == answers[1]


def test_generator_is_splitmix64() -> None:
    """The first numbers of its published reference for the seed 1234567."""
    order, keys = np.empty(3, np.int64), np.empty(3, np.uint64)
    twins.shuffle_keys(np.zeros((3, 1)), np.uint64(1234567), order, keys)
    assert keys.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_every_form_of_the_same_rows_ranks_the_same() -> None:
    """Lists, single rows, slices, other layouts and types, read-only arrays, with a grid or not."""
    rng = np.random.default_rng(1)
    service = rr.QuantileService(("a", "b"), window=64, warm_start=0)
    service.push(rng.random((64, 2)).round(2))
    service.flush(1)
    rows = rng.random((40, 2)).astype(np.float32).astype(np.float64)
    before = service.rank(rows)
    compiled(service._snapshots[0], rows)
    frozen = rows.copy()
    frozen.setflags(write=False)
    wide = np.zeros((40, 4))
    wide[:, ::2] = rows
    for form in (
        rows, rows.tolist(), frozen, wide[:, ::2], np.asfortranarray(rows),
        rows.astype(np.float32), rows.astype(">f8"), rows.view(np.matrix),
    ):  # fmt: skip
        assert np.asarray(service.rank(form)).tobytes() == before.tobytes()
        assert service.rank(form[0]).ravel().tolist() == before[0].tolist()
    assert service.rank(np.empty((0, 2))).shape == (0, 2)
    for wrong in (np.array([[math.inf, 0.0]]), np.array([[0.0, -math.inf]] * 40)):
        with pytest.raises(rr.InputError, match="expected finite numbers or NaN, got inf"):
            service.rank(wrong)
    for wrong in (rows[:, :1].copy(), np.zeros((3, 3)), np.float64(1.0), np.zeros((1, 1, 2))):
        with pytest.raises(rr.InputError, match=r"expected shape \(B, 2\)"):
            service.rank(wrong)


def test_numpy_serves_until_loading_repays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels come once NumPy's work has cost their loading, or at once by `warmup`."""
    monkeypatch.setattr(loading, "_loaded", {})
    monkeypatch.setattr(loading, "_spent", 0.0)
    assert loading.kernels(QUANTILES, 0.4) is None
    assert loading.kernels(QUANTILES, 0.4) is None
    assert loading.kernels(QUANTILES, 0.4) is kernels
    monkeypatch.setattr(loading, "_loaded", {})
    monkeypatch.setattr(loading, "_spent", 0.0)
    rr.warmup()
    assert loading.kernels(QUANTILES, 0.0) is kernels


def test_threads_work_on_while_one_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading takes a second, during which the other threads rank with NumPy."""
    begun, go_on = threading.Event(), threading.Event()

    def slow_import(name: str) -> Any:
        begun.set()
        go_on.wait(10)
        return kernels

    monkeypatch.setattr(loading, "_loaded", {})
    monkeypatch.setattr(loading, "_spent", 5.0)
    monkeypatch.setattr(loading.importlib, "import_module", slow_import)
    loader = threading.Thread(target=loading.kernels, args=(QUANTILES, 1.0))
    loader.start()
    assert begun.wait(10)
    assert loading.kernels(QUANTILES, 1.0) is None
    go_on.set()
    loader.join()
    assert loading.kernels(QUANTILES, 0.0) is kernels


def test_a_machine_without_room_for_caches(tmp_path: Path) -> None:
    """Where nothing may be written the kernels compile without a cache."""
    script = (
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import numpy as np, rankreward as rr\n"
        "rr.warmup()\n"
        "q = rr.QuantileService(('a',), window=4, warm_start=0)\n"
        "q.push([[0.0], [1.0]]); q.flush(1); q.rank([[0.5]])\n"
        "assert q._snapshots[0]._grid is not None\n"
        "print(q.rank([[0.5]])[0, 0])\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (done.stdout, done.stderr) == ("0.5\n", "")


SIZES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8)


def twice(call: Any) -> Any:
    """What NumPy and what the kernels answer."""
    rr.warmup()
    answers = []
    for loaded in ({}, dict(loading._loaded)):
        before, loading._loaded = loading._loaded, loaded
        spent, loading._spent = loading._spent, -math.inf
        try:
            answers.append(call())
        finally:
            loading._loaded, loading._spent = before, spent
    return answers


@given(sizes=SIZES, data=st.data())
def test_ragged_matching_is_scipys(sizes: list[tuple[int, int]], data: st.DataObject) -> None:
    """Any shapes in one batch, ties included: the assignment that SciPy gives each."""
    rows = np.array([m for m, _ in sizes], dtype=np.int64)
    columns = np.array([n for _, n in sizes], dtype=np.int64)
    cell = st.one_of(st.sampled_from([0.0, 1.0, 2.0, -1.0]), st.floats(-1, 1))
    costs = data.draw(arrays(np.float64, int(rows @ columns), elements=cell))
    by_numpy, by_kernel = twice(lambda: ragged.match_ragged(costs, rows, columns))
    assert by_numpy.tolist() == by_kernel.tolist()
    pair = first = 0
    for m, n in sizes:
        expected = optimize.linear_sum_assignment(costs[pair : pair + m * n].reshape(m, n))
        mine = by_kernel[first : first + m]
        assert np.flatnonzero(mine >= 0).tolist() == expected[0].tolist()
        assert mine[mine >= 0].tolist() == expected[1].tolist()
        pair, first = pair + m * n, first + m


@pytest.mark.parametrize("values", [2, 4, 1000])
def test_large_ragged_matching_is_scipys(values: int) -> None:
    """Up to 120 objects, as answers may have, with many ties and few."""
    rng = np.random.default_rng(values)
    rows, columns = rng.integers(0, 121, (2, 60))
    costs = rng.integers(0, values, int(rows @ columns)) / 8
    by_numpy, by_kernel = twice(lambda: ragged.match_ragged(costs, rows, columns))
    assert by_numpy.tolist() == by_kernel.tolist()


@given(sizes=SIZES, data=st.data(), inclusive=st.booleans())
def test_ragged_geometry_is_that_of_one_by_one(
    sizes: list[tuple[int, int]], data: st.DataObject, inclusive: bool
) -> None:
    """Sorted, compared and summed: NumPy, the kernels, and the functions for single samples."""
    m = np.array([a for a, _ in sizes], dtype=np.int64)
    n = np.array([b for _, b in sizes], dtype=np.int64)
    place = st.one_of(st.integers(0, 20).map(float), st.floats(-1e6, 1e6))
    sides = [data.draw(arrays(np.float64, (int(c.sum()), 6), elements=place)) for c in (m, n)]

    def everything() -> list[NDArray[Any]]:
        left, right = (ragged.sort_objects(s, c) for s, c in zip(sides, (m, n), strict=True))
        ious, apart = ragged.compare_objects(left, m, right, n, inclusive=inclusive)
        chosen = ragged.match_ragged(-ious, m, n)
        return [left, right, ious, apart, ragged.matched_sums(ious, chosen, m, n)]

    by_numpy, by_kernel = twice(everything)
    for a, b in zip(by_numpy, by_kernel, strict=True):
        assert (a + 0.0).tobytes() == (b + 0.0).tobytes()
    left, right, ious, apart, sums = by_kernel
    a = b = pair = 0
    for sample, (rows, columns) in enumerate(sizes):
        one, other = left[a : a + rows], right[b : b + columns]
        assert one.tolist() == sorted(sides[0][a : a + rows].tolist())
        table = rr.metrics.box_iou(one[:, :4], other[:, :4], inclusive)
        assert table.ravel().tolist() == ious[pair : pair + rows * columns].tolist()
        distance = rr.metrics.point_distance(one[:, 4:], other[:, 4:])
        assert distance.ravel().tolist() == apart[pair : pair + rows * columns].tolist()
        assert sums[sample] == pytest.approx(table[rr.metrics.match(-table)].sum())
        a, b, pair = a + rows, b + columns, pair + rows * columns


def test_without_working_kernels_numpy_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken Numba is told once, and costs speed alone; `warmup` raises it."""

    def broken(name: str) -> Any:
        raise ImportError("numba is broken")

    service = rr.QuantileService(("a",), window=4, warm_start=0)
    assert callable(rr.warmup)  # names are loaded by the function that is broken next
    monkeypatch.setattr(loading, "_loaded", {})
    monkeypatch.setattr(loading, "_spent", 5.0)
    monkeypatch.setattr(loading.importlib, "import_module", broken)
    service.push([[0.5]])
    with pytest.warns(RuntimeWarning, match="works on without its compiled kernels.*is broken"):
        service.flush(1)
    assert service.rank([[0.5]]).tolist() == [[1.0]]
    assert loading.kernels(QUANTILES, 100.0) is None
    with pytest.raises(ImportError, match="numba is broken"):
        rr.warmup()


def test_merges_in_a_row_with_undefined_values() -> None:
    """Each snapshot is made from the last, whose columns end in leftovers."""
    rng = np.random.default_rng(3)
    rr.warmup()
    rows = rng.random((300, 2))
    snapshot = Snapshot.of(rows, "weak")
    for _ in range(40):
        new = np.where(rng.random((20, 2)) < 0.4, np.nan, rng.random((20, 2)).round(1))
        snapshot = snapshot.moved(rows[:20], new)
        rows = np.concatenate([rows[20:], new])
        expected = Snapshot.of(rows, "weak")
        assert snapshot.counts.tolist() == expected.counts.tolist()
        for a, b, count in zip(snapshot.columns, expected.columns, expected.counts, strict=True):
            assert np.array_equal(a[:count], b[:count])


FORK_WHILE_LOADING = """
import os, signal, threading, time
import numpy as np, rankreward as rr
from rankreward import compiled
service = rr.QuantileService(("a",), window=64, warm_start=64)
loader = threading.Thread(target=rr.warmup)
loader.start()
while not compiled._lock.locked():
    time.sleep(0.001)
time.sleep(0.05)
child = os.fork()
if child == 0:
    signal.alarm(60)
    compiled._spent += 100.0
    service.rank(np.zeros((100, 1)))
    try:
        rr.warmup()
    except rr.StateError as error:
        os.write(1, str(error).encode())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
loader.join()
"""


def test_a_fork_while_loading_goes_on_with_numpy() -> None:
    """Python's own import locks are never released in the child, which would hang."""
    done = subprocess.run(
        [sys.executable, "-c", FORK_WHILE_LOADING],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.startswith("this process was forked while a thread was loading"), done.stderr
    assert done.returncode == 0, done.stderr
