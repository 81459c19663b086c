"""Evaluation: the specification's four samples, real masks, and honest intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import pytest
from builders import entry, wrap
from numpy.typing import NDArray

import rankreward as rr
from rankreward import evaluation as ev
from rankreward.datasets.digits import scenes

RECIPE = rr.Recipe.load("dr_seg").resized(84)
FOUR = ([800, 10, 0, 0], [1000, 100, 0, 500])


@pytest.mark.parametrize(("empty", "expected"), [("one", 0.475), ("zero", 0.225), ("drop", 0.3)])
def test_mean_image_iou_on_the_four_samples(empty: Any, expected: float) -> None:
    """The same four samples give three scores under three policies for empty masks."""
    assert ev.mean_image_iou(*FOUR, empty=empty) == pytest.approx(expected)


def test_cumulative_iou_on_the_four_samples() -> None:
    """A correct rejection adds nothing; a false positive adds its area to the union."""
    assert ev.cumulative_iou(*FOUR) == pytest.approx(810 / 1600)


def test_scores_of_nothing_are_undefined() -> None:
    """Where nothing is left to average the score is NaN, not 0."""
    assert math.isnan(ev.cumulative_iou([0], [0]))
    assert math.isnan(ev.mean_image_iou([0], [0], empty="drop"))
    assert ev.mean_image_iou([0], [0], empty="one") == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1], [1, 2]), r"expected two \(n,\) arrays, got \(1,\) and \(2,\)"),
        (([2], [1]), "expected 0 <= intersection <= union"),
        (([-1], [1]), "expected 0 <= intersection <= union"),
        (([math.nan], [1]), "expected 0 <= intersection <= union"),
    ],
)
def test_scores_refuse_impossible_areas(arguments: tuple[Any, Any], message: str) -> None:
    """Areas that no pair of masks has are an error."""
    for score in (ev.cumulative_iou, lambda i, u: ev.mean_image_iou(i, u, empty="one")):
        with pytest.raises(rr.InputError, match=message):
            score(*arguments)


def test_unknown_policy() -> None:
    """A policy that does not exist is refused."""
    with pytest.raises(rr.InputError, match="empty: expected 'one', 'zero' or 'drop', got 'rela'"):
        ev.mean_image_iou([1], [1], empty="rela")  # type: ignore[arg-type]


def test_mask_overlap_refuses_other_arrays() -> None:
    """Masks are boolean and of one image."""
    with pytest.raises(rr.InputError, match="masks: expected two boolean arrays of one shape"):
        ev.mask_overlap(np.zeros((2, 2)), np.zeros((2, 2), dtype=bool))


def disc(height: int = 60, width: int = 80) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A bright disc on dark ground, and its mask."""
    rows, columns = np.mgrid[:height, :width]
    mask = (rows - 30) ** 2 + (columns - 40) ** 2 <= 15**2
    noise = np.random.default_rng(0).integers(0, 20, (height, width, 3))
    return np.where(mask[..., None], 200, 40).astype(np.uint8) + noise.astype(np.uint8), mask


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    intersection, union = ev.mask_overlap(a, b)
    return intersection / union


def test_grabcut_finds_a_disc() -> None:
    """A box and a point inside give the object's mask, and again the same one."""
    image, mask = disc()
    segmenter = ev.GrabCut()
    first = segmenter.segment(image, [[20, 10, 60, 50]], [[[40, 30]]])
    assert first.shape == (1, 60, 80)
    assert first.dtype == bool
    assert iou(first[0], mask) > 0.95
    assert np.array_equal(first, segmenter.segment(image, [[20, 10, 60, 50]], [[[40, 30]]]))


def test_grabcut_treats_objects_apart() -> None:
    """Several prompts in one call give what one call each would."""
    image, _ = disc()
    boxes, points = [[20, 10, 60, 50], [0, 0, 20, 20]], [[[40, 30]], [[5, 5]]]
    together = ev.GrabCut().segment(image, boxes, points)
    for index in range(2):
        alone = ev.GrabCut().segment(image, boxes[index : index + 1], points[index : index + 1])
        assert np.array_equal(together[index], alone[0])


@pytest.mark.parametrize(
    ("box", "empty"),
    [
        ([0, 0, 80, 60], False),
        ([-50, -50, 500, 500], False),
        ([70, 50, 500, 500], False),
        ([100, 100, 200, 200], True),
        ([30, 30, 30, 40], True),
        ([40, 40, 30, 30], True),
        ([1e6, -1e6, 1e6, 1e6], True),
    ],
)
def test_grabcut_at_the_border(box: list[float], empty: bool) -> None:
    """A box may fill the image, reach over its border, or miss it."""
    image, _ = disc()
    mask = ev.GrabCut().segment(image, [box], [[[1e6, -3]]])[0]
    if empty:
        assert not mask.any()


