"""Raw accuracy metrics of a response against its reference.

Goes in: predicted and reference objects. Comes out: one value a metric, NaN where it does not
apply. Pairs are matched on a continuous cost, made of the very scores that are paid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rankreward.metrics import box_iou, count_ratio, match, point_distance, point_ramp
from rankreward.parsing import Objects
from rankreward.recipe import BoxIoU, CountRatio, Metric


def raw_metrics(
    predicted: Objects, reference: Objects, metrics: Mapping[str, Metric]
) -> tuple[float, ...]:
    """The recipe's metrics, in its order.

    Pairs: the one-to-one matching with the highest sum of the pairwise metrics (box IoU, point
    ramp). Both sides are sorted first, so that the order of an answer can never matter, not
    even where pairs tie.

    Returns:
        One value a metric, in [0, 1]. A pairwise metric is the mean over the matched pairs: 0
        where one side is empty, NaN where both are. The count of two empty sides is 1.

    Source:
        Dr. Seg, arXiv 2603.00152; the paper leaves the matching open.
    """
    predicted, reference = _sorted(predicted), _sorted(reference)
    pairwise = {
        name: _pairwise(metric, predicted, reference)
        for name, metric in metrics.items()
        if not isinstance(metric, CountRatio)
    }
    rows, columns = match(-sum(pairwise.values(), np.zeros((len(predicted), len(reference)))))
    values = []
    for name in metrics:
        if name not in pairwise:
            values.append(float(count_ratio(len(predicted), len(reference))))
        elif len(rows):
            # fsum rounds once, so that the sum does not depend on the order of the pairs
            values.append(math.fsum(pairwise[name][rows, columns]) / len(rows))
        else:
            values.append(math.nan if len(predicted) == len(reference) else 0.0)
    return tuple(values)


def _pairwise(metric: Metric, predicted: Objects, reference: Objects) -> NDArray[np.float64]:
    """(M, N) scores in [0, 1] of every prediction against every reference object."""
    if isinstance(metric, BoxIoU):
        return box_iou(predicted.boxes, reference.boxes)
    assert not isinstance(metric, CountRatio)
    distance = point_distance(predicted.points, reference.points)
    return point_ramp(distance, metric.near, metric.far)


def _sorted(objects: Objects) -> Objects:
    order = np.lexsort(np.hstack([objects.boxes, objects.points]).T[::-1])
    return Objects(objects.boxes[order], objects.points[order])
