"""References: the ground truth that a dataset column holds.

Goes in: a JSON text, or the list it stands for. Comes out: `Objects`. A reference that cannot be
read is an error, unlike a completion: scoring against nothing would pay noise.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from rankreward.errors import BadReferenceError
from rankreward.parsing.answers import Objects, parse_grounding_list
from rankreward.parsing.failure import Failure
from rankreward.recipe import Frame

MARGIN = 2.0  # pixels; rounding may put an edge a little outside
_SHAPE = 'a JSON list of {"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}'


def read_reference(reference: Any, index: int, frame: Frame) -> Objects:
    """Read one reference.

    Args:
        reference: a JSON text, or a list of mappings with ``bbox_2d`` and ``point_2d``; an empty
            list says that there is nothing to find.
        index: its place in the batch, for the error.
        frame: the recipe's frame. A box without area, or a place more than `MARGIN` pixels outside
            the frame, is most often one of another format or another frame.

    Raises:
        BadReferenceError: it cannot be read; the message names the place and the reason.
    """
    text = reference if isinstance(reference, str) else _dump(reference, index)
    read = parse_grounding_list(text, 0, max_objects=len(text))
    if isinstance(read, Failure):
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise BadReferenceError(
            f"references[{index}]: expected {_SHAPE}, got {shown!r}: {read.message}"
        )
    size = np.array([frame.width, frame.height])
    corners = read.boxes.reshape(-1, 2, 2)
    wrong = (corners[:, 0] >= corners[:, 1]).any(axis=1)
    for places in (corners[:, 0], corners[:, 1], read.points):
        wrong |= ((places < -MARGIN) | (places > size + MARGIN)).any(axis=1)
    if wrong.any():
        worst = int(wrong.argmax())
        raise BadReferenceError(
            f"references[{index}]: expected boxes x1 < x2, y1 < y2 and points inside the recipe's "
            f"frame of {frame.width} x {frame.height}, got {read.boxes[worst].tolist()}, "
            f"{read.points[worst].tolist()}; Recipe.resized makes a recipe for another frame"
        )
    return read


def _dump(reference: Any, index: int) -> str:
    if not isinstance(reference, list | tuple):
        kind = type(reference).__name__
        raise BadReferenceError(f"references[{index}]: expected {_SHAPE}, got {kind}")
    try:
        return json.dumps(reference, default=lambda array: array.tolist())
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BadReferenceError(f"references[{index}]: expected {_SHAPE}, got {error}") from error
