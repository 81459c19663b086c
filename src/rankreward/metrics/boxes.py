"""Boxes: how well two axis-aligned boxes agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.metrics.arrays import as_rows


def box_iou(a: ArrayLike, b: ArrayLike, inclusive: bool = False) -> NDArray[np.float64]:
    r"""Intersection over union of every box in `a` with every box in `b`.

    .. math:: \mathrm{IoU} = \frac{|A \cap B|}{|A \cup B|}

    Args:
        a: (M, 4), xyxy, in pixels.
        b: (N, 4), likewise.
        inclusive: False takes edges as continuous coordinates, so that the width is x2 - x1;
            True takes them as pixel indices that belong to the box, so that it is x2 - x1 + 1,
            as the code of the Seg-Zero family does.

    Returns:
        (M, N) float64 in [0, 1]. A box without area (inverted edges too) has IoU 0 with
        everything, itself included.

    Raises:
        InputError: a shape is not (K, 4), or a coordinate is not finite.

    Cost:
        O(M N).

    Example:
        >>> box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]]).round(3).tolist()
        [[0.333, 0.0]]
    """
    overlap, union = _overlap(as_rows("a", a, 4), as_rows("b", b, 4), 1.0 if inclusive else 0.0)
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def box_giou(a: ArrayLike, b: ArrayLike, inclusive: bool = False) -> NDArray[np.float64]:
    r"""Generalised IoU of every box in `a` with every box in `b`; it ranks boxes that miss, too.

    .. math:: \mathrm{GIoU} = \mathrm{IoU} - \frac{|H| - |A \cup B|}{|H|}

    where H is the smallest box around the corners of both.

    Args:
        a: (M, 4), xyxy, in pixels.
        b: (N, 4), likewise.
        inclusive: whether edges are pixel indices that belong to the box, as in `box_iou`; H
            follows the same convention.

    Returns:
        (M, N) float64 in [-1, 1], at most `box_iou`: 1 for equal boxes with area, towards -1 the
        more of H is empty. A box without area (inverted edges too) only stretches H, so that its
        value is at most 0; two of them have -1, even if they are equal.

    Raises:
        InputError: a shape is not (K, 4), or a coordinate is not finite.

    Cost:
        O(M N).

    Example:
        >>> box_giou([[0, 0, 10, 10]], [[0, 0, 10, 10], [30, 30, 40, 40], [5, 5, 5, 5]]).tolist()
        [[1.0, -0.875, 0.0]]

    Source:
        Rezatofighi et al., CVPR 2019, arXiv 1902.09630, for boxes with area.
    """
    first, second = as_rows("a", a, 4), as_rows("b", b, 4)
    extra = 1.0 if inclusive else 0.0
    overlap, union = _overlap(first, second, extra)
    # Of an inverted box the corners count, so that no order of its edges shrinks the hull.
    low = np.minimum(*(np.minimum(x[..., :2], x[..., 2:]) for x in _pairs(first, second)))
    high = np.maximum(*(np.maximum(x[..., :2], x[..., 2:]) for x in _pairs(first, second)))
    hull = _area(high - low + extra)
    iou = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    filled = np.divide(union, hull, out=np.zeros_like(overlap), where=union > 0)
    return np.clip(iou - (1.0 - filled), -1.0, 1.0)


def box_l1(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    r"""Mean absolute difference of the coordinates of every box in `a` and every box in `b`.

    .. math:: \frac{1}{4} \sum_{c \in \{x_1, y_1, x_2, y_2\}} |A_c - B_c|

    Args:
        a: (M, 4), xyxy, in pixels.
        b: (N, 4), likewise.

    Returns:
        (M, N) float64, at least 0, in pixels: the mean of the four, where detectors in the
        manner of DETR take their sum. 0 only for equal coordinates; boxes without area are
        compared like any other.

    Raises:
        InputError: a shape is not (K, 4), or a coordinate is not finite.

    Cost:
        O(M N).

    Example:
        >>> box_l1([[100, 100, 300, 300]], [[105, 95, 305, 295], [110, 110, 310, 310]]).tolist()
        [[5.0, 10.0]]

    Source:
        The box terms of Seg-Zero, arXiv 2503.06520, and VisionReasoner, arXiv 2505.12081.
    """
    first, second = _pairs(as_rows("a", a, 4), as_rows("b", b, 4))
    return np.asarray(np.abs(first - second).mean(axis=-1))


def _pairs(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M, 1, 4) and (1, N, 4), which broadcast to all pairs."""
    return a[:, None], b[None, :]


def _overlap(
    a: NDArray[np.float64], b: NDArray[np.float64], extra: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M, N) areas of the intersections and of the unions; `extra` is added to every side."""
    first, second = _pairs(a, b)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    overlap = _area(high - low + extra)
    union = _area(first[..., 2:] - first[..., :2] + extra) - overlap
    return overlap, union + _area(second[..., 2:] - second[..., :2] + extra)


def _area(sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 2) widths and heights to (...) areas; a negative side counts as zero."""
    return np.asarray(np.prod(np.maximum(sides, 0.0), axis=-1))
