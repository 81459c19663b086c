"""Segmenters: from boxes and points to masks.

Goes in: an image and one prompt an object. Comes out: one mask an object. `Segmenter` is the
protocol; `GrabCut` is the one that needs no weights.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError, require
from rankreward.metrics.arrays import as_rows

Mask = NDArray[np.bool_]


class Segmenter(Protocol):
    """Whatever turns prompts into masks."""

    def segment(self, image: NDArray[np.uint8], boxes: ArrayLike, points: ArrayLike) -> Mask:
        """Segment K objects of one image.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (K, 4), xyxy, in pixels of `image`.
            points: (K, P, 2), xy, P points inside each object.

        Returns:
            (K, H, W) bool; K may be 0.
        """
        ...


class GrabCut:
    """GrabCut (Rother, Kolmogorov and Blake, 2004) as OpenCV has it: colours and edges, no weights.

    Outside its box a pixel is background, near its points it is object, and between the two the
    graph cut decides. Equal calls give equal masks. Safe under threads, one call at a time.

    Args:
        iterations: rounds of the graph cut.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    _lock = threading.Lock()  # OpenCV's random generator, which is seeded below, is one for all

    def __init__(self, iterations: int = 5) -> None:
        self.iterations = iterations
        self._cv2: Any = require("cv2", extra="eval")

    def segment(self, image: NDArray[np.uint8], boxes: ArrayLike, points: ArrayLike) -> Mask:
        """Segment K objects of one image.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (K, 4), xyxy, in pixels; parts outside the image are cut off.
            points: (K, P, 2), xy, in pixels; points outside the image or the box are ignored.

        Returns:
            (K, H, W) bool, each mask inside its box; empty for a box without a pixel.

        Raises:
            InputError: a shape or type is another one.
        """
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"image: expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
        corners = as_rows("boxes", boxes, 4)
        hints = np.asarray(points, dtype=np.float64)
        if len(corners) == 0:
            hints = hints.reshape(0, 1, 2)
        if hints.ndim != 3 or hints.shape[0] != len(corners) or hints.shape[2] != 2:
            raise InputError(
                f"points: expected shape ({len(corners)}, P, 2), one row a box, got {hints.shape}"
            )
        masks = np.zeros((len(corners), *image.shape[:2]), dtype=bool)
        for mask, box, inside in zip(masks, corners, hints, strict=True):
            self._cut(np.ascontiguousarray(image), box, inside, mask)
        return masks

    def _cut(
        self,
        image: NDArray[np.uint8],
        box: NDArray[np.float64],
        points: NDArray[np.float64],
        mask: Mask,
    ) -> None:
        """Fill `mask` with the object in `box`."""
        cv2, (height, width) = self._cv2, mask.shape
        x1, y1 = np.clip(np.floor(box[:2]), 0, (width, height)).astype(int)
        x2, y2 = np.clip(np.ceil(box[2:]), 0, (width, height)).astype(int)
        if x2 <= x1 or y2 <= y1:
            return
        # A frame of border pixels is background even to a box that fills the image: the cut
        # needs some of both.
        padded = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        labels = np.full(padded.shape[:2], cv2.GC_BGD, dtype=np.uint8)
        inside = labels[y1 + 1 : y2 + 1, x1 + 1 : x2 + 1]
        inside[...] = cv2.GC_PR_FGD
        for x, y in np.floor(points):
            if x1 <= x < x2 and y1 <= y < y2:
                inside[int(y) - y1, int(x) - x1] = cv2.GC_FGD
        models = np.zeros((1, 65)), np.zeros((1, 65))
        with self._lock:
            cv2.setRNGSeed(0)
            cv2.grabCut(padded, labels, None, *models, self.iterations, cv2.GC_INIT_WITH_MASK)
        cut = labels[1:-1, 1:-1]
        mask[...] = (cut == cv2.GC_FGD) | (cut == cv2.GC_PR_FGD)
