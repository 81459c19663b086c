"""The two mask scores of referring segmentation, with the policies for empty masks.

Goes in: per-sample intersections and unions in pixels. Comes out: one number. Papers print the
same names and differ on empty masks, so the policy is an argument and never a default guess.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError

Empty = Literal["one", "zero", "drop"]


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
