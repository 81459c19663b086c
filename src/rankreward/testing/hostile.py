"""Hostile texts: what is too deep or too long for a decoder, and what makes a parser slow.

Goes in: a `Trial`. Comes out: nothing, or a `Violation`. The table of invariants is in
`rankreward.testing.invariants`.
"""

from __future__ import annotations

from typing import Any

from rankreward.testing.cost import LARGEST, growth
from rankreward.testing.layouts import Answer, Layout
from rankreward.testing.report import Call
from rankreward.testing.trial import Trial, Violation

_EXTREMES = [
    ("<answer>", "[", 20_000),
    ("<answer>", '{"a":', 20_000),
    ("<answer>[", "1", 5_000),
    ("", "<think>", 300),
    ("<answer>", "\x00", 10),
    ("<answer>", "\ud800", 10),
]


def extremes(trial: Trial) -> None:
    """Text that is deeper or longer than a decoder takes; halved while it still does harm."""
    layout = trial.layout
    truth: Answer = "A" if layout.textual else [_plain(layout)]
    for before, unit, most in _EXTREMES:
        begin = f"{layout.thinking()}{before}"
        _survives(trial, begin, unit, most, truth)


def _survives(trial: Trial, begin: str, unit: str, most: int, truth: Answer) -> None:
    broken, good = _harm(trial, f"{begin}{unit * most}</answer>", truth), 0
    while broken is not None and most - good > 1:
        count = (good + most) // 2
        found = _harm(trial, f"{begin}{unit * count}</answer>", truth)
        good, most, broken = (count, most, broken) if found is None else (good, count, found)
    if broken is not None:
        raise broken


def _harm(trial: Trial, text: str, truth: Answer) -> Violation | None:
    trial.made.clear()
    try:
        trial.against([text], truth)
    except Violation as violation:
        return violation
    return None


def linear_cost(trial: Trial) -> None:
    """Tags, brackets and the like, repeated: before, inside and after each block."""
    layout = trial.layout
    truth: Answer = "A" if layout.textual else [_plain(layout)]
    reference = layout.reference(truth)
    good = layout.text(truth)
    for before, unit, after in _hostile(layout, good):

        def call(count: int, parts: tuple[str, str, str] = (before, unit, after)) -> None:
            begin, each, end = parts
            trial.made.clear()
            trial.score([begin + each * count + end], [reference])

        found = growth(call, largest=LARGEST // len(unit))
        if found.steep:
            raise _steep(trial, before, unit, after, found, reference)


def _hostile(layout: Layout, good: str) -> list[tuple[str, str, str]]:
    """What comes before a repeated unit, the unit, and what comes after."""
    tags = ["<think>", "</think>", "<answer>", "</answer>", "<think></think><answer></answer>"]
    tags += [f"<{tag}></{tag}>" for tag in layout.schema.blocks if tag != "answer"]
    tags += [f"<{layout.keyword}>"] if layout.keyword else []
    plain = [" ", "\n", "[", "{", '"', "\\", "a", "1", "A cat. ", "[1,", '{"bbox_2d": [1, ']
    places = [("", ""), ("<think>", ""), (layout.thinking() + "<answer>", ""), (good, "x")]
    return [(begin, unit, end) for begin, end in places for unit in (*tags, *plain)]


def _steep(
    trial: Trial, before: str, unit: str, after: str, found: Any, reference: Any
) -> Violation:
    trial.made.clear()
    text = before + unit * found.length + after
    call = Call((text,), (reference,), f"after {found.seconds:.2f} seconds")
    if found.quarter is None:
        return Violation(
            trial.counterexample([call], f"an answer within {found.seconds:g} seconds")
        )
    times = found.seconds / max(found.quarter, 1e-4)
    expected = f"about 4 times the cost of a quarter of this text, not {times:.0f} times"
    return Violation(trial.counterexample([call], expected))


def _plain(layout: Layout) -> dict[str, Any]:
    """A simple object in the middle of the frame."""
    width, height = (side // layout.step for side in layout.frame)
    box = [v * layout.step for v in (width // 4, height // 4, width // 2, height // 2)]
    centre = [(box[0] + box[2]) // 2, (box[1] + box[3]) // 2]
    schema = layout.schema
    entry: dict[str, Any] = {schema.box: box} if schema.box else {}
    entry |= {"bbox": box, "point": centre} if schema.form == "tags" else {}
    entry |= dict.fromkeys(schema.points, centre)
    return entry | ({schema.label: "cup"} if schema.label else {})
