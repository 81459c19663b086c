"""How far the objects of an answer are from those of a reference, pair by pair.

Goes in: the objects of a batch as in `ragged`: box (xyxy), then P points (xy). Comes out: a
number for each pair, and the potential of each sample.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError
from rankreward.metrics.arrays import as_floats, as_rows
from rankreward.metrics.ragged import (
    Counts,
    Floats,
    compare_objects,
    match_ragged,
    matched_sums,
    pair_places,
)


def pair_distances(
    left: Floats, left_counts: Counts, right: Floats, right_counts: Counts, points: int
) -> tuple[Floats, Floats]:
    """Box IoU of all pairs, and the mean distance of their points, paired at the least sum.

    Args:
        left: (T, 4 + 2 points) float64, finite, C order.
        left_counts: (B,) int64, how many of the T each sample has.
        right: (S, 4 + 2 points), likewise.
        right_counts: (B,).
        points: how many points each object has; without any the distance is 0.

    Returns:
        Two (P,) arrays; P is the sum over the samples of the product of their counts.
    """
    if points == 1:
        return compare_objects(left, left_counts, right, right_counts)
    boxes = (np.pad(side[:, :4], ((0, 0), (0, 2))) for side in (left, right))
    ious, _ = compare_objects(next(boxes), left_counts, next(boxes), right_counts)
    first, second = _points_of_pairs(left, left_counts, right, right_counts, points)
    return ious, _least(np.sqrt(((first[:, :, None] - second[:, None]) ** 2).sum(axis=-1)))


def box_differences(
    left: Floats, left_counts: Counts, right: Floats, right_counts: Counts
) -> Floats:
    """(P,) mean absolute difference of the coordinates of the boxes of all pairs."""
    row, column = pair_places(left_counts, right_counts)
    return np.asarray(np.abs(left[row, :4] - right[column, :4]).mean(axis=1))


def pair_errors(
    left: Floats,
    left_counts: Counts,
    right: Floats,
    right_counts: Counts,
    points: int,
    size: tuple[float, float],
) -> Floats:
    r"""The error of all pairs, in [0, 1].

    .. math:: e = \tfrac13 [(1 - \mathrm{IoU}) + L1_\mathrm{box} + L1_\mathrm{point}]

    Both L1 are means of absolute differences as shares of the frame's width or height, at most 1;
    several points are paired at the least sum, and without any the mean is of two.

    Args:
        left: (T, 4 + 2 points) float64, finite, C order.
        left_counts: (B,) int64, how many of the T each sample has.
        right: (S, 4 + 2 points), likewise.
        right_counts: (B,).
        points: how many points each object has.
        size: width and height of the frame.

    Returns:
        (P,) float64; P is the sum over the samples of the product of their counts.
    """
    ious, _ = pair_distances(left, left_counts, right, right_counts, points)
    unit = np.tile(1.0 / np.asarray(size), 2 + points)
    left, right = left[:, : 4 + 2 * points] * unit, right[:, : 4 + 2 * points] * unit
    boxes = box_differences(left, left_counts, right, right_counts)
    errors = (1.0 - ious) + np.minimum(boxes, 1.0)
    if not points:
        return errors / 2.0
    first, second = _points_of_pairs(left, left_counts, right, right_counts, points)
    apart = _least(np.abs(first[:, :, None] - second[:, None]).mean(axis=-1))
    return np.asarray((errors + np.minimum(apart, 1.0)) / 3.0)


def potentials(
    left: Floats,
    left_counts: Counts,
    right: Floats,
    right_counts: Counts,
    points: int,
    size: tuple[float, float],
    *,
    given: Counts,
    surplus: bool,
) -> Floats:
    """(B,) `potential` of each sample, of which the left has `given` objects (B,), each once."""
    errors = pair_errors(left, left_counts, right, right_counts, points, size)
    chosen = match_ragged(errors, left_counts, right_counts)
    sums = matched_sums(errors, chosen, left_counts, right_counts)
    missing = np.maximum(right_counts - left_counts, 0)
    extra = (np.maximum(left_counts - right_counts, 0) + given - left_counts) * surplus
    count = np.minimum(left_counts, right_counts) + missing + extra
    result = np.zeros(len(sums))
    np.divide(sums + missing + extra, count, out=result, where=count > 0)
    return result


def potential(
    boxes: ArrayLike,
    points: ArrayLike,
    true_boxes: ArrayLike,
    true_points: ArrayLike,
    *,
    size: tuple[float, float],
    surplus: bool = True,
) -> float:
    r"""How far an answer is from its reference: the mean error of its objects.

    .. math:: \Phi = \frac{\sum e + (N - M)^+ + S}{\min(M, N) + (N - M)^+ + S}

    for M objects of the answer, N of the reference and S surplus ones, (M - N)^+ at least,
    over the one-to-one pairs with the least sum of errors; see `pair_errors` for e. An object
    that the answer gives twice is one of M and, the second time, a surplus one.

    Args:
        boxes: (M, 4), xyxy, in the frame's units.
        points: (M, P, 2), xy, or (M, 2) for one point each.
        true_boxes: (N, 4).
        true_points: (N, P, 2) or (N, 2), likewise.
        size: width and height of the frame, above 0.
        surplus: whether an object too many costs 1, as a missing one does. The paper speaks of
            missing ones only; without this an answer may list every box it likes.

    Returns:
        In [0, 1]: 0 for the reference itself, and for two empty sides; 1 where just one is empty
        (0 for a surplus that is not charged).

    Raises:
        InputError: a shape is another one, a coordinate is not finite, or a size is not positive.

    Cost:
        O(M N max(M, N)).

    Example:
        >>> box, point = [[0, 0, 100, 100]], [[50, 50]]
        >>> potential(box, point, box, point, size=(100, 100))
        0.0
        >>> potential(box, point, [*box, [0, 0, 50, 50]], [*point, [25, 25]], size=(100, 100))
        0.5

    Source:
        Group Revision, arXiv 2605.15951. Which L1 and whether surplus objects are charged it
        leaves open.
    """
    if not all(np.isfinite(side) and side > 0 for side in size):
        raise InputError(f"size: expected two finite numbers above 0, got {size!r}")
    left, count = _side("", boxes, points)
    right, true_count = _side("true_", true_boxes, true_points)
    if left.shape[1] != right.shape[1] and len(left) and len(right):
        raise InputError(
            f"true_points: expected as many points an object as in points, "
            f"{left.shape[1] // 2 - 2}, got {right.shape[1] // 2 - 2}"
        )
    side = left if len(left) else right
    counts = np.array([count]), np.array([true_count])
    left, right = (np.reshape(each, (-1, side.shape[1])) for each in (left, right))
    many = side.shape[1] // 2 - 2
    distinct, given = np.unique(left, axis=0), counts[0]
    counts = np.array([len(distinct)]), counts[1]
    found = potentials(
        distinct, counts[0], right, counts[1], many, size, given=given, surplus=surplus
    )
    return float(found[0])


def _side(prefix: str, boxes: ArrayLike, points: ArrayLike) -> tuple[Floats, int]:
    """(K, 4 + 2 P) and K."""
    corners, places = as_rows(f"{prefix}boxes", boxes, 4), as_floats(f"{prefix}points", points)
    if places.ndim == 2:
        places = places[:, None]
    if len(places) != len(corners) or (len(corners) and places.shape[2:] != (2,)):
        raise InputError(
            f"{prefix}points: expected shape ({len(corners)}, P, 2), got {places.shape}"
        )
    if not np.isfinite(places).all():
        raise InputError(f"{prefix}points: expected finite numbers, got NaN or inf")
    if not len(corners):
        return np.empty((0, 6)), 0
    return np.hstack([corners, places.reshape(len(corners), -1)]), len(corners)


def _points_of_pairs(
    left: Floats, left_counts: Counts, right: Floats, right_counts: Counts, points: int
) -> tuple[Floats, Floats]:
    """Two (P, points, 2) arrays, the points of both objects of each pair."""
    row, column = pair_places(left_counts, right_counts)
    end, shape = 4 + 2 * points, (len(row), points, 2)
    return left[row, 4:end].reshape(shape), right[column, 4:end].reshape(shape)


def _least(table: NDArray[np.float64]) -> Floats:
    """(P,) least mean over the pairings of the points, of a table (P, points, points)."""
    points = table.shape[1]
    if not points:
        return np.zeros(len(table))
    rows = np.arange(points)
    means = [table[:, rows, order].mean(axis=1) for order in permutations(range(points))]
    return np.asarray(np.minimum.reduce(means))
