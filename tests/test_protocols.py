"""The published evaluations of masks, counts and texts, against slow twins and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

import rankreward as rr
from rankreward.evaluation.captions import caption_measures, length_measures
from rankreward.evaluation.counting import count_measures
from rankreward.evaluation.detection import any_box_hit_rate
from rankreward.evaluation.facts import overlap_of, pixels_of
from rankreward.evaluation.masks import THRESHOLDS, mask_measures
from rankreward.evaluation.protocols import (
    PROTOCOLS,
    Overlap,
    cumulative_iou,
    mean_image_iou,
)

FOUR = [
    Overlap(800, 1000, True, False),
    Overlap(10, 100, True, False),
    Overlap(0, 0, False, True),
    Overlap(0, 500, False, False),
]

masks = hnp.arrays(bool, (3, 4))
samples = st.lists(
    st.tuples(masks, masks, masks, st.booleans(), st.booleans()), min_size=1, max_size=6
)


def values(measures: dict[str, Any]) -> dict[str, float]:
    return {name: measure.value for name, measure in measures.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("seg_zero", 0.225),
        ("seg_zero_no_object", 0.475),
        ("rela", 0.475),
        ("lisa", 0.475),
        ("dr_seg", 0.3),
    ],
)
def test_four_samples_have_three_scores(name: str, expected: float) -> None:
    """Good, poor, correctly rejected, invented: gIoU depends on the protocol, the rest does not."""
    found = values(PROTOCOLS[name].measures(FOUR))
    assert found["gIoU"] == pytest.approx(expected)
    assert found["cIoU"] == pytest.approx(0.50625)
    assert (found["N-acc"], found["T-acc"]) == (0.5, 1.0)
    assert [found[f"Pr@{t}"] for t in THRESHOLDS] == [
        0.5,
        0.5,
        0.5,
        0.0 if name != "rela" else 0.5,
        0.0,
    ]


def test_four_samples_have_one_hit_rate() -> None:
    """The same four samples by their boxes: a hit, a miss, a correct rejection, an invention."""
    predicted = [[[0, 0, 40, 20]], [[0, 0, 5, 2]], [], [[0, 0, 25, 20]]]
    reference = [[[0, 0, 50, 20]], [[0, 0, 10, 10]], [], []]
    assert any_box_hit_rate(predicted, reference).value == 0.5


def test_pixels_to_ignore() -> None:
    """A mask equal to the true one scores 2/3 where ignored pixels became foreground, else 1."""
    target, ignore = np.zeros((2, 30), bool), np.zeros((2, 30), bool)
    target[0, :20] = ignore[1, :10] = True
    for name, protocol in PROTOCOLS.items():
        found = protocol.overlap(target, target, boxes=1, ignore=ignore)
        assert found[:2] == ((20, 20) if name == "lisa" else (20, 30))


def test_predicted_pixels_to_ignore_cost_nothing_in_lisa() -> None:
    """What a prediction has on ignored pixels is not looked at, and alone it is a rejection."""
    target, ignore = np.array([[True, False]]), np.array([[False, True]])
    overlap = PROTOCOLS["lisa"].overlap
    assert overlap(target | ignore, target, boxes=1, ignore=ignore) == (1, 1, True, False)
    assert overlap(ignore, ignore, boxes=1, ignore=ignore) == (0, 0, False, True)


def test_a_rejected_target_in_rela() -> None:
    """It intersects nothing, but its raw mask still counts in the union; no target, neither."""
    found, target = np.array([[True, True, False]]), np.array([[False, True, True]])
    nothing = np.zeros((1, 3), bool)
    overlap = PROTOCOLS["rela"].overlap
    assert overlap(found, target, boxes=1, declared=True) == (0, 3, True, True)
    assert overlap(found, nothing, boxes=1, declared=True) == (0, 0, False, True)
    assert overlap(found, nothing, boxes=1, declared=False) == (0, 2, False, False)
    assert overlap(nothing, target, boxes=1) == (0, 2, True, True)
    assert overlap(nothing, target, boxes=1, declared=False) == (0, 2, True, False)


@pytest.mark.parametrize(("boxes", "rejected"), [(0, True), (None, False), (2, False)])
def test_an_unreadable_answer_is_no_rejection(boxes: int | None, rejected: bool) -> None:
    """By boxes, only an answer that was read and has none rejects; a mask that is empty does not."""
    nothing, target = np.zeros((1, 3), bool), np.ones((1, 3), bool)
    for name in ("seg_zero", "seg_zero_no_object", "dr_seg"):
        assert PROTOCOLS[name].overlap(nothing, nothing, boxes=boxes) == (0, 0, False, rejected)
        assert PROTOCOLS[name].overlap(nothing, target, boxes=boxes) == (0, 3, True, rejected)


def test_an_empty_union_that_is_no_rejection() -> None:
    """An unreadable answer to nothing is worth 0 where rejections are worth 1; LISA cannot tell."""
    nothing = np.zeros((1, 3), bool)
    pixels = pixels_of(nothing, nothing)
    scores = {
        name: protocol.measures([overlap_of(pixels, protocol, count=None)])["gIoU"].value
        for name, protocol in PROTOCOLS.items()
    }
    assert math.isnan(scores.pop("dr_seg"))
    assert scores == {"seg_zero": 0.0, "seg_zero_no_object": 0.0, "rela": 0.0, "lisa": 1.0}


@pytest.mark.parametrize(("count", "rejected"), [(0, True), (None, False), (2, False)])
def test_an_answer_declares_by_having_no_boxes(count: int | None, rejected: bool) -> None:
    """In ReLA's protocol a list of none declares that there is nothing; an empty mask does not."""
    nothing, target = np.zeros((1, 3), bool), np.ones((1, 3), bool)
    for reference, union in ((nothing, 0), (target, 3)):
        found = overlap_of(pixels_of(nothing, reference), PROTOCOLS["rela"], count=count)
        assert found == (0, union, bool(union), rejected)


