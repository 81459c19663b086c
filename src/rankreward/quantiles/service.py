"""The rolling window of recent rollouts, and ranks against it.

Goes in: rows of metric values, as they are scored. Comes out: ranks against the window as it
stood at the last flush. Within a step nothing moves: new rows are pending until `flush`, so that
a reward depends neither on the order of threads nor on how rollouts are dealt to workers.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.compiled import kernels
from rankreward.errors import CheckpointError, InputError, StepOrderError
from rankreward.metrics.arrays import as_floats
from rankreward.quantiles.checkpoint import load_state, save_state
from rankreward.quantiles.ecdf import Ties, shuffle_keys
from rankreward.quantiles.summary import MetricSummary, summarize
from rankreward.quantiles.window import KERNELS, Snapshot, Window

Order = Literal["canonical", "arrival"]
Precision = Literal["float64", "float32"]
Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


_services: weakref.WeakSet[QuantileService] = weakref.WeakSet()
_held: list[threading.Lock] = []


def _before_fork() -> None:
    """Let writers finish: a child must not begin with half a flush and a lock nobody releases."""
    locks: list[threading.Lock] = [service._lock for service in list(_services)]  # noqa: SLF001
    # not for ever: a flush may be waiting for other processes
    _held.extend(lock for lock in locks if lock.acquire(timeout=10))


def _after_fork() -> None:
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )


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


class QuantileService:
    """Ranks of metric values in a rolling window of recent rows. Safe under threads.

    Read: `rank`, `standardize`, `summary`, `size`, `pending`, `step`, `rows`. Write: `push`,
    `flush`, `discard`, `reset`. Keep: `state_dict`, `load_state_dict`, `save`, `load`. Ranking
    takes no lock.

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
        keys: names of separate windows, one a task or dataset, each of `window` rows with its own
            warm start; rows and values then come with the key of each. None is one window.
        precision: ``"float32"`` rounds every value to single precision before it is kept or
            compared, as the published code does.

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
        keys: Sequence[str] | None = None,
        precision: Precision = "float64",
    ) -> None:
        self.metrics = _check_names("metrics", metrics)
        self.window = _check_count("window", window, low=1)
        self.warm_start = _check_count("warm_start", warm_start, low=0)
        if self.warm_start > self.window:
            raise InputError(
                f"warm_start: expected at most window ({self.window}), got {self.warm_start}; "
                "pass a smaller one"
            )
        self.ties: Ties = _check_choice("ties", ties, get_args(Ties))
        self.order: Order = _check_choice("order", order, get_args(Order))
        self.keys = None if keys is None else _check_names("keys", keys)
        self.precision: Precision = _check_choice("precision", precision, get_args(Precision))
        self._codes = {key: code for code, key in enumerate(self.keys or ())}
        self._exact = self.keys is None and precision == "float64"  # nothing to do to a value
        self._lock: threading.Lock = (
            threading.Lock()
        )  # held by writers; whoever only ranks reads `_snapshots`
        _services.add(self)
        self._windows: list[Window]
        self._snapshots: tuple[Snapshot, ...]
        self._pending: list[tuple[Floats, Codes | None]]
        self._step: int | None
        self._start()

    # -- read ---------------------------------------------------------------------------------

    def rank(self, values: ArrayLike, keys: str | Sequence[str] | None = None) -> Floats:
        """Rank values against the window, as it stood at the last flush.

        Args:
            values: (B, N) or (N,) for N metrics. NaN is allowed and means undefined. A plain
                float64 array is fastest.
            keys: B keys, or one for all rows, for a service with `keys`.

        Returns:
            float64 of the same shape, in [0, 1]: per column, the share of the window's defined
            values that are <= the value (as `ties` says). NaN ranks NaN. Against a column
            without defined values the rank is 1 (weak), 0 (strict) or 0.5 (mid).

        Raises:
            InputError: the shape is wrong, a value is infinite, or a key unknown.

        Cost:
            O(B N) on average, O(B N log window) at worst; takes no lock. Once in a while a call
            makes the index that gives later ones this speed, in O(N window); see `warmup`.
        """
        snapshots = self._current()
        if self._exact and keys is None:
            ranks = snapshots[0].rank_fast(values)
            if ranks is not None:
                return ranks
        return self._compare(Snapshot.rank, snapshots, values, keys)

    def standardize(self, values: ArrayLike, keys: str | Sequence[str] | None = None) -> Floats:
        """Values as standard scores in the window, as it stood at the last flush.

        Args:
            values: as for `rank`.
            keys: as for `rank`.

        Returns:
            float64 of the same shape: per column the value less the mean of the window's defined
            values, over their standard deviation (of the population); 0 where that is 0 or the
            column has no defined value. NaN stays NaN.

        Raises:
            InputError: as for `rank`.

        Example:
            >>> service = QuantileService(("iou",), window=4, warm_start=0)
            >>> service.push([[0.2], [0.6]])
            >>> service.flush(1).size
            2
            >>> service.standardize([[0.6], [0.4]]).round(6).tolist()
            [[1.0], [0.0]]
        """
        return self._compare(Snapshot.standardize, self._current(), values, keys)

    def summary(self, key: str | None = None) -> dict[str, MetricSummary]:
        """What the window says about each metric: how it spreads, where it piles up, how it moves.

        Args:
            key: which window, for a service with `keys`.

        Returns:
            metric to `MetricSummary`, the warm start's rows included.

        Raises:
            InputError: the key is unknown.

        Example:
            >>> service = QuantileService(("iou", "count"), window=4, warm_start=0)
            >>> service.push([[0.0, 1.0], [1.0, 1.0], [0.5, 0.9]])
            >>> service.flush(1).size
            3
            >>> iou = service.summary()["iou"]
            >>> round(iou.mean, 3), round(iou.ones, 3), round(iou.variance_share, 3)
            (0.5, 0.333, 0.987)
            >>> round(iou.rank_variance_share, 3)
            0.429
        """
        if key is None and self.keys is not None:
            raise InputError(f"key: expected one of {', '.join(self.keys)}, got none")
        codes = self._check_keys(key, 1)
        code = 0 if codes is None else int(codes[0])
        with self._lock:
            rows, latest = self._windows[code].rows(), self._windows[code].latest
        return summarize(rows, latest, self.metrics, self.ties)

    @property
    def size(self) -> int:
        """Rows in the window, those of the warm start included; with keys, in all windows."""
        return sum(snapshot.columns.shape[1] for snapshot in self._snapshots)

    @property
    def pending(self) -> int:
        """Rows pushed since the last flush."""
        with self._lock:
            return sum(len(rows) for rows, _ in self._pending)

    @property
    def step(self) -> int | None:
        """The last step whose rows entered the window, or None before the first."""
        return self._step

    @property
    def rows(self) -> Floats:
        """(size, N) float64, rows from the oldest to the newest, key after key; a copy."""
        with self._lock:
            return np.concatenate([window.rows() for window in self._windows])

    # -- write --------------------------------------------------------------------------------

    def push(self, values: ArrayLike, keys: str | Sequence[str] | None = None) -> None:
        """Make rows pending; they count from the next flush on.

        Args:
            values: (B, N) or (N,). A NaN leaves that column of that row out of the window.
            keys: B keys, or one for all rows, for a service with `keys`.

        Raises:
            InputError: the shape is wrong, a value is infinite, or a key unknown; nothing is
                pushed.
        """
        rows = self._check_rows(values)
        codes = self._check_keys(keys, len(rows))
        if len(rows):
            self._push(rows, codes)

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
        with self._lock:
            step = self._check_step(step)
            rows, codes = self._gathered(*self._waiting())
            if len(rows) == 0:
                return FlushStats(0, 0, self.size, step)
            before = self.size
            parts = [rows] if codes is None else [rows[codes == c] for c in range(len(self._codes))]
            if self.order == "canonical":
                parts = [_canonical(part, step) for part in parts]
            # First all that may fail, then all that changes.
            pairs = list(zip(self._windows, parts, strict=True))
            snapshots = [window.after(part) for window, part in pairs]
            for (window, part), snapshot in zip(pairs, snapshots, strict=True):
                window.extend(part, snapshot, step)
            self._snapshots = tuple(snapshots)
            self._pending, self._step = [], step
            size = self.size
            return FlushStats(len(rows), before + len(rows) - size, size, step)

    def discard(self) -> int:
        """Drop the pending rows, as after a step that was broken off.

        Returns:
            How many rows were dropped.
        """
        with self._lock:
            dropped = len(self._waiting()[0])
            self._pending = []
            return dropped

    def reset(self) -> None:
        """Back to the warm start: no pending rows, no step."""
        with self._lock:
            self._start()

    # -- keep ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that a restart needs, as plain values and arrays; a copy.

        Returns:
            ``config`` (the constructor's arguments), ``step``, ``rows`` (size, N), oldest first
            and key after key, ``sizes`` (rows a key), ``latest`` (a key's last step and its rows
            of it), ``pending`` (P, N) and ``pending_keys`` (P,) int64, places in `keys`.
        """
        with self._lock:
            pending, codes = self._waiting()
            return {
                "config": self._config(),
                "step": self._step,
                "rows": np.concatenate([window.rows() for window in self._windows]),
                "sizes": [window.size for window in self._windows],
                "latest": [[window.step, window.latest] for window in self._windows],
                "pending": pending.copy(),
                "pending_keys": np.zeros(len(pending), np.int64) if codes is None else codes + 0,
            }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` gave.

        Raises:
            CheckpointError: the state lacks a key, is malformed, or belongs to a service with
                other metrics, window, warm start, ties or order; nothing changes.
        """
        rows, sizes, latest, pending, codes, step = self._read_state(state)
        parts = np.split(rows, np.cumsum(sizes)[:-1])
        windows = [Window(self.window, part, self.ties) for part in parts]
        for window, (last, count) in zip(windows, latest, strict=True):
            window.step, window.latest = last, count
        waiting = codes if self.keys else None
        with self._lock:
            self._windows = windows
            self._snapshots = tuple(window.snapshot for window in windows)
            self._pending = [(pending, waiting)] if len(pending) else []
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

    def _start(self) -> None:
        """The state of a new service."""
        warm = np.zeros((self.warm_start, len(self.metrics)))
        self._windows = [Window(self.window, warm, self.ties) for _ in self.keys or ("",)]
        self._snapshots = tuple(window.snapshot for window in self._windows)
        self._pending, self._step = [], None

    def _push(self, rows: Floats, codes: Codes | None) -> None:
        """Make checked rows pending."""
        with self._lock:
            self._pending.append((rows, codes))

    def _waiting(self) -> tuple[Floats, Codes | None]:
        """The pending rows (P, N) and the windows they belong to; the lock is held."""
        if not self._pending:
            rows = np.empty((0, len(self.metrics)))
            return rows, None if self.keys is None else np.empty(0, dtype=np.intp)
        rows = np.concatenate([rows for rows, _ in self._pending])
        if self.keys is None:
            return rows, None
        return rows, np.concatenate([codes for _, codes in self._pending if codes is not None])

    def _config(self) -> dict[str, Any]:
        return {
            "metrics": list(self.metrics),
            "window": self.window,
            "warm_start": self.warm_start,
            "ties": self.ties,
            "order": self.order,
            "keys": None if self.keys is None else list(self.keys),
            "precision": self.precision,
        }

    def _read_state(self, state: Mapping[str, Any]) -> tuple[Any, ...]:
        """Rows, sizes, last steps, pending rows and their places, and the step, of a state."""
        try:
            config, step = dict(state["config"]), state["step"]
            mine = self._config()
            other = next((key for key in mine if config.get(key, ...) != mine[key]), None)
            rows, pending = self._check_rows(state["rows"]), self._check_rows(state["pending"])
            codes = np.asarray(state["pending_keys"])
            step = None if step is None else _check_count("step", step, low=0)
            sizes = [_check_count("sizes", size, low=0) for size in state["sizes"]]
            latest = [
                (
                    None if last is None else _check_count("latest", last, low=0),
                    _check_count("latest", count, low=0),
                )
                for last, count in state["latest"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"state: expected what state_dict() gives, got {error}"
            ) from error
        if other is not None:
            raise CheckpointError(
                f"state: expected {other}={mine[other]!r} as this service has, "
                f"got {config.get(other)!r}"
            )
        expected = len(self._snapshots)
        if (
            (len(sizes), len(latest)) != (expected, expected)
            or sum(sizes) != len(rows)
            or max(sizes) > self.window
            or not all(_is_last(last, step, size) for last, size in zip(latest, sizes, strict=True))
        ):
            raise CheckpointError(
                f"state: expected {expected} windows of at most {self.window} rows, "
                f"got {len(rows)} rows, windows of {sizes}, last steps of {latest} and step {step}"
            )
        places = np.isin(codes, range(expected)).all() and codes.dtype.kind == "i"
        if codes.shape != pending.shape[:1] or not places:
            raise CheckpointError(
                f"state: expected {len(pending)} pending_keys below {expected}, got others"
            )
        return rows, sizes, latest, pending, codes.astype(np.intp), step

    def _current(self) -> tuple[Snapshot, ...]:
        """The windows to compare with: one read, for a flush beside us swaps the attribute."""
        return self._snapshots

    def _compare(
        self,
        how: Callable[[Snapshot, Floats], Floats],
        snapshots: tuple[Snapshot, ...],
        values: ArrayLike,
        keys: str | Sequence[str] | None,
    ) -> Floats:
        """Rank or standardize each row in the window of its key."""
        rows = self._check_rows(values)
        codes = self._check_keys(keys, len(rows))
        if codes is None:
            compared = how(snapshots[0], rows)
        else:
            compared = np.empty_like(rows)
            for code, snapshot in enumerate(snapshots):
                mine = codes == code
                if mine.any():
                    compared[mine] = how(snapshot, rows[mine])
        shaped: Floats = compared.reshape(np.shape(values))
        return shaped

    def _check_step(self, step: int) -> int:
        """The step of a flush, checked; the lock is held."""
        step = _check_count("step", step, low=0)
        if self._step is not None and step < self._step:
            raise StepOrderError(
                f"flush: expected a step of at least {self._step}, the last one flushed, "
                f"got {step}; after a restart load the state saved at step {step}"
            )
        return step

    def _gathered(self, rows: Floats, codes: Codes | None) -> tuple[Floats, Codes | None]:
        """The rows that a flush takes in, given those pending here; the lock is held."""
        return rows, codes

    def _check_rows(self, values: Any) -> Floats:
        """A (B, N) float64 copy, checked; equal rows are equal bits (-0.0, NaN payloads)."""
        width = len(self.metrics)
        rows = as_floats("values", values)
        if rows.ndim not in (1, 2) or rows.shape[-1] != width:
            raise InputError(
                f"values: expected shape (B, {width}) or ({width},) for the metrics "
                f"{', '.join(self.metrics)}, got {rows.shape}"
            )
        rows += 0.0  # a zero has no sign
        with np.errstate(over="ignore", invalid="ignore"):
            finite = self._exact and np.isfinite(rows.sum())  # then each of them is
        if finite:
            return rows.reshape(-1, width)
        if self.precision == "float32":
            with np.errstate(over="ignore"):  # what is too large becomes infinite
                rows = rows.astype(np.float32).astype(np.float64)
        if np.isinf(rows).any():
            column = self.metrics[int(np.argwhere(np.isinf(rows))[0][-1])]
            where = f"{column!r}" if self.precision == "float64" else f"{column!r} in float32"
            raise InputError(f"values: expected finite numbers or NaN, got inf for {where}")
        return np.where(np.isnan(rows), np.nan, rows).reshape(-1, width)

    def _check_keys(self, keys: str | Sequence[str] | None, count: int) -> Codes | None:
        """(count,) places in `keys`; None for a service without."""
        if self.keys is None:
            if keys is not None:
                raise InputError("keys: expected none, for this service has one window; got some")
            return None
        given = [keys] * count if isinstance(keys, str) else keys
        if not isinstance(given, list | tuple | np.ndarray) or len(given) != count:
            got = len(given) if isinstance(given, list | tuple | np.ndarray) else f"{given!r:.40}"
            raise InputError(f"keys: expected {count}, one a row, or one for all, got {got}")
        unknown = next((k for k in given if not isinstance(k, str) or k not in self._codes), None)
        if unknown is not None:
            raise InputError(f"keys: expected one of {', '.join(self.keys)}, got {unknown!r}")
        return np.array([self._codes[key] for key in given], dtype=np.intp)

    def _check(self) -> None:
        """Assert the representation; tests call it after every step."""
        for window, published in zip(self._windows, self._snapshots, strict=True):
            rows = window.rows()
            assert window.snapshot is published
            assert window.latest <= len(rows) == window.size <= self.window
            assert published.columns.shape == rows.T.shape
            for column, values, count in zip(
                rows.T, published.columns, published.counts, strict=True
            ):
                assert np.array_equal(np.sort(column[~np.isnan(column)]), values[:count])


def _is_last(last: tuple[int | None, int], step: int | None, size: int) -> bool:
    """Whether a window of `size` rows may have had this last step, by the service's `step`."""
    when, count = last
    if when is None:
        return count == 0
    return step is not None and when <= step and 0 < count <= size


def _canonical(rows: Floats, step: int) -> Floats:
    """The rows in an order that depends on the rows and the step alone: sorted, then shuffled."""
    order = np.empty(len(rows), dtype=np.int64)
    keys = np.empty(len(rows), dtype=np.uint64)
    compiled = kernels(KERNELS, len(rows) * 2e-7)
    fill = shuffle_keys if compiled is None else compiled.shuffle_keys
    fill(rows, np.uint64(step), order, keys)
    return rows[order[np.argsort(keys)]]  # the keys of one stream differ


def _check_names(name: str, given: Sequence[str]) -> tuple[str, ...]:
    names = tuple(given) if isinstance(given, list | tuple) else ()
    if not names or not all(isinstance(each, str) for each in names):
        raise InputError(f"{name}: expected a sequence of names, got {given!r}")
    if len(set(names)) != len(names):
        raise InputError(f"{name}: expected distinct names, got {given!r}")
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
