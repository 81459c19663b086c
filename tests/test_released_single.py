"""The released rewards for one box with two points: every recorded number, on any text."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rankreward.rewards.released import dpad, seg_zero
from rankreward.rewards.released.text import has_only_blocks

GOLDEN = Path(__file__).parent / "golden" / "rollouts.jsonl.gz"
REFERENCE = "<box>(100,100),(300,300)</box><points>(200,180),(200,220)</points>"
EXACT: dict[str, Any] = {
    "bbox": [100, 100, 300, 300],
    "points_1": [200, 180],
    "points_2": [200, 220],
}
WRONG = EXACT | {"bbox": [600, 600, 700, 700], "points_1": [0, 0]}
OTHER_NAMES = dict(zip(("box_2d_bbox", "Points_a", "points_b"), EXACT.values(), strict=True))

TWO = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
THREE = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>\s*<caption>.*?</caption>", re.DOTALL)
PIECES = ["<think>", "</think>", "<answer>", "</answer>", "<caption>", "</caption>"]
PIECES += [" ", "\n", "\u3000", "\x1c", "a", "<", "{", "}"]


def wrap(answer: Any, think: str = "why") -> str:
    body = answer if isinstance(answer, str) else json.dumps(answer)
    return f"<think>{think}</think>\n<answer>{body}</answer>"


def rows(family: str) -> list[dict[str, Any]]:
    with gzip.open(GOLDEN, "rt", encoding="utf-8") as lines:
        return [row for row in map(json.loads, lines) if row["family"] == family]


def differences(row: dict[str, Any], system: str, scored: dict[str, float]) -> list[Any]:
    """Of every number of a row that is not met."""
    assert scored.keys() == row[system].keys()
    return [
        (row["text"], name, want, scored[name])
        for name, want in row[system].items()
        if not abs(scored[name] - want) <= 1e-9
    ]


@pytest.mark.parametrize(("system", "strict"), [("seg_zero", False), ("seg_zero_strict", True)])
def test_seg_zero_meets_every_recorded_number(system: str, strict: bool) -> None:
    """All terms of all recorded single-object rows, within 1e-9."""
    recorded = rows("single")
    assert len(recorded) == 200
    for row in recorded:
        scored = seg_zero.score(row["text"], row["reference"], strict=strict)
        assert differences(row, system, scored) == []


def test_dpad_meets_every_recorded_number() -> None:
    """All terms of all recorded caption rows, within 1e-9."""
    recorded = rows("caption")
    assert len(recorded) == 200
    for row in recorded:
        assert differences(row, "dpad", dpad.score(row["text"], row["reference"])) == []


@pytest.mark.parametrize(
    ("text", "strict", "soft"),
    [
        pytest.param(wrap(EXACT), 5, 5, id="S1 exact"),
        pytest.param(wrap(str(EXACT)), 1, 1, id="S2 single quotes"),
        pytest.param(wrap(OTHER_NAMES), 1, 5, id="S3 other key names"),
        pytest.param(
            wrap(EXACT | {"points_1": [200, 220], "points_2": [200, 180]}),
            5,
            5,
            id="S4 points swapped",
        ),
        pytest.param(
            wrap(EXACT | {"points_1": [299, 180], "points_2": [299, 220]}),
            5,
            5,
            id="S5 distance 99",
        ),
        pytest.param(
            wrap(EXACT | {"points_1": [300, 180], "points_2": [300, 220]}),
            4,
            4,
            id="S6 distance 100",
        ),
        pytest.param(wrap(EXACT, think=json.dumps(WRONG)), 2, 2, id="S7 wrong draft, right answer"),
        pytest.param(wrap("", think=json.dumps(EXACT)), 5, 5, id="S8 draft, empty answer"),
        pytest.param(
            wrap(EXACT | {"bbox": [150, 100, 350, 330]}), 4, 4, id="S9 box off by over 10"
        ),
        pytest.param(json.dumps(EXACT), 4, 4, id="S11 no tags"),
    ],
)
def test_worked_examples(text: str, strict: int, soft: int) -> None:
    """The totals worked out for the released code, S1 to S11."""
    assert seg_zero.score(text, REFERENCE, strict=True)["total"] == strict
    assert seg_zero.score(text, REFERENCE, strict=False)["total"] == soft


def test_thresholds_exclude_themselves() -> None:
    """An L1 of exactly 10, an IoU of exactly one half, boxes that share an edge: 0."""
    ten = seg_zero.score(wrap(EXACT | {"bbox": [110, 110, 310, 310]}), REFERENCE, strict=True)
    assert (ten["iou"], ten["box_l1"]) == (1, 0)
    half = EXACT | {"bbox": [0, 0, 9, 4]}
    assert seg_zero.compare(wrap(half), "<box>(0,0),(9,9)</box>", strict=True)["iou"] == 0.5
    assert seg_zero.score(wrap(half), "<box>(0,0),(9,9)</box>", strict=True)["iou"] == 0
    edge = EXACT | {"bbox": [300, 100, 500, 300]}
    assert seg_zero.compare(wrap(edge), REFERENCE, strict=True)["iou"] == 0


def test_what_the_released_code_gives_up_on_is_zero() -> None:
    """NaN, infinity, short lists, other types and unreadable references cost their checks only."""
    for bad in (math.nan, math.inf, None, "x", [1]):
        box = seg_zero.score(wrap(EXACT | {"bbox": [100, 100, 300, bad]}), REFERENCE, strict=True)
        assert list(box.values()) == [1, 1, 0, 0, 0, 2]
        point = seg_zero.score(wrap(EXACT | {"points_1": [bad, 200]}), REFERENCE, strict=True)
        assert list(point.values()) == [1, 1, 1, 0, 1, 4]
    broken = seg_zero.score(wrap(EXACT), "<bx>(100,100),(300,300)</box>", strict=True)
    assert list(broken.values()) == [1, 1, 0, 0, 0, 2]


def test_coordinates_are_cut_to_whole_pixels() -> None:
    """A point 0.7 beyond the box's edge is inside it."""
    text = wrap(EXACT | {"points_1": [200, 180.9], "points_2": [299.2, 300.7]})
    assert seg_zero.score(text, REFERENCE, strict=True)["point"] == 1