def test_grabcut_keeps_the_point_and_the_neighbourhood() -> None:
    """The point's pixel is object whatever its colour, and far from the box nothing is."""
    image, mask = disc()
    found = ev.GrabCut().segment(image, [[20, 10, 60, 50]], [[[22, 12]]])[0]
    assert not mask[12, 22]
    assert found[12, 22]
    found[2:58, 12:68] = False
    assert not found.any()


def test_grabcut_forgives_a_box_that_is_a_little_small() -> None:
    """A box is a hint: with some slack the mask may reach over its edge."""
    image, mask = disc()
    box, point = [[28, 18, 52, 42]], [[[40, 30]]]
    strict = ev.GrabCut(slack=0).segment(image, box, point)[0]
    assert not strict[:, :28].any()
    assert iou(ev.GrabCut().segment(image, box, point)[0], mask) > 0.95 > iou(strict, mask)


def test_grabcut_is_the_same_after_others_used_the_generator() -> None:
    """Equal calls give equal masks, whoever drew random numbers between them."""
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    masks = []
    for seed in range(4):
        cv2.setRNGSeed(seed)
        masks.append(ev.GrabCut().segment(image, [[5, 5, 35, 35]], [[[20, 20]]]))
    assert all(np.array_equal(masks[0], mask) for mask in masks)


def test_grabcut_without_prompts() -> None:
    """No boxes, no masks."""
    image, _ = disc()
    assert ev.GrabCut().segment(image, [], []).shape == (0, 60, 80)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((4, 4)), [], []), r"image: expected \(H, W, 3\) uint8"),
        ((np.zeros((4, 4, 3), np.uint8), [[0, 0, 1]], []), r"boxes: expected shape \(N, 4\)"),
        (
            (np.zeros((4, 4, 3), np.uint8), [[0, 0, 1, 1]], [[1, 1]]),
            r"points: expected shape \(1, P",
        ),
        ((np.zeros((4, 4, 3), np.uint8), [], [[[1, 1]]]), r"points: expected shape \(0, P"),
        ((np.zeros((4, 4, 3), np.uint8), [[0, 0, 1, 1]], [["a"]]), "points: expected numbers"),
    ],
)
def test_grabcut_refuses_other_arrays(arguments: tuple[Any, ...], message: str) -> None:
    """Each wrong array is named."""
    with pytest.raises(rr.InputError, match=message):
        ev.GrabCut().segment(*arguments)


SCENES = list(scenes(24, seed=1, split="eval"))


def run(texts: list[str]) -> ev.Evaluation:
    return ev.evaluate(
        texts,
        [scene.reference for scene in SCENES],
        [scene.image for scene in SCENES],
        [scene.mask for scene in SCENES],
        recipe=RECIPE,
        segmenter=ev.GrabCut(),
    )


PERFECT = [wrap(scene.reference) for scene in SCENES]


def test_a_perfect_policy() -> None:
    """The references as answers are right in every measure, and GrabCut makes real masks of them."""
    summary = run(PERFECT).summary()
    assert (
        summary["parsable answers"] == summary["mean box IoU"] == summary["count accuracy"] == 1.0
    )
    assert summary["gIoU"] > 0.8
    assert summary["cIoU"] > 0.75


def test_an_unreadable_policy() -> None:
    """Garbage parses nowhere and finds nothing; no-target scenes still count as left empty."""
    result = run(["garbage"] * len(SCENES))
    no_target = np.mean([not scene.targets for scene in SCENES])
    summary = result.summary()
    assert summary["parsable answers"] == summary["mean box IoU"] == summary["cIoU"] == 0.0
    assert summary["count accuracy"] == 0.0
    assert summary["gIoU"] == pytest.approx(no_target)


def test_surplus_and_missed_boxes_cost() -> None:
    """Box IoU is divided by the larger count, so that boxes cannot be had for free."""
    index = next(i for i, scene in enumerate(SCENES) if len(scene.targets) == 1)
    target = SCENES[index].targets[0]
    twice = [entry(target.box.tolist(), target.point.tolist())] * 2
    texts = list(PERFECT)
    texts[index] = wrap(twice)
    result = run(texts)
    assert result.box_iou[index] == 0.5
    assert not result.count_correct[index]


def test_frames_are_scaled_to_the_image() -> None:
    """Answers in an 840 frame are boxes of the 84 pixel image, ten times smaller."""
    scene = next(scene for scene in SCENES if scene.targets)
    target = scene.targets[0]
    big = wrap([entry((target.box * 10).tolist(), (target.point * 10).tolist())])
    reference = [entry((target.box * 10).tolist(), (target.point * 10).tolist())]
    results = [
        ev.evaluate(
            [text], [ref], [scene.image], [target.mask], recipe=recipe, segmenter=ev.GrabCut()
        )
        for text, ref, recipe in (
            (big, reference, rr.Recipe.load("dr_seg")),
            (
                wrap([entry(target.box.tolist(), target.point.tolist())]),
                [entry(target.box.tolist(), target.point.tolist())],
                RECIPE,
            ),
        )
    ]
    assert results[0].intersection[0] == results[1].intersection[0] > 0


