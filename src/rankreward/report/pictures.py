"""Boxes, points and masks drawn on images.

Goes in: an image of any size, what an answer says of it, and what is right. Comes out: a PIL.Image
that shows both, told apart by colour and by line: the answer is yellow and solid, the reference
blue and dashed.

Needs the extra ``eval`` (Pillow).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from rankreward.errors import InputError, require

Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Pen(NamedTuple):
    """A line's colour, and that of its casing.

    Colour and casing differ so much in luminance (9 to 1 by WCAG 2.2's contrast ratio) that one of
    them stands out from any ground by 3 to 1.
    """

    colour: Colour
    casing: Colour


# Yellow and blue of Paul Tol's "high-contrast" scheme (Colour Schemes, SRON/EPS/TN/09-002, 2021),
# which stay apart in every kind of colour blindness, and in print without colour.
PREDICTION = Pen((221, 170, 51), (0, 0, 0))
REFERENCE = Pen((0, 68, 136), (255, 255, 255))

_FILL = 0.35  # how much of a predicted mask's pixels is its colour
_DASH = 4  # a dash's length, in line widths


def overlay(
    image: Any,
    *,
    boxes: ArrayLike | None = None,
    points: ArrayLike | None = None,
    signs: ArrayLike | None = None,
    mask: Mask | None = None,
    reference_boxes: ArrayLike | None = None,
    reference_mask: Mask | None = None,
    side: int | None = None,
) -> Any:
    """Draw an answer and its reference on an image.

    A box's line is as wide as `line_width` says and lies inside the box, with a casing on both
    sides. Predicted boxes are solid, reference boxes dashed, so that of two that are the same both
    are seen. A predicted mask is filled, translucent, and outlined; a reference mask is outlined
    alone. A point is a disc, a negative one a ring.

    Args:
        image: a PIL.Image, or (H, W, 3) uint8, W x H pixels. It stays as it is.
        boxes: (M, 4) of the answer, xyxy, in pixels of the image, whose first one spans 0 to 1; the
            corners in either order. What lies outside the image is not drawn, nor is a box with
            NaN in it. None draws nothing, here and below.
        points: (..., 2) of the answer, such as (M, P, 2), in pixels; None or NaN for one that is
            missing.
        signs: (...), 0 for a point off its object; all lie on theirs unless given.
        mask: (H, W) bool, of the answer.
        reference_boxes: (K, 4), as `boxes`.
        reference_mask: (H, W) bool.
        side: the picture's longer side in pixels; the image is resized to it before anything is
            drawn, so that lines suit the size at which they are looked at. The image's own unless
            given.

    Returns:
        A PIL.Image, RGB, of the image's size, or scaled to `side`.

    Raises:
        InputError: an argument has another shape, or `side` is less than 1.
        MissingExtraError: Pillow is not installed.

    Cost:
        O(H W): 12 million pixels with both masks take some seconds.

    Example:
        >>> from rankreward.report.pictures import PREDICTION, overlay
        >>> picture = overlay(np.zeros((50, 80, 3), np.uint8), boxes=[[10, 10, 40, 40]])
        >>> picture.size, picture.getpixel((10, 25)) == PREDICTION.colour
        ((80, 50), True)
    """
    picture = _opened(image)
    size = picture.size
    for name, given in (("mask", mask), ("reference_mask", reference_mask)):
        if given is not None and (given.dtype != bool or given.shape != size[::-1]):
            raise InputError(
                f"{name}: expected (H, W) bool of the image's size {size[::-1]}, got "
                f"{given.dtype} {given.shape}"
            )
    picture = resized(picture, side)
    scale = np.array(picture.size) / size
    pixels, width = np.array(picture), line_width(*picture.size)
    _draw_masks(pixels, _fitted(mask, picture), _fitted(reference_mask, picture), width)
    found = _rows("boxes", boxes, 4) * np.tile(scale, 2)
    sought = _rows("reference_boxes", reference_boxes, 4) * np.tile(scale, 2)
    _draw_boxes(pixels, found, sought, width)
    _draw_points(pixels, _rows("points", points, 2) * scale, signs, width)
    return require("PIL.Image", extra="eval").fromarray(pixels)


def line_width(width: int, height: int) -> int:
    """How wide lines are on a picture, in pixels: 1 below 375 pixels, 16 at 4000."""
    return max(round(max(width, height) / 250), 1)


def resized(image: Any, side: int | None) -> Any:
    """A PIL.Image whose longer side is `side`; pixels of an enlarged one stay sharp squares.

    Raises:
        InputError: `side` is less than 1.
    """
    if side is None or side == max(image.size):
        return image
    if side < 1:
        raise InputError(f"side: expected at least 1, got {side}")
    resampling = require("PIL.Image", extra="eval").Resampling
    scale = side / max(image.size)
    size = [max(round(length * scale), 1) for length in image.size]
    return image.resize(size, resampling.NEAREST if scale > 1 else resampling.LANCZOS)


def _opened(image: Any) -> Any:
    pil: Any = require("PIL.Image", extra="eval")
    if isinstance(image, pil.Image):
        return image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise InputError(
            f"image: expected a PIL.Image or (H, W, 3) uint8, got {pixels.dtype} {pixels.shape}"
        )
    return pil.fromarray(pixels)


def _rows(name: str, values: ArrayLike | None, columns: int) -> NDArray[np.float64]:
    """(n, columns) float64, whatever they were grouped by; NaN for None, no rows for None alone."""
    rows = np.array([] if values is None else values, dtype=np.float64)
    if not rows.size:
        return np.zeros((0, columns))
    if rows.ndim < 2 or rows.shape[-1] != columns:
        raise InputError(f"{name}: expected shape (N, {columns}), got {rows.shape}")
    return rows.reshape(-1, columns)


def _fitted(mask: Mask | None, picture: Any) -> Mask | None:
    if mask is None or mask.shape == picture.size[::-1]:
        return mask
    pil: Any = require("PIL.Image", extra="eval")
    small = pil.fromarray(mask).resize(picture.size, pil.Resampling.NEAREST)
    return np.asarray(small, dtype=bool)


def _draw_masks(pixels: Pixels, found: Mask | None, sought: Mask | None, width: int) -> None:
    if found is not None:
        tinted = (1 - _FILL) * pixels[found] + _FILL * np.array(PREDICTION.colour)
        pixels[found] = tinted.round().astype(np.uint8)
    for mask, pen in ((sought, REFERENCE), (found, PREDICTION)):
        if mask is not None:
            rim = mask & ~_shrunk(mask, width)
            pixels[_grown(mask, _casing(width)) & ~mask] = pen.casing
            pixels[rim] = pen.colour


def _shrunk(mask: Mask, by: int) -> Mask:
    """Without the outermost pixels; beyond the image there is nothing."""
    whole = ndimage.minimum_filter(mask.astype(np.uint8), 2 * by + 1, mode="constant", cval=0)
    return np.asarray(whole, dtype=bool)


def _grown(mask: Mask, by: int) -> Mask:
    whole = ndimage.maximum_filter(mask.astype(np.uint8), 2 * by + 1, mode="constant", cval=0)
    return np.asarray(whole, dtype=bool)


def _casing(width: int) -> int:
    return (width + 1) // 2


def _draw_boxes(
    pixels: Pixels, found: NDArray[np.float64], sought: NDArray[np.float64], width: int
) -> None:
    """All casings first, so that no line hides another one but where it crosses it."""
    case = _casing(width)
    groups = [
        (_frames(pixels, sought, width), REFERENCE),
        (_frames(pixels, found, width), PREDICTION),
    ]
    for frames, pen in groups:
        for x1, y1, x2, y2 in frames:
            outer = x1 - case, y1 - case, x2 + case, y2 + case
            _draw_frame(pixels, outer, width + 2 * case, pen.casing)
    for frame in groups[1][0]:
        _draw_frame(pixels, frame, width, PREDICTION.colour)
    for frame in groups[0][0]:
        _draw_frame(pixels, frame, width, REFERENCE.colour, dash=_DASH * width)


def _frames(
    pixels: Pixels, boxes: NDArray[np.float64], width: int
) -> list[tuple[int, int, int, int]]:
    """Boxes as whole pixels, at least as large as their line, beyond the image only just."""
    size, margin = np.array(pixels.shape[1::-1]), 8 * width
    boxes = boxes[~np.isnan(boxes).any(axis=1)]
    ends = np.clip(boxes.reshape(-1, 2, 2), -margin, size + margin).round().astype(int)
    low, high = ends.min(axis=1), ends.max(axis=1)
    high = np.maximum(high, low + width)
    return [
        (x1, y1, x2, y2) for (x1, y1), (x2, y2) in zip(low.tolist(), high.tolist(), strict=True)
    ]


def _draw_frame(
    pixels: Pixels, box: tuple[int, int, int, int], width: int, colour: Colour, dash: int = 0
) -> None:
    x1, y1, x2, y2 = box
    across, down = min(width, x2 - x1), min(width, y2 - y1)
    level = (x1, y1, x2, y1 + down), (x1, y2 - down, x2, y2)
    upright = (x1, y1, x1 + across, y2), (x2 - across, y1, x2, y2)
    for bar in (*level, *upright):
        _draw_bar(pixels, bar, colour, dash)


def _draw_bar(pixels: Pixels, bar: tuple[int, int, int, int], colour: Colour, dash: int) -> None:
    x1, y1, x2, y2 = bar
    height, width = pixels.shape[:2]
    rows = np.arange(max(y1, 0), min(y2, height))
    columns = np.arange(max(x1, 0), min(x2, width))
    if not len(rows) or not len(columns):
        return
    part = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # A bar is long one way: along it the sum of both counts its length.
    along = (rows - y1)[:, None] + (columns - x1)
    part[along // dash % 2 == 0 if dash else slice(None)] = colour


def _draw_points(
    pixels: Pixels, points: NDArray[np.float64], signs: ArrayLike | None, width: int
) -> None:
    marks = np.ones(len(points)) if signs is None else np.asarray(signs).reshape(-1)
    if len(marks) != len(points):
        raise InputError(f"signs: expected one a point, {len(points)}, got {len(marks)}")
    # No larger than a twentieth of the picture, that little ones are not all points.
    radius = max(min(3 * width, max(pixels.shape) // 20), 2)
    for point, mark in zip(points, marks, strict=True):
        if np.isnan(point).any():
            continue
        _draw_disc(pixels, point, radius + _casing(width), PREDICTION.casing)
        _draw_disc(pixels, point, radius, PREDICTION.colour)
        if mark == 0:
            _draw_disc(pixels, point, radius - width, PREDICTION.casing)


def _draw_disc(pixels: Pixels, centre: NDArray[np.float64], radius: int, colour: Colour) -> None:
    height, width = pixels.shape[:2]
    (x, y), reach = centre, radius + 1
    if not (-reach <= x <= width + reach and -reach <= y <= height + reach):
        return
    left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
    part = pixels[top : int(y) + reach + 1, left : int(x) + reach + 1]
    # The middle of the first pixel lies at 0.5.
    rows, columns = np.ogrid[: part.shape[0], : part.shape[1]]
    away = (columns + left + 0.5 - x) ** 2 + (rows + top + 0.5 - y) ** 2
    part[away <= (radius + 0.5) ** 2] = colour
