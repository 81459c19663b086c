"""Steps that a log lacks.

Goes in: the steps that are there, in their order. Comes out: which are not, where the log's
numbers are those of a run.
"""

from __future__ import annotations

from collections import Counter
from typing import Any


class Gaps:
    """Counts what lies between the steps of a log."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._apart: Counter[int] = Counter()  # between neighbouring steps
        self._span: tuple[int, int] | None = None  # from the first step that lacks to the last

    def add(self, step: int | None) -> None:
        """A step that is in the log, or whose rollouts an earlier one has."""
        if step is None or (self._last is not None and step <= self._last):
            return
        if self._last is not None:
            self._apart[step - self._last] += 1
            if step > self._last + 1:
                first = self._last + 1 if self._span is None else self._span[0]
                self._span = first, step - 1
        self._last = step

    def as_dict(self) -> dict[str, int] | None:
        """How many steps lack, the first and the last; None for none.

        Numbers that are as often one distance apart as another are no count of steps, but a clock.
        """
        if self._span is None:
            return None
        _, usual = self._apart.most_common(1)[0]
        if 2 * usual < self._apart.total():
            return None
        lacking = sum((apart - 1) * often for apart, often in self._apart.items())
        return {"count": lacking, "first": self._span[0], "last": self._span[1]}


def gap_line(missing: dict[str, Any]) -> str:
    """What is missing, in a line."""
    first, last, count = missing["first"], missing["last"], missing["count"]
    which = f"steps {first} to {last} are" if first < last else f"step {first} is"
    if first < last and count < last - first + 1:
        which = f"{count} of the steps {first} to {last} are"
    return f"{which} not in the log: if rollouts were made there, windows differ from training's"
