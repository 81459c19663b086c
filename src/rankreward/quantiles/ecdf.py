"""The empirical distribution function, as a pure function of a sorted sample.

Goes in: one metric's history, sorted, and values to rank. Comes out: their ranks in [0, 1].
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ties = Literal["weak", "strict", "mid"]

_EMPTY = {"weak": 1.0, "strict": 0.0, "mid": 0.5}


def ecdf(
    history: NDArray[np.float64], values: NDArray[np.float64], ties: Ties = "weak"
) -> NDArray[np.float64]:
    r"""Rank values in a history.

    .. math:: F(x) = \frac{1}{n} \sum_{i=1}^{n} [h_i \le x]

    for ``ties="weak"``, with :math:`<` for ``"strict"``, and the mean of the two for ``"mid"``.

    Args:
        history: (n,) float64, ascending, without NaN.
        values: (B,) float64.
        ties: what a history value equal to x counts: 1 (weak), 0 (strict) or one half (mid).

    Returns:
        (B,) float64 in [0, 1]. NaN stays NaN. Against an empty history every value ranks 1
        (weak), 0 (strict) or 0.5 (mid).

    Cost:
        O(B log n).

    Example:
        >>> ecdf(np.array([0.0, 0.0, 0.5, 1.0]), np.array([0.0, 0.7, np.nan])).tolist()
        [0.5, 0.75, nan]

    Source:
        Dr. Seg, arXiv 2603.00152: q_j = (1/M) #{s <= x_j}; the paper's rule is ``"weak"``.
    """
    if len(history) == 0:
        ranks = np.full(values.shape, _EMPTY[ties])
    elif ties == "mid":
        below = np.searchsorted(history, values, side="left")
        ranks = (below + np.searchsorted(history, values, side="right")) / (2.0 * len(history))
    else:
        side: Literal["left", "right"] = "right" if ties == "weak" else "left"
        ranks = np.searchsorted(history, values, side=side) / len(history)
    return np.where(np.isnan(values), np.nan, ranks)
