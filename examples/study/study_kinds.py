"""Metrics of pairs with a choice of matching and of scale, for the study's variants.

Goes in: a `Sample`. Comes out: the mean score of matched pairs times `factor`. `continuous` pairs
as the recipe `dr_seg` does, at the highest sum of the scores that are paid; `released` as its
released code does, by how many thresholds a pair meets, so that ties fall to the order of the
answer. Distances are in pixels of the frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import rankreward as rr
from rankreward.metrics import box_iou, box_l1, match, point_distance, point_ramp

Floats = NDArray[np.float64]
Scores = tuple[Floats, Floats, Floats]  # IoU and ramp of all pairs (M, N), and the matching's cost


@rr.term("pair_iou")
def pair_iou(
    sample: rr.Sample,
    *,
    matching: str = "continuous",
    factor: float = 1.0,
    near: float = 3.0,
    far: float = 20.0,
) -> float:
    """The mean IoU of matched boxes, times `factor`."""
    return factor * _mean(sample, 0, matching, near, far)


@rr.term("pair_point")
def pair_point(
    sample: rr.Sample,
    *,
    matching: str = "continuous",
    factor: float = 1.0,
    near: float = 3.0,
    far: float = 20.0,
) -> float:
    """The mean ramp of the distance of matched points, times `factor`."""
    return factor * _mean(sample, 1, matching, near, far)


@rr.term("scaled_count")
def scaled_count(sample: rr.Sample, *, factor: float = 1.0) -> float:
    """The ratio of the counts, times `factor`."""
    given, there = len(_distinct(sample)), len(sample.target.objects)
    most = max(len(sample.response.answer), there)
    return factor * (min(given, there) / most if most else 1.0)


def _mean(sample: rr.Sample, which: int, matching: str, near: float, far: float) -> float:
    """The mean of one score over the matched pairs: NaN for two empty sides, 0 for one."""
    given, there = _distinct(sample), sample.target.objects
    if not len(sample.response.answer) and not len(there):
        return float("nan")
    if not len(given) or not len(there):
        return 0.0
    places = np.asarray(there.points, float).reshape(len(there), 2)
    scores = (_scores if matching == "continuous" else _released)(
        given, np.asarray(there.boxes, float), places, near, far
    )
    rows, columns = match(scores[2])
    return float(scores[which][rows, columns].mean())


def _distinct(sample: rr.Sample) -> Floats:
    """(M, 6) box and point of every object of the answer, in its order; repetitions left out."""
    answer = sample.response.answer
    boxes = np.asarray(answer.boxes, float).reshape(len(answer), 4)
    points = np.asarray(answer.points, float).reshape(len(answer), 2)
    rows = np.concatenate([boxes, points], axis=1)
    return rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])]


def _scores(given: Floats, boxes: Floats, points: Floats, near: float, far: float) -> Scores:
    iou = box_iou(given[:, :4], boxes)
    ramp = point_ramp(point_distance(given[:, 4:], points), near, far)
    return iou, ramp, -(iou + ramp)


def _released(given: Floats, boxes: Floats, points: Floats, near: float, far: float) -> Scores:
    """Paired as the released code does, by IoU of pixels, a third of `near` and `near`.

    What is paid is the same as for `continuous`, so that pairing is all that differs.
    """
    met_iou = box_iou(given[:, :4], boxes, inclusive=True) > 0.5
    distance = point_distance(given[:, 4:], points)
    inside = (given[:, 4:] >= given[:, :2]) & (given[:, 4:] <= given[:, 2:4])
    close = (distance < near) & inside.all(axis=1)[:, None]
    met = met_iou * 1.0 + (box_l1(given[:, :4], boxes) < near / 3) + close
    return box_iou(given[:, :4], boxes), point_ramp(distance, near, far), 3.0 - met
