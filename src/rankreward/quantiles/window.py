"""One rolling window: its rows in a ring, its columns sorted, and ranks against them.

Goes in: rows (B, N). Comes out: a `Snapshot`, which never changes, so that any number of threads
may rank against it while the next one is made.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rankreward.compiled import kernels
from rankreward.errors import InputError
from rankreward.quantiles.ecdf import EQUAL_SHARE, Ties, ecdf, merge

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
_Kernel = Callable[[Floats, NDArray[np.int32], Floats, Floats], int]

KERNELS = "rankreward.quantiles.kernels"
# What NumPy takes, in seconds; `compiled` adds it up.
_CALL, _SEARCH, _MERGE = 5e-6, 1e-7, 1e-8

_FLOAT64 = np.dtype(np.float64)
_FEW = 32  # rows below which releasing the GIL and lockstep do not pay
_REPAYS = 30  # a grid repays once a thirtieth of the window's length in rows has been ranked
_LARGEST_GRID = 2**28  # rows; its places are counted in 32 bits


class Snapshot:
    """The sorted columns of a window at one flush.

    Args:
        columns: (N, M) float64; the first `counts` values of each are sorted, without NaN, and
            the others meaningless. Not copied, and not to be changed any more.
        counts: (N,) int64.
        ties: what an equal value counts, as in `ecdf`.
    """

    __slots__ = ("_grid", "_moments", "_ranked", "columns", "counts", "ties")

    def __init__(self, columns: Floats, counts: Counts, ties: Ties) -> None:
        self.columns = columns
        self.counts = counts
        self.ties = ties
        self._grid: tuple[_Kernel, _Kernel, Floats, NDArray[np.int32]] | None = None
        self._ranked = 0
        self._moments: tuple[Floats, Floats] | None = None

    @classmethod
    def of(cls, rows: Floats, ties: Ties) -> Snapshot:
        """Sort the columns of rows (M, N)."""
        columns = _sorted_columns(rows)
        return cls(columns, np.count_nonzero(~np.isnan(columns), axis=1), ties)

    def moved(self, leaving: Floats, entering: Floats) -> Snapshot:
        """The snapshot without some rows (L, N) and with others (E, N)."""
        width, length = self.columns.shape
        columns = np.empty((width, length - len(leaving) + len(entering)))
        counts = np.empty(width, dtype=np.int64)
        compiled = kernels(KERNELS, width * (_CALL + length * _MERGE))
        combine = merge if compiled is None else compiled.merge
        gone, new = _sorted_columns(leaving), _sorted_columns(entering)
        combine(self.columns, self.counts, gone, new, columns, counts)
        return Snapshot(columns, counts, self.ties)

    def rank(self, rows: Floats) -> Floats:
        """Rank rows (B, N) of finite numbers and NaN."""
        ranks = self.rank_fast(rows)
        if ranks is not None:
            return ranks
        ranks = np.empty_like(rows)
        for j, (column, count) in enumerate(zip(self.columns, self.counts, strict=True)):
            ranks[:, j] = ecdf(column[:count], rows[:, j], self.ties)
        self._prepare(len(rows))
        return ranks

    def rank_fast(self, rows: object) -> Floats | None:
        """Rank rows with the compiled kernels, which check them too.

        Returns:
            (B, N), or None if there is no grid yet, or if `rows` is anything else than a plain
            (B, N) array of float64 without infinity: `rank` and its callers see to the rest.
        """
        if (
            self._grid is None
            or type(rows) is not np.ndarray
            or rows.dtype != _FLOAT64
            or rows.ndim != 2
            or not rows.flags.carray
        ):
            return None
        few, many, floats, index = self._grid
        ranks = np.empty(rows.shape)
        status = (few if len(rows) < _FEW else many)(floats, index, rows, ranks)
        return ranks if status == 0 else None

    def standardize(self, rows: Floats) -> Floats:
        """Rows (B, N) less the columns' means, over their standard deviations; 0 where none is."""
        if self._moments is None:
            defined = [c[:n] for c, n in zip(self.columns, self.counts, strict=True)]
            self._moments = (
                # not `mean`, whose sum may overflow
                np.array([(column / max(len(column), 1)).sum() for column in defined]),
                np.array([deviation(column) for column in defined]),
            )
        mean, std = self._moments
        centred = rows - mean
        return np.divide(centred, std, out=centred * 0.0, where=std > 0)

    def _prepare(self, rows: int) -> None:
        """Build the grid once enough rows have been ranked to repay it."""
        width, length = self.columns.shape
        self._ranked += rows  # threads may lose one another's additions; it is an estimate
        compiled = kernels(KERNELS, width * (_CALL + rows * _SEARCH))
        if compiled is None or self._ranked * _REPAYS < length or length > _LARGEST_GRID:
            return
        buckets = 2 << max(length - 1, 1).bit_length()
        floats = np.empty((width, 3 * length + 3))
        index = np.empty((width, buckets + 3), dtype=np.int32)
        share = EQUAL_SHARE[self.ties]
        compiled.grid(self.columns, self.counts, share, share, floats, index)
        self._grid = (compiled.ecdf_row, compiled.ecdf, floats, index)