@given(masks, masks, masks, st.none() | masks, st.sampled_from([*PROTOCOLS]))
def test_void_pixels_are_as_if_the_image_had_none(
    found: Any, true: Any, void: Any, ignore: Any, name: str
) -> None:
    """In any protocol the overlap is that of the other pixels alone, ignored or not."""
    rest = None if ignore is None else ignore[~void][None]
    expected = PROTOCOLS[name].overlap(
        found[~void][None], true[~void][None], boxes=1, ignore=rest, declared=False
    )
    pixels = pixels_of(found, true, ignore, void)
    assert overlap_of(pixels, PROTOCOLS[name], count=1) == expected
    same = overlap_of(pixels_of(true, true, None, void), PROTOCOLS[name], count=1)
    assert same.intersection == same.union == (true & ~void).sum()


def by_hand(name: str, rows: list[Any]) -> tuple[float, float, float]:
    """gIoU, cIoU and N-acc as each evaluation is described, a pixel and a sample at a time."""
    ious, both, either, rejections, no_targets = [], 0, 0, 0, 0
    for found, true, ignore, boxed, says_nothing in rows:
        i = u = 0
        target = mask = False
        for pixel, wanted, skip in zip(found.flat, true.flat, ignore.flat, strict=True):
            t = (wanted and not skip) if name == "lisa" else (wanted or skip)
            p = pixel and (boxed or name in ("lisa", "rela")) and not (skip and name == "lisa")
            i, u, target, mask = i + (p and t), u + (p or t), target or t, mask or p
        if name == "lisa":
            rejected, iou = not mask, i / u if u else 1.0
        elif name == "rela":
            rejected = says_nothing
            if not target:
                iou, i, u = (1.0, 0, 0) if rejected else (0.0, 0, u)
            else:
                i = 0 if rejected else i
                iou = i / u
        else:
            rejected = not boxed
            iou = i / u if u else 0.0
            if name == "seg_zero_no_object" and rejected and not target:
                iou = 1.0
        if u or name != "dr_seg":
            ious.append(iou)
        both, either = both + i, either + u
        no_targets += not target
        rejections += not target and rejected
    return (
        sum(ious) / len(ious) if ious else math.nan,
        both / either if either else math.nan,
        rejections / no_targets if no_targets else math.nan,
    )


@pytest.mark.parametrize("name", PROTOCOLS)
@given(rows=samples)
def test_protocols_equal_their_slow_twins(name: str, rows: list[Any]) -> None:
    """On any masks every protocol gives what its description gives by hand."""
    protocol, overlaps = PROTOCOLS[name], []
    for found, true, ignore, boxed, says_nothing in rows:
        mask = found if boxed or name in ("lisa", "rela") else np.zeros_like(found)
        overlaps.append(
            protocol.overlap(mask, true, boxes=int(boxed), ignore=ignore, declared=says_nothing)
        )
    found = values(protocol.measures(overlaps))
    expected = by_hand(name, rows)
    np.testing.assert_allclose([found[m] for m in ("gIoU", "cIoU", "N-acc")], expected, rtol=1e-12)


@given(found=masks, true=masks, ignore=masks.filter(lambda mask: not mask.all()))
def test_overlap_is_the_jaccard_index(found: Any, true: Any, ignore: Any) -> None:
    """Intersection over union is scikit-learn's, with ignored pixels weighing nothing."""
    i, u, _, _ = PROTOCOLS["lisa"].overlap(found, true, boxes=1, ignore=ignore)
    weight = (~ignore).ravel().astype(float)
    expected = sk.jaccard_score(true.ravel(), found.ravel(), sample_weight=weight, zero_division=0)
    assert (i / u if u else 0.0) == pytest.approx(expected)


