"""Boxes and points of masks, against slow twins that measure every pair of pixels."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from data_makers import coins, digit_rows, disc, plain_rle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coder

import rankreward as rr
from rankreward.datasets.digits import scenes
from rankreward.datasets.geometry import box_of, interior_points, objects_of
from rankreward.datasets.rows import decode_mask, encode_mask

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)).filter(
    lambda m: m.any()
)
BLOBS = st.tuples(
    st.integers(3, 11), st.integers(3, 11), st.integers(1, 30), st.integers(0, 99)
).map(lambda a: _blob(*a))


def _blob(height: int, width: int, steps: int, seed: int) -> Any:
    """A connected mask: the trace of a random walk, three pixels thick where the image allows it."""
    generator, mask = np.random.default_rng(seed), np.zeros((height, width), dtype=bool)
    y, x = height // 2, width // 2
    for _ in range(steps):
        mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = True
        dy, dx = generator.integers(-1, 2, 2)
        y, x = int(np.clip(y + dy, 0, height - 1)), int(np.clip(x + dx, 0, width - 1))
    return mask


def _pixels(mask: Any) -> list[tuple[int, int]]:
    """Row by row, from left to right."""
    return [(y, x) for y, line in enumerate(mask.tolist()) for x, on in enumerate(line) if on]


def _squared_depth(mask: Any, pixel: tuple[int, int]) -> int:
    """The least squared distance to a pixel that is not on the mask, beyond the image's edge too."""
    height, width = mask.shape
    y, x = pixel
    outside = [
        (v, u)
        for v in range(-1, height + 1)
        for u in range(-1, width + 1)
        if not (0 <= v < height and 0 <= u < width and mask[v, u])
    ]
    return min((v - y) ** 2 + (u - x) ** 2 for v, u in outside)


def _best(mask: Any, pixels: list[tuple[int, int]]) -> tuple[int, int]:
    """The deepest of some pixels, the first of equals."""
    return max(pixels, key=lambda pixel: (_squared_depth(mask, pixel), -pixel[0], -pixel[1]))


def _slow(mask: Any, second: str) -> list[tuple[int, int]]:
    """Both points as (x, y), by the definition."""
    first = _best(mask, _pixels(mask))
    distance = {p: np.hypot(p[0] - first[0], p[1] - first[1]) for p in _pixels(mask)}
    if second == "median":
        ordered = sorted(distance.values())
        n = len(ordered)
        median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
        far = [p for p in _pixels(mask) if distance[p] > median]
        other = _best(mask, far) if far else first
    else:
        radius = _squared_depth(mask, first)
        left = mask.copy()
        for y, x in _pixels(mask):
            if (y - first[0]) ** 2 + (x - first[1]) ** 2 < radius:
                left[y, x] = False
        other = _best(left, _pixels(left)) if left.any() else first
    return [(x, y) for y, x in (first, other)]


@given(MASKS | BLOBS)
def test_points_lie_on_their_mask(mask: Any) -> None:
    """Whatever the mask, both points of both kinds are pixels of it and lie in its box."""
    for second in ("median", "circles"):
        for x, y in interior_points(mask, 2, second).astype(int).tolist():
            assert mask[y, x]
        box = box_of(mask, inclusive=True)
        points = interior_points(mask, 2, second)
        assert ((box[:2] <= points) & (points <= box[2:])).all()


@given(MASKS | BLOBS, st.sampled_from(["median", "circles"]))
def test_points_against_the_definition(mask: Any, second: Any) -> None:
    """Both points are those that measuring every pair of pixels gives, ties and all."""
    assert interior_points(mask, 2, second).tolist() == [
        list(map(float, p)) for p in _slow(mask, second)
    ]


@given(MASKS)
def test_boxes_are_extrema(mask: Any) -> None:
    """An inclusive box ends at the last pixel, an exclusive one a pixel later, and holds all pixels."""
    xs, ys = [x for _, x in _pixels(mask)], [y for y, _ in _pixels(mask)]
    assert box_of(mask, inclusive=True).tolist() == [min(xs), min(ys), max(xs), max(ys)]
    assert box_of(mask, inclusive=False).tolist() == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


