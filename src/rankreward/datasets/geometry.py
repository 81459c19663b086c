"""From masks to boxes and interior points, with the conventions said aloud.

Goes in: the mask of one object. Comes out: its box, inclusive or exclusive, and one or two points
deep inside it. Distances are Euclidean, from the centre of a pixel to that of the nearest pixel
outside the mask; what lies beyond the image's edge is outside. Of equally deep pixels the topmost
counts, and of these the leftmost, so that equal masks give equal points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rankreward.errors import InputError

Mask = NDArray[np.bool_]
Second = Literal["median", "circles"]


def box_of(mask: Mask, *, inclusive: bool) -> NDArray[np.float64]:
    """The box around a mask.

    Args:
        mask: (H, W) bool, not empty.
        inclusive: whether the right and lower edges are the last pixel's own index, as in the
            data of VisionReasoner and Seg-Zero, or the index after it. An inclusive box has no
            width where the mask is one pixel wide, and no recipe here reads such a reference.

    Returns:
        (4,) float64, xyxy, in pixels.

    Raises:
        InputError: the mask is empty.

    Example:
        >>> mask = np.zeros((4, 6), dtype=bool)
        >>> mask[1:3, 2:5] = True
        >>> box_of(mask, inclusive=True).tolist(), box_of(mask, inclusive=False).tolist()
        ([2.0, 1.0, 4.0, 2.0], [2.0, 1.0, 5.0, 3.0])
    """
    rows, columns = _extent(mask)
    step = 0 if inclusive else 1
    return np.array([columns[0], rows[0], columns[1] + step, rows[1] + step], dtype=np.float64)


def interior_points(mask: Mask, count: int = 1, second: Second = "median") -> NDArray[np.float64]:
    """One or two pixels deep inside a mask.

    The first is the maximum of the distance transform. The second, with ``"median"``
    (VisionReasoner's data), is the maximum among the pixels further from the first than the median
    pixel; with ``"circles"`` (Seg-Zero's prompt), the centre of the largest circle inscribed in
    what the first inscribed circle leaves. Where there is no such pixel, it is the first again.

    Args:
        mask: (H, W) bool, not empty.
        count: 1 or 2.
        second: how the second is chosen.

    Returns:
        (count, 2) float64, xy, indices of pixels of the mask.

    Raises:
        InputError: the mask is empty, or an argument is none of these.

    Cost:
        O(h w) for the h by w pixels of the mask's box.

    Source:
        VisionReasoner, arXiv 2505.12081, and Seg-Zero, arXiv 2503.06520, with their released data
        preparation; that takes no notice of the image's edge.

    Example:
        >>> interior_points(np.ones((3, 9), dtype=bool), 2).tolist()
        [[1.0, 1.0], [5.0, 1.0]]
    """
    if count not in (1, 2) or second not in ("median", "circles"):
        raise InputError(
            f"points: expected 1 or 2 of them, by 'median' or 'circles', got {count} by {second!r}"
        )
    rows, columns = _extent(mask)
    part = np.asarray(mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1])
    depth = _depth(part)
    found = [_deepest(depth)]
    if count == 2:
        pick = _far_pixels if second == "median" else _outside_circle
        found.append(_deepest(pick(part, depth, found[0]), found[0]))
    offset = np.array([columns[0], rows[0]], dtype=np.float64)
    return np.array([(column, row) for row, column in found], dtype=np.float64) + offset


def objects_of(
    masks: Sequence[Mask], *, inclusive: bool = True, points: int = 1, second: Second = "median"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes (K, 4) and points (K, P, 2) of K masks; see `box_of` and `interior_points`."""
    boxes = [box_of(mask, inclusive=inclusive) for mask in masks]
    places = [interior_points(mask, points, second) for mask in masks]
    return (
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(places, dtype=np.float64).reshape(-1, points, 2),
    )


def _extent(mask: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last row, first and last column of a mask."""
    if mask.ndim != 2 or mask.dtype != bool:
        raise InputError(f"mask: expected (H, W) bool, got {mask.shape} {mask.dtype}")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise InputError("mask: expected at least one pixel of the object, got an empty mask")
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


def _depth(mask: Mask) -> NDArray[np.float64]:
    """(H, W) distances to the outside, which begins right beyond the array's edge."""
    inner: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return inner


def _deepest(
    depth: NDArray[np.float64], otherwise: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Row and column of the first maximum; `otherwise` where all is 0."""
    place = int(depth.argmax())
    if otherwise is not None and depth.flat[place] == 0:
        return otherwise
    row, column = divmod(place, depth.shape[1])
    return row, column


def _squared(shape: tuple[int, ...], centre: tuple[int, int]) -> NDArray[np.int64]:
    """(H, W) squared distances from a pixel; whole numbers, so that ties are ties."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    squares: NDArray[np.int64] = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
    return squares


def _far_pixels(
    mask: Mask, depth: NDArray[np.float64], first: tuple[int, int]
) -> NDArray[np.float64]:
    """The depth of the mask's pixels beyond the median distance from the first, 0 elsewhere."""
    # The median is of distances, not of their squares: between two middle ones it is the mean.
    distance = np.sqrt(_squared(mask.shape, first))
    return np.where(mask & (distance > np.median(distance[mask])), depth, 0.0)


def _outside_circle(
    mask: Mask, depth: NDArray[np.float64], first: tuple[int, int]
) -> NDArray[np.float64]:
    """The depth of what is left of the mask without the first circle."""
    radius = round(float(depth[first]) ** 2)  # a whole number, squared
    return _depth(mask & (_squared(mask.shape, first) >= radius))
