"""Masks of references and of predictions.

Goes in: a mask as a dataset's column holds it; or the boxes and points that an answer gives, and a
segmenter. Comes out: one mask an image, (H, W) bool, for the mask metrics to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import BadReferenceError, InputError
from rankreward.kinds import BoundaryIoU, MaskIoU, Metric, SMeasure
from rankreward.metrics import boundary_iou, mask_iou, s_measure
from rankreward.metrics.arrays import as_floats, as_rows
from rankreward.rewards.images import Image, as_rgb, is_pillow

Mask = NDArray[np.bool_]

_SHAPE = (
    "a mask (H, W) of booleans, of 0 and 1 or of 0 and 255, an image of mode 1 or L, or a COCO RLE "
    '{"size": [h, w], "counts": [...]}'
)
_PIXELS = 1 << 30  # no image is larger; a wrong size should not ask for all memory
PAD = -1  # a point's sign where there is no point


class Segmenter(Protocol):
    """Whatever turns prompts into masks."""

    @property
    def segment(self) -> Callable[..., ArrayLike]:
        """Segment K objects of one image: ``segment(image, boxes, points)``, by place.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (K, 4), xyxy, in pixels of `image`.
            points: (K, P, 2), xy, P points an object, likewise.
            signs: (K, P), as SAM has them: 1 for a point on the object, 0 for one off it, -1 for
                none. A fourth argument only where answers say so (the schema ``prompt_tags``);
                all points are on their objects otherwise.

        Returns:
            (K, H, W) bool, one mask a box.
        """
        ...


def read_mask(value: Any, index: int) -> Mask:
    """Read the mask of one reference.

    Args:
        value: (H, W) booleans, 0 and 1, or 0 and 255, as an array or nested lists; a PIL.Image of
            mode 1 or L; or a COCO RLE, a mapping of ``size``, [h, w], and ``counts``: runs down the
            columns, zeros first, as a list or compressed, as str or bytes.
        index: its place in the batch, for the error.

    Returns:
        (H, W) bool, at least one pixel large; it may be empty of objects.

    Raises:
        BadReferenceError: it cannot be read. 255 beside 1 would mean "ignore", which no reward
            here knows, so this is an error, too; and so are runs that do not fill the image.

    Cost:
        O(H W).

    Example:
        >>> from rankreward.rewards.masks import read_mask
        >>> read_mask({"size": [2, 3], "counts": [1, 2, 3]}, 0).astype(int).tolist()
        [[0, 1, 0], [1, 0, 0]]
        >>> read_mask([[0, 255, 0], [255, 0, 0]], 0).astype(int).tolist()
        [[0, 1, 0], [1, 0, 0]]
    """
    if isinstance(value, Mapping):
        return _read_rle(value, index)
    if is_pillow(value) and value.mode not in ("1", "L"):
        raise _unreadable(index, f"an image of mode {value.mode}")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # as in `as_floats`
        raise _unreadable(index, str(error)) from error
    if array.dtype.kind not in "biuf":
        raise _unreadable(index, f"{type(value).__name__} of {array.dtype}")
    if array.ndim != 2 or not array.size:
        raise _unreadable(index, f"shape {array.shape}")
    mask = array != 0
    if array.dtype != bool:
        odd = mask & (array != array.max())
        if odd.any() or array.max() not in (0, 1, 255):
            values = np.unique(array)
            raise _unreadable(
                index,
                f"the values {values[:4].tolist()}; 255 for pixels to ignore is not supported",
            )
    return np.asarray(mask)


def predict_mask(
    segmenter: Segmenter,
    image: Image,
    boxes: ArrayLike,
    points: ArrayLike,
    signs: ArrayLike | None,
    frame_width: float,
    frame_height: float,
    index: int,
) -> Mask:
    """The union of the masks of the objects that one completion names.

    Args:
        segmenter: called as ``segment(image, boxes, points)``, or with the signs as a fourth if
            they are given: (H, W, 3) uint8, RGB; (K, 4) xyxy and (K, P, 2) xy float64, in pixels
            of the image; (K, P) int64. It answers (K, H, W) bool.
        image: a PIL.Image, or (H, W, 3) uint8, RGB.
        boxes: (K, 4), xyxy, in pixels of the frame. The image's part of it is what counts: an
            object whose box has no area there is left out, its points as well.
        points: (K, P, 2), xy, in pixels of the frame; outside the image the nearest pixel is taken.
        signs: (K, P): 1 on the object, 0 off it, -1 for no point, whose place may be NaN and which
            the segmenter gets as (0, 0). None where all are on it.
        frame_width: width of the frame that places are given in, above 0.
        frame_height: its height.
        index: the completion's place in the batch, for errors.

    Returns:
        (H, W) bool, all False if no object is left; the segmenter is then not called.

    Raises:
        InputError: a shape or type is another one, a place is not finite, a sign is not -1, 0 or 1,
            or the segmenter answers anything but (K, H, W) bool.
        Exception: whatever the segmenter raises, with a note that names the completion.
    """
    pixels = as_rgb("image", image)
    height, width = pixels.shape[:2]
    size, frame = np.array([width, height]), np.array([frame_width, frame_height])
    corners = as_rows("boxes", boxes, 4)
    hints, marks = as_points(points, signs, len(corners))
    # Clipped in the frame first, where huge numbers cannot overflow; then once more, for scaling
    # rounds. The last pixel begins at size - 1.
    corners = np.clip(corners.reshape(-1, 2, 2), 0.0, frame) * size / frame
    corners = np.minimum(corners, size).reshape(-1, 4)
    hints = np.minimum(np.clip(hints, 0.0, frame) * size / frame, size - 1)
    kept = (corners[:, :2] < corners[:, 2:]).all(axis=1)
    if not kept.any():
        return np.zeros((height, width), dtype=bool)
    prompt = [corners[kept], hints[kept]] + ([] if marks is None else [marks[kept]])
    try:
        masks = np.asarray(segmenter.segment(pixels, *prompt))
    except Exception as error:
        error.add_note(f"while segmenting completion {index}")
        raise
    expected = (int(kept.sum()), height, width)
    if masks.dtype != bool or masks.shape != expected:
        raise InputError(
            f"segmenter: expected {expected} bool, one mask a box, "
            f"got {masks.shape} {masks.dtype} for completion {index}"
        )
    return np.asarray(masks.any(axis=0))


def mask_value(metric: Metric, predicted: Mask, true: Mask) -> float:
    """What a metric of masks says of a prediction, where there is something to find.

    Args:
        metric: one of `MASKED`.
        predicted: (H, W) bool.
        true: (H, W) bool, not empty.
    """
    pair = predicted[None], true[None]
    match metric:
        case MaskIoU():
            iou = mask_iou(*pair).item()
            if metric.above is not None:
                return float(iou > metric.above)
            if metric.tiers is not None:
                passed = [edge for edge in metric.tiers if iou > edge]
                return metric.tiers[max(passed)] if passed else 0.0
            return float(iou**metric.power)
        case BoundaryIoU():
            return float(boundary_iou(*pair).item())
        case SMeasure():
            return float(s_measure(*pair).item())
    raise AssertionError(metric)


def no_target(metric: Metric, *, rejected: bool) -> float:
    """What an answer is worth where there is nothing to find: by what it says, not by its mask."""
    if isinstance(metric, MaskIoU):
        return metric.rejection if rejected else metric.false_positive
    return float("nan") if rejected else 0.0


def as_points(
    points: ArrayLike, signs: ArrayLike | None, count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Points (K, P, 2) and signs (K, P), with no NaN left.

    Raises:
        InputError: they are none, or a point that is one is not finite.
    """
    hints = as_floats("points", points)
    if hints.shape == (0,) and count == 0:
        hints = hints.reshape(0, 0, 2)
    if hints.ndim != 3 or hints.shape[::2] != (count, 2):
        raise InputError(
            f"points: expected shape ({count}, P, 2), one row a box, got {hints.shape}"
        )
    marks = None
    if signs is not None:
        marks = as_floats("signs", signs)
        if not hints.size and not marks.size:
            marks = marks.reshape(hints.shape[:2])
        if marks.shape != hints.shape[:2] or not np.isin(marks, (PAD, 0, 1)).all():
            raise InputError(
                f"signs: expected -1, 0 and 1 of shape {hints.shape[:2]}, one a point, "
                f"got {np.unique(marks)[:4].tolist()} of {marks.shape}"
            )
        hints[marks == PAD] = 0.0
    if not np.isfinite(hints).all():
        raise InputError("points: expected finite numbers but where a sign is -1, got NaN or inf")
    return hints, None if marks is None else marks.astype(np.int64)


