"""Boxes: how many were found, in the words of three tasks that print other things by one name.

Goes in: predicted and reference boxes of n images. Comes out: for one object an image, hit rates;
for many, precision, recall and F1 from one-to-one matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError
from rankreward.evaluation.measures import Floats, Ratio, mean
from rankreward.metrics import box_iou, match
from rankreward.metrics.arrays import as_rows

Boxes = Sequence[ArrayLike]
Answers = Sequence[ArrayLike | None]
Labels = Sequence[Sequence[Any]]


def hit_rate(predicted: Answers, reference: Boxes, *, threshold: float = 0.5) -> Ratio:
    """Share of samples whose first box hits its reference; REC accuracy.

    Args:
        predicted: n answers, each (K, 4), xyxy, in any one frame; None for one that could not be
            read, which is a miss. Of several boxes the first counts.
        reference: n of (K, 4), likewise; the first counts. A sample without one is hit by an
            answer without boxes.
        threshold: the IoU to pass, exclusive. Edges are continuous: a box of one column of pixels
            whose edges are those pixels' indices has no area, and nothing hits it, itself neither.

    Returns:
        A measure in [0, 1]; NaN without samples.

    Raises:
        InputError: the lengths differ, or boxes are not (K, 4) finite numbers.

    Example:
        >>> hit_rate([[[0, 0, 10, 10]], None], [[[0, 0, 10, 9]], [[0, 0, 5, 5]]]).value
        0.5

    Source:
        VisionReasoner, arXiv 2505.12081, for samples without a reference.
    """
    answers, targets = read_boxes(predicted, reference)
    firsts = [None if boxes is None else boxes[:1] for boxes in answers]
    return _hits(firsts, targets, threshold)


def any_box_hit_rate(
    predicted: Answers, reference: Boxes, *, threshold: float = 0.5, merged: bool = True
) -> Ratio:
    """Share of samples where any box hits the reference; papers call it bbox AP.

    It is no average precision: further boxes cost nothing, so that it is at least `hit_rate`.

    Args:
        predicted: as in `hit_rate`, but every box counts.
        reference: as in `hit_rate`.
        threshold: likewise.
        merged: whether the smallest box around all of them counts, too, as in VisionReasoner's
            scripts for several objects.

    Returns:
        A measure in [0, 1]; NaN without samples.

    Raises:
        InputError: as in `hit_rate`.

    Example:
        >>> found, sought = [[[0, 0, 4, 10], [6, 0, 10, 10]]], [[[0, 0, 10, 10]]]
        >>> [any_box_hit_rate(found, sought, merged=hull).value for hull in (True, False)]
        [1.0, 0.0]

    Source:
        VisionReasoner, arXiv 2505.12081, its evaluation of masks with boxes.
    """
    answers, targets = read_boxes(predicted, reference)
    if merged:
        answers = [_with_hull(boxes) for boxes in answers]
    return _hits(answers, targets, threshold)


@dataclass(frozen=True, eq=False)
class BoxMatches:
    """One-to-one matches of n images.

    Attributes:
        matched: (n,) int64, pairs whose IoU is at least the threshold, as many as can be.
        predicted: (n,) int64, predicted boxes.
        reference: (n,) int64, reference boxes.
        unreadable: (n,) bool, answers that could not be read; they have no boxes.
    """

    matched: NDArray[np.int64]
    predicted: NDArray[np.int64]
    reference: NDArray[np.int64]
    unreadable: NDArray[np.bool_]

    def measures(self) -> dict[str, Ratio]:
        """Precision, recall and F1.

        Returns:
            ``precision``, ``recall`` and ``F1`` over all boxes; ``macro precision`` and so on, the
            means over the images that define them: those with predicted boxes, with references,
            with either; and ``unreadable answers``, a share of all images. In [0, 1], NaN where
            nothing defines them. A correct rejection enters none but the last.
        """
        columns = {
            "precision": (self.matched, self.predicted),
            "recall": (self.matched, self.reference),
            "F1": (2 * self.matched, self.predicted + self.reference),
        }
        micro = {
            name: Ratio(part.astype(np.float64), whole.astype(np.float64))
            for name, (part, whole) in columns.items()
        }
        macro = {f"macro {name}": _macro(*pair) for name, pair in columns.items()}
        return {**micro, **macro, "unreadable answers": mean(self.unreadable)}


def match_boxes(
    predicted: Answers,
    reference: Boxes,
    *,
    threshold: float = 0.5,
    predicted_labels: Labels | None = None,
    reference_labels: Labels | None = None,
) -> BoxMatches:
    """Match the boxes of each image one to one; no score is needed, and no order counts.

    Args:
        predicted: n answers, each (K, 4), xyxy, in any one frame; None for one that could not be
            read.
        reference: n of (K, 4), likewise.
        threshold: least IoU of a pair, in (0, 1], inclusive as in COCO.
        predicted_labels: n sequences, a label a box; boxes with different labels never match.
            Give both or neither.
        reference_labels: likewise.

    Returns:
        The counts of each image.

    Raises:
        InputError: the lengths differ, boxes are not (K, 4) finite numbers, labels are missing, or
            the threshold is another one.

    Example:
        >>> found = match_boxes([[[0, 0, 9, 9], [50, 50, 60, 60]]], [[[0, 0, 10, 10]]])
        >>> {name: round(value.value, 3) for name, value in list(found.measures().items())[:3]}
        {'precision': 0.5, 'recall': 1.0, 'F1': 0.667}
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold: expected a number in (0, 1], got {threshold!r}")
    answers, targets = read_boxes(predicted, reference)
    boxes = readable(answers)
    found, sought = number_labels(boxes, targets, predicted_labels, reference_labels)
    matched = [
        _pairs(box_iou(a, b) * (x[:, None] == y[None, :]), threshold)
        for a, b, x, y in zip(boxes, targets, found, sought, strict=True)
    ]
    return BoxMatches(
        np.array(matched, dtype=np.int64),
        np.array([len(one) for one in boxes], dtype=np.int64),
        np.array([len(one) for one in targets], dtype=np.int64),
        np.array([one is None for one in answers], dtype=bool),
    )


