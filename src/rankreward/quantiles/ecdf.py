"""The empirical distribution function of a sorted sample, and the sample's upkeep, in NumPy.

Goes in: one metric's history, sorted, and values to rank. Comes out: their ranks in [0, 1]. These
functions serve until the compiled ones of `kernels` are loaded, and say what those must answer.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ties = Literal["weak", "strict", "mid"]

# What a history value equal to the ranked one counts; against an empty history, the rank itself.
EQUAL_SHARE: dict[Ties, float] = {"weak": 1.0, "strict": 0.0, "mid": 0.5}


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
        ranks = np.full(values.shape, EQUAL_SHARE[ties])
    elif ties == "mid":
        below = np.searchsorted(history, values, side="left")
        ranks = (below + np.searchsorted(history, values, side="right")) / (2.0 * len(history))
    else:
        side: Literal["left", "right"] = "right" if ties == "weak" else "left"
        ranks = np.searchsorted(history, values, side=side) / len(history)
    return np.where(np.isnan(values), np.nan, ranks)


def merge(
    columns: NDArray[np.float64],
    counts: NDArray[np.int64],
    leaving: NDArray[np.float64],
    entering: NDArray[np.float64],
    out: NDArray[np.float64],
    sizes: NDArray[np.int64],
) -> None:
    """Sorted columns without some values and with others, still sorted; twin of `kernels.merge`.

    Args:
        columns: (N, M) float64; the first `counts` values of each are sorted, without NaN.
        counts: (N,).
        leaving: (N, L) sorted, NaN last; each value stands in its column, as often as here.
        entering: (N, E) sorted, NaN last.
        out: (N, at least the largest new size), filled up to the new sizes.
        sizes: (N,), filled.
    """
    for column, count, gone, new, target, j in zip(
        columns, counts, leaving, entering, out, range(len(columns)), strict=True
    ):
        gone, new = gone[~np.isnan(gone)], new[~np.isnan(new)]  # noqa: PLW2901
        old = column[:count]
        # of equal values the n-th one that leaves is the n-th of its run
        nth = np.arange(len(gone)) - np.searchsorted(gone, gone)
        kept = np.delete(old, np.searchsorted(old, gone) + nth)
        merged = np.insert(kept, np.searchsorted(kept, new), new)
        target[: len(merged)] = merged
        sizes[j] = len(merged)


def shuffle_keys(
    rows: NDArray[np.float64], seed: np.uint64, order: NDArray[np.int64], keys: NDArray[np.uint64]
) -> None:
    """The lexicographic order of rows, and as many random numbers; twin of `kernels.shuffle_keys`.

    Args:
        rows: (B, N) float64; NaN is above all numbers.
        seed: where the generator begins.
        order: (B,), filled with places of rows.
        keys: (B,), filled with the first numbers of the generator.

    Source:
        The generator is SplitMix64 (Steele, Lea, Flood 2014), whose stream is fixed for all time;
        NumPy's `permutation` may change between releases.
    """
    order[:] = np.lexsort(rows.T[::-1])
    z = seed + np.arange(1, len(rows) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    keys[:] = z ^ (z >> np.uint64(31))
