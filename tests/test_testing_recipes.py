"""The kit on our own recipes: every paper form keeps its promises, released forms do not."""

from __future__ import annotations

import pytest

import rankreward as rr
from rankreward.testing import check_reward

PAPER = [name for name in rr.recipes() if not rr.Recipe.load(name).released]
RELEASED = {
    "dpad-released": {"answer_block", "draft"},
    "dr_seg-released": {
        *("perfect_pays_most", "answer_order", "reference_order", "bad_number"),
        "rejection",
    },
    "seg_zero-released": {"answer_block", "draft"},
    "seg_zero_soft-released": {"answer_block", "draft"},
    "vision_reasoner-released": {"perfect_pays_most", "rejection"},
}


@pytest.mark.parametrize("name", PAPER)
def test_paper_forms_keep_every_promise(name: str) -> None:
    """Whatever the policy writes; time is looked at elsewhere."""
    report = check_reward(name, max_examples=15, skip=["linear_cost"])
    assert report.passed, str(report)


@pytest.mark.parametrize("name", ["dr_seg", "seg_r1", "grpo_care"])
def test_the_cost_of_a_recipe_is_linear(name: str) -> None:
    """For a list, for tags and for texts."""
    report = check_reward(name, invariants=["linear_cost"])
    assert report.passed, str(report)


@pytest.mark.parametrize("name", RELEASED)
def test_released_forms_break_what_the_published_code_breaks(name: str) -> None:
    """As described for each, and nothing that is not known."""
    known = RELEASED[name]
    report = check_reward(name, invariants=["returns", *sorted(known)], max_examples=100)
    assert {each.name for each in report.failures} == known, str(report)
    report = check_reward(name, skip=["linear_cost", *known], max_examples=15)
    assert report.passed, str(report)


def test_every_released_recipe_is_here() -> None:
    """None is left out."""
    assert {*PAPER, *RELEASED} == set(rr.recipes())
