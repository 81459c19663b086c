"""Mask metrics against independent answers: pixel loops, the formulas as printed, SciPy, OpenCV."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

import rankreward as rr
from rankreward import metrics

Masks = NDArray[np.bool_]
sizes = st.tuples(st.integers(1, 13), st.integers(1, 13))


@st.composite
def stacks(draw: st.DrawFn, sides: int = 2, least: int = 0) -> tuple[Masks, ...]:
    """Stacks of masks of one size; runs of pixels rather than noise half of the time."""
    height, width = draw(sizes)
    result = []
    for _ in range(sides):
        masks = draw(arrays(bool, (draw(st.integers(least, 3)), height, width)))
        if draw(st.booleans()) and len(masks):
            masks = masks.repeat(3, axis=1).repeat(3, axis=2)[:, :height, :width]
        result.append(masks)
    return tuple(result)


def pixels(mask: Masks) -> set[tuple[int, int]]:
    return {(int(y), int(x)) for y, x in np.argwhere(mask)}


def share(p: set[Any], q: set[Any], empty: float = math.nan) -> float:
    return float(Fraction(len(p & q), len(p | q))) if p | q else empty


def pairs(a: Masks, b: Masks, value: Callable[[Masks, Masks], float]) -> NDArray[np.float64]:
    """The slow twin of every pairwise metric."""
    rows = [[value(p, q) for q in b] for p in a]
    return np.array(rows, dtype=np.float64).reshape(len(a), len(b))


@given(stacks(), st.sampled_from([math.nan, 0.0, 1.0]))
def test_mask_iou_counts_pixels(masks: tuple[Masks, Masks], empty: float) -> None:
    """IoU is a ratio of pixel counts, packed or not; two empty masks have what was asked for."""
    a, b = masks
    expected = pairs(a, b, lambda p, q: share(pixels(p), pixels(q), empty))
    packed = metrics.pack_masks(a), metrics.pack_masks(b)
    for first, second in itertools.product((a, packed[0], a.astype(float)), (b, packed[1])):
        np.testing.assert_array_equal(metrics.mask_iou(first, second, empty=empty), expected)


def test_mask_iou_goes_through_many_masks() -> None:
    """More masks than are intersected at a time give the same as one by one."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 130, 129)) < 0.5, rng.random((300, 130, 129)) < rng.random((300, 1, 1))
    expected = pairs(a, b, lambda p, q: np.count_nonzero(p & q) / np.count_nonzero(p | q))
    np.testing.assert_array_equal(metrics.mask_iou(a, b), expected)


@given(stacks(least=1), st.randoms(use_true_random=False))
@pytest.mark.parametrize("metric", [metrics.mask_iou, metrics.boundary_iou])
def test_mask_overlaps_are_shares(metric: Any, masks: tuple[Masks, Masks], random: Any) -> None:
    """Both IoUs stay in [0, 1], are symmetric, 1 on the diagonal, and follow the order given."""
    a, b = masks
    value = metric(a, b, empty=0.0)
    assert np.all((value >= 0) & (value <= 1))
    np.testing.assert_array_equal(value, metric(b, a, empty=0.0).T)
    np.testing.assert_array_equal(np.diag(metric(a, a, empty=1.0)), 1.0)
    order = random.sample(range(len(a)), len(a))
    np.testing.assert_array_equal(metric(a[order], b, empty=0.0), value[order])
    np.testing.assert_array_equal(metric(a[:, ::-1], b[:, ::-1], empty=0.0), value)
    turned = a.transpose(0, 2, 1), b.transpose(0, 2, 1)
    np.testing.assert_array_equal(metric(*turned, empty=0.0), value)