def test_soft_keys() -> None:
    """`point_1` has the soft format but is no point; a nameless list is no box."""
    named = dict(zip(("BBox", "point_1", "point_2"), EXACT.values(), strict=True))
    assert list(seg_zero.score(wrap(named), REFERENCE, strict=False).values()) == [1, 1, 1, 0, 1, 4]
    nameless = dict(zip(("", "points_1", "points_2"), EXACT.values(), strict=True))
    assert seg_zero.score(wrap(nameless), REFERENCE, strict=False)["total"] == 1


# Mostly well-formed texts, so that both answers come up.
PARTS = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
BLOCKS = st.tuples(*[PARTS] * 7).map(
    lambda p: f"<think>{p[0]}</think>{p[1]}<answer>{p[2]}</answer>{p[3]}<caption>{p[4]}</caption>"
)
TEXTS = (
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
    | BLOCKS
    | BLOCKS.map(lambda text: text.partition("<caption>")[0])
)


@settings(max_examples=1500)
@given(TEXTS)
@example("<think></think><answer></think> <answer></answer>")
@example("<think></think><answer></answer>x</answer>")
@example("<think></think><answer></answer> <caption></caption>")
@example("<think></think><answer></answer")
def test_order_of_tags_is_that_of_the_regular_expressions(text: str) -> None:
    """The scan and a full match agree, with two tags and with three."""
    assert has_only_blocks(text, "think", "answer") == bool(TWO.fullmatch(text))
    assert has_only_blocks(text, "think", "answer", "caption") == bool(THREE.fullmatch(text))


@settings(max_examples=1000)
@given(st.text("{}a\n", max_size=12))
@example("{}")
@example("{{}")
@example("{}}")
def test_first_braces_are_those_of_the_regular_expression(text: str) -> None:
    """The scan and a search for braces agree."""
    found = re.search(r"\{[^}]+\}", text)
    assert seg_zero.first_braces(text) == (found.group(0) if found else None)


@settings(max_examples=300)
@given(st.text(st.sampled_from("<caption>/ x"), max_size=30) | TEXTS)
@example("<caption>a</caption><caption>b</caption>")
@example("</caption><caption><caption>a</caption>")
def test_caption_is_that_of_a_regular_expression(text: str) -> None:
    """The first block, up to the first closing tag."""
    found = re.search(r"<caption>(.*?)</caption>", text, re.DOTALL)
    assert dpad.caption(text) == (found.group(1).strip() if found else None)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
SCALARS |= st.sampled_from([10**400, -(10**400), "12", 1e308])
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=5), max_leaves=6)
KEYS = st.sampled_from(["bbox", "points_1", "points_2", "point_1", "BBox", "Points_a", ""])


@given(st.dictionaries(KEYS, VALUES, max_size=4))
@example(
    {
        "bbox": [-(10**400), -(10**400), 10**400, 10**400],
        "points_1": [10**399, 0],
        "points_2": [0, 0],
    }
)
@example({"bbox": [0, 0, 0, 0], "points_1": [0, 0], "points_2": [0, 0]})
@example({"bbox": [9, 9, 0, 0], "points_1": [0, 0], "points_2": [0, 0]})
def test_no_object_raises(data: dict[str, Any]) -> None:
    """Whatever an object holds, each check is 0 or 1 and an IoU lies between them."""
    for strict in (True, False):
        scored = seg_zero.score(wrap(data), REFERENCE, strict=strict)
        assert scored["total"] == sum(scored[k] for k in scored if k != "total")
        assert set(scored.values()) - {scored["total"]} <= {0.0, 1.0}
    assert all(0 <= value <= 1 for value in dpad.score(wrap(data), REFERENCE).values())


@pytest.mark.parametrize(
    "piece",
    [
        *PIECES,
        "{}",
        "</think> ",
        "</think><answer>",
        "</think><answer></answer>",
        "</think><answer></answer><caption>",
        "<caption></caption>",
        "</think>" + " " * 1000,
        '{"bbox":',
        "[",
        "9",
        '"a":1,',
    ],
)
@pytest.mark.parametrize("start", ["", "<think>", "<think></think>", '{"bbox":', "{"])
@pytest.mark.parametrize("end", ["", "</answer>", "</caption>", "}", "</answer"])
def test_a_megabyte_of_anything_returns(piece: str, start: str, end: str) -> None:
    """A megabyte of each hostile shape is scored; a quadratic scan would never get there."""
    text = start + piece * (1_000_000 // len(piece)) + end
    assert seg_zero.score(text, REFERENCE, strict=False)["total"] <= 1
    assert seg_zero.score(text, REFERENCE, strict=True)["total"] <= 1
    assert sum(dpad.score(text, REFERENCE).values()) <= 1
    dpad.caption(text)
