"""Measures as functions of how often each sample counts.

Goes in: what each of n samples adds to a measure. Comes out: the measure, over the samples as they
are or over many resamples at once, which is what `rankreward.evaluation.intervals` asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError
from rankreward.metrics.arrays import as_floats

Floats = NDArray[np.float64]


class Measure(Protocol):
    """Whatever is a number for n samples, and for n samples drawn again from them."""

    def __len__(self) -> int:
        """How many samples there are."""
        ...

    @property
    def size(self) -> int:
        """How many of them the measure is of."""
        ...

    @property
    def value(self) -> float:
        """The measure over the samples as they are; NaN where nothing defines it."""
        ...

    def over(self, counts: Floats) -> Floats:
        """The measure over resamples.

        Args:
            counts: (R, n), whole numbers: how often each resample holds each sample.

        Returns:
            (R,), NaN where a resample has nothing that defines it.
        """
        ...

    def take(self, index: NDArray[np.intp]) -> Measure:
        """The same measure of the samples at `index`."""
        ...


@dataclass(frozen=True, eq=False)
class Ratio:
    r"""One sum over samples divided by another: a mean, a share, a cumulative IoU, an F1.

    .. math:: \frac{\sum_i t_i}{\sum_i b_i}

    Attributes:
        top: (n,) float64, finite.
        bottom: (n,) float64, finite; 0 for a sample that the measure is not of.
        root: whether the square root is taken at the end, as an RMSE does.

    Raises:
        InputError: an array is not (n,), or not finite.

    Example:
        >>> iou = Ratio([800, 10], [1000, 100])
        >>> round(iou.value, 4), iou.over([[2, 0], [0, 2]]).tolist()
        (0.7364, [0.8, 0.1])
    """

    top: Floats
    bottom: Floats
    root: bool = False

    def __post_init__(self) -> None:
        for name in ("top", "bottom"):
            object.__setattr__(self, name, per_sample(name, getattr(self, name)))
        if self.top.shape != self.bottom.shape:
            raise InputError(
                f"top, bottom: expected one shape, got {self.top.shape} and {self.bottom.shape}"
            )

    def __len__(self) -> int:
        return len(self.top)

    @property
    def size(self) -> int:
        """How many samples have a bottom other than 0."""
        return int(np.count_nonzero(self.bottom))

    @property
    def value(self) -> float:
        """The ratio; NaN if the bottoms add up to 0."""
        return float(self._divided(self.top.sum(keepdims=True), self.bottom.sum(keepdims=True))[0])

    def over(self, counts: ArrayLike) -> Floats:
        """The ratio of each resample: (R, n) counts to (R,)."""
        sums = np.asarray(counts, dtype=np.float64) @ np.stack([self.top, self.bottom], axis=1)
        return self._divided(sums[:, 0], sums[:, 1])

    def take(self, index: NDArray[np.intp]) -> Ratio:
        """The ratio of the samples at `index`."""
        return Ratio(self.top[index], self.bottom[index], self.root)

    def _divided(self, top: Floats, bottom: Floats) -> Floats:
        ratio = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)
        return np.asarray(np.sqrt(ratio) if self.root else ratio)


@dataclass(frozen=True, eq=False)
class Quantile:
    """A quantile of one value a sample, interpolated linearly as NumPy does by default.

    Attributes:
        values: (n,) float64, finite.
        q: in [0, 1]; 0.5 is the median.

    Raises:
        InputError: the values are not (n,), not finite, or `q` is outside [0, 1].

    Example:
        >>> Quantile([1, 2, 3, 10], 0.5).value
        2.5
    """

    values: Floats
    q: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", per_sample("values", self.values))
        if not 0 <= self.q <= 1:
            raise InputError(f"q: expected a number in [0, 1], got {self.q!r}")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size(self) -> int:
        """Every sample counts."""
        return len(self.values)

    @property
    def value(self) -> float:
        """The quantile; NaN without samples."""
        return float(np.quantile(self.values, self.q)) if len(self.values) else float("nan")

    def over(self, counts: ArrayLike) -> Floats:
        """The quantile of each resample: (R, n) counts, none of them all 0, to (R,)."""
        order = np.argsort(self.values, kind="stable")
        upto = np.asarray(counts, dtype=np.float64)[:, order].cumsum(axis=1)
        place = (upto[:, -1] - 1) * self.q
        low, high = (self._at(order, upto, edge) for edge in (np.floor(place), np.ceil(place)))
        return np.asarray(low + (high - low) * (place - np.floor(place)))

    def take(self, index: NDArray[np.intp]) -> Quantile:
        """The quantile of the samples at `index`."""
        return Quantile(self.values[index], self.q)

    def _at(self, order: NDArray[np.intp], upto: Floats, rank: Floats) -> Floats:
        """The value of a rank, counted from 0, in each resample."""
        return np.asarray(self.values[order[(upto <= rank[:, None]).sum(axis=1)]])


@dataclass(frozen=True, eq=False)
class Statistic:
    """Any other function of per-sample arrays; it is called once a resample.

    Attributes:
        function: takes arrays whose first axis is the samples, and returns a number.
        arrays: what it takes, each (n, ...), in its order.

    Raises:
        InputError: there is no array, or they differ in length.

    Example:
        >>> Statistic(lambda x, y: np.corrcoef(x, y)[0, 1], ([1, 2, 3], [2, 4, 6])).value
        1.0
    """

    function: Callable[..., float]
    arrays: tuple[NDArray[np.generic], ...]

    def __post_init__(self) -> None:
        arrays = tuple(np.asarray(array) for array in self.arrays)
        if not arrays or len({array.shape[:1] for array in arrays}) != 1 or not arrays[0].ndim:
            raise InputError(
                "arrays: expected arrays with one first axis, the samples, got shapes "
                f"{[array.shape for array in arrays]}"
            )
        object.__setattr__(self, "arrays", arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    @property
    def size(self) -> int:
        """Every sample counts."""
        return len(self)

    @property
    def value(self) -> float:
        """The function of all samples."""
        return float(self.function(*self.arrays))

    def over(self, counts: ArrayLike) -> Floats:
        """The function of each resample, whose samples keep their order."""
        places = np.arange(len(self))
        rows = np.asarray(counts).astype(np.intp)
        return np.array([self.take(np.repeat(places, row)).value for row in rows])

    def take(self, index: NDArray[np.intp]) -> Statistic:
        """The function of the samples at `index`."""
        return Statistic(self.function, tuple(array[index] for array in self.arrays))


def mean(values: ArrayLike, where: ArrayLike | None = None) -> Ratio:
    """The mean of one value a sample, over the samples that it is of.

    Args:
        values: (n,), finite where they count; booleans make a share.
        where: (n,) bool, which samples count; all unless given.

    Returns:
        A `Ratio`.

    Raises:
        InputError: the shapes differ, or a value that counts is not finite.

    Example:
        >>> mean([1.0, 3.0, np.nan], where=[True, True, False]).value
        2.0
    """
    numbers = np.asarray(values, dtype=np.float64)
    counted = np.ones(numbers.shape, bool) if where is None else np.asarray(where)
    if counted.dtype != bool or counted.shape != numbers.shape:
        raise InputError(
            f"where: expected {numbers.shape} bool, got {counted.shape} {counted.dtype}"
        )
    return Ratio(np.where(counted, numbers, 0.0), counted.astype(np.float64))


def per_sample(name: str, values: ArrayLike) -> Floats:
    """`values` as (n,) float64.

    Raises:
        InputError: they are not (n,), or not finite.
    """
    numbers = as_floats(name, values)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise InputError(f"{name}: expected (n,) finite numbers, got shape {numbers.shape}")
    return numbers


def flags(name: str, values: ArrayLike, count: int) -> NDArray[np.bool_]:
    """`values` as (count,) bool.

    Raises:
        InputError: they are something else.
    """
    array = np.asarray(values)
    if array.shape != (count,) or array.dtype != bool:
        raise InputError(f"{name}: expected ({count},) bool, got {array.shape} {array.dtype}")
    return array
