"""Ranking and flushing against what else can rank."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import bottleneck
import numpy as np
import pandas as pd
import published
import pytest
import torch
from scipy import stats
from sortedcontainers import SortedList

from rankreward.bench import METRICS, batches_of, cycle, filled


def tie(rows, rng):
    """Metrics pile up: 30 % zeros, 20 % ones."""
    place = rng.random(rows.shape)
    return np.where(place < 0.3, 0.0, np.where(place < 0.5, 1.0, rows))


@pytest.mark.parametrize("values", ["uniform", "tied"])
@pytest.mark.parametrize(
    ("rows", "window", "goal", "rounds"),
    [
        (1, 2048, None, 51),
        (128, 2048, 8, 51),
        (4096, 2048, 10, 51),
        (4096, 65536, 6, 51),
        (100_000, 1_000_000, None, 15),
    ],
)
def test_rank(versus, rows, window, goal, rounds, values):
    """Rivals that give the same answer.

    np.searchsorted and torch.searchsorted search sorted columns that are there already, and
    divide by their length; torch in float64 and in one thread.
    """
    rng = np.random.default_rng(0)
    history, batches = rng.random((window, len(METRICS))), batches_of(rows, rng)
    if values == "tied":
        history, batches = tie(history, rng), tie(batches, rng)
    service = filled(history)
    columns = np.sort(np.ascontiguousarray(history.T), axis=1)
    tensor = torch.from_numpy(columns)
    mine, numpys, torches = cycle(batches), cycle(batches), cycle(torch.from_numpy(batches))

    def by_numpy():
        batch = numpys()
        ranks = np.empty_like(batch)
        for j, column in enumerate(columns):
            ranks[:, j] = np.searchsorted(column, batch[:, j], side="right")
        ranks /= window
        return ranks

    def by_torch():
        return torch.searchsorted(tensor, torches().T.contiguous(), right=True).T / window

    assert np.array_equal(service.rank(mine()), by_numpy())
    torches()
    name = f"rank {rows} row{'s' * (rows > 1)}, window {window}, {values}"
    rivals = {"np.searchsorted": by_numpy, "torch.searchsorted": by_torch}
    if rows == 1:  # what the published service does, a row a call
        queue = published.PublishedQueue(window, 0)
        for row in history.tolist():
            queue.enqueue(row)
        queue.flush()
        lists = itertools.cycle(batches[:, 0].tolist()).__next__
        others = itertools.cycle(batches[:, 0].tolist()).__next__
        with published.running(window, 0) as remote:
            for row in history.tolist():
                remote.enqueue(row)
            remote.flush()
            rivals["published, in process"] = lambda: queue.query(lists())
            rivals["published, over TCP"] = lambda: remote.query(others())
            versus(
                name,
                lambda: service.rank(mine()),
                rivals,
                {"published, in process": 25},
                rounds=rounds,
            )
    else:
        goals = {} if goal is None else {"np.searchsorted": goal}
        versus(name, lambda: service.rank(mine()), rivals, goals, rounds=rounds)


def test_rank_slow_rivals(versus):
    """Rivals that are slow, or that answer another question; at 128 rows alone.

    - scipy.stats.ecdf, prepared: its steps computed once, evaluated a batch; ecdf anew: both.
    - percentileofscore: kind="weak" is the same answer, times 100.
    - pandas rank: ranks history and batch together, so that the batch counts among itself.
    - SortedList: a Python bisection a value; the one rival that could also take rows in and out.
    - bottleneck.move_rank: the window moves with every row of the batch, and ranks are from -1 to
      1; it also walks the history, for which it has nothing to say.
    """
    window, rows = 2048, 128
    rng = np.random.default_rng(0)
    history, batches = rng.random((window, len(METRICS))), batches_of(rows, rng)
    service = filled(history)
    prepared = [stats.ecdf(column).cdf for column in history.T]
    lists = [SortedList(column.tolist()) for column in history.T]
    series = np.ascontiguousarray(history.T)
    feeds = [cycle(batches) for _ in range(7)]
    first = batches[0]

    def by_ecdf(batch):
        return np.stack([cdf.evaluate(batch[:, j]) for j, cdf in enumerate(prepared)], axis=1)

    def by_new_ecdf(batch):
        return np.stack(
            [stats.ecdf(history[:, j]).cdf.evaluate(batch[:, j]) for j in range(3)], axis=1
        )

    def by_percentile(batch):
        scores = [
            stats.percentileofscore(history[:, j], batch[:, j], kind="weak") for j in range(3)
        ]
        return np.stack(scores, axis=1)

    def by_pandas(batch):
        frame = pd.DataFrame(np.concatenate([history, batch]))
        return frame.rank(method="max", pct=True).to_numpy()[window:]

    def by_list(batch):
        counts = [[each.bisect_right(x) for each, x in zip(lists, row)] for row in batch.tolist()]  # noqa: B905
        return np.array(counts) / window

    def by_move_rank(batch):
        joined = np.concatenate([series, batch.T], axis=1)
        return bottleneck.move_rank(joined, window, axis=1)[:, window:].T

    for same in (by_ecdf, by_new_ecdf, by_list):
        assert np.allclose(same(first), service.rank(first), rtol=0, atol=1e-12)
    assert np.allclose(by_percentile(first) / 100, service.rank(first), rtol=0, atol=1e-12)
    assert np.allclose(by_pandas(first), service.rank(first), rtol=0, atol=0.1)
    assert np.allclose(by_move_rank(first) / 2 + 0.5, service.rank(first), rtol=0, atol=0.1)
    versus(
        f"rank {rows} rows, window {window}, slow rivals",
        lambda: service.rank(feeds[0]()),
        {
            "scipy.stats.ecdf, prepared": lambda: by_ecdf(feeds[1]()),
            "scipy.stats.ecdf, anew": lambda: by_new_ecdf(feeds[2]()),
            "scipy percentileofscore": lambda: by_percentile(feeds[3]()),
            "pandas rank": lambda: by_pandas(feeds[4]()),
            "sortedcontainers": lambda: by_list(feeds[5]()),
            "bottleneck.move_rank": lambda: by_move_rank(feeds[6]()),
        },
        {"scipy.stats.ecdf, prepared": 20, "scipy percentileofscore": 200, "pandas rank": 100},
        rounds=15,
    )


@pytest.mark.parametrize(
    ("window", "goal", "rounds"), [(2048, 20, 51), (65536, 40, 51), (1_000_000, 80, 15)]
)
def test_flush(versus, window, goal, rounds):
    """A step of 128 rows enters a full window.

    The published service takes its rows one by one and sorts the whole window anew; ours merges,
    and leaves its index to the first ranking that needs it (the whole step has both in it).
    """
    rng = np.random.default_rng(0)
    history = rng.random((window, len(METRICS)))
    service = filled(history)
    queue = published.PublishedQueue(window, 0)
    for row in history.tolist():
        queue.enqueue(row)
    batches = rng.random((1024, 128, len(METRICS)))
    mine, lists = cycle(batches), itertools.cycle(batches.tolist()).__next__
    sort = cycle(rng.random((max(2, 2**16 // window), len(METRICS), window)))
    step = itertools.count(1)

    def ours():
        service.push(mine())
        service.flush(next(step))

    def theirs():
        for row in lists():
            queue.enqueue(row)
        queue.flush()

    rivals = {"published, in process": theirs, "np.sort alone": lambda: np.sort(sort(), axis=1)}
    goals = {"published, in process": goal}
    versus(f"flush 128 rows, window {window}", ours, rivals, goals, rounds=rounds)


def test_two_readers(versus):
    """The same batches of 4096 rows, dealt to two threads and to one."""
    rng = np.random.default_rng(0)
    service = filled(rng.random((2048, len(METRICS))))
    batches = list(batches_of(4096, rng))

    def read(count):
        for batch in itertools.islice(itertools.cycle(batches), count):
            service.rank(batch)

    with ThreadPoolExecutor(2) as pool:
        versus(
            "readers on 2 threads, 4096 rows a batch",
            lambda: list(pool.map(read, [100, 100])),
            {"1 thread": lambda: list(pool.map(read, [200]))},
            {"1 thread": 1.6},
        )
