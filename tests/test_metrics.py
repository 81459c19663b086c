"""Metrics against independent answers: pixel counting, brute force, SciPy."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import rankreward as rr
from rankreward import metrics

small_boxes = st.lists(
    st.lists(st.integers(0, 12), min_size=4, max_size=4), min_size=0, max_size=4
).map(lambda rows: np.array(rows, dtype=np.float64).reshape(-1, 4))


def painted(box: NDArray[np.float64], extra: int) -> NDArray[np.bool_]:
    """The unit pixels that a box covers; the slow twin of its area."""
    canvas = np.zeros((16, 16), dtype=bool)
    x1, y1, x2, y2 = box.astype(int)
    canvas[y1 : max(y2 + extra, y1), x1 : max(x2 + extra, x1)] = True
    return canvas


@given(small_boxes, small_boxes, st.booleans())
def test_box_iou_counts_pixels(
    a: NDArray[np.float64], b: NDArray[np.float64], inclusive: bool
) -> None:
    """On whole coordinates IoU is a ratio of pixel counts, and inverted boxes have none."""
    result = rr.metrics.box_iou(a, b, inclusive=inclusive)
    assert result.shape == (len(a), len(b))
    for (i, first), (j, second) in itertools.product(enumerate(a), enumerate(b)):
        p, q = painted(first, int(inclusive)), painted(second, int(inclusive))
        whole = np.count_nonzero(p | q)
        expected = np.count_nonzero(p & q) / whole if whole else 0.0
        assert math.isclose(result[i, j], expected, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "inclusive", "expected"),
    [
        # reward_systems: the inclusive convention on the boxes of the specification
        ([5, 5, 5, 5], [5, 5, 5, 5], True, 1.0),
        ([0, 0, 9, 9], [10, 0, 19, 9], True, 0.0),
        ([0, 0, 9, 9], [9, 0, 18, 9], True, 10 / 190),
        ([100, 100, 300, 300], [105, 95, 305, 295], True, 0.9063),
        ([100, 100, 300, 300], [110, 110, 310, 310], True, 0.8231),
        ([100, 100, 300, 300], [110, 110, 310, 310], False, 0.8223),
        ([5, 5, 5, 5], [5, 5, 5, 5], False, 0.0),
    ],
)
def test_box_iou_examples(a: list[float], b: list[float], inclusive: bool, expected: float) -> None:
    """Worked examples of both conventions."""
    assert metrics.box_iou([a], [b], inclusive)[0, 0] == pytest.approx(expected, abs=5e-5)


@given(arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)))
def test_box_iou_is_a_share(boxes: NDArray[np.float64]) -> None:
    """IoU stays in [0, 1], is symmetric, and 1 for a box with area against itself."""
    iou = metrics.box_iou(boxes, boxes)
    assert np.all((iou >= 0) & (iou <= 1 + 1e-12))
    np.testing.assert_allclose(iou, iou.T, rtol=1e-12)
    sides = boxes[:, 2:] - boxes[:, :2]
    with_area = np.all(sides > 1e-6, axis=1)
    np.testing.assert_allclose(np.diag(iou)[with_area], 1.0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1, 2, 3, 4], r"a: expected shape \(N, 4\), got \(4,\)"),
        ([[1, 2, 3]], r"a: expected shape \(N, 4\), got \(1, 3\)"),
        ([[1, 2, 3, math.nan]], "a: expected finite numbers"),
        ([["a", "b", "c", "d"]], "a: expected numbers"),
    ],
)
def test_box_iou_refuses_other_shapes(bad: object, message: str) -> None:
    """A wrong array is named with what was expected and what came."""
    with pytest.raises(rr.InputError, match=message):
        metrics.box_iou(bad, [[0, 0, 1, 1]])  # type: ignore[arg-type]


@given(arrays(np.float64, (3, 2), elements=st.floats(-1e6, 1e6)))
def test_point_distance_is_euclidean(points: NDArray[np.float64]) -> None:
    """Every distance is that of math.dist."""
    result = metrics.point_distance(points, points[:2])
    for i, j in itertools.product(range(3), range(2)):
        assert result[i, j] == pytest.approx(math.dist(points[i], points[j]))


@given(st.floats(0, 1e6), st.floats(0, 1e3), st.floats(1e-3, 1e3))
def test_point_ramp(distance: float, near: float, width: float) -> None:
    """The ramp is 1 before `near`, 0 after `far`, linear between, and never rises."""
    far = near + width
    value = float(metrics.point_ramp(distance, near, far))
    if distance <= near:
        assert value == 1.0
    elif distance >= far:
        assert value == 0.0
    else:
        assert value == pytest.approx((far - distance) / (far - near))
    assert float(metrics.point_ramp(distance + 1, near, far)) <= value


def test_point_ramp_refuses_an_empty_ramp() -> None:
    """`far` has to lie beyond `near`."""
    with pytest.raises(rr.InputError, match=r"far: expected more than near \(30\), got 30"):
        metrics.point_ramp(1.0, 30, 30)


@given(st.integers(0, 50), st.integers(0, 50))
def test_count_ratio(m: int, n: int) -> None:
    """The smaller count over the larger; two empty sides agree."""
    expected = 1.0 if m == n == 0 else min(m, n) / max(m, n)
    assert float(metrics.count_ratio(m, n)) == expected


costs = st.tuples(st.integers(0, 4), st.integers(0, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
)


@given(costs)
def test_match_is_the_cheapest(cost: NDArray[np.float64]) -> None:
    """No other one-to-one pairing costs less; brute force over all of them."""
    rows, columns = metrics.match(cost)
    count = min(cost.shape)
    assert len(rows) == len(columns) == count == len(set(rows)) == len(set(columns))
    wide = cost if cost.shape[0] <= cost.shape[1] else cost.T
    best = min(
        (
            math.fsum(wide[i, j] for i, j in enumerate(chosen))
            for chosen in itertools.permutations(range(wide.shape[1]), count)
        ),
        default=0.0,
    )
    assert cost[rows, columns].sum() == pytest.approx(best)


def test_match_refuses_nan() -> None:
    """An undefined cost is an error, not a pairing."""
    with pytest.raises(rr.InputError, match="cost: expected a finite"):
        metrics.match([[math.nan]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("...", 0),
        ("Hm. A cat. A cat. A cat.", 2),
        ("A cat. A dog.", 0),
        ("A  CAT! a cat? A cat.", 2),
        ("猫。犬。猫。", 1),
        ("at 12.5 and 12.5 pixels", 0),
        ("one\ntwo\none", 0),
        ("A cat.A cat.A cat.", 2),
        ("A cat!A cat!", 1),
        ('"A cat." (A cat.) **A cat.**', 2),
        ("<look>A cat.</look> A cat.", 1),
        ("in 2024. 5 cats. in 2024. 5 cats.", 2),
    ],
)
def test_repeated_sentences(text: str, expected: int) -> None:
    """Case, blanks and marks do not tell sentences apart; decimals do not end them."""
    assert metrics.repeated_sentences(text) == expected


@given(st.lists(st.sampled_from(["a", "b", "c d"]), max_size=12))
def test_repeated_sentences_counts_duplicates(sentences: list[str]) -> None:
    """The count is the number of sentences less the number of distinct ones."""
    text = ". ".join(sentences) + "."
    assert metrics.repeated_sentences(text) == len(sentences) - len(set(sentences))


def slow_giou(a: NDArray[np.float64], b: NDArray[np.float64], extra: int) -> Fraction:
    """Generalised IoU of two boxes in exact fractions, from the corners of both."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = ([Fraction(v) for v in box] for box in (a, b))

    def area(width: Fraction, height: Fraction) -> Fraction:
        return max(width + extra, Fraction(0)) * max(height + extra, Fraction(0))

    shared = area(min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1))
    union = area(ax2 - ax1, ay2 - ay1) + area(bx2 - bx1, by2 - by1) - shared
    if not union:
        return Fraction(-1)
    xs, ys = (ax1, ax2, bx1, bx2), (ay1, ay2, by1, by2)
    hull = area(max(xs) - min(xs), max(ys) - min(ys))
    return shared / union - (hull - union) / hull


