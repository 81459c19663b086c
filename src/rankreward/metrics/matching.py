"""Matching: which prediction answers which reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from rankreward.errors import InputError


def match(cost: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair rows with columns, one to one, at the least total cost.

    Args:
        cost: (M, N), finite. A continuous cost; one made of thresholds ties, and then the pairs
            depend on the order of the rows.

    Returns:
        Two (min(M, N),) arrays, the rows in ascending order and their columns. Both are empty
        if M or N is 0.

    Raises:
        InputError: `cost` is not a finite matrix.

    Cost:
        O(min(M, N)^2 max(M, N)); SciPy's shortest augmenting paths.

    Example:
        >>> rows, columns = match([[0.9, 0.1], [0.2, 0.8]])
        >>> rows.tolist(), columns.tolist()
        ([0, 1], [1, 0])
    """
    matrix = np.asarray(cost, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise InputError(f"cost: expected a finite (M, N) matrix, got shape {matrix.shape}")
    rows, columns = linear_sum_assignment(matrix)
    return rows, columns