@given(stacks(sides=1))
def test_packing_loses_nothing(masks: tuple[Masks]) -> None:
    """Equal masks pack equal, others differ, and no bit is set beyond the last pixel."""
    (a,) = masks
    packed = metrics.pack_masks(a)
    assert packed.shape == a.shape[1:]
    assert packed.words.shape == (len(a), math.ceil(math.prod(packed.shape) / 64))
    assert np.bitwise_count(packed.words).sum() == a.sum()
    same = (packed.words[:, None] == packed.words[None]).all(axis=-1)
    np.testing.assert_array_equal(same, (a[:, None] == a[None]).all(axis=(2, 3)))


@given(stacks(sides=1))
def test_union_is_any(masks: tuple[Masks]) -> None:
    """A pixel is in the union if it is in any mask, packed or not."""
    (a,) = masks
    result = metrics.union(a)
    assert isinstance(result, np.ndarray)
    assert result.shape == (1, *a.shape[1:])
    assert pixels(result[0]) == set().union(*map(pixels, a))
    packed = metrics.union(metrics.pack_masks(a))
    assert isinstance(packed, metrics.PackedMasks)
    np.testing.assert_array_equal(packed.words, metrics.pack_masks(result).words)


@pytest.mark.parametrize("metric", [metrics.mask_iou, metrics.boundary_iou, metrics.s_measure])
def test_an_empty_list_is_no_masks(metric: Any) -> None:
    """An answer without masks, or a task without targets, has no pairs; it is no error."""
    image = np.ones((2, 3, 4), dtype=bool)
    assert metric([], image).shape == (0, 2)
    assert metric(image, []).shape == (2, 0)
    assert metric([], []).shape == (0, 0)
    assert metric(image[:0], image).shape == (0, 2)


def band(mask: Masks, width: int) -> set[tuple[int, int]]:
    """Pixels with a pixel outside the mask, or outside the image, in the square around them."""
    inside, reach = pixels(mask), range(-width, width + 1)
    return {
        (y, x) for y, x in inside if any((y + i, x + j) not in inside for i in reach for j in reach)
    }


