"""The window and its ranks: against SciPy, a plain deque, the published traces, and threads."""

from __future__ import annotations

import collections
import gzip
import itertools
import json
import math
import os
import signal
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
from rankreward import compiled as loading
from rankreward.quantiles import ecdf, kernels
from rankreward.quantiles.window import Window as Window_

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

    make: Any = rr.QuantileService

    @initialize(
        window=st.integers(1, 12),
        warm=st.integers(0, 12),
        ties=st.sampled_from(["weak", "strict", "mid"]),
        order=st.sampled_from(["canonical", "arrival"]),
        width=st.integers(1, 3),
        compiled=st.booleans(),
    )
    def begin(
        self, window: int, warm: int, ties: Any, order: Any, width: int, compiled: bool
    ) -> None:
        self.loaded = loading._loaded, loading._spent
        loaded = {"rankreward.quantiles.kernels": kernels} if compiled else {}
        loading._loaded, loading._spent = loaded, -math.inf
        warm = min(warm, window)
        self.service = self.make(
            metrics=tuple("abc"[:width]), window=window, warm_start=warm, ties=ties, order=order
        )
        self.model = collections.deque([(0.0,) * width] * warm, maxlen=window)
        self.waiting: list[tuple[float, ...]] = []
        self.step = 0

    def teardown(self) -> None:
        loading._loaded, loading._spent = self.loaded

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
        other = self.make(**self.service.state_dict()["config"])
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
        ({"keys": "x"}, "keys: expected a sequence of names, got 'x'"),
        ({"keys": ("x", "x")}, "keys: expected distinct names"),
        ({"precision": "half"}, "precision: expected one of float64, float32, got 'half'"),
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
        ([[1.0, 2.0], [3.0]], r"values: expected an array of numbers \(setting an array"),
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


def test_readers_never_wait_and_never_see_a_half_made_window() -> None:
    """16 readers, 4 pushers and a flusher: every answer is right for some published window, in
    order, and every row enters exactly once."""
    rr.warmup()
    rng = np.random.default_rng(5)
    window, steps, per_push, pushers = 96, 120, 8, 4
    service = rr.QuantileService(("a", "b"), window, warm_start=16, ties="mid")
    published = [service.rows]
    probe = np.concatenate([rng.random((40, 2)).round(2), [[0.0, 1.0], [math.nan, 0.5]]])
    answers: list[list[bytes]] = [[] for _ in range(16)]
    errors: list[BaseException] = []
    done = threading.Event()
    pushed = threading.Barrier(pushers + 1)
    flushed = threading.Barrier(pushers + 1)
    rows = rng.random((steps, pushers, per_push, 2)).round(2)

    def guarded(work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)
            done.set()
            pushed.abort()
            flushed.abort()

    def read(which: int) -> None:
        while not done.is_set():
            few = service.rank(probe[which : which + 1])  # the kernel that holds the GIL
            assert few.shape == (1, 2)
            answer = service.rank(probe).tobytes()
            if not answers[which] or answers[which][-1] != answer:
                answers[which].append(answer)

    def push(which: int) -> None:
        for step in range(steps):
            for row in rows[step, which]:
                service.push(row)
            pushed.wait(30)
            flushed.wait(30)

    threads = [threading.Thread(target=guarded, args=(read, n)) for n in range(16)]
    threads += [threading.Thread(target=guarded, args=(push, n)) for n in range(pushers)]
    for thread in threads:
        thread.start()

    def flush() -> None:
        for step in range(steps):
            pushed.wait(30)
            assert service.pending == pushers * per_push
            assert service.flush(step).added == pushers * per_push
            published.append(service.rows)
            flushed.wait(30)

    guarded(flush)
    done.set()
    for thread in threads:
        thread.join(30)
    assert not errors, errors

    for step in range(steps):  # the newest rows of each window are those pushed in its step
        entered = [tuple(row) for row in published[step + 1][-pushers * per_push :].tolist()]
        expected = [tuple(row) for row in rows[step].reshape(-1, 2).tolist()]
        assert multiset(entered) == multiset(expected)
    oracle = [oracle_ranks(history, probe, "mid").tobytes() for history in published]
    place = {answer: n for n, answer in enumerate(oracle)}
    assert len(place) == len(oracle)
    for seen in answers:
        assert seen
        places = [place[answer] for answer in seen]  # KeyError: an answer of no published window
        assert places == sorted(places)


def oracle_ranks(
    history: NDArray[np.float64], rows: NDArray[np.float64], ties: str
) -> NDArray[np.float64]:
    """The definition, counted at once; the kernels divide the same whole numbers."""
    below = (history[:, None] < rows).sum(axis=0)
    equal = (history[:, None] == rows).sum(axis=0)
    double = {"weak": 2 * below + 2 * equal, "strict": 2 * below, "mid": 2 * below + equal}[ties]
    return np.where(np.isnan(rows), np.nan, double / (2.0 * len(history)))


