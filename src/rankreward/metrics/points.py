"""Points: how far apart, and what that is worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError
from rankreward.metrics.arrays import as_rows


def point_distance(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Euclidean distance of every point in `a` to every point in `b`.

    Args:
        a: (M, 2), xy, in pixels.
        b: (N, 2), likewise.

    Returns:
        (M, N) float64, at least 0, in pixels.

    Raises:
        InputError: a shape is not (K, 2), or a coordinate is not finite.

    Example:
        >>> point_distance([[0, 0]], [[3, 4], [0, 0]]).tolist()
        [[5.0, 0.0]]
    """
    difference = as_rows("a", a, 2)[:, None] - as_rows("b", b, 2)[None, :]
    x, y = difference[..., 0], difference[..., 1]
    return np.asarray(np.sqrt(x * x + y * y))  # as the kernels do it, to the bit


def point_ramp(distance: ArrayLike, near: float = 30.0, far: float = 200.0) -> NDArray[np.float64]:
    r"""What a distance is worth: all of it near by, nothing far away, a straight line between.

    .. math:: g(d) = \min(1, \max(0, (far - d) / (far - near)))

    Args:
        distance: any shape, in pixels, at least 0.
        near: up to this distance the value is 1, in pixels.
        far: from this distance on it is 0, in pixels; above `near`.

    Returns:
        float64 of the same shape, in [0, 1]; NaN stays NaN.

    Raises:
        InputError: `far` is not above `near`.

    Example:
        >>> point_ramp([0.0, 30.0, 115.0, 200.0, 999.0]).tolist()
        [1.0, 1.0, 0.5, 0.0, 0.0]

    Source:
        Dr. Seg, arXiv 2603.00152, the third accuracy metric; 30 and 200 pixels of an 840 frame.
    """
    if not far > near:
        raise InputError(f"far: expected more than near ({near:g}), got {far:g}")
    return np.clip((far - np.asarray(distance, dtype=np.float64)) / (far - near), 0.0, 1.0)
