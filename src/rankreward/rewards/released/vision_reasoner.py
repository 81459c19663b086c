"""The reward of VisionReasoner, as its released code computes it.

Goes in: a completion and the text of its reference. Comes out: what the code pays, to the digit,
with all that the paper does not say: exceptions pay 0, and so does a rightly empty answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.metrics.matching import match
from rankreward.rewards.released.text import CAUGHT, first_body, has_only_blocks

MAX_OBJECTS = 120  # of an answer and of a reference; what is beyond does not count at all
_NUMBERS = {int, float, bool}  # what NumPy makes numbers of; it takes true for 1


@dataclass(frozen=True, eq=False)
class Pairs:
    """The matched pairs, K = min(M, N) of them.

    Attributes:
        iou: (K,), boxes inclusive of their edges; NaN for boxes of NaN.
        distance: (K,), between the points, in pixels; likewise.
        criteria: (K,), how many of the three criteria a pair meets.
    """

    iou: NDArray[np.float64]
    distance: NDArray[np.float64]
    criteria: NDArray[np.float64]


def score(text: str, reference: str) -> dict[str, float]:
    """Score one completion.

    Args:
        text: the completion: ``<think>`` and ``<answer>`` blocks, the latter a JSON list of
            ``{"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}`` in an 840-pixel frame.
        reference: such a list, as JSON.

    Returns:
        ``format`` in [0, 3]; ``accuracy`` in [0, 3], 0 where the answer or the reference is
        broken or empty; ``non_repeat``, 0 or 1; ``total``, their sum. Nothing raises.

    Cost:
        O(len(text)), and a matching of at most 120 by 120.

    Example:
        >>> answer = '[{"bbox_2d": [0, 0, 9, 9], "point_2d": [4, 4]}]'
        >>> score(f"<think>One cat.</think><answer>{answer}</answer>", answer)
        {'format': 3.0, 'accuracy': 3.0, 'non_repeat': 1.0, 'total': 7.0}

    Source:
        VisionReasoner, arXiv 2505.12081: released code, Seg-Zero repository, commit 42a3345.
    """
    data = read_answer(text)
    terms = {
        "format": float(has_only_blocks(text, "think", "answer")) + item_format(data),
        "accuracy": _accuracy(data, reference),
        "non_repeat": float(repeats(each.strip() for each in text.split(".")) < 2),
    }
    return terms | {"total": sum(terms.values())}


def read_answer(text: str) -> Any:
    """The JSON of the first answer block; None where there is none.

    A null is None as well; neither is worth anything to anyone.
    """
    body = first_body(text, "answer")
    try:
        return None if body is None else json.loads(body.strip())
    except (ValueError, RecursionError):
        return None


def item_format(data: Any) -> float:
    """The mean over items of: 1 for a list of four as box, 1 for a list of two as point.

    What follows an item that is not even a container is not looked at.
    """
    if not isinstance(data, list):
        return 0.0  # characters and keys have neither, and nothing else can be walked through
    total = 0.0
    try:
        for item in data:
            good = _is_list(item, "bbox_2d", 4) + _is_list(item, "point_2d", 2)
            total += good / len(data)
    except CAUGHT:
        pass
    return total


def columns(data: Any) -> tuple[list[Any], list[Any]]:
    """The first 120 boxes and points of a list of items; raises where an item lacks one."""
    boxes = [item["bbox_2d"] for item in data]
    points = [item["point_2d"] for item in data]
    return boxes[:MAX_OBJECTS], points[:MAX_OBJECTS]


def reads(reference: str) -> bool:
    """Whether the released code can read a reference, empty ones included."""
    try:
        data = json.loads(reference)
        boxes, points = (_numbers(rows) for rows in columns(data))
    except CAUGHT:
        return False
    return fit(data, boxes, points)


def fit(data: Any, boxes: NDArray[Any], points: NDArray[Any]) -> bool:
    """Whether the arrays of some data have the shapes that can be compared with."""
    empty = isinstance(data, list) and not data
    return empty or (boxes.shape[1:], points.shape[1:]) == ((4,), (2,))


def pair(
    boxes: NDArray[Any], points: NDArray[Any], true_boxes: NDArray[Any], true_points: NDArray[Any]
) -> Pairs:
    """Match predictions to references by how many of the three criteria they meet.

    The criteria are IoU above 0.5; a mean absolute difference of the boxes' coordinates below
    10 pixels; and a point nearer than 30 pixels that lies in its own box. Pairs that meet none
    are matched in the order of the lists.

    Args:
        boxes: (M, 4), xyxy.
        points: (M, 2).
        true_boxes: (N, 4).
        true_points: (N, 2).

    Returns:
        The pairs, in the order of the predictions.

    Raises:
        CAUGHT: one of its errors, where the arrays' shapes or types do not go together.
    """
    with np.errstate(all="ignore"):  # NaN and overflow meet no criterion, and that is all
        iou = _iou(boxes, true_boxes)
        l1 = np.abs(boxes[:, None] - true_boxes[None]).mean(axis=2)
        distance = np.sqrt(((points[:, None] - true_points[None]) ** 2).sum(axis=2))
    x, y = points[:, 0], points[:, 1]
    inside = (x >= boxes[:, 0]) & (y >= boxes[:, 1]) & (x <= boxes[:, 2]) & (y <= boxes[:, 3])
    criteria = (iou > 0.5).astype(float) + (l1 < 10) + ((distance < 30) & inside[:, None])
    rows, matched = match(3.0 - criteria)
    return Pairs(iou[rows, matched], distance[rows, matched], criteria[rows, matched])


def repeats(sentences: Any) -> int:
    """How many of the sentences repeat an earlier one; empty ones do not count."""
    kept = [each for each in sentences if each]
    return len(kept) - len(set(kept))


def _accuracy(data: Any, reference: str) -> float:
    """Criteria met by matched pairs, over the larger of the two counts."""
    try:
        boxes, points = map(_numbers, columns(data))
        true_boxes, true_points = map(_numbers, columns(json.loads(reference)))
        if not (len(boxes) and len(true_boxes)):
            return 0.0  # the released code trips over an empty array
        pairs = pair(boxes, points, true_boxes, true_points)
        return float(pairs.criteria.sum()) / max(len(boxes), len(true_boxes))
    except CAUGHT:
        return 0.0


def _numbers(rows: Sequence[Any]) -> NDArray[Any]:
    """Rows of numbers as an array of the type that NumPy finds, which is the released code's.

    Texts are refused first: NumPy pads them all to the longest, and the arithmetic fails anyway.
    """
    for row in rows:
        if not (isinstance(row, list) and _NUMBERS.issuperset(map(type, row))):
            raise TypeError
    return np.array(rows)


def _is_list(item: Any, key: str, length: int) -> int:
    return int(key in item and isinstance(item[key], list) and len(item[key]) == length)


def _iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """(M, N) IoU of boxes that hold their edges' pixels; an inverted box has a negative area."""
    if a.shape[1:] == b.shape[1:] == (4,):  # ten times as fast as to split
        first, second = a.T[:, :, None], b.T[:, None, :]
        low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
        width, height = np.maximum(high - low + 1, 0)
        (w, h), (u, v) = first[2:] - first[:2] + 1, second[2:] - second[:2] + 1
        overlap = width * height
        return np.asarray(overlap / (w * h + u * v - overlap))
    ax1, ay1, ax2, ay2 = np.split(a, 4, axis=1)
    bx1, by1, bx2, by2 = (column.T for column in np.split(b, 4, axis=1))
    width = np.maximum(np.minimum(ax2, bx2) - np.maximum(ax1, bx1) + 1, 0)
    height = np.maximum(np.minimum(ay2, by2) - np.maximum(ay1, by1) + 1, 0)
    overlap = width * height
    areas = (ax2 - ax1 + 1) * (ay2 - ay1 + 1) + (bx2 - bx1 + 1) * (by2 - by1 + 1)
    return np.asarray(overlap / (areas - overlap))
