"""The row that every reader yields and every layout is made from.

Goes in: what a reader found out about one question on one image. Comes out: a checked, frozen
`Row`; and the two steps that all stages share, to decode its image and its masks.

Needs the extra ``eval`` (Pillow and pycocotools) where an image is opened or a mask encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError, require
from rankreward.metrics.arrays import as_floats, as_rows
from rankreward.rewards.images import is_pillow
from rankreward.rewards.masks import read_mask

Mask = NDArray[np.bool_]
Rle = Mapping[str, Any]  # COCO's {"size": [h, w], "counts": ...}
_SMALL, _MEDIUM = 32.0**2, 96.0**2  # COCO's limits of area, in square pixels


@dataclass(frozen=True, eq=False)
class Row:
    """One question on one image, and what it asks for.

    Attributes:
        id: its name, unique within a data set.
        image: path of the image, or a PIL.Image, of the original size.
        query: what to find; "" only where a task asks for nothing in words.
        boxes: (K, 4) float64, xyxy, in pixels of the image. K = 0: there is nothing to find.
        points: (K, P, 2) float64, xy, in pixels, P points inside each object.
        mask: COCO RLE of the union of the K objects, of the image's size, or None if unknown.
        width: the image's width in pixels.
        height: its height.
        strata: names of the groups that results are told apart by, such as ``category``.
        ignore: COCO RLE of the pixels that are marked to be ignored, as ReasonSeg's 255, or None.
            What becomes of them is a matter of the evaluation's protocol.
        void: COCO RLE of the pixels that nobody annotated, such as crowds, or None. Every
            protocol leaves them out.

    Raises:
        InputError: a shape is another one, or a side is not above 0. Whether the content makes
            sense is `rankreward.datasets.checks`'s question.
    """

    id: str
    image: Any
    query: str
    boxes: NDArray[np.float64]
    points: NDArray[np.float64]
    mask: Rle | None
    width: int
    height: int
    strata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ignore: Rle | None = None
    void: Rle | None = None

    def __post_init__(self) -> None:
        boxes = as_rows("boxes", self.boxes, 4)
        points = as_floats("points", self.points)
        if not len(boxes) and not points.size:
            points = points.reshape(0, points.shape[1] if points.ndim == 3 else 0, 2)
        if points.ndim != 3 or points.shape[::2] != (len(boxes), 2):
            raise InputError(
                f"row {self.id}: points: expected shape ({len(boxes)}, P, 2), one row a box, "
                f"got {points.shape}"
            )
        if not np.isfinite(points).all():
            raise InputError(f"row {self.id}: points: expected finite numbers, got NaN or inf")
        if min(self.width, self.height) < 1:
            raise InputError(
                f"row {self.id}: expected sides of 1 pixel or more, got {self.width} x "
                f"{self.height}"
            )
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "points", points)

    def __len__(self) -> int:
        return len(self.boxes)


def open_image(row: Row) -> Any:
    """The image of a row, decoded.

    Returns:
        A PIL.Image of mode RGB. An orientation in the file's EXIF is not applied: annotations
        count rows and columns as they are stored.

    Raises:
        InputError: it is not there, cannot be decoded, or has more than 8 bits a channel.
    """
    image = row.image
    if isinstance(image, str | Path):
        try:
            image = decode_file(image)
        except InputError as error:
            raise InputError(f"row {row.id}: {error}") from error
    # Modes of more bits convert by cutting off at 255.
    if not is_pillow(image) or image.mode[0] in "IF":
        shown = f"an image of mode {image.mode}" if is_pillow(image) else type(image).__name__
        raise InputError(
            f"row {row.id}: expected a path or a PIL.Image, of 8 bits a channel, got {shown}"
        )
    return image if image.mode == "RGB" else image.convert("RGB")


def decode_file(path: str | Path) -> Any:
    """An image file, decoded to its last pixel.

    Returns:
        A PIL.Image, of the file's own mode.

    Raises:
        InputError: it is not there, no image, or broken.
    """
    pil = require("PIL.Image", extra="eval")
    try:
        with pil.open(path) as opened:
            opened.load()
        return opened
    except Exception as error:  # a decoder that meets broken data raises whatever it stumbled on
        raise InputError(
            f"{path}: expected an image, got {type(error).__name__}: {error}"
        ) from error


def encode_mask(mask: ArrayLike) -> dict[str, Any]:
    """The compressed COCO RLE of a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        ``{"size": [H, W], "counts": text}``, which JSON can hold.

    Raises:
        InputError: it is no such array.

    Example:
        >>> encode_mask(np.eye(2, dtype=bool))
        {'size': [2, 2], 'counts': '0120'}
    """
    array = np.asarray(mask)
    if array.ndim != 2 or array.dtype != bool or not array.size:
        raise InputError(f"mask: expected (H, W) bool, got {array.shape} {array.dtype}")
    coder = require("pycocotools.mask", extra="eval")
    rle = coder.encode(np.asfortranarray(array, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def decode_mask(rle: Rle, name: str) -> Mask:
    """The mask of a COCO RLE, compressed or not; read by the reader that rewards use.

    Args:
        rle: a mapping of ``size`` and ``counts``.
        name: whose mask it is, for the error.

    Returns:
        (H, W) bool.

    Raises:
        InputError: it cannot be read, or its runs do not fill the image.

    Example:
        >>> decode_mask({"size": [2, 2], "counts": "0120"}, "eye").astype(int).tolist()
        [[1, 0], [0, 1]]
    """
    try:
        return read_mask(rle, 0)
    except InputError as error:
        said = str(error).removeprefix("references[0]: ")
        raise InputError(f"{name}: {said}") from error


def union_of(masks: Sequence[Mask], height: int, width: int) -> Mask:
    """(H, W) bool, what any of the masks covers; nothing for no mask."""
    union = np.zeros((height, width), dtype=bool)
    for mask in masks:
        union |= mask
    return union


def count_class(count: int) -> str:
    """The stratum of a number of objects.

    Example:
        >>> [count_class(k) for k in (0, 1, 2, 4, 5, 9, 10)]
        ['0', '1', '2-4', '2-4', '5-9', '5-9', '10+']
    """
    if count < 2:
        return str(count)
    return "2-4" if count < 5 else "5-9" if count < 10 else "10+"


def size_class(area: float) -> str:
    """The stratum of an area in square pixels, with COCO's limits of 32 and 96 pixels squared.

    Example:
        >>> [size_class(side**2) for side in (31, 32, 95, 96)]
        ['small', 'medium', 'medium', 'large']
    """
    return "small" if area < _SMALL else "medium" if area < _MEDIUM else "large"


def strata_of(masks: Sequence[Mask], **names: str) -> dict[str, str]:
    """The strata that readers give a row: its objects' mean size, their count, and `names`."""
    areas = [int(mask.sum()) for mask in masks]
    size = size_class(float(np.mean(areas))) if areas else "none"
    return {**names, "size": size, "count": count_class(len(masks))}