def test_single_precision_compares_as_the_published_code_does() -> None:
    """Two numbers that are one in float32 tie; too large ones are refused."""
    service = rr.QuantileService(("a",), window=4, warm_start=0, precision="float32")
    service.push([[0.1]])
    service.flush(1)
    assert service.rank([[0.1 - 1e-12]]).tolist() == [[1.0]]
    assert service.rows.tolist() == [[float(np.float32(0.1))]]
    with pytest.raises(rr.InputError, match="got inf for 'a' in float32"):
        service.push([[1e300]])


def test_windows_by_key_are_separate_services() -> None:
    """Each key ranks as a service of its own would, whatever the order of the rows."""
    rng = np.random.default_rng(2)
    together = rr.QuantileService(("a", "b"), 50, 4, "mid", keys=("find", "count"))
    alone = {key: rr.QuantileService(("a", "b"), 50, 4, "mid") for key in ("find", "count")}
    for step in range(6):
        rows = rng.random((30, 2)).round(1)
        keys = rng.choice(["find", "count"], 30).tolist() if step else ["find"] * 30
        together.push(rows[:20], keys[:20])
        together.push(rows[20:], keys[20:])
        for key, service in alone.items():
            service.push(rows[[k == key for k in keys]])
            service.flush(step)
        stats = together.flush(step)
        together._check()
        assert stats.size == sum(service.size for service in alone.values())
        ranks = together.rank(rows, keys)
        for key, service in alone.items():
            mine = [k == key for k in keys]
            assert ranks[mine].tobytes() == service.rank(rows[mine]).tobytes()
            assert together.rank(rows, key).tobytes() == service.rank(rows).tobytes()
            assert repr(together.summary(key)) == repr(service.summary())  # NaN equals NaN so
    windows = [service.rows for service in alone.values()]
    assert together.rows.tobytes() == np.concatenate(windows).tobytes()
    other = rr.QuantileService(**together.state_dict()["config"])
    together.push([[0.1, 0.2]], "count")
    other.load_state_dict(together.state_dict())
    assert other.flush(9) == together.flush(9)
    assert other.rows.tobytes() == together.rows.tobytes()


@pytest.mark.parametrize(
    ("keys", "given", "message"),
    [
        (None, "x", "keys: expected none, for this service has one window"),
        (("x", "y"), None, "keys: expected 2, one a row, or one for all, got None"),
        (("x", "y"), ["x"], "keys: expected 2, one a row, or one for all, got 1"),
        (("x", "y"), ["x", "z"], "keys: expected one of x, y, got 'z'"),
        (("x", "y"), "z", "keys: expected one of x, y, got 'z'"),
        (("x", "y"), 5, "keys: expected 2, one a row, or one for all, got 5"),
        (("x", "y"), {"x": 1, "y": 2}, "keys: expected 2, one a row, or one for all, got {'x'"),
        (("x", "y"), ["x", ["y"]], "keys: expected one of x, y, got \\['y'\\]"),
    ],
)
def test_keys_are_checked(keys: Any, given: Any, message: str) -> None:
    """A key that is missing or unknown is named, and nothing is pushed."""
    service = rr.QuantileService(("a",), keys=keys)
    for call in (service.push, service.rank):
        with pytest.raises(rr.InputError, match=message):
            call([[0.1], [0.2]], given)
    assert service.pending == 0


def test_summary_is_numpys_and_scipys() -> None:
    """Each figure against its definition elsewhere."""
    rng = np.random.default_rng(8)
    service = rr.QuantileService(("iou", "count"), window=300, warm_start=0, ties="mid")
    first = np.column_stack([rng.random(200), rng.choice([0.0, 0.5, 1.0], 200)])
    second = np.column_stack([rng.random(100) ** 2, rng.choice([0.5, 1.0], 100)])
    second[:10, 0] = math.nan
    for step, rows in enumerate((first, second[:60])):
        service.push(rows)
        service.flush(step)
    service.push(second[60:])
    service.flush(1)  # the same step once more
    summary = service.summary()
    both = np.concatenate([first, second])
    shares = np.nanvar(both, axis=0) / np.nanvar(both, axis=0).sum()
    for j, name in enumerate(("iou", "count")):
        column, one = both[:, j][~np.isnan(both[:, j])], summary[name]
        assert one.mean == pytest.approx(column.mean())
        assert one.std == pytest.approx(column.std())
        assert one.zeros == np.mean(column == 0)
        assert one.ones == np.mean(column == 1)
        last = second[:, j][~np.isnan(second[:, j])]
        assert one.drift == pytest.approx(stats.ks_2samp(first[:, j], last).statistic)
        assert one.variance_share == pytest.approx(shares[j])
    ranks = [stats.rankdata(c[~np.isnan(c)]) / np.count_nonzero(~np.isnan(c)) for c in both.T]
    variances = [rank.var() for rank in ranks]
    for variance, one in zip(variances, summary.values(), strict=True):
        assert one.rank_variance_share == pytest.approx(variance / sum(variances))


