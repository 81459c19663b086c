"""Builders of completions and references that several tests share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np


def entry(box: Sequence[float], point: Sequence[float]) -> dict[str, list[float]]:
    """One object of an answer or a reference."""
    return {"bbox_2d": list(box), "point_2d": list(point)}


G1 = [entry([100, 100, 300, 300], [200, 200])]
G2 = [*G1, entry([500, 500, 700, 700], [600, 600])]


def wrap(answer: object, think: str = "I compare. <look>the left one</look>") -> str:
    """A well-formed completion around an answer, given as JSON text or as data."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return f"<think>{think}</think>\n<answer>{text}</answer>"


class Boxes:
    """A segmenter whose mask is the box, as far as it lies in the image."""

    def segment(self, image: Any, boxes: Any, points: Any, signs: Any = None) -> Any:
        height, width = np.asarray(image).shape[:2]
        masks = np.zeros((len(boxes), height, width), dtype=bool)
        for mask, (x1, y1, x2, y2) in zip(
            masks, np.asarray(boxes).round().astype(int), strict=True
        ):
            mask[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = True
        return masks
