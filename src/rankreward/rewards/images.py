"""Images as arrays.

Goes in: an image as a trainer hands it over. Comes out: (H, W, 3) uint8, RGB, or a part of it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError
from rankreward.metrics.arrays import as_floats

Image = Any  # a PIL.Image, or (H, W, 3) uint8, RGB


def crop(
    image: Image, box: ArrayLike, frame_width: float, frame_height: float
) -> NDArray[np.uint8]:
    """The part of an image that a box shows.

    Args:
        image: a PIL.Image, or (H, W, 3) uint8, RGB.
        box: (4,), xyxy, in pixels of the frame.
        frame_width: width of the frame that the box is given in, above 0.
        frame_height: its height.

    Returns:
        (h, w, 3) uint8, a copy. Edges are rounded to whole pixels of the image, halves to even, as
        Pillow does. What lies outside is cut off, and at least one pixel is left: that nearest to
        a box that lies outside as a whole or has no area.

    Raises:
        InputError: the image is neither of the two, or the box is no 4 finite numbers.

    Example:
        >>> from rankreward.rewards.images import crop
        >>> image = np.zeros((480, 640, 3), dtype=np.uint8)
        >>> crop(image, [420, 420, 900, 840], frame_width=840, frame_height=840).shape
        (240, 320, 3)
    """
    size = image.size if is_pillow(image) else as_rgb("image", image).shape[1::-1]
    places = as_floats("box", box)
    if places.shape != (4,) or not np.isfinite(places).all():
        raise InputError(f"box: expected 4 finite numbers, got {places.tolist()}")
    corners = places.reshape(2, 2)
    frame = (frame_width, frame_height)
    low, high = (np.clip(corners, 0.0, frame) * size / frame).round().astype(int)
    low = np.minimum(low, np.subtract(size, 1))
    high = np.maximum(high, low + 1)
    if is_pillow(image):  # cut before it is converted, for that costs as many times as much
        return as_rgb("image", image.crop((*low.tolist(), *high.tolist())))
    pixels = as_rgb("image", image)
    return pixels[low[1] : high[1], low[0] : high[0]].copy()


def as_rgb(name: str, image: Image) -> NDArray[np.uint8]:
    """An image as (H, W, 3) uint8, RGB; an array as it is, uncopied.

    Raises:
        InputError: it is neither a PIL.Image of 8 bits a channel nor such an array.
    """
    if is_pillow(image) and image.mode[0] not in "IF":  # those convert by cutting off at 255
        image = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    shown = type(image).__name__ + (f" of mode {image.mode}" if is_pillow(image) else "")
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return image
        shown = f"{image.shape} {image.dtype}"
    raise InputError(
        f"{name}: expected a PIL.Image of 8 bits a channel or (H, W, 3) uint8, got {shown}"
    )


def is_pillow(value: Any) -> bool:
    """Whether `value` is a PIL.Image; there is none where Pillow was never imported."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)
