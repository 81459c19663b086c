"""The kit finds what published rewards do wrong, and nothing in the same rewards set right."""

from __future__ import annotations

import contextlib
import io
from functools import cache

import pytest
from defective_rewards import DEFECTS

from rankreward.testing import check_reward

SOUND = {good: schema for schema, _, good in DEFECTS.values()}


@cache
def found_in(defect):
    """What its invariant says of a defect; the search is for the smallest, and is made once."""
    schema, invariant, _ = DEFECTS[defect]
    return check_reward(defect, schema, invariants=[invariant])[invariant]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_each_published_defect_is_found(defect) -> None:
    """By the invariant that says so, within 100 examples, and shown with a few short texts."""
    found, invariant = found_in(defect), DEFECTS[defect][1]
    assert found.status == "failed"
    assert found.examples <= 100
    texts = [text for call in found.counterexample.calls for text in call.completions]
    assert len(texts) <= 4
    if invariant != "linear_cost":
        assert max(map(len, texts)) <= 200


@pytest.mark.parametrize("sound", SOUND, ids=lambda sound: sound.__name__)
def test_a_sound_reward_keeps_every_promise(sound) -> None:
    """The same rewards without the defects pass, and most invariants can be asked of them."""
    report = check_reward(sound, SOUND[sound], max_examples=30)
    assert report.passed, str(report)
    checked = [each.name for each in report.findings if each.status == "passed"]
    assert len(checked) >= (10 if SOUND[sound] == "text" else 13)


@pytest.mark.parametrize(
    "defect", [each for each in DEFECTS if DEFECTS[each][1] not in {"linear_cost", "alone"}]
)
def test_the_lines_of_a_report_show_it_again(defect) -> None:
    """Pasted into Python they print what the report says was paid."""
    found = found_in(defect).counterexample
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(found.code, {})  # noqa: S102 - our own report
    assert printed.getvalue().split("\n")[:-1] == [str(list(call.paid)) for call in found.calls]
