"""What a window says about its metrics: the paper's diagnosis as numbers.

Goes in: the rows of a window. Comes out: a `MetricSummary` a metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankreward.quantiles.ecdf import Ties, ecdf
from rankreward.quantiles.window import deviation

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MetricSummary:
    """One metric over the rows of a window in which it is defined.

    Attributes:
        mean: of the values; NaN where there are none, as everywhere below.
        std: their standard deviation (of the population).
        zeros: the share of values that are exactly 0.
        ones: the share that are exactly 1.
        drift: Kolmogorov-Smirnov distance, in [0, 1], between the values of the last step and
            those of the rows before it.
        variance_share: its variance as a share of the sum over all metrics. Added up raw, the
            metric with the largest share drives the reward.
        rank_variance_share: the same of the ranks.
    """

    mean: float
    std: float
    zeros: float
    ones: float
    drift: float
    variance_share: float
    rank_variance_share: float


def summarize(
    rows: Floats, latest: int, metrics: Sequence[str], ties: Ties
) -> dict[str, MetricSummary]:
    """Summarise a window.

    Args:
        rows: (M, N) float64, oldest first.
        latest: how many rows at the end are those of the last step.
        metrics: N names.
        ties: the window's rule, by which the ranks are taken.

    Returns:
        A summary a metric, in order.
    """
    columns = [column[~np.isnan(column)] for column in rows.T]
    older, newer = rows[: len(rows) - latest], rows[len(rows) - latest :]
    variances = [_variance(column) for column in columns]
    raw = _shares(variances)
    ranked = _shares([_variance(ecdf(np.sort(column), column, ties)) for column in columns])
    return {
        name: MetricSummary(
            mean=_mean(column),
            std=deviation(column) if len(column) else float("nan"),
            zeros=_mean(column == 0),
            ones=_mean(column == 1),
            drift=_distance(older[:, j], newer[:, j]),
            variance_share=raw[j],
            rank_variance_share=ranked[j],
        )
        for j, (name, column) in enumerate(zip(metrics, columns, strict=True))
    }


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    with np.errstate(over="ignore"):  # a sum of huge values is infinite, and says so
        return float(values.mean()) if len(values) else float("nan")


def _variance(values: Floats) -> float:
    return deviation(values) ** 2 if len(values) else float("nan")


def _shares(variances: list[float]) -> list[float]:
    total = float(np.nansum(variances))
    known = 0 < total < float("inf")
    return [variance / total if known else float("nan") for variance in variances]


def _distance(a: Floats, b: Floats) -> float:
    """The largest gap between two distribution functions; both change at values of theirs only."""
    a, b = np.sort(a[~np.isnan(a)]), np.sort(b[~np.isnan(b)])
    if len(a) == 0 or len(b) == 0:
        return float("nan")
    both = np.concatenate([a, b])
    return float(np.abs(ecdf(a, both) - ecdf(b, both)).max())