def test_compare_is_paired() -> None:
    """Equal evaluations differ by exactly nothing; a better one by an interval above zero."""
    perfect, half = run(PERFECT), run([*PERFECT[:12], *["garbage"] * 12])
    for difference in ev.compare(half, half).values():
        assert difference == (0.0, 0.0, 0.0)
    difference, low, high = ev.compare(half, perfect)["parsable answers"]
    assert difference == pytest.approx(0.5)
    assert 0.2 < low < 0.5 < high < 0.8


def test_compare_gives_a_95_percent_interval() -> None:
    """For a mean over many samples the interval is that of the normal distribution."""
    rng = np.random.default_rng(0)
    count = 2000
    right = rng.random((2, count)) < [[0.4], [0.7]]
    nothing = np.zeros(count)
    before, after = (
        ev.Evaluation(parsable, nothing, parsable, nothing, nothing) for parsable in right
    )
    difference, low, high = ev.compare(before, after)["parsable answers"]
    paired = right[1].astype(float) - right[0].astype(float)
    assert difference == pytest.approx(paired.mean())
    half = 1.96 * paired.std() / math.sqrt(count)
    assert high - low == pytest.approx(2 * half, rel=0.08)


def test_measures_that_nothing_defines_are_nan() -> None:
    """Without a single target there is no box IoU, and no warning either."""
    empty = ev.Evaluation(
        np.ones(3, bool), np.full(3, np.nan), np.ones(3, bool), np.zeros(3), np.zeros(3)
    )
    assert math.isnan(empty.summary()["mean box IoU"])
    assert all(map(math.isnan, ev.compare(empty, empty)["mean box IoU"]))


@pytest.mark.parametrize(
    "masks", [np.full((1, 84, 84), 0.01), np.zeros((0, 84, 84), bool), np.zeros((1, 5, 5), bool)]
)
def test_segmenter_that_breaks_its_protocol(masks: NDArray[Any]) -> None:
    """Probabilities, or masks of another number or size, are no masks."""

    class Broken:
        def segment(self, image: Any, boxes: Any, points: Any) -> Any:
            return masks

    scene = next(scene for scene in SCENES if len(scene.targets) == 1)
    with pytest.raises(rr.InputError, match=r"segmenter: expected \(1, 84, 84\) bool"):
        ev.evaluate(
            [wrap(scene.reference)], [scene.reference], [scene.image], [scene.mask],
            recipe=RECIPE, segmenter=Broken(),
        )  # fmt: skip


def test_compare_needs_the_same_samples() -> None:
    """Evaluations of different length cannot be paired."""
    perfect = run(PERFECT)
    with pytest.raises(rr.InputError, match="got 24 and 2 samples"):
        ev.compare(perfect, perfect.take(np.arange(2)))


def test_evaluate_checks_lengths_and_shows_progress() -> None:
    """Sequences of other lengths are refused; `progress` sees every index."""
    scene, seen = SCENES[0], []

    def progress(indices: Iterable[int]) -> Iterable[int]:
        for index in indices:
            seen.append(index)
            yield index

    ev.evaluate(
        ["x"], [scene.reference], [scene.image], [scene.mask],
        recipe=RECIPE, segmenter=ev.GrabCut(), progress=progress,
    )  # fmt: skip
    assert seen == [0]
    for count in (0, 2):
        with pytest.raises(rr.InputError, match="expected as many completions"):
            ev.evaluate(["x"] * count, [], [], [], recipe=RECIPE, segmenter=ev.GrabCut())


def test_grabcut_keeps_points_off_the_object_out() -> None:
    """A sign of 0 makes a pixel background, one of -1 none at all."""
    image = np.full((40, 40, 3), 40, dtype=np.uint8)
    image[10:30, 10:30] = 200
    box, points = [[8, 8, 32, 32]], [[[20, 20], [25, 25]]]
    segmenter = ev.GrabCut()
    assert segmenter.segment(image, box, points, [[1, 1]])[0, 25, 25]
    assert not segmenter.segment(image, box, points, [[1, 0]])[0, 25, 25]
    ignored = segmenter.segment(image, box, points, [[1, -1]])
    np.testing.assert_array_equal(ignored, segmenter.segment(image, box, [[[20, 20]]]))
    with pytest.raises(rr.InputError, match=r"signs: expected shape \(1, 2\), got \(1, 1\)"):
        segmenter.segment(image, box, points, [[1]])
