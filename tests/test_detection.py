"""Boxes: the specification's cases, slow twins, and matchings and precisions from elsewhere."""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

import rankreward as rr
from rankreward.evaluation.average_precision import detection_scores
from rankreward.evaluation.detection import any_box_hit_rate, hit_rate, match_boxes

# Two images of 200 x 200 with two references each. Each answer has two right boxes, the last of
# them with an IoU of 0.66, and a wrong one: larger than any right one in the first image, smaller
# in the second.
SIZES = [[200, 200], [200, 200]]
REFERENCE = [[[0, 0, 40, 40], [60, 0, 100, 40]], [[0, 0, 40, 40], [60, 0, 90, 30]]]
RIGHT = [[[0, 0, 40, 40], [60, 0, 100, 40]], [[0, 0, 40, 40], [60, 0, 90, 19.8]]]
LARGE, SMALL = [100, 100, 190, 190], [150, 150, 155, 155]
PREDICTED = [[*RIGHT[0], LARGE], [*RIGHT[1], SMALL]]


def scores(predicted: Any, score: Any) -> dict[str, float]:
    return detection_scores(predicted, REFERENCE, score=score, sizes=SIZES)


@pytest.mark.parametrize(
    ("predicted", "score", "ap", "ap50"),
    [
        (PREDICTED, "area", 0.6586, 0.8),
        (PREDICTED, "constant", 0.7748, 0.901),
        ([boxes[::-1] for boxes in PREDICTED], "constant", 0.5429, 0.6667),
        ([[*boxes, SMALL] for boxes in RIGHT], "area", 0.8515, 1.0),
    ],
)
def test_average_precision_depends_on_what_stands_in_for_scores(
    predicted: Any, score: Any, ap: float, ap50: float
) -> None:
    """The same boxes have four average precisions, and one precision, recall and F1."""
    found = scores(predicted, score)
    assert (round(found["AP"], 4), round(found["AP50"], 4)) == (ap, ap50)
    assert found["precision"] == pytest.approx(2 / 3)
    assert (found["recall"], found["F1"]) == (1.0, pytest.approx(0.8))


def test_first_boxes_first() -> None:
    """By order, first boxes of all answers come before second ones: a late mistake costs nothing."""
    assert scores(PREDICTED, "order")["AP50"] == 1.0
    assert scores([boxes[::-1] for boxes in PREDICTED], "order")["AP50"] == pytest.approx(2 / 3)


def test_area_is_relative_to_its_image() -> None:
    """Half of a small image comes before a tenth of a large one, though it has fewer pixels."""
    predicted = [[[0, 0, 10, 20]], [[0, 0, 100, 10]]]
    reference = [[[0, 0, 10, 20]], [[50, 50, 60, 60]]]
    for sizes, ap in (([[20, 20], [100, 100]], 1.0), ([[100, 100], [100, 100]], 0.5)):
        found = detection_scores(predicted, reference, score="area", sizes=sizes)
        assert found["AP"] == pytest.approx(51 / 101 * ap)


def slow_iou(a: Any, b: Any) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    areas = [max(x[2] - x[0], 0) * max(x[3] - x[1], 0) for x in (a, b)]
    return both / (sum(areas) - both) if sum(areas) > both else 0.0


def slow_ap(predicted: Any, reference: Any, points: Any, threshold: float) -> float:
    """Average precision from its definition: best boxes first, each takes the best free reference."""
    ranked = sorted(
        ((-points[i][k], i, k) for i, boxes in enumerate(predicted) for k in range(len(boxes))),
    )
    taken: set[tuple[int, int]] = set()
    hits = []
    for _, i, k in ranked:
        free = [
            (slow_iou(predicted[i][k], box), j)
            for j, box in enumerate(reference[i])
            if (i, j) not in taken
        ]
        best = max(free, default=(0.0, -1))
        hits.append(best[0] >= threshold)
        if hits[-1]:
            taken.add((i, best[1]))
    total, found, curve = sum(map(len, reference)), 0, []
    for place, hit in enumerate(hits, start=1):
        found += hit
        curve.append((found / total, found / place))
    levels = [
        max((p for r, p in curve if r >= level / 100 - 1e-12), default=0.0) for level in range(101)
    ]
    return sum(levels) / 101


