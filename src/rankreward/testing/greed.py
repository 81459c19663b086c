"""Greed: answers that say too much, too little, or everything, beside the right one.

Goes in: a `Trial`. Comes out: nothing, or a `Violation`. Each of them should be paid strictly less
than the right answer; the table of invariants is in `rankreward.testing.invariants`.
"""

from __future__ import annotations

from typing import Any

from rankreward.errors import require
from rankreward.testing.strategies import far_apart, objects, small_boxes
from rankreward.testing.trial import Trial

st: Any = require("hypothesis.strategies", extra="testing")


def extra_object(trial: Trial) -> None:
    """The right object, and with it one that is far off; before it or after it."""
    right, wrong = trial.draw(far_apart(trial.layout))
    said = trial.draw(st.sampled_from([[*right, *wrong], [*wrong, *right]]))
    _less(trial, right, said)


def missing_object(trial: Trial) -> None:
    """Two objects far apart, and one of them alone."""
    one, other = trial.draw(far_apart(trial.layout))
    _less(trial, [*one, *other], trial.draw(st.sampled_from([one, other])))


def whole_frame(trial: Trial) -> None:
    """An object a third of the frame wide and high at most, and the frame; points are right."""
    layout = trial.layout
    small = trial.draw(objects(layout, small_boxes(layout)))
    _less(trial, [small], [small | {layout.schema.box or "bbox": [0, 0, *layout.frame]}])


def _less(trial: Trial, truth: list[dict[str, Any]], said: list[dict[str, Any]]) -> None:
    right, paid = trial.against([trial.layout.text(each) for each in (truth, said)], truth)
    trial.expect(not paid >= right, f"less than {right:.6g} for the second")