@given(MASKS, st.integers(0, 5), st.integers(0, 5))
def test_points_move_with_the_mask(mask: Any, down: int, right: int) -> None:
    """Ground around a mask changes nothing but the origin: the image's edge counts as ground."""
    moved = np.pad(mask, ((down, 2), (right, 3)))
    for second in ("median", "circles"):
        there = interior_points(moved, 2, second)
        assert np.array_equal(there, interior_points(mask, 2, second) + np.array([right, down]))


def test_first_point_is_the_same_for_one_and_two() -> None:
    """Asking for a second point does not move the first."""
    mask = disc(40, 50, 20, 18, 12)
    both = interior_points(mask, 2, "circles")
    assert both[0].tolist() == interior_points(mask).tolist()[0] == [20, 18]


def test_circles_do_not_overlap() -> None:
    """Of two discs that touch, both variants find a point near each centre; the larger comes first."""
    mask = disc(40, 80, 20, 20, 15) | disc(40, 80, 55, 20, 10)
    for second in ("median", "circles"):
        first, other = interior_points(mask, 2, second)
        assert np.hypot(*(first - [20, 20])) < 1.5
        assert np.hypot(*(other - [55, 20])) < 2.5


def test_one_pixel_has_one_point() -> None:
    """Where there is no other pixel the second point is the first."""
    mask = np.zeros((3, 3), dtype=bool)
    mask[1, 2] = True
    for second in ("median", "circles"):
        assert interior_points(mask, 2, second).tolist() == [[2, 1], [2, 1]]


def test_real_coins() -> None:
    """Each coin's point is about its middle, and no two coins share a box."""
    _, masks = coins()
    assert len(masks) == 24
    boxes, points = objects_of(masks, inclusive=False)
    for mask, box, (point,) in zip(masks, boxes, points, strict=True):
        rows, columns = np.nonzero(mask)
        side = (box[2:] - box[:2]).min()
        assert np.hypot(point[0] - columns.mean(), point[1] - rows.mean()) < side / 4
    assert len({tuple(box) for box in boxes.tolist()}) == 24


def test_digit_scenes_agree() -> None:
    """Boxes and points are those that the digit scenes say of themselves, found by other code."""
    for scene in scenes(40, seed=3):
        boxes, points = objects_of([t.mask for t in scene.targets], inclusive=False)
        assert boxes.tolist() == [t.box.tolist() for t in scene.targets]
        assert [p.tolist() for (p,) in points] == [t.point.tolist() for t in scene.targets]


@pytest.mark.parametrize("call", [
    lambda: box_of(np.zeros((3, 3), dtype=bool), inclusive=True),
    lambda: interior_points(np.zeros((3, 3), dtype=bool)),
    lambda: interior_points(np.ones((3, 3), dtype=bool), 3),
    lambda: interior_points(np.ones((3, 3), dtype=bool), 2, "nearest"),
    lambda: interior_points(np.ones((3, 3))),
    lambda: encode_mask(np.ones((3, 3))),
    lambda: decode_mask({"size": [2, 2], "counts": [1]}, "x"),
])  # fmt: skip
def test_bad_arguments_raise(call: Any) -> None:
    """An empty mask, a wrong type and an unknown variant are errors."""
    with pytest.raises(rr.InputError):
        call()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
@given(MASKS | hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_mask_to_rle_and_back(mask: Any) -> None:
    """A mask survives RLE; pycocotools reads the same out of it, and so does one's own counting."""
    rle = encode_mask(mask)
    assert np.array_equal(decode_mask(rle, "mask"), mask)
    assert np.array_equal(coder.decode(rle), mask)
    assert np.array_equal(decode_mask(plain_rle(mask), "mask"), mask)


def test_rows_of_digits_hold_their_masks() -> None:
    """The union mask of a digit row is the scene's own."""
    for row, scene in zip(digit_rows(20), scenes(20, seed=0, max_digits=4), strict=True):
        assert np.array_equal(decode_mask(row.mask or {}, row.id), scene.mask)
    assert all(a.id != b.id for a, b in pairwise(digit_rows(20)))