def random_images(seed: int, count: int = 12) -> tuple[list[Any], list[Any]]:
    """References, and answers that are near them, doubled, wrong or missing."""
    rng = np.random.default_rng(seed)
    predicted, reference = [], []
    for _ in range(count):
        corner = rng.uniform(0, 80, (rng.integers(0, 5), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 40, corner.shape)], axis=1)
        near = np.concatenate([boxes, boxes[: rng.integers(0, 3)]])
        near = near[rng.random(len(near)) < 0.8]
        near = near + rng.normal(0, 2, near.shape)
        wrong = rng.uniform(0, 50, (rng.integers(0, 3), 4)) + np.array([0, 0, 50, 50])
        mixed = np.concatenate([near, wrong])
        predicted.append(rng.permutation(mixed).tolist())
        reference.append(boxes.tolist())
    return predicted, reference


def points_of(predicted: Any, score: str) -> Any:
    if score == "constant":
        return [[1.0] * len(boxes) for boxes in predicted]
    if score == "order":
        return [[-k for k in range(len(boxes))] for boxes in predicted]
    return [[max(b[2] - b[0], 0) * max(b[3] - b[1], 0) for b in boxes] for boxes in predicted]


@pytest.mark.parametrize("score", ["area", "constant", "order"])
@pytest.mark.parametrize("seed", range(8))
def test_average_precision_is_its_definition(seed: int, score: Any) -> None:
    """pycocotools' figures are those of a slow twin that knows the definition alone."""
    predicted, reference = random_images(seed)
    found = detection_scores(predicted, reference, score=score, sizes=[[130, 130]] * len(predicted))
    points = points_of(predicted, score)
    aps = [slow_ap(predicted, reference, points, t) for t in np.linspace(0.5, 0.95, 10)]
    assert 0.1 < found["AP"] < 0.95
    np.testing.assert_allclose(
        [found["AP"], found["AP50"], found["AP75"]], [np.mean(aps), aps[0], aps[5]], rtol=1e-9
    )


@pytest.mark.parametrize("seed", range(4))
def test_labels_are_averaged(seed: int) -> None:
    """With labels, AP is the mean over the labels that references have, each by itself."""
    predicted, reference = random_images(seed, 30)
    rng = np.random.default_rng(seed)
    found, sought = (
        [rng.choice(["cat", "dog"], len(boxes)).tolist() for boxes in side]
        for side in (predicted, reference)
    )
    predicted[0].append([0, 0, 99, 99])
    found[0].append("emu")  # which no reference is
    result = detection_scores(
        predicted, reference, score="constant", predicted_labels=found, reference_labels=sought
    )
    alone = []
    for label in ("cat", "dog"):
        sides = [
            [
                [b for b, x in zip(boxes, names, strict=True) if x == label]
                for boxes, names in zip(side, labels, strict=True)
            ]
            for side, labels in ((predicted, found), (reference, sought))
        ]
        alone.append((sides, detection_scores(*sides, score="constant")["AP"]))
    assert result["AP"] == pytest.approx(np.mean([ap for _, ap in alone]))
    matched = sum(match_boxes(*sides).matched.sum() for sides, _ in alone)
    assert result["precision"] == pytest.approx(matched / sum(map(len, predicted)))
    assert result["recall"] == pytest.approx(matched / sum(map(len, reference)))


@pytest.mark.parametrize("seed", range(20))
def test_matches_are_the_most_there_can_be(seed: int) -> None:
    """As many pairs are matched as SciPy's bipartite matching, another algorithm, finds."""
    predicted, reference = random_images(seed, 8)
    found = match_boxes(predicted, reference, threshold=0.3)
    for index, (boxes, targets) in enumerate(zip(predicted, reference, strict=True)):
        passed = np.array([[slow_iou(a, b) >= 0.3 for b in targets] for a in boxes], dtype=int)
        expected = 0
        if passed.size:
            expected = (maximum_bipartite_matching(csr_array(passed)) >= 0).sum()
        assert found.matched[index] == expected
    assert found.predicted.tolist() == [len(boxes) for boxes in predicted]
    assert found.reference.tolist() == [len(boxes) for boxes in reference]


