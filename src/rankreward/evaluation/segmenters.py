"""Segmenters: from boxes and points to masks.

Goes in: an image and one prompt an object. Comes out: one mask an object. `Segmenter` is the
protocol, which rewards share; `GrabCut` is the one that needs no weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError, require
from rankreward.metrics.arrays import as_floats, as_rows
from rankreward.rewards.masks import Segmenter

__all__ = ["GrabCut", "Segmenter"]

Mask = NDArray[np.bool_]


class GrabCut:
    """GrabCut (Rother, Kolmogorov and Blake, 2004) as OpenCV has it: colours and edges, no weights.

    At its points a pixel is object, well outside its box it is background, and between the two
    the graph cut decides, on the colours of the box and of as wide a margin around it. A box is a
    hint: the mask may reach a little over its edge, as that of a learned segmenter may. Equal
    calls give equal masks. Safe under threads.

    Args:
        iterations: rounds of the graph cut.
        slack: how far the mask may reach over each edge, as a share of the box's side.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, iterations: int = 5, slack: float = 0.2) -> None:
        self.iterations, self.slack = iterations, slack
        self._cv2: Any = require("cv2", extra="eval")

    def segment(
        self,
        image: NDArray[np.uint8],
        boxes: ArrayLike,
        points: ArrayLike,
        signs: ArrayLike | None = None,
    ) -> Mask:
        """Segment K objects of one image.

        Args:
            image: (H, W, 3) uint8, RGB.
            boxes: (K, 4), xyxy, in pixels; parts outside the image are cut off.
            points: (K, P, 2), xy, in pixels; points outside the image or the box are ignored.
            signs: (K, P): 1 on the object, 0 off it, -1 for no point; all 1 unless given.

        Returns:
            (K, H, W) bool; empty for a box without a pixel of the image.

        Raises:
            InputError: a shape or type is another one.
        """
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"image: expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
        corners, hints = as_rows("boxes", boxes, 4), as_floats("points", points)
        if not len(corners) and not hints.size:
            hints = hints.reshape(0, 0, 2)
        if hints.ndim != 3 or hints.shape[0] != len(corners) or hints.shape[2] != 2:
            raise InputError(
                f"points: expected shape ({len(corners)}, P, 2), one row a box, got {hints.shape}"
            )
        marks = np.ones(hints.shape[:2]) if signs is None else as_floats("signs", signs)
        if marks.shape != hints.shape[:2]:
            raise InputError(f"signs: expected shape {hints.shape[:2]}, got {marks.shape}")
        masks = np.zeros((len(corners), *image.shape[:2]), dtype=bool)
        for mask, box, places, sign in zip(masks, corners, hints, marks, strict=True):
            self._cut(image, box, places[sign == 1], places[sign == 0], mask)
        return masks

    def _cut(
        self,
        image: NDArray[np.uint8],
        box: NDArray[np.float64],
        inside: NDArray[np.float64],
        outside: NDArray[np.float64],
        mask: Mask,
    ) -> None:
        """Fill `mask` with the object in `box`."""
        cv2, (height, width) = self._cv2, mask.shape
        x1, y1 = np.clip(np.floor(box[:2]), 0, (width, height)).astype(int)
        x2, y2 = np.clip(np.ceil(box[2:]), 0, (width, height)).astype(int)
        if x2 <= x1 or y2 <= y1:
            return
        # The cut costs what it looks at, so it looks at the box and its surroundings only.
        margin = max(x2 - x1, y2 - y1, 8)
        left, top = max(x1 - margin, 0), max(y1 - margin, 0)
        region = image[top : y2 + margin, left : x2 + margin]
        # A frame of border pixels is background even to a box that fills the image: the cut
        # needs some of both.
        padded = cv2.copyMakeBorder(region, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        labels = np.full(padded.shape[:2], cv2.GC_BGD, dtype=np.uint8)
        view = labels[1:-1, 1:-1]
        x1, x2, y1, y2 = x1 - left, x2 - left, y1 - top, y2 - top
        over_x, over_y = round(self.slack * (x2 - x1)), round(self.slack * (y2 - y1))
        view[max(y1 - over_y, 0) : y2 + over_y, max(x1 - over_x, 0) : x2 + over_x] = cv2.GC_PR_BGD
        view[y1:y2, x1:x2] = cv2.GC_PR_FGD
        for points, label in ((outside, cv2.GC_BGD), (inside, cv2.GC_FGD)):
            for x, y in np.floor(points) - (left, top):
                if x1 <= x < x2 and y1 <= y < y2:
                    view[int(y), int(x)] = label
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # OpenCV keeps one generator a thread; the cut begins with random means
        cv2.grabCut(padded, labels, None, *models, self.iterations, cv2.GC_INIT_WITH_MASK)
        found = (view == cv2.GC_FGD) | (view == cv2.GC_PR_FGD)
        mask[top : top + found.shape[0], left : left + found.shape[1]] = found