def test_summary_shows_the_metric_that_drowns_the_rest() -> None:
    """Distances in pixels beside an IoU: raw they are all of the variance, ranked the half."""
    rng = np.random.default_rng(9)
    service = rr.QuantileService(("iou", "pixels"), window=500, warm_start=0)
    service.push(np.column_stack([rng.random(500), 200 * rng.random(500)]))
    service.flush(1)
    summary = service.summary()
    assert summary["pixels"].variance_share > 0.999
    assert summary["pixels"].rank_variance_share == pytest.approx(0.5, abs=0.01)


def test_summary_of_nothing_is_nan() -> None:
    """Empty and constant windows have no figure rather than a wrong one."""
    empty = rr.QuantileService(("a",), window=4, warm_start=0).summary()["a"]
    assert all(math.isnan(value) for value in vars(empty).values())
    constant = rr.QuantileService(("a",), window=4, warm_start=4).summary()["a"]
    assert (constant.mean, constant.std, constant.zeros, constant.ones) == (0.0, 0.0, 1.0, 0.0)
    assert math.isnan(constant.drift)
    assert math.isnan(constant.variance_share)
    huge = rr.QuantileService(("a",), window=4, warm_start=0)
    huge.push([[1e300], [-1e300]])
    huge.flush(1)
    assert huge.summary()["a"].std == math.inf


def test_a_window_that_no_memory_holds_is_refused() -> None:
    """Before anything else happens."""
    with pytest.raises(rr.InputError, match=r"window: \d+ rows do not fit the memory"):
        rr.QuantileService(("a",), window=2**62)


def test_a_flush_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that may fail comes before all that changes, over all windows."""
    service = rr.QuantileService(("a",), 8, 2, keys=("x", "y"))
    service.push([[0.5], [0.25]], ["x", "y"])
    before, after = service.state_dict(), Window_.after
    calls = []

    def fail_second(window: Window_, rows: NDArray[np.float64]) -> Any:
        calls.append(window)
        if len(calls) == 2:
            raise MemoryError
        return after(window, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Window_, "after", fail_second)
        with pytest.raises(MemoryError):
            service.flush(1)
    service._check()
    assert repr(service.state_dict()) == repr(before)
    assert service.flush(1).added == 2


def test_drift_goes_on_after_a_restart() -> None:
    """Which rows are the last step's is part of the state, also where they fill the window."""
    for window in (100, 30):
        service = rr.QuantileService(("a",), window, 5)
        for step in range(3):
            service.push(np.random.default_rng(step).random((40, 1)))
            service.flush(step)
        other = rr.QuantileService(("a",), window, 5)
        other.load_state_dict(service.state_dict())
        assert repr(other.summary()) == repr(service.summary())
        drift = service.summary()["a"].drift
        assert math.isnan(drift) == (window == 30)


def test_constants_have_no_share_of_the_variance() -> None:
    """Not even what rounding leaves of it."""
    service = rr.QuantileService(("a", "b"), 400, 0)
    service.push([[0.1, 0.5]] * 300)
    service.flush(1)
    for summary in service.summary().values():
        assert summary.std == 0.0
        assert math.isnan(summary.variance_share)


def test_huge_finite_values_are_values() -> None:
    """Sums of them overflow, ranks do not."""
    service = rr.QuantileService(("a", "b"), 4, 0)
    service.push([[1e308, 1e308], [-1e308, 1e308]])
    service.flush(1)
    assert service.rank([[1e308, 1e308]]).tolist() == [[1.0, 1.0]]
    assert service.summary()["b"].mean == math.inf


def test_a_fork_waits_for_writers() -> None:
    """A child begins with a whole window and a free lock, whatever other threads do."""
    service = rr.QuantileService(("a",), window=200_000, warm_start=0)
    service.push(np.random.default_rng(0).random((200_000, 1)))
    service.flush(0)
    stop = threading.Event()

    def write() -> None:
        for step in itertools.count(1):
            if stop.is_set():
                return
            service.push(np.full((50, 1), 0.5))
            service.flush(step)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:  # pragma: no cover - another process
                signal.alarm(20)
                service.push([[0.5]])
                service._check()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        writer.join()


def test_standard_scores_of_huge_values_are_finite() -> None:
    """Their mean exists though their sum does not."""
    service = rr.QuantileService(("a",), 4, 0)
    service.push([[1e308], [1.5e308]])
    service.flush(1)
    assert np.isfinite(service.standardize([[1e308], [0.0]])).all()
