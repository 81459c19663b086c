"""The objects of an answer block.

Goes in: the body of an answer block. Comes out: the objects in it as arrays, or a `Failure` that
says what is wrong. Nothing is repaired but what the recipe names: a policy paid for repaired
answers learns to need repair.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.kinds import Tolerance
from rankreward.parsing.decode import (
    DISTINCT,
    LAST,
    RefusedError,
    Source,
    decode_entry,
    find_entries,
    has_too_many_signs,
    kind,
    prepare,
)
from rankreward.parsing.failure import Failure
from rankreward.parsing.numbers import LIMIT, read_numbers
from rankreward.parsing.schemas import Schema

_NUMBERS = {int, float}  # of JSON; a bool is an int to Python, but has a type of its own


@dataclass(frozen=True, eq=False)
class Objects:
    """K objects with a box and P points each.

    Attributes:
        boxes: (K, 4) float64, xyxy, in the recipe's frame; where the schema has points only, the
            box x, y, x, y without area.
        points: (K, P, 2) float64, xy, likewise; P is 0 where the schema has boxes only. For
            ``prompt_tags``, where objects may have different numbers of points, NaN fills up.
        labels: K texts where the schema has labels, else None.
        signs: (K, P) int8 for ``prompt_tags``, else None: 1 for a point on the object, 0 for one
            off it, and -1 where `points` is filled up, as SAM has it.
    """

    boxes: NDArray[np.float64]
    points: NDArray[np.float64]
    labels: tuple[str, ...] | None = None
    signs: NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


def parse_objects(
    body: str,
    position: int,
    schema: Schema,
    max_objects: int,
    tolerate: Collection[Tolerance] = (),
) -> Objects | Failure:
    """Read the JSON list or object of an answer block.

    Args:
        body: the text of the answer block.
        position: where `body` starts in the completion, for the failure's position.
        schema: which keys its entries have; one of the form ``list`` or ``object``.
        max_objects: more objects than this are a failure.
        tolerate: what is forgiven; see `rankreward.parse`.

    Returns:
        The objects, in the answer's order, or the first failure. Other keys of an entry are
        ignored. Numbers have to be finite JSON numbers within +-1e6; texts, booleans, NaN and
        Infinity are no numbers. Takes time linear in the length of the body.

    Example:
        >>> from rankreward.parsing.schemas import SCHEMAS
        >>> body = '[{"bbox_2d": [1, 2, 3, 4], "label": "cup"}]'
        >>> parse_objects(body, 0, SCHEMAS["labelled_boxes"], 120).labels
        ('cup',)
    """
    objects = _quick(body, schema, max_objects)
    if objects is not None:
        return objects
    try:
        return _careful(body, position, schema, max_objects, tolerate)
    except RecursionError:
        return Failure("bad_json", "the answer is nested too deeply", position)


def _quick(body: str, schema: Schema, max_objects: int) -> Objects | None:
    """The objects of an answer without any fault, at once; None where there may be one."""
    if has_too_many_signs(body, max_objects):
        return None
    text = body.strip(" \t\n\r")
    try:
        data, end = LAST.raw_decode(text)
        if end != len(text):
            return None
        if schema.form == "object":
            data = [data]
        if not isinstance(data, list) or len(data) > max_objects:
            return None
        # Each key has a colon. If there are as many as keys are left, no key was named twice, and
        # the slow way to find out is not needed.
        if body.count(":") != sum(map(len, data)):
            DISTINCT.raw_decode(text)
        return _plain(data, schema)
    except (RefusedError, RecursionError, ValueError, KeyError, TypeError):
        return None


def _plain(data: Sequence[dict[str, Any]], schema: Schema) -> Objects | None:
    """The objects of entries without any fault, at once; None or an error where one may be."""
    values = [entry[key] for entry in data for key in schema.keys]
    flat = list(chain.from_iterable(values))
    if [*map(len, values)] != schema.sizes * len(data) or not _NUMBERS.issuperset(map(type, flat)):
        return None
    # The decoder lets no NaN through, so that these comparisons hold for all between.
    if flat and not (max(flat) <= LIMIT and min(flat) >= -LIMIT):
        return None
    labels = None
    if schema.label is not None:
        labels = [entry[schema.label] for entry in data]
        if not all(isinstance(label, str) for label in labels):
            return None
    return _to_objects(flat, len(data), labels, schema)


def _careful(
    body: str, position: int, schema: Schema, max_objects: int, tolerate: Collection[Tolerance]
) -> Objects | Failure:
    """The objects of any answer, entry by entry."""
    if has_too_many_signs(body, max_objects, tolerate):
        message = f"expected at most {max_objects} objects, got a hundred signs for each"
        return Failure("too_many_objects", message, position)
    source = prepare(body, position, tolerate)
    starts = find_entries(source, schema.form, max_objects, tolerate)
    if isinstance(starts, Failure):
        return starts
    rows: list[list[float]] = []
    labels: list[str] = []
    first: Failure | None = None
    for index, start in enumerate(starts):
        try:
            row, label = _read_entry(source, start, schema, tolerate)
        except RefusedError as refused:
            where = f"entry {index}: " if schema.form == "list" else ""
            failure = Failure(refused.code, where + refused.message, source.place(start))
            if "bad_entry" not in tolerate or schema.form != "list":
                return failure
            first = first or failure
            continue
        rows.append(row)
        labels.append(label)
    if first is not None and not rows:
        return first  # entries that all say nothing do not say that there is nothing
    return _to_objects([*chain.from_iterable(rows)], len(rows), labels, schema)


def _read_entry(
    source: Source, start: int, schema: Schema, tolerate: Collection[Tolerance]
) -> tuple[list[float], str]:
    """The numbers and the label of one entry.

    Raises:
        RefusedError: it cannot be read.
    """
    entry = decode_entry(source.text, start, tolerate)
    if not isinstance(entry, dict):
        raise RefusedError("bad_entry", f"expected an object, got {kind(entry)}")
    row: list[float] = []
    for key, size in zip(schema.keys, schema.sizes, strict=True):
        if key not in entry:
            raise RefusedError("bad_entry", f"expected {size} numbers in {key!r}, got no such key")
        row += read_numbers(entry[key], size, f" in {key!r}", tolerate)
    label = "" if schema.label is None else entry.get(schema.label)
    if not isinstance(label, str):
        got = kind(label) if schema.label in entry else "no such key"
        raise RefusedError("bad_entry", f"expected a text in {schema.label!r}, got {got}")
    return row, label


def _to_objects(
    flat: Sequence[float], count: int, labels: Sequence[str] | None, schema: Schema
) -> Objects:
    """Objects from the numbers of all, in the order of the schema's keys."""
    names = None if schema.label is None or labels is None else tuple(labels)
    rows = np.array(flat, dtype=np.float64).reshape(count, schema.width)
    return Objects(*boxes_and_points(rows, schema), names)


def boxes_and_points(
    rows: NDArray[np.float64], schema: Schema
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The boxes (K, 4) and points (K, P, 2) in the numbers of K entries, a row each."""
    if schema.box is None:
        return np.hstack([rows, rows]), rows.reshape(len(rows), 1, 2)
    return rows[:, :4], rows[:, 4:].reshape(len(rows), len(schema.points), 2)