areas = st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(areas, min_size=1))
def test_measures_agree_with_the_plain_functions(pairs: list[tuple[int, int]]) -> None:
    """Where empty unions are the rejections, gIoU and cIoU are those of the two functions."""
    i, u = np.array(pairs).T
    for empty in ("one", "zero", "drop"):
        found = values(mask_measures(i, u, u > 0, u == 0, empty=empty, edge="above"))  # type: ignore[arg-type]
        expected = mean_image_iou(i, u, empty=empty), cumulative_iou(i, u)  # type: ignore[arg-type]
        np.testing.assert_array_equal([found["gIoU"], found["cIoU"]], expected)


def test_precision_at_its_edge() -> None:
    """An IoU of exactly t passes where at least t is asked for, and not where more is."""
    for edge, passed in (("above", 0.0), ("at_least", 1.0)):
        found = mask_measures([7], [10], [True], [False], empty="one", edge=edge)  # type: ignore[arg-type]
        assert found["Pr@0.7"].value == passed
        assert (found["Pr@0.6"].value, found["Pr@0.8"].value) == (1.0, 0.0)


def test_measures_of_nothing_are_undefined() -> None:
    """Without samples of a kind its measures are NaN, not 0, and say that they are of none."""
    found = mask_measures([0], [0], [False], [True], empty="drop", edge="above")
    assert {name for name, m in found.items() if math.isnan(m.value)} == set(found) - {"N-acc"}
    assert (found["N-acc"].value, found["N-acc"].size, found["T-acc"].size) == (1.0, 1, 0)
    for measure in PROTOCOLS["lisa"].measures([]).values():
        assert math.isnan(measure.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (([1], [2], [False], [False]), "expected an intersection of 0"),
        (([1], [2], [True], [True]), "expected an intersection of 0"),
        (([0], [2], [False], [True]), "a union of 0 where it is rejected"),
        (([0], [0], [True], [False]), "expected pixels where there is a target"),
        (([0], [2], [1], [False]), r"is_target: expected \(1,\) bool"),
        (([0], [2], [True], [False, True]), r"is_rejected: expected \(1,\) bool"),
        (([3], [2], [True], [False]), "expected 0 <= intersection <= union"),
    ],
)
def test_impossible_samples_are_refused(row: Any, message: str) -> None:
    """Areas that no masks have, and flags that are none, are an error."""
    with pytest.raises(rr.InputError, match=message):
        mask_measures(*row, empty="one", edge="above")


def test_unknown_options_are_refused() -> None:
    """A policy that does not exist is refused."""
    for options in ({"empty": "two", "edge": "above"}, {"empty": "one", "edge": "over"}):
        with pytest.raises(rr.InputError, match="empty, edge: expected"):
            mask_measures([1], [1], [True], [False], **options)  # type: ignore[arg-type]


def test_masks_that_do_not_fit_are_refused() -> None:
    """Masks are boolean and of one image, and an answer without boxes has no mask."""
    mask, overlap = np.ones((2, 2), bool), PROTOCOLS["seg_zero"].overlap
    for arguments in ((mask, mask[:1]), (mask * 1, mask)):
        with pytest.raises(rr.InputError, match="masks: expected two boolean arrays"):
            overlap(*arguments, boxes=1)
        for name in ("seg_zero", "lisa"):
            with pytest.raises(rr.InputError, match="masks: expected two boolean arrays"):
                PROTOCOLS[name].overlap(mask, mask, boxes=1, ignore=mask[:1])
            with pytest.raises(rr.InputError, match="masks: expected two boolean arrays"):
                PROTOCOLS[name].overlap(mask[:1], mask, boxes=1, ignore=mask)
    with pytest.raises(rr.InputError, match="expected an empty mask where there are no boxes"):
        overlap(mask, mask, boxes=0)


def test_protocols_are_data() -> None:
    """A protocol is named by its key, cannot be changed, and can be varied."""
    assert set(PROTOCOLS) == {"seg_zero", "seg_zero_no_object", "dr_seg", "rela", "lisa"}
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())
    with pytest.raises(AttributeError):
        PROTOCOLS["lisa"].empty = "zero"  # type: ignore[misc]
    varied = replace(PROTOCOLS["seg_zero"], name="mine", empty="one")
    assert varied.measures(FOUR)["gIoU"].value == pytest.approx(0.475)


