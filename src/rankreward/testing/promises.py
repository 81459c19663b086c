"""Promises: the examples that invariants draw, and what they expect of each.

Goes in: a `Trial`. Comes out: nothing, or a `Violation`. One function an invariant; the table is
in `rankreward.testing.invariants`.
"""

from __future__ import annotations

import math
from typing import Any

from rankreward.errors import require
from rankreward.testing.layouts import Layout
from rankreward.testing.strategies import (
    BAD_NUMBERS,
    answers,
    any_completion,
    bad_number,
    batches,
    completions,
    far_apart,
    moved_copies,
    objects,
    some_rows,
    truths,
)
from rankreward.testing.trial import TOLERANCE, Trial

st: Any = require("hypothesis.strategies", extra="testing")


def returns(trial: Trial) -> None:
    """Well-formed answers get a number each."""
    layout = trial.layout
    rows = trial.draw(st.lists(truths(layout, empty=False), min_size=1, max_size=3))
    trial.score([layout.text(row) for row in rows], [layout.reference(row) for row in rows])


def finite(trial: Trial) -> None:
    """Texts of every kind get finite numbers."""
    texts, references = trial.draw(batches(trial.layout))
    trial.score(texts, references)
    paid = trial.made[-1].paid
    trial.expect(
        all(each is None or math.isfinite(float(each)) for each in paid),
        "a finite number for each",
    )


def bounded(trial: Trial) -> None:
    """Rewards are within the stated bounds."""
    assert trial.bounds is not None
    low, high = trial.bounds
    texts, references = trial.draw(batches(trial.layout))
    paid = trial.score(texts, references)
    inside = all(low - TOLERANCE <= each <= high + TOLERANCE for each in paid if each == each)  # noqa: PLR0124
    trial.expect(inside, f"from {low:g} to {high:g}")


def deterministic(trial: Trial) -> None:
    """A batch, twice."""
    texts, references = trial.draw(batches(trial.layout))
    first, second = trial.score(texts, references), trial.score(texts, references)
    trial.expect(_equal(first, second), "the same, both times")


def inputs_unchanged(trial: Trial) -> None:
    """A batch, and the arguments afterwards."""
    texts, references = trial.draw(batches(trial.layout))
    trial.expect(trial.unchanged(texts, references), "arguments that are left as they are")


def alone(trial: Trial) -> None:
    """A completion by itself, and among others."""
    layout = trial.layout
    truth = trial.draw(truths(layout))
    text = trial.draw(completions(layout, near=truth))
    before, after = trial.draw(some_rows(layout, 0, 2)), trial.draw(some_rows(layout, 1, 2))
    rows = [*before, (text, layout.reference(truth)), *after]
    (alone,) = trial.against([text], truth)
    together = trial.score([each for each, _ in rows], [each for _, each in rows])
    trial.expect(
        _equal([alone], [together[len(before)]]),
        f"{alone:.6g} for the first completion, whatever else is in the batch",
    )


def perfect_pays_most(trial: Trial) -> None:
    """The right answer, and any other text."""
    truth = trial.draw(truths(trial.layout))
    other = trial.draw(any_completion(trial.layout, truth))
    perfect, paid = trial.against([trial.layout.text(truth), other], truth)
    trial.expect(not paid > perfect + TOLERANCE, f"at most {perfect:.6g} for the second")


def right_beats_wrong(trial: Trial) -> None:
    """The right answer, and one far off."""
    layout = trial.layout
    right, wrong = trial.draw(far_apart(layout))
    paid = trial.against([layout.text(right), layout.text(wrong)], right)
    trial.expect(not paid[1] >= paid[0], f"less than {paid[0]:.6g} for the second")


def answer_order(trial: Trial) -> None:
    """An answer, and the same in another order."""
    truth = trial.draw(answers(trial.layout, least=1))
    said = trial.draw(answers(trial.layout, near=truth, least=2))
    other = trial.draw(st.permutations(said))
    trial.assume(other != said)
    paid = trial.against([trial.layout.text(said), trial.layout.text(other)], truth)
    trial.expect(_equal(paid[:1], paid[1:]), "the same for both")


def reference_order(trial: Trial) -> None:
    """A reference, and the same in another order."""
    truth = trial.draw(answers(trial.layout, least=2))
    other = trial.draw(st.permutations(truth))
    trial.assume(other != truth)
    text = trial.layout.text(trial.draw(answers(trial.layout, near=truth)))
    first, second = trial.against([text], truth), trial.against([text], other)
    trial.expect(_equal(first, second), "the same for both")