def read_boxes(predicted: Answers, reference: Boxes) -> tuple[list[Floats | None], list[Floats]]:
    """Answers and references as (K, 4) float64; None stays None.

    Raises:
        InputError: the lengths differ, or boxes are not (K, 4) finite numbers.
    """
    if len(predicted) != len(reference):
        raise InputError(
            "predicted, reference: expected one answer a sample, got "
            f"{len(predicted)} and {len(reference)}"
        )
    answers = [
        None if boxes is None else as_rows(f"predicted[{index}]", boxes, 4)
        for index, boxes in enumerate(predicted)
    ]
    return answers, [
        as_rows(f"reference[{index}]", boxes, 4) for index, boxes in enumerate(reference)
    ]


def readable(answers: Sequence[Floats | None]) -> list[Floats]:
    """What cannot be read has no boxes."""
    return [np.empty((0, 4)) if boxes is None else boxes for boxes in answers]


def _hits(answers: Sequence[Floats | None], targets: Sequence[Floats], threshold: float) -> Ratio:
    hits = [
        found is not None
        and (
            bool((box_iou(found, sought[:1]) > threshold).any()) if len(sought) else not len(found)
        )
        for found, sought in zip(answers, targets, strict=True)
    ]
    return mean(np.array(hits, dtype=bool))


def _with_hull(boxes: Floats | None) -> Floats | None:
    """The boxes, and the smallest one around them."""
    if boxes is None or not len(boxes):
        return boxes
    hull = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    return np.concatenate([boxes, hull[None]])


def number_labels(
    boxes: Sequence[Floats], targets: Sequence[Floats], found: Labels | None, sought: Labels | None
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Labels as numbers from 1, equal where labels are; all 1 without labels."""
    if found is None and sought is None:
        same = [[np.ones(len(one), dtype=np.int64) for one in side] for side in (boxes, targets)]
        return same[0], same[1]
    if found is None or sought is None:
        raise InputError("labels: expected them for both predicted and reference boxes, or neither")
    numbers: dict[Any, int] = {}
    sides = []
    for name, side, labels in (("predicted", boxes, found), ("reference", targets, sought)):
        if [len(one) for one in labels] != [len(one) for one in side]:
            raise InputError(f"{name}_labels: expected one a box, of every image")
        sides.append(
            [
                np.array([numbers.setdefault(x, len(numbers) + 1) for x in one], dtype=np.int64)
                for one in labels
            ]
        )
    return sides[0], sides[1]


def _pairs(iou: Floats, threshold: float) -> int:
    """The most pairs, one to one, that pass; so neither order nor a lucky cost decides."""
    passed = iou >= threshold
    return int(passed[match(-passed.astype(np.float64))].sum())


def _macro(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Ratio:
    defined = whole > 0
    return mean(np.divide(part, whole, out=np.zeros(len(whole)), where=defined), defined)
