"""A segmenter's prompts in tags of their own, the schema ``prompt_tags`` (Seg-R1).

Goes in: a text and where its blocks are. Comes out: objects with the points that fall into their
boxes, and whether these lie on the object or off it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from json import JSONDecodeError
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankreward.kinds import Tolerance
from rankreward.parsing.answers import Objects
from rankreward.parsing.decode import (
    LENIENT,
    RefusedError,
    Source,
    entry_start,
    has_too_many_signs,
    kind,
    prepare,
)
from rankreward.parsing.failure import Failure
from rankreward.parsing.numbers import read_numbers
from rankreward.parsing.tags import Span

_T = TypeVar("_T")
_POINTS = 10  # points that an object may have on average


class _Failed(Exception):  # noqa: N818 - carries a failure out of a block, and is none itself
    """Carries a `Failure` out of a block."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def parse_prompt_tags(
    text: str,
    bodies: Mapping[str, Sequence[Span]],
    max_objects: int,
    tolerate: Collection[Tolerance],
) -> Objects | Failure:
    """Read the boxes, the points and the points' labels.

    Args:
        text: the completion.
        bodies: the bodies of its blocks ``bbox``, ``points`` and ``labels``.
        max_objects: more boxes than this are a failure, and so are ten times as many points.
        tolerate: what is forgiven; see `rankreward.parse`.

    Returns:
        The objects in the order of their boxes. A point belongs to the smallest box that contains
        it; points in no box are left out.
    """
    try:
        boxes = _read_boxes(text, bodies["bbox"], max_objects, tolerate)
        places, signs = _read_points(
            _source(text, bodies["points"][0], tolerate),
            _source(text, bodies["labels"][0], tolerate),
            max_objects,
            tolerate,
        )
    except _Failed as failed:
        return failed.failure
    return _deal(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(places, dtype=np.float64).reshape(-1, 2),
        np.array(signs, dtype=np.int8),
    )


def _read_boxes(
    text: str, spans: Sequence[Span], most: int, tolerate: Collection[Tolerance]
) -> list[list[float]]:
    _at_most(len(spans), most, "objects", spans[0].start, tolerate)
    boxes = []
    first: _Failed | None = None
    for span in spans[:most]:
        source = _source(text, span, tolerate)
        try:
            boxes.append(_box(source, tolerate))
        except _Failed as failed:
            if "bad_entry" not in tolerate:
                raise
            first = first or failed
    if first is not None and not boxes:
        raise first  # boxes that all say nothing are no answer
    return boxes


def _box(source: Source, tolerate: Collection[Tolerance]) -> list[float]:
    value = _decode(source, 0, tolerate)
    try:
        return read_numbers(value, 4, " in <bbox>", tolerate)
    except RefusedError as refused:
        raise _Failed(Failure(refused.code, refused.message, source.position)) from refused


def _read_points(
    points: Source, labels: Source, max_objects: int, tolerate: Collection[Tolerance]
) -> tuple[list[list[float]], list[int]]:
    """The points that have a label, and these."""
    places = _decode_list(points, max_objects, tolerate)
    signs = _decode_list(labels, max_objects, tolerate)
    most = _POINTS * max_objects
    if len(places) != len(signs) and "bad_entry" not in tolerate:
        message = f"expected a label for each point, got {len(signs)} for {len(places)}"
        raise _Failed(Failure("bad_entry", message, labels.position))
    _at_most(len(places), most, "points", points.position, tolerate)
    pairs = zip(
        _read_each(points, places[:most], _place, tolerate),
        _read_each(labels, signs[:most], _sign, tolerate),
        strict=False,  # a point without a label cannot be read
    )
    kept = [(place, sign) for place, sign in pairs if place is not None and sign is not None]
    return [place for place, _ in kept], [sign for _, sign in kept]


def _read_each(
    source: Source,
    values: Sequence[Any],
    read: Callable[[Any, Collection[Tolerance]], _T],
    tolerate: Collection[Tolerance],
) -> list[_T | None]:
    """The entries of a list; None for one that cannot be read, where that is tolerated."""
    entries: list[_T | None] = []
    for index, value in enumerate(values):
        try:
            entries.append(read(value, tolerate))
        except RefusedError as refused:
            if "bad_entry" not in tolerate:
                message = f"entry {index}: {refused.message}"
                place = entry_start(source, index)
                raise _Failed(Failure(refused.code, message, place)) from refused
            entries.append(None)
    return entries


def _place(value: Any, tolerate: Collection[Tolerance]) -> list[float]:
    return read_numbers(value, 2, " in <points>", tolerate)


def _sign(value: Any, tolerate: Collection[Tolerance]) -> int:
    (number,) = read_numbers([value], 1, " in <labels>", tolerate)
    if number not in {0.0, 1.0}:
        raise RefusedError("bad_number", f"expected 1 or 0 in <labels>, got {number:g}")
    return int(number)


def _source(text: str, span: Span, tolerate: Collection[Tolerance]) -> Source:
    return prepare(text[span.start : span.stop], span.start, tolerate)


def _decode(source: Source, max_objects: int, tolerate: Collection[Tolerance]) -> Any:
    """The JSON value of a block of so many objects; its numbers are looked at later."""
    if has_too_many_signs(source.text, max_objects, tolerate):
        message = f"expected at most {max_objects} objects, got a hundred signs for each"
        raise _Failed(Failure("too_many_objects", message, source.position))
    try:
        return LENIENT.decode(source.text)
    except JSONDecodeError as error:
        place = source.place(error.pos)
        failure = Failure("bad_json", f"the block is not JSON: {error.msg}", place)
        raise _Failed(failure) from error
    except RecursionError as error:
        failure = Failure("bad_json", "the block is nested too deeply", source.position)
        raise _Failed(failure) from error


def _decode_list(source: Source, max_objects: int, tolerate: Collection[Tolerance]) -> list[Any]:
    values = _decode(source, max_objects, tolerate)
    if isinstance(values, list):
        return values
    raise _Failed(Failure("not_a_list", f"expected a list, got {kind(values)}", source.position))


def _at_most(
    count: int, most: int, what: str, position: int, tolerate: Collection[Tolerance]
) -> None:
    if count > most and "too_many_objects" not in tolerate:
        message = f"expected at most {most} {what}, got {count}"
        raise _Failed(Failure("too_many_objects", message, position))


def _deal(
    boxes: NDArray[np.float64], places: NDArray[np.float64], signs: NDArray[np.int8]
) -> Objects:
    """Deal each point to the smallest of the boxes around it, the first of equals."""
    corners = boxes[:, None, :]
    inside = ((places >= corners[..., :2]) & (places <= corners[..., 2:])).all(axis=2)  # (K, N)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    owned: list[list[int]] = [[] for _ in boxes]
    if inside.size:
        owners = np.where(inside, areas[:, None], np.inf).argmin(axis=0)
        for point in np.flatnonzero(inside.any(axis=0)):
            owned[owners[point]].append(point)
    most = max(map(len, owned), default=0)
    points = np.full((len(boxes), most, 2), np.nan)
    filled = np.full((len(boxes), most), -1, dtype=np.int8)
    for index, own in enumerate(owned):
        points[index, : len(own)] = places[own]
        filled[index, : len(own)] = signs[own]
    return Objects(boxes, points, None, filled)
