"""Raw accuracy metrics of responses against their references.

Goes in: predicted and reference objects of a batch. Comes out: one value a metric, NaN where it
does not apply. Pairs are matched on a continuous cost, made of the very scores that are paid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rankreward.metrics import count_ratio, point_ramp
from rankreward.metrics.ragged import (
    compare_objects,
    match_ragged,
    matched_means,
    sort_objects,
)
from rankreward.parsing import Objects
from rankreward.recipe import BoxIoU, CountRatio, Metric

Floats = NDArray[np.float64]


def raw_metrics(
    predicted: Sequence[Objects], references: Sequence[Objects], metrics: Mapping[str, Metric]
) -> Floats:
    """The recipe's metrics for B samples, in the recipe's order.

    Pairs: the one-to-one matching with the highest sum of the pairwise metrics (box IoU, point
    ramp). Both sides are sorted first, so that the order of an answer can never matter, not
    even where pairs tie.

    Returns:
        (B, N) float64 in [0, 1]. A pairwise metric is the mean over the matched pairs: 0 where
        one side is empty, NaN where both are. The count of two empty sides is 1. What else is in
        the batch does not change a bit of a sample's values.

    Source:
        Dr. Seg, arXiv 2603.00152; the paper leaves the matching open.
    """
    left, rows = _flat(predicted)
    right, columns = _flat(references)
    ious, apart = compare_objects(left, rows, right, columns)
    pairwise = {
        name: ious if isinstance(metric, BoxIoU) else point_ramp(apart, metric.near, metric.far)
        for name, metric in metrics.items()
        if not isinstance(metric, CountRatio)
    }
    chosen = match_ragged(-sum(pairwise.values(), np.zeros(len(ious))), rows, columns)
    values = np.empty((len(rows), len(metrics)))
    for j, name in enumerate(metrics):
        if name in pairwise:
            means = matched_means(pairwise[name], chosen, rows, columns)
            values[:, j] = np.where((rows == 0) != (columns == 0), 0.0, means)
        else:
            values[:, j] = count_ratio(rows, columns)
    return values


def _flat(samples: Sequence[Objects]) -> tuple[Floats, NDArray[np.int64]]:
    """Boxes and points of all samples (T, 6), each sample sorted, and its counts (B,)."""
    counts = np.array([len(objects.boxes) for objects in samples], dtype=np.int64)
    values = np.empty((int(counts.sum()), 6))
    if len(values):
        np.concatenate([objects.boxes for objects in samples], out=values[:, :4])
        np.concatenate([objects.points for objects in samples], out=values[:, 4:])
    return sort_objects(values, counts), counts
