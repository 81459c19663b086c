"""A rollout, as a log holds it.

Goes in: nothing. Comes out: the records that the readers of logs make and that everything else here
takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class LogRow:
    """One rollout of a log.

    Attributes:
        place: where it stands, such as ``rollouts.jsonl:17``; for messages.
        step: the trainer's step, None where the log does not say.
        group: which question it answers, unique within its step; None where the log does not say.
        completion: the policy's text.
        reference: its reference, as `rankreward.Scorer.score` takes it.
        columns: all else that the log holds of it, by name.
        image: its image, PIL's or (H, W, 3) uint8, or None.
    """

    place: str
    step: int | None
    group: str | None
    completion: str
    reference: Any
    columns: Mapping[str, Any] = field(default_factory=dict)
    image: Any = None


@dataclass(frozen=True)
class BadRow:
    """A row that is no rollout, or whose reference cannot be read.

    Attributes:
        place: where it stands.
        reason: what was expected and what came.
    """

    place: str
    reason: str


@dataclass(frozen=True, eq=False)
class Chunk:
    """Neighbouring rollouts of one step: all of it, or a part where it is very large.

    A group, whose rows stand together, is never split.

    Attributes:
        step: the step.
        rows: its rollouts.
        bad: rows that stood between them and are none.
        ends: whether the step ends with this chunk, so that the window is to be flushed.
    """

    step: int
    rows: list[LogRow]
    bad: list[BadRow]
    ends: bool
