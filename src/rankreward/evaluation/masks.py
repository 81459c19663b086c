"""The mask scores of segmentation by words.

Goes in: masks, or per-sample intersections and unions in pixels. Comes out: gIoU, cIoU and their
kin. Papers print the same names and differ on empty masks, so the policy is an argument and never a
default guess; `rankreward.evaluation.protocols` holds each paper's choices.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError
from rankreward.evaluation.measures import Ratio, flags, mean

Empty = Literal["one", "zero", "drop"]
Edge = Literal["above", "at_least"]

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def mask_overlap(predicted: ArrayLike, reference: ArrayLike) -> tuple[int, int]:
    """Intersection and union of two masks.

    Args:
        predicted: (H, W) bool.
        reference: (H, W) bool, of the same image.

    Returns:
        Both areas in pixels; (0, 0) if both masks are empty.

    Raises:
        InputError: the shapes differ, or the masks are not boolean.

    Example:
        >>> mask_overlap([[True, True]], [[False, True]])
        (1, 2)
    """
    first, second = np.asarray(predicted), np.asarray(reference)
    if first.dtype != bool or second.dtype != bool or first.shape != second.shape:
        raise InputError(
            "masks: expected two boolean arrays of one shape, got "
            f"{first.dtype} {first.shape} and {second.dtype} {second.shape}"
        )
    return int(np.count_nonzero(first & second)), int(np.count_nonzero(first | second))


def mean_image_iou(intersection: ArrayLike, union: ArrayLike, *, empty: Empty) -> float:
    r"""Mean over images of the mask IoU; called gIoU or mIoU in papers.

    .. math:: \frac{1}{n} \sum_i \frac{I_i}{U_i}

    Args:
        intersection: (n,) pixels.
        union: (n,) pixels.
        empty: what an image with an empty union, a correct rejection, counts: ``"one"`` (ReLA,
            LISA, and VisionReasoner's no-object script), ``"zero"`` (Seg-Zero's plain script)
            or ``"drop"`` (Dr. Seg's script leaves it out of the mean).

    Returns:
        In [0, 1]; NaN if no image is left.

    Raises:
        InputError: the shapes differ, a value is negative, or an intersection exceeds its union.

    Example:
        >>> i, u = [800, 10, 0, 0], [1000, 100, 0, 500]
        >>> [round(mean_image_iou(i, u, empty=e), 3) for e in ("one", "zero", "drop")]
        [0.475, 0.225, 0.3]
    """
    overlap, whole = _checked(intersection, union)
    if empty not in ("one", "zero", "drop"):
        raise InputError(f"empty: expected 'one', 'zero' or 'drop', got {empty!r}")
    value = np.full(whole.shape, 1.0 if empty == "one" else 0.0)
    np.divide(overlap, whole, out=value, where=whole > 0)
    if empty == "drop":
        value = value[whole > 0]
    return float(value.mean()) if len(value) else float("nan")


def cumulative_iou(intersection: ArrayLike, union: ArrayLike) -> float:
    r"""All intersections over all unions; called cIoU or oIoU in papers.

    .. math:: \frac{\sum_i I_i}{\sum_i U_i}

    Args:
        intersection: (n,) pixels.
        union: (n,) pixels.

    Returns:
        In [0, 1]; NaN if every union is empty. A correct rejection adds nothing to either sum.

    Raises:
        InputError: as for `mean_image_iou`.

    Example:
        >>> round(cumulative_iou([800, 10, 0, 0], [1000, 100, 0, 500]), 4)
        0.5062
    """
    overlap, whole = _checked(intersection, union)
    total = whole.sum()
    return float(overlap.sum() / total) if total > 0 else float("nan")


def mask_measures(
    intersection: ArrayLike,
    union: ArrayLike,
    is_target: ArrayLike,
    is_rejected: ArrayLike,
    *,
    empty: Empty,
    edge: Edge,
) -> dict[str, Ratio]:
    """The measures of masks where some samples ask for something that is not in the image.

    Args:
        intersection: (n,) pixels; 0 for a sample without a target, and for a rejected one.
        union: (n,) pixels; 0 for a sample without a target that is rejected.
        is_target: (n,) bool, whether there is something to find.
        is_rejected: (n,) bool, whether the answer says that there is not. An answer that cannot be
            read says nothing.
        empty: what a correct rejection counts in gIoU, as in `mean_image_iou`. An empty union that
            is no rejection, such as a box whose mask is empty, counts 0, or is dropped likewise.
        edge: whether Pr@t asks for an IoU above t, or of at least t.

    Returns:
        All in [0, 1], NaN where nothing is left to average:

        - ``gIoU``: mean IoU of an image;
        - ``cIoU``: all intersections over all unions;
        - ``N-acc``: share of the samples without a target that are rejected;
        - ``T-acc``: share of the samples with a target that are not;
        - ``Pr@0.5`` to ``Pr@0.9``: share of the samples with a target whose IoU passes t.

    Raises:
        InputError: a shape or area is impossible, or an option does not exist.

    Example:
        >>> found = mask_measures(
        ...     [800, 10, 0, 0], [1000, 100, 0, 500], np.array([True, True, False, False]),
        ...     np.array([False, False, True, False]), empty="one", edge="above",
        ... )
        >>> [round(found[name].value, 4) for name in ("gIoU", "cIoU", "N-acc", "T-acc", "Pr@0.7")]
        [0.475, 0.5062, 0.5, 1.0, 0.5]

    Source:
        GRES, arXiv 2306.00968, section 3. Its released evaluator adds 1 to the denominator of
        N-acc, and divides the correct rejections by all rejections, plus 1, under the name T-acc.
    """
    overlap, whole = _checked(intersection, union)
    target = flags("is_target", is_target, len(whole))
    rejected = flags("is_rejected", is_rejected, len(whole))
    if empty not in get_args(Empty) or edge not in get_args(Edge):
        raise InputError(
            "empty, edge: expected 'one', 'zero' or 'drop', and 'above' or 'at_least', got "
            f"{empty!r} and {edge!r}"
        )
    _check_rejections(overlap, whole, target, rejected)
    iou = np.divide(overlap, whole, out=np.zeros(whole.shape), where=whole > 0)
    values = np.where(~target & rejected, 1.0 if empty == "one" else 0.0, iou)
    kept = whole > 0 if empty == "drop" else np.ones(whole.shape, dtype=bool)
    precise = {
        f"Pr@{t}": mean(iou > t if edge == "above" else iou >= t, target) for t in THRESHOLDS
    }
    return {
        "gIoU": mean(values, kept),
        "cIoU": Ratio(overlap, whole),
        "N-acc": mean(rejected, ~target),
        "T-acc": mean(~rejected, target),
        **precise,
    }


def _check_rejections(
    overlap: NDArray[np.float64],
    whole: NDArray[np.float64],
    target: NDArray[np.bool_],
    rejected: NDArray[np.bool_],
) -> None:
    if ((~target | rejected) & (overlap > 0)).any() or (~target & rejected & (whole > 0)).any():
        raise InputError(
            "intersection, union: expected an intersection of 0 where there is no target or it is "
            "rejected, and a union of 0 where it is rejected and there is none"
        )
    if (target & (whole == 0)).any():
        raise InputError("union: expected pixels where there is a target, got 0")


def _checked(
    intersection: ArrayLike, union: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    overlap = np.asarray(intersection, dtype=np.float64)
    whole = np.asarray(union, dtype=np.float64)
    if overlap.ndim != 1 or overlap.shape != whole.shape:
        raise InputError(
            f"intersection, union: expected two (n,) arrays, got {overlap.shape} and {whole.shape}"
        )
    if not np.all((overlap >= 0) & (overlap <= whole)):
        raise InputError("intersection, union: expected 0 <= intersection <= union")
    return overlap, whole
