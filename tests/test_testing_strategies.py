"""What the strategies draw is what they say, and shrinks to what is short."""

from __future__ import annotations

import contextlib
import json
import signal
import time

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

import rankreward as rr
from rankreward.parsing import SCHEMAS
from rankreward.recipe import Recipe
from rankreward.rewards.references import read_references
from rankreward.testing import (
    Layout,
    answers,
    batches,
    boxes,
    completions,
    points,
    references,
    warmed,
    windows,
)
from rankreward.testing.cost import TookTooLong, growth, limited

OBJECTS = [name for name in SCHEMAS if name not in {"text", "prompt_tags"}]
few = settings(max_examples=20, deadline=None)
PLAIN = [name for name in rr.recipes() if not Recipe.load(name).released]


@few
@given(data=st.data(), step=st.sampled_from([1, 10]))
def test_boxes_lie_in_the_frame_and_have_an_area(data, step) -> None:
    """Whole numbers, multiples of the step, x before y."""
    x1, y1, x2, y2 = data.draw(boxes((200, 100), step=step))
    assert 0 <= x1 < x2 <= 200
    assert 0 <= y1 < y2 <= 100
    assert min(x2 - x1, y2 - y1) >= 4 * step
    assert not any(v % step for v in (x1, y1, x2, y2))


@few
@given(data=st.data())
def test_points_lie_where_they_are_asked_for(data) -> None:
    """In a box, edges and all, or in the frame."""
    box = data.draw(boxes((50, 50)))
    x, y = data.draw(points((50, 50), inside=box))
    assert box[0] <= x <= box[2]
    assert box[1] <= y <= box[3]
    assert max(data.draw(points((5, 5)))) <= 5


@pytest.mark.parametrize("name", PLAIN)
@few
@given(data=st.data())
def test_references_can_be_read(name, data) -> None:
    """By the recipe that they are drawn for, with as many objects as the answer has."""
    layout, recipe = Layout.of(name), Recipe.load(name)
    truth = data.draw(answers(layout, least=0 if layout.may_be_empty else 1))
    (target,) = read_references([layout.reference(truth)], recipe)
    if target.objects is not None:
        assert len(target.objects) == len(truth)
    if target.mask is not None:
        assert target.mask.any() == bool(truth)
    read_references([data.draw(references(layout))], recipe)


@pytest.mark.parametrize("name", PLAIN)
@few
@given(data=st.data())
def test_well_formed_completions_have_nothing_wrong(name, data) -> None:
    """The recipe's parser reads them as they were meant."""
    recipe = Recipe.load(name)
    response = rr.parse(
        data.draw(completions(name)),
        schema=recipe.response.schema_,
        think=recipe.response.think,
        keyword=recipe.response.keyword,
    )
    assert response.failure is None


@pytest.mark.parametrize("name", ["dr_seg", "seg_zero"])
def test_malformed_completions_have_every_common_failure(name) -> None:
    """Faults of tags, of JSON, of entries and of numbers are all among them."""
    layout = Layout.of(name)
    wanted = {"bad_json", "bad_number", "bad_entry", "unclosed_tag", "missing_tag", "stray_text"}
    seen = set()

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(text=completions(layout, "malformed"))
    def draw(text):
        seen.add(_code(text, layout))

    draw()
    assert seen >= wanted


def test_malformed_completions_shrink_to_what_is_short() -> None:
    """One object, with one fault."""
    layout = Layout.of("dr_seg")
    quiet = settings(database=None, derandomize=True)
    text = find(
        completions(layout, "malformed"),
        lambda text: _code(text, layout) == "bad_number",
        settings=quiet,
    )
    assert len(text) < 200


def _code(text, layout):
    response = layout.recipe.response
    failure = rr.parse(text, schema=response.schema_, keyword=response.keyword).failure
    return None if failure is None else failure.code


@few
@given(batch=batches("dr_seg"))
def test_batches_can_be_scored(batch) -> None:
    """As many references as completions, all of which a scorer takes."""
    texts, given_references = batch
    assert 1 <= len(texts) == len(given_references) <= 4
    assert np.isfinite(SCORER.score(texts, given_references, record=False).total).all()


SCORER = warmed("dr_seg")


@few
@given(rows=windows(2))
def test_windows_can_be_pushed(rows) -> None:
    """(n, N) values between 0 and 1, or NaN."""
    service = rr.QuantileService(metrics=("a", "b"), warm_start=0)
    service.push(rows)
    service.flush(1)
    assert service.size == len(rows)
    assert not np.any((rows < 0) | (rows > 1))


def test_windows_have_ties_and_nan() -> None:
    """Both are easy to find."""
    quiet = settings(database=None, derandomize=True)
    tied = find(windows(1, nan=False), lambda w: len(w) > len(np.unique(w)), settings=quiet)
    assert tied.tolist() == [[0.0], [0.0]]
    assert np.isnan(find(windows(1), lambda w: bool(np.isnan(w).any()), settings=quiet)).all()


@pytest.mark.parametrize("schema", OBJECTS)
def test_what_is_drawn_shrinks_to_what_is_simple(schema) -> None:
    """One object, in the corner."""
    quiet = settings(database=None, derandomize=True)
    text = find(references(schema, empty=False), lambda _: True, settings=quiet)
    said = json.loads(text)
    numbers = [v for each in (said if isinstance(said, list) else [said]) for v in _numbers(each)]
    assert isinstance(said, dict) or len(said) == 1
    assert set(numbers) <= {0, 4}


def _numbers(entry):
    return [v for value in entry.values() if isinstance(value, list) for v in value]


def test_an_unknown_kind_is_an_error() -> None:
    """And says which there are."""
    with pytest.raises(rr.InputError, match="expected well_formed, malformed, hostile, got 'evil'"):
        completions("boxes", "evil")


@pytest.mark.parametrize(("power", "steep"), [(1, False), (1.2, False), (2, True), (3, True)])
def test_growth_is_told_from_noise(monkeypatch, power, steep) -> None:
    """By a clock of its own, whatever a call costs besides."""
    clock = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: clock[0])

    def call(length):
        clock[0] += 0.004 + 1e-7 * length**power

    assert growth(call, largest=1 << 17).steep == steep


def test_one_slow_call_is_not_growth(monkeypatch) -> None:
    """It is measured again before anything is said."""
    clock, calls = [0.0], [0]
    monkeypatch.setattr(time, "process_time", lambda: clock[0])

    def call(length):
        calls[0] += 1
        clock[0] += 1e-7 * length + (1.0 if calls[0] == 5 else 0.0)

    assert not growth(call, largest=1 << 17).steep


def test_a_call_that_takes_too_long_is_stopped() -> None:
    """Though it catches exceptions; and the clock of whoever came before goes on."""
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    try:
        with pytest.raises(TookTooLong):
            stubborn()
        assert not rung
        time.sleep(0.5)
        assert rung == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def stubborn() -> None:
    with limited(0.05), contextlib.suppress(Exception):
        time.sleep(5)
