"""The rolling window of recent rollouts, and ranks against it.

Goes in: rows of metric values, as they are scored. Comes out: ranks against the window as it
stood at the last flush. Within a step nothing moves: new rows are pending until `flush`, so that
a reward depends neither on the order of threads nor on how rollouts are dealt to workers.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import CheckpointError, InputError, StepOrderError
from rankreward.metrics.arrays import as_floats
from rankreward.quantiles.checkpoint import load_state, save_state
from rankreward.quantiles.ecdf import Ties, ecdf

Order = Literal["canonical", "arrival"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FlushStats:
    """What one flush did.

    Attributes:
        added: rows that entered the window.
        evicted: rows that left it; rows that did not fit at all are counted in both.
        size: rows in the window now.
        step: the step that was flushed.
    """

    added: int
    evicted: int
    size: int
    step: int


@dataclass(frozen=True, eq=False)
class _Snapshot:
    """The window at one flush: its rows, oldest first, and each column sorted without NaN."""

    rows: Floats
    columns: tuple[Floats, ...]

    @classmethod
    def of(cls, rows: Floats) -> _Snapshot:
        return cls(rows, tuple(np.sort(column[~np.isnan(column)]) for column in rows.T))


class QuantileService:
    """Ranks of metric values in a rolling window of recent rows. Safe under threads.

    Read: `rank`, `size`, `pending`, `step`, `rows`. Write: `push`, `flush`, `discard`, `reset`.
    Keep: `state_dict`, `load_state_dict`, `save`, `load`.

    Args:
        metrics: names of the columns, in order.
        window: rows kept, at least 1. The paper uses 2048, sixteen steps of 128 rollouts.
        warm_start: rows of zeros that the window begins with, at most `window`. The paper begins
            with one step of them. With ``ties="weak"`` every answer ranks 1 against zeros alone;
            ``ties="mid"`` or ``warm_start=0`` avoid that.
        ties: what a window value equal to the ranked one counts: 1 (``"weak"``, the paper's
            rule), 0 (``"strict"``) or one half (``"mid"``).
        order: ``"canonical"`` sorts the rows of a step and shuffles them by a generator seeded
            with the step, so that the window is bit-identical however the rows arrived, and a
            step that is partly evicted leaves an unbiased sample; ``"arrival"`` is plain FIFO.

    Raises:
        InputError: an argument is out of its range.

    Example:
        >>> service = QuantileService(metrics=("iou",), window=4, warm_start=2)
        >>> service.push([[0.2], [0.6]])
        >>> service.rank([[0.5]]).tolist()  # pending rows do not count yet
        [[1.0]]
        >>> service.flush(step=1)
        FlushStats(added=2, evicted=0, size=4, step=1)
        >>> service.rank([[0.5]]).tolist()
        [[0.75]]

    Source:
        Dr. Seg, arXiv 2603.00152, the distribution-ranked reward.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        window: int = 2048,
        warm_start: int = 128,
        ties: Ties = "weak",
        order: Order = "canonical",
    ) -> None:
        self.metrics = _check_metrics(metrics)
        self.window = _check_count("window", window, low=1)
        self.warm_start = _check_count("warm_start", warm_start, low=0)
        if self.warm_start > self.window:
            raise InputError(
                f"warm_start: expected at most window ({self.window}), got {self.warm_start}; "
                "pass a smaller one"
            )
        self.ties: Ties = _check_choice("ties", ties, get_args(Ties))
        self.order: Order = _check_choice("order", order, get_args(Order))
        self._lock = threading.Lock()
        self._pending: list[Floats] = []
        self._step: int | None = None
        self._snapshot = self._warm()

    # -- read ---------------------------------------------------------------------------------

    def rank(self, values: ArrayLike) -> Floats:
        """Rank values against the window, as it stood at the last flush.

        Args:
            values: (B, N) or (N,) for N metrics. NaN is allowed and means undefined.

        Returns:
            float64 of the same shape, in [0, 1]: per column, the share of the window's defined
            values that are <= the value (as `ties` says). NaN ranks NaN. Against a column
            without defined values the rank is 1 (weak), 0 (strict) or 0.5 (mid).

        Raises:
            InputError: the shape is wrong, or a value is infinite.

        Cost:
            O(B N log window); takes no lock.
        """
        rows = self._check_rows(values)
        snapshot = self._snapshot  # one read: a flush beside us swaps the attribute, no more
        ranks = np.empty_like(rows)
        for column, history in enumerate(snapshot.columns):
            ranks[:, column] = ecdf(history, rows[:, column], self.ties)
        return ranks.reshape(np.shape(values))

    @property
    def size(self) -> int:
        """Rows in the window, those of the warm start included."""
        return len(self._snapshot.rows)

    @property
    def pending(self) -> int:
        """Rows pushed since the last flush."""
        with self._lock:
            return sum(len(block) for block in self._pending)

    @property
    def step(self) -> int | None:
        """The last step whose rows entered the window, or None before the first."""
        return self._step

    @property
    def rows(self) -> Floats:
        """(size, N) float64, the window's rows from the oldest to the newest; a copy."""
        return self._snapshot.rows.copy()

    # -- write --------------------------------------------------------------------------------

    def push(self, values: ArrayLike) -> None:
        """Make rows pending; they count from the next flush on.

        Args:
            values: (B, N) or (N,). A NaN leaves that column of that row out of the window.

        Raises:
            InputError: the shape is wrong, or a value is infinite; nothing is pushed.
        """
        rows = self._check_rows(values)
        if len(rows):
            with self._lock:
                self._pending.append(rows)

    def flush(self, step: int) -> FlushStats:
        """Move the pending rows into the window; the oldest rows leave.

        A flush with nothing pending changes nothing. A second flush of the same step adds what
        has become pending since.

        Args:
            step: the trainer's step, an integer from 0 to 2**63 - 1 that never falls. It seeds
                the canonical order.

        Returns:
            What was added and evicted.

        Raises:
            StepOrderError: `step` is older than the last one flushed; nothing changes.
            InputError: `step` is no such integer.
        """
        step = _check_count("step", step, low=0)
        with self._lock:
            if self._step is not None and step < self._step:
                raise StepOrderError(
                    f"flush: expected a step of at least {self._step}, the last one flushed, "
                    f"got {step}; after a restart load the state saved at step {step}"
                )
            old = self._snapshot.rows
            if not self._pending:
                return FlushStats(0, 0, len(old), step)
            new = np.concatenate(self._pending)
            if self.order == "canonical":
                new = _canonical(new, step)
            self._snapshot = _Snapshot.of(np.concatenate([old, new])[-self.window :])
            self._pending, self._step = [], step
            size = len(self._snapshot.rows)
            return FlushStats(len(new), len(old) + len(new) - size, size, step)

    def discard(self) -> int:
        """Drop the pending rows, as after a step that was broken off.

        Returns:
            How many rows were dropped.
        """
        with self._lock:
            dropped = sum(len(block) for block in self._pending)
            self._pending = []
            return dropped

    def reset(self) -> None:
        """Back to the warm start: no pending rows, no step."""
        with self._lock:
            self._pending, self._step, self._snapshot = [], None, self._warm()

    # -- keep ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that a restart needs, as plain values and arrays; a copy.

        Returns:
            ``config`` (the constructor's arguments), ``step``, ``rows`` (size, N), oldest
            first, and ``pending`` (P, N).
        """
        with self._lock:
            empty = np.empty((0, len(self.metrics)))
            return {
                "config": self._config(),
                "step": self._step,
                "rows": self._snapshot.rows.copy(),
                "pending": np.concatenate([empty, *self._pending]),
            }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` gave.

        Raises:
            CheckpointError: the state lacks a key, is malformed, or belongs to a service with
                other metrics, window, warm start, ties or order; nothing changes.
        """
        try:
            config, step = dict(state["config"]), state["step"]
            rows, pending = self._check_rows(state["rows"]), self._check_rows(state["pending"])
            if step is not None:
                step = _check_count("step", step, low=0)
            mine = self._config()
            other = next((key for key in mine if config.get(key) != mine[key]), None)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"state: expected what state_dict() gives, got {error}"
            ) from error
        if other is not None:
            raise CheckpointError(
                f"state: expected {other}={mine[other]!r} as this service has, "
                f"got {config.get(other)!r}"
            )
        if len(rows) > self.window:
            raise CheckpointError(f"state: expected at most {self.window} rows, got {len(rows)}")
        with self._lock:
            self._snapshot = _Snapshot.of(rows.copy())
            self._pending = [pending.copy()] if len(pending) else []
            self._step = step

    def save(self, path: str | Path) -> None:
        """Write the state to one .npz file, atomically and without pickle.

        Raises:
            OSError: the file cannot be written; an older one at `path` is untouched.
        """
        save_state(path, self.state_dict())

    def load(self, path: str | Path) -> None:
        """Continue from a file that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it is damaged, or belongs to another service; nothing changes.
        """
        self.load_state_dict(load_state(path))

    # -- inside -------------------------------------------------------------------------------

    def _warm(self) -> _Snapshot:
        return _Snapshot.of(np.zeros((self.warm_start, len(self.metrics))))

    def _config(self) -> dict[str, Any]:
        return {
            "metrics": list(self.metrics),
            "window": self.window,
            "warm_start": self.warm_start,
            "ties": self.ties,
            "order": self.order,
        }

    def _check_rows(self, values: Any) -> Floats:
        """A (B, N) float64 copy, checked; equal rows are equal bits (-0.0, NaN payloads)."""
        width = len(self.metrics)
        rows = as_floats("values", values)
        if rows.ndim not in (1, 2) or rows.shape[-1] != width:
            raise InputError(
                f"values: expected shape (B, {width}) or ({width},) for the metrics "
                f"{', '.join(self.metrics)}, got {rows.shape}"
            )
        if np.isinf(rows).any():
            column = self.metrics[int(np.argwhere(np.isinf(rows))[0][-1])]
            raise InputError(f"values: expected finite numbers or NaN, got inf for {column!r}")
        return np.where(np.isnan(rows), np.nan, rows + 0.0).reshape(-1, width)

    def _check(self) -> None:
        """Assert the representation; tests call it after every step."""
        snapshot = self._snapshot
        assert len(snapshot.rows) <= self.window
        assert len(snapshot.columns) == len(self.metrics)
        for column, values in zip(snapshot.rows.T, snapshot.columns, strict=True):
            assert len(values) == np.count_nonzero(~np.isnan(column))
            assert np.all(np.diff(values) >= 0)


def _canonical(rows: Floats, step: int) -> Floats:
    """The rows in an order that depends on the rows and the step alone.

    Random bits come straight from Philox, whose stream is fixed for all time; NumPy's
    `permutation` may change between releases.
    """
    ordered = rows[np.lexsort(rows.T[::-1])]
    keys = np.random.Philox(key=step).random_raw(len(rows))
    return ordered[np.argsort(keys, kind="stable")]


def _check_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    names = tuple(metrics) if isinstance(metrics, list | tuple) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"metrics: expected a sequence of names, got {metrics!r}")
    if len(set(names)) != len(names):
        raise InputError(f"metrics: expected distinct names, got {metrics!r}")
    return names


def _check_count(name: str, value: int, *, low: int) -> int:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not low <= value < 2**63:
        raise InputError(f"{name}: expected an integer of at least {low}, got {value!r}")
    return int(value)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise InputError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return value