def test_counting() -> None:
    """The four counts of the specification."""
    found = values(count_measures([3, 5, 0, 10], [3, 4, 2, 10], unreadable="one"))
    assert (found["count accuracy"], found["MAE"], found["unreadable answers"]) == (0.5, 0.75, 0.0)
    assert found["RMSE"] == pytest.approx(math.sqrt(1.25))


counts = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1)


@given(counts)
def test_counting_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    """Accuracy, MAE and RMSE are the textbook's."""
    predicted, reference = np.array(pairs).T
    found = values(count_measures(predicted, reference, unreadable="drop"))
    assert found["count accuracy"] == pytest.approx(sk.accuracy_score(reference, predicted))
    assert found["MAE"] == pytest.approx(sk.mean_absolute_error(reference, predicted))
    assert found["RMSE"] == pytest.approx(sk.root_mean_squared_error(reference, predicted))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("one", [0.5, 1.25, 4.25]), ("zero", [0.25, 1.75, 5.25]), ("drop", [0.5, 2.0, 8.0])],
)
def test_counts_that_cannot_be_read(policy: Any, expected: list[float]) -> None:
    """A count that cannot be read is 1, is 0, or is left out, and in any case is told."""
    found = values(count_measures([np.nan, 4, 2, np.nan], [1, 0, 2, 2], unreadable=policy))
    assert found["unreadable answers"] == 0.5
    assert found["RMSE"] ** 2 == pytest.approx(expected[2])
    assert [found["count accuracy"], found["MAE"]] == expected[:2]


def test_no_count_could_be_read() -> None:
    """Left out, they leave nothing; the share of them remains."""
    found = values(count_measures([np.nan], [1], unreadable="drop"))
    assert math.isnan(found["MAE"])
    assert math.isnan(found["RMSE"])
    assert found["unreadable answers"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.5], [1], "one"), "predicted: expected whole numbers"),
        (([1], [-1], "one"), "reference: expected whole numbers"),
        (([1], [np.nan], "one"), r"reference: expected \(n,\) finite numbers"),
        (([np.inf], [1], "one"), r"predicted: expected \(n,\) finite numbers"),
        (([1], [1, 2], "one"), "expected one shape"),
        (([1], [1], "two"), "unreadable: expected 'wrong', 'one', 'zero' or 'drop'"),
    ],
)
def test_counts_that_are_none_are_refused(arguments: Any, message: str) -> None:
    """Counts are whole numbers, references always readable, the policy always named."""
    predicted, reference, policy = arguments
    with pytest.raises(rr.InputError, match=message):
        count_measures(predicted, reference, unreadable=policy)


def test_captions() -> None:
    """S1, S2 and SNR are of the texts that could be compared, and say how many these are."""
    region, image = [0.30, 0.20, np.nan, 0.9], [0.25, 0.15, 0.2, np.nan]
    for kind, prefix in (("caption", ""), ("reasoning", "T")):
        found = values(caption_measures(region, image, of=kind))  # type: ignore[arg-type]
        assert found[f"{prefix}S1"] == pytest.approx(0.25)
        assert found[f"{prefix}S2"] == pytest.approx(0.20)
        assert found[f"{prefix}SNR"] == pytest.approx(1.25)
        assert found[f"{kind} compared"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1.0], "image"), "of: expected 'caption' or 'reasoning'"),
        (([1.0], [1.0, 2.0], "caption"), r"expected two \(n,\) arrays"),
        (([np.inf], [1.0], "caption"), "expected cosines"),
    ],
)
def test_cosines_that_are_none_are_refused(arguments: Any, message: str) -> None:
    """Each wrong argument is named."""
    with pytest.raises(rr.InputError, match=message):
        caption_measures(*arguments[:2], of=arguments[2])


@given(st.lists(st.integers(0, 4000), min_size=1))
def test_lengths_are_numpys(lengths: list[int]) -> None:
    """Mean, median and 95th percentile are NumPy's."""
    found = list(values(length_measures(lengths, unit="words")).items())
    expected = [np.mean(lengths), *np.percentile(lengths, [50, 95])]
    assert [name for name, _ in found] == ["mean words", "p50 words", "p95 words"]
    np.testing.assert_allclose([value for _, value in found], expected)


def test_lengths_of_nothing() -> None:
    """Without texts there is no length; below 0 there is none either."""
    assert all(math.isnan(m.value) for m in length_measures([]).values())
    with pytest.raises(rr.InputError, match="lengths: expected numbers of at least 0"):
        length_measures([-1])


def test_frames_are_those_of_the_recipes() -> None:
    """Answers are scored in the frame that the recipe of that name asks for them in."""
    for name in ("seg_zero", "dr_seg"):
        frame = rr.Recipe.load(name).response.frame
        assert frame is not None
        assert PROTOCOLS[name].frame == (frame.width, frame.height)
