"""What SAM2 is asked: objects with a box, points or both, in batches of one shape.

Goes in: the boxes, points and signs of K objects. Comes out: `Prompts`, each of which fits a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError
from rankreward.metrics.arrays import as_floats
from rankreward.rewards.masks import PAD, as_points

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prompts:
    """k objects that fit one call: as many points each, and all with a box or all without.

    None is padded: to SAM2 a padded point is not nothing, it is attended to as any other.
    """

    rows: NDArray[np.intp]  # (k,), their places
    boxes: Floats | None  # (k, 4)
    points: Floats | None  # (k, p, 2), p >= 1
    labels: NDArray[np.int64] | None  # (k, p), 1 on the object and 0 off it


def read_prompts(
    boxes: ArrayLike, points: ArrayLike, signs: ArrayLike | None
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Boxes (K, 4), points (K, P, 2) and signs (K, P), checked."""
    corners = as_floats("boxes", boxes)
    if corners.shape == (0,):
        corners = corners.reshape(0, 4)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise InputError(f"boxes: expected shape (K, 4), got {corners.shape}")
    none = np.isnan(corners).all(axis=1)
    if not np.isfinite(corners[~none]).all():
        raise InputError("boxes: expected finite numbers, or NaN for a whole box, got NaN or inf")
    hints, marks = as_points(points, signs, len(corners))
    if marks is None:
        marks = np.ones(hints.shape[:2], dtype=np.int64)
    empty = np.flatnonzero(none & (marks == PAD).all(axis=1))
    if len(empty):
        raise InputError(f"boxes[{empty[0]}]: expected a box, points or both, got neither")
    return corners, hints, marks


def batches(
    corners: Floats, hints: Floats, marks: NDArray[np.int64], chunk: int
) -> Iterator[Prompts]:
    """All objects, those that are alike together, at most `chunk` at a time."""
    real = marks != PAD
    kinds = np.stack([~np.isnan(corners[:, 0]), real.sum(axis=1)], axis=1)
    for boxed, count in np.unique(kinds, axis=0):
        alike = np.flatnonzero((kinds == (boxed, count)).all(axis=1))
        for start in range(0, len(alike), chunk):
            rows = alike[start : start + chunk]
            here, shape = real[rows], (len(rows), int(count))
            yield Prompts(
                rows=rows,
                boxes=corners[rows] if boxed else None,
                points=hints[rows][here].reshape(*shape, 2) if count else None,
                labels=marks[rows][here].reshape(shape) if count else None,
            )