def deviation(column: Floats) -> float:
    """Population standard deviation of a column; 0 where it is constant or empty.

    Rounding would leave a trace of a constant's, and a share or a quotient of traces is nonsense.
    """
    if len(column) == 0 or column.min() == column.max():
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # that of huge values is infinite
        return float(column.std())


class Window:
    """The newest rows, at most `capacity`, oldest first, and their `snapshot`.

    One writer at a time; readers take `snapshot`. `step` is the last step that brought rows, and
    `latest` how many of the window's rows are its.

    Args:
        capacity: rows kept.
        rows: (M, N) float64, what it begins with, M at most `capacity`.
        ties: as in `ecdf`.
    """

    def __init__(self, capacity: int, rows: Floats, ties: Ties) -> None:
        try:
            self._ring = np.empty((capacity, rows.shape[1]))
        except (MemoryError, ValueError) as error:
            raise InputError(f"window: {capacity} rows do not fit the memory ({error})") from error
        self._ring[: len(rows)] = rows
        self._start = 0
        self.size = len(rows)
        self.step: int | None = None
        self.latest = 0
        self.snapshot = Snapshot.of(rows, ties)

    def after(self, rows: Floats) -> Snapshot:
        """The snapshot that `extend` with these rows would leave; changes nothing."""
        if len(rows) == 0:
            return self.snapshot
        leaving = max(0, self.size + len(rows) - len(self._ring))
        # Where most of the window changes, or all of it, sorting it anew is the shorter way.
        if leaving + len(rows) < self.size:
            return self.snapshot.moved(self._oldest(leaving), rows)
        kept = np.concatenate([self.rows(), rows])[-len(self._ring) :]
        return Snapshot.of(kept, self.snapshot.ties)

    def extend(self, rows: Floats, snapshot: Snapshot, step: int) -> None:
        """Take in the rows of a step, and the snapshot that `after` gave for them."""
        if len(rows) == 0:
            return
        capacity = len(self._ring)
        rows = rows[-capacity:]
        end = (self._start + self.size) % capacity
        head = min(len(rows), capacity - end)
        self._ring[end : end + head] = rows[:head]
        self._ring[: len(rows) - head] = rows[head:]
        self.size = min(self.size + len(rows), capacity)
        self._start = (end + len(rows) - self.size) % capacity
        self.latest = min(len(rows) + (self.latest if step == self.step else 0), capacity)
        self.step = step
        self.snapshot = snapshot

    def rows(self) -> Floats:
        """(size, N), from the oldest to the newest; a copy."""
        return self._oldest(self.size)

    def _oldest(self, count: int) -> Floats:
        head = min(count, len(self._ring) - self._start)
        parts = [self._ring[self._start : self._start + head], self._ring[: count - head]]
        return np.concatenate(parts)


def _sorted_columns(rows: Floats) -> Floats:
    """(N, M) columns of rows (M, N), each sorted, NaN last."""
    columns = np.array(rows.T, order="C")
    columns.sort(axis=1)
    return columns
