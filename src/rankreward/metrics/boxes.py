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
    first, second = as_rows("a", a, 4)[:, None], as_rows("b", b, 4)[None, :]
    extra = 1.0 if inclusive else 0.0
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    overlap = _area(high - low + extra)
    union = _area(first[..., 2:] - first[..., :2] + extra) - overlap
    union = union + _area(second[..., 2:] - second[..., :2] + extra)
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def _area(sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 2) widths and heights to (...) areas; a negative side counts as zero."""
    return np.asarray(np.prod(np.maximum(sides, 0.0), axis=-1))