def test_a_greedy_choice_does_not_cost_a_match() -> None:
    """One box fits two references and another only the first: both are matched, in either order."""
    wide, left = [0, 0, 10, 10], [0, 0, 6, 10]
    reference = [[[0, 0, 9, 10], [1, 0, 16, 10]]]
    for boxes in ([wide, left], [left, wide]):
        assert match_boxes([boxes], reference).matched.tolist() == [2]


@given(st.integers(0, 10**6), st.randoms())
@settings(max_examples=40, deadline=None)
def test_order_does_not_count(seed: int, random: Any) -> None:
    """Precision, recall and F1, micro and macro, are the same in whatever order boxes come."""
    predicted, reference = random_images(seed, 5)
    first = match_boxes(predicted, reference).measures()
    for boxes in (*predicted, *reference):
        random.shuffle(boxes)
    second = match_boxes(predicted, reference).measures()
    np.testing.assert_equal([m.value for m in first.values()], [m.value for m in second.values()])


def test_micro_and_macro() -> None:
    """Micro counts boxes, macro images; a correct rejection is in neither, an invention is."""
    box, far = [0, 0, 10, 10], [50, 50, 60, 60]
    predicted = [[box], [box, far, far], [], [far], None]
    reference = [[box], [box, [80, 80, 90, 90]], [], [], [box]]
    found = {name: m.value for name, m in match_boxes(predicted, reference).measures().items()}
    assert found["precision"] == pytest.approx(2 / 5)
    assert found["recall"] == pytest.approx(2 / 4)
    assert found["F1"] == pytest.approx(4 / 9)
    assert found["macro precision"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert found["macro recall"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert found["macro F1"] == pytest.approx((1 + 2 / 5 + 0 + 0) / 4)
    assert found["unreadable answers"] == pytest.approx(1 / 5)


def test_nothing_to_detect() -> None:
    """Without references AP and recall are undefined; without boxes AP is 0 and precision not."""
    empty = detection_scores([[], []], [[], []], score="constant")
    assert empty.pop("unreadable answers") == 0.0
    assert all(map(math.isnan, empty.values()))
    assert all(map(math.isnan, detection_scores([], [], score="order").values()))
    invented = detection_scores([[LARGE]], [[]], score="constant")
    assert (invented["precision"], math.isnan(invented["AP"])) == (0.0, True)
    missed = detection_scores([None], [[LARGE]], score="constant")
    assert (missed["AP"], missed["recall"], missed["unreadable answers"]) == (0.0, 0.0, 1.0)
    assert math.isnan(missed["precision"])


def test_inventions_on_empty_images_cost_precision() -> None:
    """A box where nothing is sought lowers AP, as one of any other image does."""
    good = detection_scores([[LARGE], []], [[LARGE], []], score="constant")
    poor = detection_scores([[LARGE], [LARGE]], [[], [LARGE]], score="constant")
    assert (good["AP"], poor["AP"]) == (pytest.approx(1.0), pytest.approx(0.5))


def test_boxes_without_area() -> None:
    """An inverted box is a wrong one, and an identical box one pixel wide is found by none."""
    inverted = [40, 0, 0, 40]
    found = detection_scores([[inverted, [0, 0, 40, 40]]], [[[0, 0, 40, 40]]], score="constant")
    assert (found["AP"], found["precision"]) == (pytest.approx(0.5), 0.5)
    thin = [[[5, 3, 5, 9]]]  # the extrema of a column of pixels
    assert hit_rate(thin, thin).value == any_box_hit_rate(thin, thin).value == 0.0
    lost = detection_scores(thin, thin, score="area", sizes=[[10, 10]])
    assert (lost["AP"], lost["recall"]) == (0.0, 0.0)


def test_at_most_a_hundred_boxes() -> None:
    """COCO looks at a hundred boxes an image; precision looks at all."""
    for wrong, ap in ((99, 0.01), (100, 0.0)):
        found = detection_scores([[SMALL] * wrong + [LARGE]], [[LARGE]], score="constant")
        assert found["AP"] == pytest.approx(ap)
        assert found["precision"] == pytest.approx(1 / (wrong + 1))


def test_hit_rates() -> None:
    """The first box counts, or any, or the one around all; what cannot be read misses."""
    halves, whole = [[0, 0, 4, 10], [6, 0, 10, 10]], [[0, 0, 10, 10]]
    predicted = [whole, [SMALL, *whole], halves, None, None, [], [SMALL], []]
    reference = [whole, whole, whole, whole, [], [], [], whole]
    first = hit_rate(predicted, reference)
    any_box = any_box_hit_rate(predicted, reference, merged=False)
    merged = any_box_hit_rate(predicted, reference)
    assert first.top.tolist() == [1, 0, 0, 0, 0, 1, 0, 0]
    assert any_box.top.tolist() == [1, 1, 0, 0, 0, 1, 0, 0]
    assert merged.top.tolist() == [1, 1, 1, 0, 0, 1, 0, 0]
    assert (first.value, any_box.value, merged.value) == (2 / 8, 3 / 8, 4 / 8)


def test_the_threshold_is_exclusive() -> None:
    """An IoU of exactly 0.5 is no hit, though COCO's matches take it."""
    half, whole = [[[0, 0, 10, 5]]], [[[0, 0, 10, 10]]]
    assert hit_rate(half, whole).value == 0.0
    assert hit_rate(half, whole, threshold=0.49).value == 1.0
    assert match_boxes(half, whole).matched.tolist() == [1]


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_further_boxes_are_free(seed: int) -> None:
    """Any box hits at least as often as the first, and with the one around all, more often still."""
    predicted, reference = random_images(seed, 6)
    rates = [
        hit_rate(predicted, reference).top,
        any_box_hit_rate(predicted, reference, merged=False).top,
        any_box_hit_rate(predicted, reference).top,
    ]
    for less, more in itertools.pairwise(rates):
        assert (less <= more).all()


def test_the_core_needs_no_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it hit rates and F1 work, and AP says which extra brings it."""
    for module in ("pycocotools", "pycocotools.coco", "pycocotools.cocoeval"):
        monkeypatch.setitem(sys.modules, module, None)
    assert match_boxes(PREDICTED, REFERENCE).measures()["F1"].value == pytest.approx(0.8)
    assert hit_rate(PREDICTED, REFERENCE).value == 1.0
    with pytest.raises(rr.errors.MissingExtraError, match=r"rankreward\[eval\]"):
        scores(PREDICTED, "area")


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """pycocotools prints as it goes; nobody asked it to."""
    scores(PREDICTED, "area")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predicted": [[]]}, "expected one answer a sample, got 1 and 2"),
        ({"predicted": [[[0, 0, 1]], []]}, r"predicted\[0\]: expected shape \(N, 4\)"),
        ({"reference": [[], [[0, 0, 1, math.nan]]]}, r"reference\[1\]: expected finite numbers"),
        ({"score": "random"}, "score: expected 'area', 'constant' or 'order'"),
        ({"sizes": None}, r"sizes: expected \(n, 2\), width and height"),
        ({"sizes": [[1, 1]]}, r"sizes: expected \(2, 2\) above 0"),
        ({"sizes": [[1, 1], [0, 1]]}, r"sizes: expected \(2, 2\) above 0"),
        ({"predicted_labels": [[1] * 3] * 2}, "labels: expected them for both"),
        (
            {"predicted_labels": [[1] * 3] * 2, "reference_labels": [[1], [1, 1]]},
            "reference_labels: expected one a box",
        ),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    """Each wrong argument is an error that names it."""
    arguments = {"predicted": PREDICTED, "reference": REFERENCE, "score": "area", "sizes": SIZES}
    with pytest.raises(rr.InputError, match=message):
        detection_scores(**(arguments | change))  # type: ignore[arg-type]


def test_a_threshold_that_is_none() -> None:
    """At IoU 0 everything would match."""
    for threshold in (0, 1.01, math.nan):
        with pytest.raises(rr.InputError, match="threshold: expected a number in"):
            match_boxes([], [], threshold=threshold)
