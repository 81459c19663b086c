"""The JSON of an answer block, strictly.

Goes in: the body of an answer block. Comes out: the objects in it as arrays, or a `Failure` that
says what is wrong. Nothing is repaired: a policy paid for repaired answers learns to need repair.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rankreward.parsing.failure import Failure

_BRACKETS = 100  # closing brackets that an object may have on average, other keys included
_NUMBERS = {int, float}  # of JSON; a bool is an int to Python, but has a type of its own
LIMIT = 1e6  # a coordinate beyond this, in pixels, is no place in an image and may overflow


@dataclass(frozen=True, eq=False)
class Objects:
    """K objects with a box and an interior point each.

    Attributes:
        boxes: (K, 4) float64, xyxy, in the recipe's frame.
        points: (K, 2) float64, xy, likewise.
    """

    boxes: NDArray[np.float64]
    points: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.boxes)


class _RefusedError(Exception):
    """Carries a failure's code and message out of the JSON decoder's hooks."""


def parse_grounding_list(body: str, position: int, max_objects: int) -> Objects | Failure:
    """Read a JSON list of ``{"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}``.

    Args:
        body: the text of the answer block.
        position: where `body` starts in the completion, for the failure's position.
        max_objects: more objects than this are a failure.

    Returns:
        The objects, in the answer's order, or the first failure. Other keys of an entry are
        ignored. Numbers have to be finite JSON numbers within +-1e6; texts, booleans, NaN and
        Infinity are no numbers.
    """
    most = f"expected at most {max_objects} objects, got "
    if body.count("]") + body.count("}") > _BRACKETS * (max_objects + 1):
        # No answer of so few objects has so many: do not build millions of lists to count them.
        return Failure("too_many_objects", f"{most}a hundred brackets for each", position)
    data = _decode(body, position)
    if isinstance(data, Failure):
        return data
    if not isinstance(data, list):
        return Failure("not_a_list", f"expected a list, got {_kind(data)}", position)
    if len(data) > max_objects:
        return Failure("too_many_objects", f"{most}{len(data)}", position)
    plain = _plain_objects(data)
    return _to_objects(data, position) if plain is None else plain


def _decode(body: str, position: int) -> Any | Failure:
    """The JSON value of a text."""
    try:
        data = json.loads(body, parse_constant=_no_constant)
        # Each key has a colon. If there are as many as keys are left, no key was named twice, and
        # the slow way to find out is not needed.
        entries = data if isinstance(data, list) else [None]
        plain = all(isinstance(entry, dict) for entry in entries)
        if plain and body.count(":") == sum(map(len, entries)):
            return data
        return json.loads(body, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except _RefusedError as refused:
        return Failure(refused.args[0], refused.args[1], position)
    except json.JSONDecodeError as error:
        return Failure("bad_json", f"the answer is not JSON: {error.msg}", position + error.pos)
    except RecursionError:
        return Failure("bad_json", "the answer is nested too deeply", position)
    except ValueError:  # Python refuses integers of several thousand digits
        return Failure("bad_number", "an integer has too many digits", position)


def _plain_objects(data: list[Any]) -> Objects | None:
    """The objects of a list without any fault, at once; None where there may be one."""
    try:
        flat = [
            value
            for entry in data
            if len(entry["bbox_2d"]) == 4 and len(entry["point_2d"]) == 2
            for value in (*entry["bbox_2d"], *entry["point_2d"])
        ]
        plain = len(flat) == 6 * len(data) and _NUMBERS.issuperset(map(type, flat))
        rows = np.array(flat if plain else [], dtype=np.float64).reshape(-1, 6)
    except (KeyError, TypeError, OverflowError):
        return None
    if not plain or not np.abs(rows).max(initial=0.0) <= LIMIT:
        return None
    return Objects(rows[:, :4], rows[:, 4:])


def _to_objects(data: list[Any], position: int) -> Objects | Failure:
    boxes, points = np.empty((len(data), 4)), np.empty((len(data), 2))
    for index, entry in enumerate(data):
        if not isinstance(entry, dict):
            message = f"entry {index}: expected an object, got {_kind(entry)}"
            return Failure("bad_entry", message, position)
        for key, row in (("bbox_2d", boxes[index]), ("point_2d", points[index])):
            failure = _fill(row, entry, key, f"entry {index}", position)
            if failure is not None:
                return failure
    return Objects(boxes, points)


def _fill(
    row: NDArray[np.float64], entry: dict[str, Any], key: str, where: str, position: int
) -> Failure | None:
    values = entry.get(key)
    if not isinstance(values, list) or len(values) != len(row):
        got = f"a list of {len(values)}" if isinstance(values, list) else _kind(values)
        got = got if key in entry else "no such key"
        message = f"{where}: expected {len(row)} numbers in {key!r}, got {got}"
        return Failure("bad_entry", message, position)
    for value in values:
        # bool is an int to Python; NaN fails every comparison
        if isinstance(value, bool) or not isinstance(value, int | float):
            message = f"{where}: expected numbers in {key!r}, got {_kind(value)}"
            return Failure("bad_number", message, position)
        if not abs(value) <= LIMIT:
            message = f"{where}: expected numbers within +-{LIMIT:g} in {key!r}"
            return Failure("bad_number", message, position)
    row[:] = values
    return None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) != len(pairs):
        raise _RefusedError("duplicate_key", "an object of the answer names a key twice")
    return entry


def _no_constant(name: str) -> NoReturn:
    raise _RefusedError("bad_number", f"expected finite numbers, got {name}")


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", str: "a text", dict: "an object"}
    return names.get(type(value), "a list" if isinstance(value, list) else "a number")
