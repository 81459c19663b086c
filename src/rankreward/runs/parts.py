"""What a run is made of, whichever trainer wrote it.

Goes in: nothing. Comes out: the records that the readers of runs make and that reports draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Entry = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Window:
    """The rows that ranks were taken in, as they stood after a step.

    Attributes:
        step: the step.
        key: which of several windows; empty where there is one.
        metrics: N names.
        rows: (n, N) float64, oldest first, NaN where a metric did not apply.
    """

    step: int
    key: str
    metrics: tuple[str, ...]
    rows: Floats


@dataclass(frozen=True)
class Example:
    """A rollout to look at.

    Attributes:
        step: the trainer's step, None where unknown.
        place: where it stands, such as ``rollouts/3.jsonl:17``.
        completion: the policy's text.
        reference: what it was scored against, as text; empty where unknown.
        code: what was wrong with it, None if nothing was.
        message: what was expected and what came.
        position: where in the completion, in characters from its start; None where unknown.
        total: what it was paid, None where unknown.
        why: what it is an example of, where that is no failure: best or worst paid.
    """

    step: int | None
    place: str
    completion: str
    reference: str = ""
    code: str | None = None
    message: str = ""
    position: int | None = None
    total: float | None = None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Run:
    """A run, as far as it was written down.

    Attributes:
        name: its folder's name.
        source: who wrote it, such as ``"TRL"``.
        entries: a mapping a step, in order: ``step``, and numbers by name. Names are those of
            `rankreward.runs.names`; a figure that was not logged is not there.
        windows: by step, then by key.
        examples: rollouts with failures, and the best and worst paid where they are known.
        recipe: the recipe's name; empty where unknown.
        notes: what was looked for and not found, or found damaged, a sentence each.
    """

    name: str
    source: str
    entries: Sequence[Entry]
    windows: Sequence[Window] = ()
    examples: Sequence[Example] = ()
    recipe: str = ""
    notes: Sequence[str] = field(default=())

    @property
    def steps(self) -> list[int]:
        """The steps that have an entry."""
        return [int(entry["step"]) for entry in self.entries]

    def names(self, prefix: str) -> list[str]:
        """The figures whose names begin so, in the order in which they first appear."""
        return [name for name in self._names if name.startswith(prefix)]

    @cached_property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for entry in self.entries for name in entry))

    def figure(self, name: str) -> tuple[Floats, Floats]:
        """Steps and values of one figure, (n,) each; empty where it was not logged."""
        points = [(entry["step"], entry[name]) for entry in self.entries if name in entry]
        steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
        return steps, values


class Notes:
    """Collects what is to be said of a run; of many alike things only the first few are named."""

    def __init__(self, most: int = 5) -> None:
        self._most = most
        self._said: list[str] = []
        self._counts: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Something about the run as a whole."""
        self._said.append(text)

    def bad(self, file: str, reason: str) -> None:
        """A piece of a file that was left out."""
        self._counts[file] += 1
        if self._counts[file] <= self._most:
            self._said.append(reason)

    def all(self) -> tuple[str, ...]:
        """The notes, in order, those that were only counted last."""
        more = [
            f"{file}: {count - self._most} more pieces like these were left out"
            for file, count in self._counts.items()
            if count > self._most
        ]
        return (*self._said, *more)
