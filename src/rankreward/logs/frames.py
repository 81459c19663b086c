"""A word where a log's boxes hardly reach into the frame of the recipe.

Goes in: rows of a log. Comes out: the same rows, and perhaps one line for the reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from rankreward.logs.rows import BadRow, LogRow
from rankreward.recipe import Recipe

LOOKED_AT = 256  # rollouts
_SMALL = 0.25  # of the frame's longer side
_LONGEST = 10_000  # characters of a reference
_NUMBER = re.compile(r"(?<![\w.])\d{1,6}(?:\.\d{1,6})?(?![\w.])")


def watch_frame(
    rows: Iterable[LogRow | BadRow], recipe: Recipe, say: Callable[[str], None]
) -> Iterator[LogRow | BadRow]:
    """Pass rows on; say so if the first references stay in a small corner of the frame.

    Rewards of boxes in another frame than the recipe's are wrong without any being unreadable:
    distances in pixels mean something else.

    Args:
        rows: rows of a log.
        recipe: what they are to be paid by.
        say: takes the line.
    """
    seen, largest = 0, 0.0
    for row in rows:
        if seen < LOOKED_AT and isinstance(row, LogRow):
            seen, largest = seen + 1, max(largest, _largest(row.reference))
            if seen == LOOKED_AT:
                _tell(recipe, seen, largest, say)
        yield row
    if seen < LOOKED_AT:
        _tell(recipe, seen, largest, say)


def _tell(recipe: Recipe, seen: int, largest: float, say: Callable[[str], None]) -> None:
    frame = recipe.response.frame
    if frame is None or frame.unit != "pixels":
        return
    if 0 < largest < _SMALL * max(frame.width, frame.height):
        say(
            f"the first {seen} references reach to {largest:g}, in {recipe.name}'s frame of "
            f"{frame.width} x {frame.height} pixels: if the policy saw smaller images, say so "
            "with --frame"
        )


def _largest(reference: object) -> float:
    numbers = _NUMBER.findall(str(reference)[:_LONGEST])
    return max(map(float, numbers), default=0.0)
