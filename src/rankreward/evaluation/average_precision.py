"""COCO's average precision for policies that give boxes without scores.

Goes in: predicted and reference boxes of n images, and what stands in for scores. Comes out: the
average precisions of pycocotools, beside precision, recall and F1, which need no scores.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError, require
from rankreward.evaluation.detection import (
    Answers,
    Boxes,
    Labels,
    match_boxes,
    number_labels,
    read_boxes,
    readable,
)
from rankreward.evaluation.measures import Floats
from rankreward.metrics.arrays import as_rows

Score = Literal["area", "constant", "order"]


def detection_scores(
    predicted: Answers,
    reference: Boxes,
    *,
    score: Score,
    sizes: ArrayLike | None = None,
    predicted_labels: Labels | None = None,
    reference_labels: Labels | None = None,
) -> dict[str, float]:
    """COCO's average precision through a stand-in for scores, and what needs no such thing.

    The policies give boxes without scores, and AP depends on the order that scores make: the same
    boxes may have an AP of 0.54 or 0.77. Precision, recall and F1 stand beside it for that reason.

    Args:
        predicted: as in `match_boxes`; in the order of the answer.
        reference: likewise.
        score: what stands in: ``"area"``, the box's share of its image, as in VisionReasoner's
            script; ``"constant"``, so that the images' and answers' order decides; or
            ``"order"``, the first box of each answer before all second ones. No score looks at
            references, where that script gives 0 to boxes of an image without any.
        sizes: (n, 2), width and height of each image in the boxes' frame, for ``"area"``.
        predicted_labels: as in `match_boxes`. AP is the mean over labels that references have;
            boxes with other labels cost precision alone.
        reference_labels: likewise.

    Returns:
        ``AP`` (the mean over IoU 0.5 to 0.95 in steps of 0.05), ``AP50`` and ``AP75``, with COCO's
        101 recalls, at most 100 boxes an image and label, and every area; NaN without references.
        Then the values of `BoxMatches.measures` at IoU 0.5.

    Raises:
        InputError: as in `match_boxes`, or the score or sizes are other ones.
        MissingExtraError: pycocotools is not installed.

    Example:
        >>> found = [[[0, 0, 90, 90], [0, 0, 10, 10]]]  # the larger one is wrong
        >>> sought, sizes = [[[0, 0, 10, 10]]], [[100, 100]]
        >>> [detection_scores(found, sought, score="area", sizes=sizes)[m] for m in ("AP", "F1")]
        [0.5, 0.6666666666666666]

    Source:
        Lin et al., arXiv 1405.0312, and pycocotools; VisionReasoner, arXiv 2505.12081.
    """
    matches = match_boxes(
        predicted,
        reference,
        predicted_labels=predicted_labels,
        reference_labels=reference_labels,
    )
    answers, targets = read_boxes(predicted, reference)
    boxes = readable(answers)
    found, sought = number_labels(boxes, targets, predicted_labels, reference_labels)
    scores = _scores(boxes, score, sizes)
    precision = _coco_precision(
        _records(targets, sought), _records(boxes, found, scores), len(boxes)
    )
    return {
        "AP": _mean_precision(precision),
        "AP50": _mean_precision(precision[:1]),
        "AP75": _mean_precision(precision[5:6]),
        **{name: measure.value for name, measure in matches.measures().items()},
    }


def _scores(boxes: Sequence[Floats], score: Score, sizes: ArrayLike | None) -> list[Floats]:
    if score not in get_args(Score):
        raise InputError(f"score: expected 'area', 'constant' or 'order', got {score!r}")
    if score == "constant":
        return [np.ones(len(one)) for one in boxes]
    if score == "order":
        return [1.0 / np.arange(1, len(one) + 1) for one in boxes]
    if sizes is None:
        raise InputError("sizes: expected (n, 2), width and height of each image, got None")
    frames = as_rows("sizes", sizes, 2)
    if len(frames) != len(boxes) or (frames <= 0).any():
        raise InputError(f"sizes: expected ({len(boxes)}, 2) above 0, got shape {frames.shape}")
    return [
        _sides(one).prod(axis=1) / frame.prod() for one, frame in zip(boxes, frames, strict=True)
    ]


def _sides(boxes: Floats) -> Floats:
    """(K, 2) widths and heights; 0 where edges are inverted, for COCO overlooks negative areas."""
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)


def _records(
    boxes: Sequence[Floats],
    labels: Sequence[NDArray[np.int64]],
    scores: Sequence[Floats] | None = None,
) -> list[dict[str, Any]]:
    """Boxes in COCO's form; images and boxes are numbered from 1, for 0 means unmatched there."""
    records: list[dict[str, Any]] = []
    for image, (rows, names) in enumerate(zip(boxes, labels, strict=True)):
        shapes = np.concatenate([rows[:, :2], _sides(rows)], axis=1).tolist()
        for place, (shape, name) in enumerate(zip(shapes, names.tolist(), strict=True)):
            record = {
                "id": len(records) + 1,
                "image_id": image + 1,
                "category_id": name,
                "bbox": shape,
                "area": shape[2] * shape[3],
                "iscrowd": 0,
            }
            if scores is not None:
                record["score"] = float(scores[image][place])
            records.append(record)
    return records


def _coco_precision(
    references: list[dict[str, Any]], predictions: list[dict[str, Any]], images: int
) -> Floats:
    """(10, 101, labels): precision by IoU, recall, and label of the references."""
    cocoeval = require("pycocotools.cocoeval", extra="eval")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints, and has no switch for that
        sides = [_coco(side, references, images) for side in (references, predictions)]
        run = cocoeval.COCOeval(*sides, "bbox")
        run.params.maxDets = [100]
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.evaluate()
        run.accumulate()
    return np.asarray(run.eval["precision"][..., 0, 0], dtype=np.float64)


def _coco(records: list[dict[str, Any]], references: list[dict[str, Any]], images: int) -> Any:
    coco = require("pycocotools.coco", extra="eval").COCO()
    coco.dataset = {
        "images": [{"id": image + 1} for image in range(images)],
        "categories": [{"id": name} for name in sorted({r["category_id"] for r in references})],
        "annotations": records,
    }
    coco.createIndex()
    return coco


def _mean_precision(precision: Floats) -> float:
    return float(precision.mean()) if precision.size else float("nan")