def _read_rle(value: Mapping[str, Any], index: int) -> Mask:
    """The mask of a COCO RLE."""
    try:
        height, width = (_whole(side) for side in value["size"])
        counts = value["counts"]
        if isinstance(counts, str | bytes):
            runs = _runs(counts.encode() if isinstance(counts, str) else counts)
        else:
            plain = isinstance(counts, list) and set(map(type, counts)) == {int}
            runs = counts if plain else [_whole(run) for run in counts]
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(index, f"an RLE that cannot be read ({error!r})") from error
    if min(height, width) < 1 or min(runs, default=0) < 0 or sum(runs) != height * width:
        raise _unreadable(
            index,
            f"runs from {min(runs, default=0)} up that add up to {sum(runs)} for a size of "
            f"{height} x {width}",
        )
    if height * width > _PIXELS:
        raise _unreadable(index, f"an RLE of {height} x {width} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _whole(value: Any) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"expected a whole number, got {value!r}")
    return int(value)


def _runs(text: bytes) -> list[int]:
    """The runs of a compressed RLE.

    A run is written as its difference from the last but one, five bits a character, the lowest
    first. pycocotools is not asked: for a text that breaks off it returns memory that it never
    wrote, of another content at each call (2.0.11).

    Raises:
        ValueError: a character is none of the format's, or the last number has no end.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = character - 48
        if not 0 <= bits < 64:
            raise ValueError(f"unexpected character {chr(character)!r}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last of this number; its highest bit is the sign
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("the last number has no end")
    return runs


def _unreadable(index: int, got: str) -> BadReferenceError:
    return BadReferenceError(f"references[{index}]: expected {_SHAPE}, got {got}")