@given(small_boxes, small_boxes, st.booleans())
def test_box_giou_is_exact(a: NDArray[np.float64], b: NDArray[np.float64], inclusive: bool) -> None:
    """The formula in fractions gives the same, for boxes without area and inverted ones too."""
    result = metrics.box_giou(a, b, inclusive=inclusive)
    assert result.shape == (len(a), len(b))
    for (i, first), (j, second) in itertools.product(enumerate(a), enumerate(b)):
        expected = float(slow_giou(first, second, int(inclusive)))
        assert result[i, j] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "inclusive", "expected"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], False, 1.0),
        ([0, 0, 10, 10], [10, 0, 20, 10], False, 0.0),  # touching: the hull is full
        ([0, 0, 10, 10], [30, 30, 40, 40], False, -0.875),
        ([0, 0, 10, 10], [50, 50, 60, 60], False, 1 / 18 - 1),
        ([0, 0, 9, 9], [10, 0, 19, 9], True, 0.0),
        ([0, 0, 10, 10], [5, 5, 5, 5], False, 0.0),  # no area, inside
        ([0, 0, 10, 10], [20, 10, 20, 10], False, -0.5),  # no area, outside
        ([0, 0, 10, 10], [20, 10, 10, 0], False, -0.5),  # inverted
        ([5, 5, 5, 5], [5, 5, 5, 5], False, -1.0),
        ([5, 5, 5, 5], [7, 5, 7, 5], False, -1.0),
        ([5, 5, 5, 5], [5, 5, 5, 5], True, 1.0),
    ],
)
def test_box_giou_examples(
    a: list[float], b: list[float], inclusive: bool, expected: float
) -> None:
    """Worked examples, those of boxes without area included."""
    assert metrics.box_giou([a], [b], inclusive)[0, 0] == pytest.approx(expected, abs=1e-12)


