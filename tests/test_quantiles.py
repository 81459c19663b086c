"""The window and its ranks: against SciPy, a plain deque, the published traces, and threads."""

from __future__ import annotations

import collections
import gzip
import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray
from scipy import stats

import rankreward as rr
from rankreward.quantiles import ecdf

GOLDEN = Path(__file__).parent / "golden" / "quantile_traces.jsonl.gz"
TRACES = [json.loads(line) for line in gzip.decompress(GOLDEN.read_bytes()).splitlines()]
SCIPY_KIND = {"weak": "weak", "strict": "strict", "mid": "mean"}

# Ties everywhere, as real metrics have them, and values that differ in the last bits.
value = st.one_of(st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, 5e-324, 1e300]), st.floats(-1, 1))
cell = st.one_of(value, st.just(math.nan))


@given(st.lists(value), st.lists(value, min_size=1), st.sampled_from(["weak", "strict", "mid"]))
def test_ecdf_is_scipys_percentile(history: list[float], values: list[float], ties: Any) -> None:
    """Each tie rule is one of SciPy's kinds of percentile."""
    ranks = ecdf(np.sort(history), np.array(values), ties)
    for x, rank in zip(values, ranks, strict=True):
        if history:
            expected = stats.percentileofscore(history, x, kind=SCIPY_KIND[ties]) / 100
        else:
            expected = {"weak": 1.0, "strict": 0.0, "mid": 0.5}[ties]
        assert rank == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "weak", "strict", "mid"),
    [(0.0, 0.4, 0.0, 0.2), (0.6, 0.7, 0.6, 0.65), (1.0, 1.0, 0.8, 0.9)],
)
def test_tie_rules_of_the_specification(x: float, weak: float, strict: float, mid: float) -> None:
    """The worked history with atoms at 0 and 1."""
    history = np.array([0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1], dtype=np.float64)
    for ties, expected in (("weak", weak), ("strict", strict), ("mid", mid)):
        assert ecdf(history, np.array([x]), ties)[0] == pytest.approx(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("trace", TRACES, ids=range(len(TRACES)))
def test_published_traces(trace: dict[str, Any]) -> None:
    """In arrival order the window is that of the published service, rank for rank.

    The service compares in float32, so the values are rounded to it first.
    """
    service = rr.QuantileService(
        ("iou", "count", "point"), trace["window"], trace["warm_start"], order="arrival"
    )
    step = ranked = 0
    for name, *arguments in trace["ops"]:
        if name == "push":
            rows = np.array(arguments[0], dtype=np.float32).reshape(-1, 3)
            service.push(rows)
        elif name == "rank":
            x, rounded, exact = arguments
            rank = service.rank(np.array(x, dtype=np.float32))
            np.testing.assert_allclose(rank, exact, atol=1e-9)
            assert [round(r, 1) for r in rank.tolist()] == rounded
            ranked += 1
        else:
            step += 1
            stats = service.flush(step)
            expected = arguments[0]
            assert {key: getattr(stats, key) for key in expected} == expected
    assert ranked


class Window(RuleBasedStateMachine):
    """The service beside a plain deque of rows, rule by rule."""

    @initialize(
        window=st.integers(1, 12),
        warm=st.integers(0, 12),
        ties=st.sampled_from(["weak", "strict", "mid"]),
        order=st.sampled_from(["canonical", "arrival"]),
        width=st.integers(1, 3),
    )
    def begin(self, window: int, warm: int, ties: Any, order: Any, width: int) -> None:
        warm = min(warm, window)
        self.service = rr.QuantileService(tuple("abc"[:width]), window, warm, ties, order)
        self.model = collections.deque([(0.0,) * width] * warm, maxlen=window)
        self.waiting: list[tuple[float, ...]] = []
        self.step = 0

    @rule(data=st.data(), count=st.integers(0, 6))
    def push(self, data: st.DataObject, count: int) -> None:
        width = len(self.service.metrics)
        rows = data.draw(arrays(np.float64, (count, width), elements=cell))
        self.service.push(rows)
        self.waiting += [tuple(row) for row in rows.tolist()]

    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        rows = np.zeros((2, len(self.service.metrics)))
        rows[data.draw(st.integers(0, 1)), 0] = data.draw(st.sampled_from([math.inf, -math.inf]))
        with pytest.raises(rr.InputError, match="expected finite numbers or NaN, got inf for 'a'"):
            self.service.push(rows)

    @rule(ahead=st.integers(0, 2))
    def flush(self, ahead: int) -> None:
        self.step += ahead
        flushed = self.service.step
        before = len(self.model)
        stats = self.service.flush(self.step)
        if self.service.order == "canonical":
            # The order within a step is the service's own; what entered is a part of what
            # waited, and all of it if it fits.
            fitting = min(len(self.waiting), self.service.window)
            rows = self.service.rows
            entered = [tuple(row) for row in rows[len(rows) - fitting :].tolist()]
            assert multiset(entered) <= multiset(self.waiting)
            self.model.extend(entered)
        else:
            self.model.extend(self.waiting)
        evicted = before + len(self.waiting) - len(self.model)
        expected = rr.FlushStats(len(self.waiting), evicted, len(self.model), self.step)
        assert stats == expected
        assert self.service.step == (self.step if self.waiting else flushed)
        self.waiting = []

    @precondition(lambda self: bool(self.service.step))
    @rule()
    def refuse_an_older_step(self) -> None:
        with pytest.raises(rr.StepOrderError, match=f"at least {self.service.step}"):
            self.service.flush(self.service.step - 1)

    @rule(data=st.data())
    def rank(self, data: st.DataObject) -> None:
        width = len(self.service.metrics)
        values = data.draw(arrays(np.float64, (2, width), elements=cell))
        ranks = self.service.rank(values)
        for column in range(width):
            history = np.array([row[column] for row in self.model])
            history = history[~np.isnan(history)]
            for x, got in zip(values[:, column], ranks[:, column], strict=True):
                assert got == pytest.approx(slow_rank(history, x, self.service.ties), nan_ok=True)

    @rule()
    def restart(self) -> None:
        other = rr.QuantileService(**self.service.state_dict()["config"])
        other.load_state_dict(self.service.state_dict())
        assert other.state_dict()["rows"].tobytes() == self.service.state_dict()["rows"].tobytes()
        self.service = other

    @invariant()
    def sound(self) -> None:
        self.service._check()
        assert self.service.size == len(self.model)
        assert self.service.pending == len(self.waiting)


def key(row: tuple[float, ...]) -> str:
    """NaN equals NaN and -0.0 equals 0.0 here."""
    return repr(tuple(x + 0.0 for x in row))


def multiset(rows: list[tuple[float, ...]]) -> collections.Counter[str]:
    return collections.Counter(map(key, rows))


def slow_rank(history: NDArray[np.float64], x: float, ties: str) -> float:
    """The definition, counted one by one."""
    if math.isnan(x):
        return math.nan
    if len(history) == 0:
        return {"weak": 1.0, "strict": 0.0, "mid": 0.5}[ties]
    below = sum(h < x for h in history.tolist())
    equal = sum(h == x for h in history.tolist())
    share = {"weak": 1.0, "strict": 0.0, "mid": 0.5}[ties]
    return (below + share * equal) / len(history)


TestWindow = Window.TestCase
TestWindow.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("pushers", [1, 4, 16])
def test_window_is_bit_identical_for_any_number_of_pushers(pushers: int) -> None:
    """Rows dealt to threads in any way leave the same window, though a step overflows it."""
    rng = np.random.default_rng(3)
    steps = [rng.choice([0.0, 0.5, 1.0, math.nan, 0.1], (100, 3)) for _ in range(3)]

    def fill(workers: int) -> bytes:
        service = rr.QuantileService(("a", "b", "c"), window=150, warm_start=10)
        for step, rows in enumerate(steps):
            shuffled = np.random.default_rng(workers).permutation(rows)
            parts = np.array_split(shuffled, workers)
            threads = [threading.Thread(target=service.push, args=(part,)) for part in parts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            service.flush(step)
        return service.rows.tobytes()

    assert fill(pushers) == fill(1)


def test_ranks_stand_still_within_a_step() -> None:
    """What is pushed counts from the next flush on, not before."""
    service = rr.QuantileService(("a",), window=8, warm_start=0)
    service.push([[0.1], [0.2]])
    assert service.rank([[0.0]]).tolist() == [[1.0]]
    service.flush(0)
    assert service.rank([[0.0], [0.1], [0.3]]).tolist() == [[0.0], [0.5], [1.0]]


def test_partial_eviction_is_unbiased() -> None:
    """A step larger than the window leaves a sample of it, not its lowest or last rows."""
    means = []
    for step in range(200):
        service = rr.QuantileService(("a",), window=50, warm_start=0)
        service.push(np.linspace(0, 1, 100)[:, None])
        service.flush(step)
        means.append(service.rows.mean())
    assert np.mean(means) == pytest.approx(0.5, abs=0.01)


def test_equal_rows_are_equal_bits() -> None:
    """-0.0 and 0.0, and all kinds of NaN, leave the same window."""
    odd_nan = np.array([0xFFF8000000000001], dtype=np.uint64).view(np.float64)[0]
    windows = []
    for rows in ([[-0.0, odd_nan], [0.0, math.nan]], [[0.0, math.nan], [-0.0, -math.nan]]):
        service = rr.QuantileService(("a", "b"), window=4, warm_start=0)
        service.push(rows)
        service.flush(1)
        windows.append(service.rows.tobytes())
    assert windows[0] == windows[1]


def test_a_flush_of_nothing_does_nothing() -> None:
    """Without pending rows a flush moves neither window nor step."""
    service = rr.QuantileService(("a",), window=4, warm_start=1)
    assert service.flush(10) == rr.FlushStats(added=0, evicted=0, size=1, step=10)
    assert service.step is None
    service.push([[1.0]])
    assert service.flush(3).added == 1


def test_discard_drops_what_is_pending() -> None:
    """Rows of a step that was broken off never enter."""
    service = rr.QuantileService(("a",), window=4, warm_start=1)
    service.push([[1.0], [2.0]])
    assert service.discard() == 2
    assert (service.pending, service.flush(1).added) == (0, 0)


def test_a_copy_is_kept() -> None:
    """Changing an array after the push changes nothing inside."""
    service, rows = rr.QuantileService(("a",), window=4, warm_start=0), np.array([[0.5]])
    service.push(rows)
    rows[:] = 9.0
    service.flush(1)
    service.rows[:] = 7.0
    assert service.rows.tolist() == [[0.5]]


def test_reset_returns_to_the_warm_start() -> None:
    """After a reset the service is as new."""
    service = rr.QuantileService(("a",), window=4, warm_start=1)
    service.push([[1.0]])
    service.flush(5)
    service.reset()
    assert (service.rows.tolist(), service.pending, service.step) == ([[0.0]], 0, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": "iou"}, "metrics: expected a sequence of names, got 'iou'"),
        ({"metrics": {"a", "b"}}, "metrics: expected a sequence of names"),
        ({"metrics": ()}, "metrics: expected a sequence of names"),
        ({"metrics": ("a", "a")}, "metrics: expected distinct names"),
        ({"window": 0}, "window: expected an integer of at least 1, got 0"),
        ({"window": True}, "window: expected an integer of at least 1, got True"),
        ({"warm_start": -1}, "warm_start: expected an integer of at least 0, got -1"),
        ({"window": 8}, r"warm_start: expected at most window \(8\), got 128"),
        ({"ties": "low"}, "ties: expected one of weak, strict, mid, got 'low'"),
        ({"order": "fifo"}, "order: expected one of canonical, arrival, got 'fifo'"),
    ],
)
def test_constructor_refuses(arguments: dict[str, Any], message: str) -> None:
    """Each argument out of range is named with what was expected and what came."""
    with pytest.raises(rr.InputError, match=message):
        rr.QuantileService(**{"metrics": ("iou",), **arguments})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0]], r"values: expected shape \(B, 2\) or \(2,\) for the metrics a, b, got \(1, 1\)"),
        ([["x", "y"]], "values: expected numbers, got an array of <U1"),
        ([[True, False]], "values: expected numbers, got an array of bool"),
        ([[None, 1.0]], "values: expected numbers, got an array of object"),
        ([[1j, 1.0]], "values: expected numbers, got an array of complex"),
        ([[10**400, 1]], "values: expected numbers, got an array of object"),
        ([[1.0, 2.0], [3.0]], "values: expected numbers, got setting an array"),
        ([math.inf, 0.0], "values: expected finite numbers or NaN, got inf for 'a'"),
    ],
)
def test_values_are_checked(values: Any, message: str) -> None:
    """Neither a push nor a rank takes a wrong array."""
    service = rr.QuantileService(("a", "b"))
    for call in (service.push, service.rank):
        with pytest.raises(rr.InputError, match=message):
            call(values)
    assert service.pending == 0


@pytest.mark.parametrize("step", [-1, 1.0, True, None, 2**200])
def test_step_is_checked(step: Any) -> None:
    """A step is a natural number."""
    with pytest.raises(rr.InputError, match="step: expected an integer of at least 0"):
        rr.QuantileService(("a",)).flush(step)
