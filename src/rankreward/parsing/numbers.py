"""Numbers of an answer.

Goes in: JSON values. Comes out: finite coordinates, or an error that says what came instead.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from rankreward.kinds import Tolerance
from rankreward.parsing.decode import RefusedError, kind

LIMIT = 1e6  # a coordinate beyond this, in pixels, is no place in an image and may overflow
_NUMERIC = re.compile(r"[0-9.eE+-]{1,32}+")


def read_numbers(
    values: Any, size: int, where: str, tolerate: Collection[Tolerance]
) -> list[float]:
    """The numbers of a list.

    Args:
        values: a JSON value.
        size: how many numbers it has to hold.
        where: words for the message that say where it stands.
        tolerate: with ``numeric_text``, a text of a number counts as that number.

    Raises:
        RefusedError: it is no list of so many finite numbers within +-1e6.
    """
    if not isinstance(values, list) or len(values) != size:
        got = f"a list of {len(values)}" if isinstance(values, list) else kind(values)
        raise RefusedError("bad_entry", f"expected {size} numbers{where}, got {got}")
    return [_number(value, where, tolerate) for value in values]


def _number(value: Any, where: str, tolerate: Collection[Tolerance]) -> float:
    number = value
    if isinstance(value, str) and "numeric_text" in tolerate:
        number = _from_text(value)
    # bool is an int to Python; NaN fails every comparison
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise RefusedError("bad_number", f"expected numbers{where}, got {kind(value)}")
    if not abs(number) <= LIMIT:
        raise RefusedError("bad_number", f"expected numbers within +-{LIMIT:g}{where}")
    return float(number)


def _from_text(text: str) -> float | None:
    if _NUMERIC.fullmatch(text) is None:
        return None
    try:
        return float(text)
    except ValueError:
        return None
