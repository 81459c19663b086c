"""Builders of completions and references that several tests share."""

from __future__ import annotations

import json
from collections.abc import Sequence


def entry(box: Sequence[float], point: Sequence[float]) -> dict[str, list[float]]:
    """One object of an answer or a reference."""
    return {"bbox_2d": list(box), "point_2d": list(point)}


G1 = [entry([100, 100, 300, 300], [200, 200])]
G2 = [*G1, entry([500, 500, 700, 700], [600, 600])]


def wrap(answer: object, think: str = "I compare. <look>the left one</look>") -> str:
    """A well-formed completion around an answer, given as JSON text or as data."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return f"<think>{think}</think>\n<answer>{text}</answer>"