@given(arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)), st.booleans())
def test_box_giou_is_bounded(boxes: NDArray[np.float64], inclusive: bool) -> None:
    """It stays in [-1, 1] and at most the IoU, is symmetric, and follows the order of the boxes."""
    giou = metrics.box_giou(boxes, boxes, inclusive)
    assert np.all((giou >= -1) & (giou <= 1))
    assert np.all(giou <= metrics.box_iou(boxes, boxes, inclusive) + 1e-12)
    np.testing.assert_allclose(giou, giou.T, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(metrics.box_giou(boxes[::-1], boxes, inclusive), giou[::-1])
    with_area = np.all(boxes[:, 2:] - boxes[:, :2] > 1e-6, axis=1)
    np.testing.assert_allclose(np.diag(giou)[with_area], 1.0)


@given(small_boxes, small_boxes)
def test_box_l1_is_the_mean(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    """A quarter of the city-block distance of the four coordinates."""
    result = metrics.box_l1(a, b)
    assert result.shape == (len(a), len(b))
    for (i, first), (j, second) in itertools.product(enumerate(a), enumerate(b)):
        assert result[i, j] == sum(abs(p - q) for p, q in zip(first, second, strict=True)) / 4
    np.testing.assert_array_equal(result, metrics.box_l1(b, a).T)


@pytest.mark.parametrize(
    ("b", "expected"),
    [([105, 95, 305, 295], 5.0), ([110, 110, 310, 310], 10.0), ([100, 100, 300, 339], 9.75)],
)
def test_box_l1_examples(b: list[float], expected: float) -> None:
    """Worked examples on either side of the usual threshold of 10 pixels."""
    assert metrics.box_l1([[100, 100, 300, 300]], [b])[0, 0] == expected


@pytest.mark.parametrize("metric", [metrics.box_giou, metrics.box_l1])
def test_box_metrics_refuse_other_shapes(metric: object) -> None:
    """They check their arguments as `box_iou` does; no boxes are no error."""
    assert callable(metric)
    assert metric([], [[0, 0, 1, 1]]).shape == (0, 1)
    with pytest.raises(rr.InputError, match=r"b: expected shape \(N, 4\), got \(4,\)"):
        metric([[0, 0, 1, 1]], [0, 0, 1, 1])
    with pytest.raises(rr.InputError, match="a: expected finite numbers"):
        metric([[0, 0, 1, math.inf]], [[0, 0, 1, 1]])


@given(st.text(st.sampled_from("aAbB1 ._-!?\n\t\x00<>/look\x1f\x85"), max_size=60))
def test_plain_text_repeats_as_any_other(text: str) -> None:
    """The short way for ASCII counts what the general one counts."""
    assert metrics.repeated_sentences(text) == metrics.repeated_sentences(text + ". \u00e9")


@pytest.mark.parametrize(
    ("form", "first", "second"),
    [("binary", 1, 0), ("difference", 0.0277, 0), ("scaled", 0.0071, 0), ("softmax", 0.569, 0.426)],
)
def test_discriminative_worked_examples(form: Any, first: float, second: float) -> None:
    """The similarities (.2554, .2277) and (.22, .25) in each form, R11 and R12."""
    values = metrics.discriminative([0.2554, 0.22], [0.2277, 0.25], form)
    digits = 3 if form == "softmax" else 4
    assert np.round(values, digits).tolist() == [first, second]


def test_discriminative_softmax_is_a_softmax() -> None:
    """Of both similarities over the temperature, at any temperature."""
    s1, s2 = np.array([[0.3, -0.2]]), np.array([[0.1, 0.4]])
    both = np.exp(np.stack([s1, s2]) / 0.5)
    expected = both[0] / both.sum(axis=0)
    np.testing.assert_allclose(metrics.discriminative(s1, s2, "softmax", 0.5), expected, rtol=1e-12)
    assert metrics.discriminative(0.9, -0.9, "softmax", 1e-4) == 1  # no overflow


def test_discriminative_refuses_what_it_cannot_compare() -> None:
    """Other shapes, NaN, unknown forms and temperatures of 0 are the caller's error."""
    with pytest.raises(rr.InputError, match=r"s2: expected the shape of s1, \(2,\), got \(1,\)"):
        metrics.discriminative([0.1, 0.2], [0.1])
    with pytest.raises(rr.InputError, match="expected finite numbers"):
        metrics.discriminative([math.nan], [0.1])
    with pytest.raises(rr.InputError, match=r"form: expected binary, .* got 'best'"):
        metrics.discriminative([0.1], [0.1], "best")
    with pytest.raises(rr.InputError, match="temperature: expected more than 0, got 0"):
        metrics.discriminative([0.1], [0.1], "softmax", 0.0)


@given(
    st.lists(st.tuples(st.floats(0, 2000), st.floats(0, 2000)), max_size=8),
    st.floats(1e-4, 1),
)
def test_length_score_is_a_ramp(pairs: list[tuple[float, float]], slope: float) -> None:
    """In full up to the budget, then a straight line down to 0; no limit is no limit."""
    lengths, budgets = ([pair[k] for pair in pairs] for k in (0, 1))
    scores = metrics.length_score(lengths, budgets, slope)
    for length, budget, score in zip(lengths, budgets, scores, strict=True):
        assert score == pytest.approx(
            1 if length <= budget else max(0, 1 - slope * (length - budget))
        )
    assert (metrics.length_score(lengths, math.inf, slope) == 1).all()


def test_length_score_refuses_what_has_no_meaning() -> None:
    """A slope of 0, lengths without end."""
    with pytest.raises(rr.InputError, match="slope: expected more than 0, got 0"):
        metrics.length_score([1], [1], 0)
    with pytest.raises(rr.InputError, match="expected finite lengths"):
        metrics.length_score([math.inf], [1], 1)