@given(stacks(), st.none() | st.integers(1, 8))
def test_boundary_iou_counts_pixels(masks: tuple[Masks, Masks], width: int | None) -> None:
    """The bands are those of a search around every pixel, the image's edge being a contour."""
    a, b = masks
    wide = max(1, min(a.shape[1:]) // 20) if width is None else width
    expected = pairs(a, b, lambda p, q: share(band(p, wide), band(q, wide)))
    np.testing.assert_array_equal(metrics.boundary_iou(a, b, width), expected)


@pytest.mark.parametrize("width", [None, 1, 2, 7, 30, 1000])
def test_boundary_iou_against_scipy_and_opencv(width: int | None) -> None:
    """SciPy's chessboard distance and, where installed, the authors' erosions give the same."""
    rng = np.random.default_rng(1)
    a, b = (ndimage.gaussian_filter(rng.normal(size=(2, 400, 450)), (0, 30, 30)) > 0 for _ in "ab")
    wide = 20 if width is None else width

    def scipy_band(mask: Masks) -> Masks:
        distance = ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")
        return mask & (distance[1:-1, 1:-1] <= wide)

    def ratio(p: Masks, q: Masks) -> float:
        return np.count_nonzero(p & q) / np.count_nonzero(p | q)

    result = metrics.boundary_iou(a, b, width)
    np.testing.assert_array_equal(
        result, pairs(a, b, lambda p, q: ratio(scipy_band(p), scipy_band(q)))
    )
    cv2 = pytest.importorskip("cv2")

    def paper_band(mask: Masks) -> Masks:
        padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        worn = cv2.erode(padded, np.ones((3, 3), dtype=np.uint8), iterations=wide)
        return mask & (worn[1:-1, 1:-1] == 0)

    np.testing.assert_array_equal(
        result, pairs(a, b, lambda p, q: ratio(paper_band(p), paper_band(q)))
    )


@given(stacks())
def test_a_wide_band_is_the_whole_mask(masks: tuple[Masks, Masks]) -> None:
    """With half the shorter side, rounded up, nothing is left to erode."""
    a, b = masks
    width = (min(a.shape[1:]) + 1) // 2
    np.testing.assert_array_equal(metrics.boundary_iou(a, b, width), metrics.mask_iou(a, b))


def test_boundary_iou_minds_the_contour() -> None:
    """A hole costs the boundary more than the area, however big the object."""
    whole = np.zeros((1, 200, 200), dtype=bool)
    whole[0, 20:180, 20:180] = True
    shifted = np.roll(whole, 5, axis=2)
    assert metrics.mask_iou(whole, shifted)[0, 0] == pytest.approx(155 / 165)
    assert metrics.boundary_iou(whole, shifted, 5)[0, 0] < 0.5


def structure(prediction: NDArray[Any], target: Masks, alpha: float = 0.5) -> float:
    """The authors' MATLAB code, line by line and pixel by pixel, in exact fractions until a root."""
    height, width = target.shape
    p = [[Fraction(float(v)) for v in row] for row in prediction]
    g = [[Fraction(int(v)) for v in row] for row in target]
    everywhere = list(itertools.product(range(height), range(width)))

    def mean(values: list[Fraction]) -> Fraction:
        return sum(values, Fraction(0)) / len(values)

    def object_score(values: list[Fraction]) -> float:
        x = mean(values)
        variance = sum((v - x) ** 2 for v in values) / max(len(values) - 1, 1)
        return 2 * float(x) / (float(x) ** 2 + 1 + math.sqrt(variance))

    def ssim(where: list[tuple[int, int]]) -> float:
        a, b = [p[i][j] for i, j in where], [g[i][j] for i, j in where]
        x, y, n = mean(a), mean(b), max(len(where) - 1, 1)
        var_x, var_y = sum((v - x) ** 2 for v in a) / n, sum((v - y) ** 2 for v in b) / n
        covariance = sum((u - x) * (v - y) for u, v in zip(a, b, strict=True)) / n
        top, bottom = 4 * x * y * covariance, (x**2 + y**2) * (var_x + var_y)
        return float(top / bottom) if top else float(bottom == 0)

    y = mean([g[i][j] for i, j in everywhere])
    x = mean([p[i][j] for i, j in everywhere])
    if y == 0:
        return float(1 - x)
    if y == 1:
        return float(x)
    on = [p[i][j] for i, j in everywhere if g[i][j]]
    off = [1 - p[i][j] for i, j in everywhere if not g[i][j]]
    objects = float(y) * object_score(on) + float(1 - y) * object_score(off)
    total = sum(g[i][j] for i, j in everywhere)
    half = Fraction(1, 2)  # MATLAB rounds halves up and counts from 1
    down = math.floor(sum((i + 1) * g[i][j] for i, j in everywhere) / total + half)
    across = math.floor(sum((j + 1) * g[i][j] for i, j in everywhere) / total + half)
    regions = 0.0
    for top, left in itertools.product((True, False), repeat=2):
        where = [(i, j) for i, j in everywhere if (i < down) == top and (j < across) == left]
        if where:
            regions += len(where) / len(everywhere) * ssim(where)
    return max(0.0, alpha * objects + (1 - alpha) * regions)


@st.composite
def shaded(draw: st.DrawFn) -> tuple[NDArray[np.float64], Masks]:
    """Predictions in steps of a tenth (flat areas, inexact sums) or of 0 and 1, and targets."""
    height, width = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    levels = draw(st.sampled_from([(0.0, 1.0), (0.1, 0.3), (0.0, 0.3, 0.7, 1.0), (1e-9, 1.0)]))
    shape = (draw(st.integers(1, 2)), height, width)
    shades = draw(arrays(np.float64, shape, elements=st.sampled_from(levels), fill=st.nothing()))
    return shades, draw(arrays(bool, (draw(st.integers(1, 2)), height, width)))


@given(shaded(), st.sampled_from([0.5, 0.0, 1.0, 0.3]))
@example((np.full((1, 5, 7), 0.3), np.eye(5, 7, dtype=bool)[None]), 0.5)
@example((np.full((1, 3, 3), 0.1), np.arange(9).reshape(1, 3, 3) == 8), 0.0)
def test_s_measure_is_that_of_the_authors(
    case: tuple[NDArray[np.float64], Masks], alpha: float
) -> None:
    """Soft or binary, with flat, tiny and missing quadrants, it is the published code's value."""
    shades, target = case
    expected = pairs(shades, target, lambda p, q: structure(p, q, alpha))  # type: ignore[arg-type]
    np.testing.assert_allclose(
        metrics.s_measure(shades, target, alpha), expected, rtol=1e-9, atol=1e-9
    )
    if np.isin(shades, (0, 1)).all():
        exact = metrics.s_measure(shades, target, alpha)
        np.testing.assert_array_equal(exact, metrics.s_measure(shades.astype(bool), target, alpha))


@given(shaded(), st.randoms(use_true_random=False))
def test_s_measure_is_a_share(case: tuple[NDArray[np.float64], Masks], random: Any) -> None:
    """It stays in [0, 1], is 1 for equal masks, and the axes and the order of masks are alike."""
    shades, target = case
    value = metrics.s_measure(shades, target)
    assert np.all((value >= 0) & (value <= 1))
    np.testing.assert_array_equal(np.diag(metrics.s_measure(target, target)), 1.0)
    np.testing.assert_array_equal(metrics.s_measure(target, target.astype(float)).diagonal(), 1.0)
    turned = metrics.s_measure(shades.transpose(0, 2, 1), target.transpose(0, 2, 1))
    np.testing.assert_allclose(turned, value, rtol=1e-9, atol=1e-9)
    order = random.sample(range(len(target)), len(target))
    np.testing.assert_array_equal(metrics.s_measure(shades, target[order]), value[:, order])


@given(shaded())
def test_s_measure_of_bare_and_full_targets(case: tuple[NDArray[np.float64], Masks]) -> None:
    """Without a target it is what is left blank, with nothing but target what is filled."""
    shades, target = case
    ends = np.stack([np.zeros_like(target[0]), np.ones_like(target[0])])
    fill = shades.mean(axis=(1, 2))
    np.testing.assert_allclose(
        metrics.s_measure(shades, ends), np.stack([1 - fill, fill], axis=1), atol=1e-12
    )


def test_s_measure_and_iou_make_the_reward_of_seg_r1() -> None:
    """0.7 IoU + 0.3 S on a 768 image with a target of 384, for the four usual answers."""
    image = np.zeros((4, 768, 768), dtype=bool)
    image[0, 100:484, 100:484] = True
    image[1, 100:292, 100:484] = True
    image[3] = True
    structure_of = metrics.s_measure(image, image[:1])[:, 0]
    iou = metrics.mask_iou(image, image[:1])[:, 0]
    np.testing.assert_array_equal(iou, [1, 0.5, 0, 0.25])
    np.testing.assert_allclose(structure_of, [1, 0.6364, 0.375, 0.125], atol=5e-5)
    reward = 0.7 * iou + 0.3 * structure_of
    np.testing.assert_allclose(reward, [1, 0.5409, 0.1125, 0.2125], atol=5e-5)


@given(st.floats(0.01, 1))
def test_s_measure_of_a_flat_guess(level: float) -> None:
    """A flat guess has no noise: quadrants with a flat target count exactly 1, the others 0."""
    target = np.zeros((1, 5, 5), dtype=bool)
    target[0, :3, :3] = True  # only the quadrant of 2 x 2 pixels is flat
    value = metrics.s_measure(np.full((1, 5, 5), level), target, alpha=0.0)
    assert value[0, 0] == pytest.approx(4 / 25, abs=1e-12)


ONE = [[[1, 0], [0, 0]]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.pack_masks([[1, 0]]), r"masks: expected shape \(K, H, W\), got \(1, 2\)"),
        (lambda: metrics.pack_masks([[[0, 255]]]), "masks: expected booleans or 0 and 1, got 255"),
        (lambda: metrics.pack_masks([[[0, -1]]]), "masks: expected booleans or 0 and 1, got -1"),
        (lambda: metrics.mask_iou([[[0.5]]], [[[1]]]), "a: expected booleans or 0 and 1, got 0.5"),
        (
            lambda: metrics.mask_iou([[[1]]], [[[math.nan]]]),
            "b: expected booleans or 0 and 1, got nan",
        ),
        (
            lambda: metrics.mask_iou([[["x"]]], ONE),
            "a: expected numbers or booleans, got an array of <U1",
        ),
        (
            lambda: metrics.mask_iou([[[1, 0]], [[1]]], ONE),
            "a: expected masks of one size, got setting",
        ),
        (
            lambda: metrics.mask_iou(np.zeros((1, 0, 4)), ONE),
            r"a: expected masks of at least one pixel, got size \(0, 4\)",
        ),
        (
            lambda: metrics.mask_iou([[[1, 0]]], ONE),
            r"a, b: expected masks of one size, got \(1, 2\) and \(2, 2\)",
        ),
        (
            lambda: metrics.mask_iou(np.zeros((0, 4, 4)), ONE),
            r"a, b: expected masks of one size, got \(4, 4\) and",
        ),
        (
            lambda: metrics.mask_iou(metrics.pack_masks([[[1, 0, 0, 0]]]), metrics.pack_masks(ONE)),
            "a, b: expected masks of one size",
        ),
        (
            lambda: metrics.mask_iou(ONE, ONE, empty=2.0),
            r"empty: expected a number in \[0, 1\] or NaN, got 2.0",
        ),
        (lambda: metrics.boundary_iou(ONE, ONE, empty=-1.0), "empty: expected a number"),
        (lambda: metrics.boundary_iou(ONE, [[[1]]]), "a, b: expected masks of one size"),
        (
            lambda: metrics.boundary_iou(ONE, ONE, 0),
            "width: expected a whole number of at least 1, got 0",
        ),
        (
            lambda: metrics.boundary_iou(ONE, ONE, 1.5),
            "width: expected a whole number of at least 1, got 1.5",
        ),  # type: ignore[arg-type]
        (
            lambda: metrics.union([]),
            r"masks: expected masks of at least one pixel, got size \(0, 0\)",
        ),
        (
            lambda: metrics.union(metrics.pack_masks([])),
            "masks: expected masks of at least one pixel",
        ),
        (lambda: metrics.union([[[2]]]), "masks: expected booleans or 0 and 1, got 2"),
        (
            lambda: metrics.s_measure([[[1.5, 0]]], [[[1, 0]]]),
            r"prediction: expected numbers in \[0, 1\], got 1.5",
        ),
        (
            lambda: metrics.s_measure([[[math.nan, 0]]], [[[1, 0]]]),
            r"prediction: expected numbers in \[0, 1\], got nan",
        ),
        (
            lambda: metrics.s_measure([[[1, 0]]], [[[0.5, 0]]]),
            "target: expected booleans or 0 and 1, got 0.5",
        ),
        (
            lambda: metrics.s_measure([[[1, 0]]], ONE),
            "prediction, target: expected masks of one size",
        ),
        (
            lambda: metrics.s_measure(ONE, ONE, alpha=1.1),
            r"alpha: expected a number in \[0, 1\], got 1.1",
        ),
        (
            lambda: metrics.PackedMasks(np.zeros((1, 1), dtype=np.uint64), (8, 9)),
            r"words: expected uint64 of shape \(K, 2\) for masks of \(8, 9\), got uint64 of \(1, 1\)",
        ),
        (lambda: metrics.PackedMasks(np.zeros((1, 1)), (8, 8)), "words: expected uint64 of shape"),  # type: ignore[arg-type]
    ],
)
def test_masks_are_checked(call: Callable[[], object], message: str) -> None:
    """A wrong argument is named with what was expected and what came."""
    with pytest.raises(rr.InputError, match=message):
        call()
