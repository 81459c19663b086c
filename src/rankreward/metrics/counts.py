"""Counts: whether as many objects were given as there are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def count_ratio(predicted: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    r"""Agreement of two counts.

    .. math:: \frac{\min(M, N)}{\max(M, N)}

    Args:
        predicted: counts M, any shape, at least 0.
        reference: counts N, of a shape that broadcasts with it.

    Returns:
        float64 in [0, 1]: 1 where the counts are equal, both empty included; 0 where just one
        of them is empty.

    Example:
        >>> count_ratio([0, 1, 3, 2], [0, 2, 1, 0]).round(3).tolist()
        [1.0, 0.5, 0.333, 0.0]

    Source:
        Dr. Seg, arXiv 2603.00152, the second accuracy metric.
    """
    m, n = np.asarray(predicted, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    least, most = np.minimum(m, n), np.maximum(m, n)
    return np.divide(least, most, out=np.ones_like(most), where=most > 0)