def duplicates(trial: Trial) -> None:
    """One object, or two far apart, so that a copy cannot pass for another; found or nearly so."""
    layout = trial.layout
    pair = trial.draw(far_apart(layout))
    truth = [each for part in pair for each in part][: trial.draw(st.integers(1, 2))]
    said = trial.draw(moved_copies(layout, truth))
    again = [*said, trial.draw(st.sampled_from(said))]
    once, twice = trial.against([layout.text(said), layout.text(again)], truth)
    trial.expect(not twice > once + TOLERANCE, f"at most {once:.6g} for the second")


def no_number(trial: Trial) -> None:
    """The right answer, and the same with one number that is none."""
    layout = trial.layout
    truth = trial.draw(answers(layout, least=1))
    place, bad = trial.draw(st.integers(0, 5)), trial.draw(st.sampled_from(BAD_NUMBERS))
    right = layout.text(truth)
    start = right.index(layout.written(truth))
    broken = right[:start] + bad_number(right[start:], place, bad)
    paid = trial.against([right, broken], truth)
    trial.expect(not paid[1] >= paid[0], f"less than {paid[0]:.6g} for the second")


def rejection(trial: Trial) -> None:
    """An empty answer and a false positive, where there is nothing to find."""
    wrong = trial.draw(answers(trial.layout, least=1))
    texts = [trial.layout.text([]), trial.layout.text(wrong)]
    rejection, positive = trial.against(texts, [])
    trial.expect(not positive >= rejection, f"less than {rejection:.6g} for the second")


def answer_block(trial: Trial) -> None:
    """The right answer in the reasoning alone; the reasoning is as long without it."""
    layout = trial.layout
    truth = trial.draw(truths(layout, empty=False))
    written = layout.written(truth)
    empty = trial.draw(st.sampled_from(["<answer></answer>", "<answer>see above</answer>", ""]))
    plain, told = (f"{layout.thought} {more}" for more in (" " * len(written), written))
    texts = [f"{layout.thinking(thought)}{empty}" for thought in (plain, told)]
    without, with_answer = trial.against(texts, truth)
    trial.expect(
        not with_answer > without + TOLERANCE,
        f"at most {without:.6g} for the second, as for the first",
    )


def draft(trial: Trial) -> None:
    """A draft in the reasoning, before the right answer; the reasoning is as long without."""
    layout = trial.layout
    truth, draft = (trial.draw(truths(layout, empty=False)) for _ in range(2))
    written = layout.written(draft)
    texts = [
        layout.text(truth, f"{layout.thought} {more}") for more in (" " * len(written), written)
    ]
    without, with_draft = trial.against(texts, truth)
    trial.expect(
        not with_draft < without - TOLERANCE, f"{without:.6g} for the second, as for the first"
    )


def closer(trial: Trial) -> None:
    """An object, and one that is moved straight towards it; both texts are of one length.

    Where masks are compared it is moved all the way: the S-measure looks at more than nearness.
    """
    layout = trial.layout
    end = trial.draw(objects(layout))
    moves = [trial.draw(st.integers(-10, 10)) * layout.step for _ in range(4)]
    near, far = sorted(trial.draw(st.tuples(st.integers(0, 8), st.integers(1, 9))))
    near *= not layout.masked
    said = [_deformed(end, moves, k) for k in (far, near)]
    trial.assume(all(_valid(layout, each) for each in said))
    written = [layout.written([each]) for each in said]
    width = max(map(len, written))
    texts = [
        layout.text([each], layout.thought + " " * (width - len(text)))
        for each, text in zip(said, written, strict=True)
    ]
    farther, nearer = trial.against(texts, [end])
    trial.expect(not nearer < farther - TOLERANCE, f"at least {farther:.6g} for the second")


def _deformed(entry: dict[str, Any], moves: list[int], times: int) -> dict[str, Any]:
    """The object with each side of its box moved by itself, and its points by what is between."""
    middle = [(moves[0] + moves[2]) // 2, (moves[1] + moves[3]) // 2]
    return {
        key: [v + times * (moves if len(value) == 4 else middle)[k] for k, v in enumerate(value)]
        if isinstance(value, list)
        else value
        for key, value in entry.items()
    }


def _valid(layout: Layout, entry: dict[str, Any]) -> bool:
    """Whether all places are in the frame, and the box has an area."""
    width, height = layout.frame
    if layout.boxed:
        x1, y1, x2, y2 = layout.box(entry)
        if x2 - x1 < 1 or y2 - y1 < 1:
            return False
    places = [value for value in entry.values() if isinstance(value, list)]
    return all(0 <= v <= (width, height)[k % 2] for value in places for k, v in enumerate(value))


def _equal(one: list[float], other: list[float]) -> bool:
    """Whether rewards are equal, NaN to itself."""
    return all(
        abs(a - b) <= TOLERANCE or a == b or (math.isnan(a) and math.isnan(b))
        for a, b in zip(one, other, strict=True)
    )
