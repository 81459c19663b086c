"""References as a recipe's scorer reads them.

Goes in: a `Row` in pixels of its own image, and a recipe. Comes out: the text of its reference, in
the recipe's frame. Needs the extra ``eval`` where the recipe looks at masks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.datasets.rows import Row, decode_mask, encode_mask
from rankreward.errors import InputError, require
from rankreward.parsing import SCHEMAS, Schema
from rankreward.recipe import Frame, Recipe
from rankreward.rewards.references import needs_masks

PLACEHOLDERS = ("<image>", "<video>", "<audio>")  # what trainers put pictures in the place of


def solution_of(row: Row, recipe: Recipe) -> str:
    """The reference of a row, as the recipe's scorer reads it.

    Places are scaled to the recipe's frame with ``int(v * f + 0.5)``, f for each axis, and clipped
    to it. A recipe that looks at masks gets the union mask beside the objects, at the size that
    `to_training` gives the image.

    Args:
        row: in pixels of its image.
        recipe: says what an object is, and in which frame.

    Returns:
        A JSON text; the tagged text of Seg-Zero's data where the answer is one object.

    Raises:
        InputError: the row has not what the recipe needs: K = 1, as many points, a mask, or the
            stratum ``category`` for labels.

    Source:
        The scaling is that of VisionReasoner's released data preparation.
    """
    schema, frame = SCHEMAS[recipe.response.schema_], recipe.response.frame
    if frame is None:
        raise InputError(f"recipe {recipe.name!r}: expected one that pays objects, not texts")
    if schema.form == "tags":
        return json.dumps({"mask": _mask_of(row, recipe)})
    entries = _entries(row, schema, frame)
    if schema.form == "object":
        if len(entries) != 1:
            raise InputError(
                f"expected one object, as recipe {recipe.name!r} asks for, got {len(entries)}"
            )
        objects = _tagged(entries[0], schema)
    else:
        objects = json.dumps(entries)
    if needs_masks(recipe):
        return json.dumps({"mask": _mask_of(row, recipe), "objects": objects})
    return objects


def size_of(row: Row, recipe: Recipe) -> tuple[int, int]:
    """Size of the image that training gets: the frame, or its own where that is a grid."""
    frame = recipe.response.frame
    if frame is None or frame.unit != "pixels":
        return row.width, row.height
    return frame.width, frame.height


def _entries(row: Row, schema: Schema, frame: Frame) -> list[dict[str, Any]]:
    """The row's objects with the schema's keys, in the frame."""
    need, size = len(schema.points), (frame.width, frame.height)
    if len(row) and row.points.shape[1] < need:
        raise InputError(
            f"expected {need} points an object, as the recipe asks for, got "
            f"{row.points.shape[1]}; read the data with points={need}"
        )
    if schema.label is not None and "category" not in row.strata:
        raise InputError("expected the stratum 'category', which the recipe's labels need")
    factors = np.array(size) / (row.width, row.height)
    entries = []
    for box, points in zip(row.boxes, row.points[:, :need], strict=True):
        corners = _scaled(box.reshape(2, 2), factors, size)
        entry: dict[str, Any] = {schema.box: corners[0] + corners[1]} if schema.box else {}
        entry |= zip(schema.points, _scaled(points, factors, size), strict=True)
        if schema.label is not None:
            entry[schema.label] = row.strata["category"]
        entries.append(entry)
    return entries


def _scaled(
    places: NDArray[np.float64], factors: NDArray[np.float64], size: tuple[int, int]
) -> list[list[int]]:
    """(n, 2) places in whole units of the frame."""
    # `int` cuts off: below 0 that is no rounding, and what is clipped first has none of it.
    whole: list[list[int]] = np.clip(places * factors + 0.5, 0, size).astype(int).tolist()
    return whole


def _tagged(entry: Mapping[str, Any], schema: Schema) -> str:
    """One object in the form of Seg-Zero's data."""
    assert schema.box is not None  # those recipes have one
    x1, y1, x2, y2 = entry[schema.box]
    points = ",".join(f"({entry[key][0]},{entry[key][1]})" for key in schema.points)
    return f"<box>({x1},{y1}),({x2},{y2})</box><points>{points}</points>"


def _mask_of(row: Row, recipe: Recipe) -> dict[str, Any]:
    """The union mask, at the size of the image that training gets."""
    if row.mask is None:
        raise InputError(f"expected a mask, which recipe {recipe.name!r} needs, got none")
    mask, size = decode_mask(row.mask, f"row {row.id}"), size_of(row, recipe)
    if mask.shape[::-1] != size:
        pil = require("PIL.Image", extra="eval")
        mask = np.asarray(pil.fromarray(mask).resize(size, pil.Resampling.NEAREST), dtype=bool)
    return encode_mask(mask)
