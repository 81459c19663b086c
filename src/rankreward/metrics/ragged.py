"""Geometry of a whole batch at once, in which every sample has its own number of objects.

Goes in: the objects of all samples in one array, sample after sample, and how many each has. Comes
out: scores of all pairs, row by row and sample after sample, and which of them are matched. The
compiled `kernels` do the same to the bit; NumPy serves until they are loaded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rankreward.compiled import kernels
from rankreward.metrics.matching import match

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

KERNELS = "rankreward.metrics.kernels"
_SAMPLE, _PAIR = 1e-5, 1e-7  # what NumPy takes, in seconds; `compiled` adds it up


def sort_objects(values: Floats, counts: Counts) -> Floats:
    """Sort the objects of each sample, so that the order of an answer cannot matter.

    Args:
        values: (T, K) float64, finite.
        counts: (B,) int64, how many of the T rows each sample has.

    Returns:
        (T, K), each sample's rows in lexicographic order.

    Example:
        >>> sort_objects(np.array([[2.0], [1.0], [0.0]]), np.array([2, 1])).ravel().tolist()
        [1.0, 2.0, 0.0]
    """
    compiled = kernels(KERNELS, len(counts) * _SAMPLE)
    if compiled is None:
        sample = np.repeat(np.arange(len(counts)), counts)
        return values[np.lexsort([*values.T[::-1], sample])]
    order = np.empty(len(values), dtype=np.int64)
    compiled.sort_objects(values, counts, order)
    ordered: Floats = values[order]
    return ordered


def compare_objects(
    left: Floats,
    left_counts: Counts,
    right: Floats,
    right_counts: Counts,
    *,
    inclusive: bool = False,
) -> tuple[Floats, Floats]:
    """Box IoU and point distance of every object on the left with every one on the right.

    Args:
        left: (T, 6) float64, finite: box (xyxy) and point (xy) of each object.
        left_counts: (B,) int64, how many of the T each sample has.
        right: (S, 6), likewise.
        right_counts: (B,).
        inclusive: as in `box_iou`.

    Returns:
        Two (P,) arrays, P the sum over the samples of the product of their counts: IoU in [0, 1],
        as `box_iou` gives it, and Euclidean distance.

    Example:
        >>> one, count = np.array([[0.0, 0, 2, 2, 1, 1]]), np.array([1])
        >>> ious, apart = compare_objects(one, count, one + 1, count)
        >>> ious.round(3).tolist(), apart.round(3).tolist()
        ([0.143], [1.414])
    """
    pairs = int(left_counts @ right_counts)
    compiled = kernels(KERNELS, 20 * _SAMPLE + pairs * _PAIR)
    extra = float(inclusive)
    if compiled is not None:
        ious, apart = np.empty(pairs), np.empty(pairs)
        compiled.compare_objects(left, left_counts, right, right_counts, extra, ious, apart)
        return ious, apart
    row, column = pair_places(left_counts, right_counts)
    a, b = left[row].T, right[column].T
    sides = [np.maximum(x[k + 2] - x[k] + extra, 0.0) for x in (a, b) for k in (0, 1)]
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0]) + extra
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1]) + extra
    overlap = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    union = sides[0] * sides[1] - overlap + sides[2] * sides[3]
    ious = np.divide(overlap, union, out=np.zeros(pairs), where=union > 0)
    dx, dy = a[4] - b[4], a[5] - b[5]
    return ious, np.sqrt(dx * dx + dy * dy)


def match_ragged(costs: Floats, row_counts: Counts, column_counts: Counts) -> NDArray[np.int64]:
    """Match the objects of each sample, one to one, at the least total cost.

    Args:
        costs: (P,) float64, finite: the samples' cost matrices, row by row.
        row_counts: (B,) int64, rows of each sample's matrix.
        column_counts: (B,) int64, its columns.

    Returns:
        (T,) int64, T the sum of the row counts: the column within its sample that each row is
        matched with, or -1. Among equal costs the choice is that of SciPy's
        `linear_sum_assignment`.

    Example:
        >>> costs = np.array([0.9, 0.1, 0.2, 0.8, 0.5])
        >>> match_ragged(costs, np.array([2, 1]), np.array([2, 1])).tolist()
        [1, 0, 0]
    """
    chosen = np.empty(int(row_counts.sum()), dtype=np.int64)
    compiled = kernels(KERNELS, len(row_counts) * _SAMPLE + len(costs) * _PAIR)
    if compiled is not None:
        compiled.match_ragged(costs, row_counts, column_counts, chosen)
        return chosen
    chosen[:] = -1
    pair = first = 0
    for m, n in zip(row_counts.tolist(), column_counts.tolist(), strict=True):
        rows, columns = match(costs[pair : pair + m * n].reshape(m, n))
        chosen[first + rows] = columns
        pair += m * n
        first += m
    return chosen


def pair_places(left_counts: Counts, right_counts: Counts) -> tuple[Counts, Counts]:
    """The two objects of each pair, as places in the arrays of all objects; (P,) each."""
    partners = np.repeat(right_counts, left_counts)  # of each object on the left
    row = np.repeat(np.arange(len(partners)), partners)
    first = np.repeat(np.cumsum(right_counts) - right_counts, left_counts)
    column = np.arange(len(row)) - np.repeat(np.cumsum(partners) - partners - first, partners)
    return row, column


def matched_sums(
    scores: Floats, chosen: NDArray[np.int64], row_counts: Counts, column_counts: Counts
) -> Floats:
    """The summed scores of each sample's matched pairs.

    Args:
        scores: (P,) float64, a score a pair.
        chosen: (T,), from `match_ragged`.
        row_counts: (B,) int64.
        column_counts: (B,) int64.

    Returns:
        (B,) float64, 0 without pairs. They are added one after the other in the order of the
        rows, so that what else is in the batch cannot change a bit.
    """
    partners = np.repeat(column_counts, row_counts)
    sample = np.repeat(np.arange(len(row_counts)), row_counts)
    matched = np.flatnonzero(chosen >= 0)
    pair = (np.cumsum(partners) - partners)[matched] + chosen[matched]
    return np.bincount(sample[matched], weights=scores[pair], minlength=len(row_counts)).astype(
        np.float64
    )
