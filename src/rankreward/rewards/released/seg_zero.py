"""Seg-Zero as released: five checks on one box with two points.

Goes in: a completion and its tagged reference, both in pixels of the 840 frame. Comes out: what
the released code pays for each check. Its oddities are kept: the object is the first ``{...}``
anywhere in the text, a draft in the think block included, and a reference that cannot be read
pays 0. Where the released code's regular expressions take quadratic time, a scan stands here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

from rankreward.rewards.released.text import CAUGHT, has_only_blocks

# Digits only, as the data set has them; any other reference is unreadable.
_BOX = re.compile(r"<box>\((\d+),(\d+)\),\((\d+),(\d+)\)</box>")
_POINTS = re.compile(r"<points>\((\d+),(\d+)\),\((\d+),(\d+)\)</points>")

_T = TypeVar("_T")


def score(text: str, reference: str, *, strict: bool) -> dict[str, float]:
    r"""What the released code of Seg-Zero pays for one completion.

    Args:
        text: the completion, whatever it holds.
        reference: ``<box>(x1,y1),(x2,y2)</box><points>(x,y),(x,y)</points>``, whole pixels.
        strict: True, the released default, asks for the keys `bbox`, `points_1` and `points_2`;
            False takes the first key with "bbox" in it and the first two with "point" in them
            ("points" for the point check), in any case.

    Returns:
        Each check as 0.0 or 1.0, and their sum:

        - `thinking_format`: the whole text is a think block, white space, an answer block;
        - `answer_format`: the object has the keys, the box four entries, the points two each;
        - `iou`: the inclusive IoU of the boxes is above 0.5;
        - `point`: both points lie in the predicted box, its edges included, and the mean
          distance of the better of the two pairings is below 100 pixels;
        - `box_l1`: the mean absolute difference of the boxes' coordinates is below 10 pixels;
        - `total`: in [0, 5].

        Coordinates are cut to whole pixels first. A check on something unreadable gives 0.

    Cost:
        Linear in the lengths of the texts.

    Example:
        >>> reference = "<box>(100,100),(300,300)</box><points>(200,180),(200,220)</points>"
        >>> text = '{"bbox": [100,100,300,300], "points_1": [200,180], "points_2": [200,220]}'
        >>> score(text, reference, strict=True)["total"]  # no tags
        4.0

    Source:
        Seg-Zero, arXiv 2503.06520, and its released single-object reward code.
    """
    terms = {"thinking_format": float(has_only_blocks(text, "think", "answer"))}
    terms |= compare(text, reference, strict=strict)
    terms["iou"] = float(terms["iou"] > 0.5)
    return terms | {"total": sum(terms.values())}


def compare(text: str, reference: str, *, strict: bool) -> dict[str, float]:
    """The checks on the object in a text, as in `score`, but `iou` is the IoU itself, in [0, 1]."""
    box_field, format_points, points = _fields(read_object(text), strict=strict)
    box = _attempt(lambda: _box(box_field))
    target = target_box(reference)
    iou, near = 0.0, False
    if box is not None and target is not None:
        iou = _iou(box, target)
        # The sum instead of the mean: whole numbers, however large, compare exactly.
        near = sum(abs(a - b) for a, b in zip(box, target, strict=True)) < 4 * 10
    inside = box is not None and _attempt(lambda: _points_fit(box, points, reference)) is True
    return {
        "answer_format": float(_well_formed(box_field, format_points)),
        "iou": iou,
        "point": float(inside),
        "box_l1": float(near),
    }


def first_braces(text: str) -> str | None:
    r"""The first ``{...}`` with something inside, up to the first ``}``; None if there is none.

    The answer is that of a search for ``\{[^}]+\}``, in linear time.

    Example:
        >>> first_braces('{} {"a": {"b": 1}}')
        '{"a": {"b": 1}'
    """
    start = text.find("{")
    while start >= 0 and text.startswith("{}", start):
        start = text.find("{", start + 2)
    stop = text.find("}", start) if start >= 0 else -1
    return text[start : stop + 1] if stop >= 0 else None


def read_object(text: str) -> dict[str, Any]:
    """The first ``{...}`` of a text as JSON; empty where it is none."""
    found = first_braces(text)
    try:
        return dict(json.loads(found)) if found is not None else {}
    except CAUGHT:  # no JSON; a number of over 4300 digits; deep nesting
        return {}


def reads(reference: str) -> bool:
    """Whether the released code can read a reference."""
    return bool(_BOX.search(reference) and _POINTS.search(reference))


def target_box(reference: str) -> tuple[int, ...] | None:
    """The box of a tagged reference, xyxy; None where there is none."""
    return _attempt(lambda: _integers(_BOX, reference))


def _fields(data: dict[str, Any], *, strict: bool) -> tuple[Any, list[Any], list[Any]]:
    """The box, and the points for the format and for the point check; None for no box."""
    if strict:
        points = [data[key] for key in ("points_1", "points_2") if key in data]
        return data.get("bbox"), points, points
    lower = [(key.lower(), value) for key, value in data.items()]
    # The released soft checks differ: `point_1` has the format but is no point.
    return (
        next((value for key, value in lower if "bbox" in key), None),
        [value for key, value in lower if "point" in key][:2],
        [value for key, value in lower if "points" in key][:2],
    )


def _well_formed(box: Any, points: list[Any]) -> bool:
    lists = [(box, 4), *((point, 2) for point in points)]
    return len(points) == 2 and all(isinstance(x, list) and len(x) == n for x, n in lists)


def _attempt(read: Callable[[], _T]) -> _T | None:
    """What `read` gives; None where the completion makes it fail."""
    try:
        return read()
    except CAUGHT:
        return None


def _integers(pattern: re.Pattern[str], reference: str) -> tuple[int, ...]:
    found = pattern.search(reference)
    if found is None:
        raise ValueError("no such tag")
    return tuple(int(value) for value in found.groups())


def _box(value: Any) -> tuple[int, ...]:
    if len(value) != 4:
        raise ValueError("no box")
    return tuple(int(value[i]) for i in range(4))


def _iou(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """The IoU of inclusive boxes; those that share an edge only, or less, have 0."""
    left, top, right, bottom = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    if left >= right or top >= bottom:
        return 0.0
    overlap = (right - left + 1) * (bottom - top + 1)
    return overlap / (_area(a) + _area(b) - overlap)


def _area(box: tuple[int, ...]) -> int:
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


def _points_fit(box: tuple[int, ...], values: list[Any], reference: str) -> bool:
    first, second = ((int(value[0]), int(value[1])) for value in values)
    if not all(box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in (first, second)):
        return False
    targets = _integers(_POINTS, reference)
    one, two = targets[:2], targets[2:]
    straight = _distance(first, one) + _distance(second, two)
    crossed = _distance(first, two) + _distance(second, one)
    return min(straight, crossed) / 2 < 100


def _distance(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    return math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2)
