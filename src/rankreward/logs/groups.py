"""Which question a rollout answers, as far as a log can tell.

Goes in: the rows of a step, in their order. Comes out: a group for each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from rankreward.logs.rows import LogRow

_QUESTION = ("prompt", "image", "images")


class Groups:
    """Groups of a log's rows.

    A row's own group comes first. Where it has none, rows of a step with equal prompt, image and
    reference are a group, wherever they stand, as trainers reorder a batch. Without a prompt it is
    neighbours with equal references.

    Args:
        size: makes groups of so many neighbours, whatever the rows say.
        say: told once if a reference came back in a step without prompts, so that its groups may
            be wrong.
    """

    def __init__(self, size: int | None, say: Callable[[str], None]) -> None:
        self._size, self._say, self._told = size, say, False
        self.begin()

    def begin(self) -> None:
        """A new step: its groups are its own."""
        self._numbers: dict[bytes | str, int] = {}
        self._last: bytes | str | None = None
        self._count = 0

    def of(self, row: LogRow, seen: int) -> str:
        """The group of a row, before which the step had `seen` others, bad ones included."""
        if self._size is not None:
            return str(seen // self._size)
        if row.group is not None:
            return row.group
        key = _digest(row)
        known = row.columns.get("prompt") is not None
        if key not in self._numbers or not (known or key == self._last):
            if key in self._numbers:
                self._doubt(row)
            self._numbers[key] = self._count
            self._count += 1
        self._last = key
        return str(self._numbers[key])

    def _doubt(self, row: LogRow) -> None:
        if not self._told:
            self._told = True
            self._say(
                f"{row.place}: the log has neither groups nor prompts, and a reference came back: "
                "neighbours with equal references are taken for a group, which is wrong if rows "
                "were reordered; --group or --group-size decide"
            )


def _digest(row: LogRow) -> bytes | str:
    """A mark of the question, so that prompts need not be held."""
    asked = [row.columns.get(name) for name in _QUESTION]
    try:
        text = repr((asked, row.reference))
    except RecursionError:  # nested deeper than can be compared: a question of its own
        return row.place
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
