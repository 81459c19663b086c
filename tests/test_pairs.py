"""Pairs of objects and potentials, against slow twins that loop over every pairing."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import rankreward as rr
from rankreward.metrics.pairs import box_differences, pair_distances, pair_errors, potentials

place = st.one_of(st.integers(0, 30).map(float), st.floats(-50, 250))
SIZE = (200.0, 100.0)


@st.composite
def batches(draw: Any) -> tuple[Any, ...]:
    """A ragged batch: left, its counts, right, its counts, and the points of an object."""
    points = draw(st.integers(0, 3))
    counts = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=4))
    sides = []
    for k in (0, 1):
        count = np.array([pair[k] for pair in counts], dtype=np.int64)
        rows = draw(arrays(np.float64, (int(count.sum()), 4 + 2 * points), elements=place))
        sides += [rows, count]
    return (*sides, points)


def iou(a: Any, b: Any) -> float:
    return float(rr.metrics.box_iou([a[:4]], [b[:4]])[0, 0])


def least_mean(a: Any, b: Any, points: int, apart: Any) -> float:
    """The least mean over all pairings of the points."""
    if not points:
        return 0.0
    left, right = np.reshape(a[4:], (-1, 2)), np.reshape(b[4:], (-1, 2))
    return min(
        sum(apart(left[i], right[j]) for i, j in enumerate(order)) / points
        for order in permutations(range(points))
    )


def error(a: Any, b: Any, points: int) -> float:
    """The error of one pair, written out."""
    width, height = SIZE
    sizes = (width, height, width, height)
    box = sum(abs(a[k] - b[k]) / sizes[k] for k in range(4)) / 4
    point = least_mean(
        a, b, points, lambda p, q: (abs(p[0] - q[0]) / width + abs(p[1] - q[1]) / height) / 2
    )
    parts = [1 - iou(a, b), min(box, 1.0)] + [min(point, 1.0)] * bool(points)
    return sum(parts) / len(parts)


def samples(batch: Any) -> list[tuple[Any, Any]]:
    left, m, right, n, _ = batch
    return list(
        zip(np.split(left, np.cumsum(m)[:-1]), np.split(right, np.cumsum(n)[:-1]), strict=True)
        if len(m)
        else []
    )


@given(batches())
def test_pairs_are_those_of_the_slow_twins(batch: Any) -> None:
    """IoU, distance, box difference and error of every pair, sample by sample and row by row."""
    points = batch[-1]
    pairs = [(a, b) for left, right in samples(batch) for a in left for b in right]
    ious, apart = pair_distances(*batch)
    assert ious == pytest.approx([iou(a, b) for a, b in pairs])
    expected = [least_mean(a, b, points, lambda p, q: np.hypot(*(p - q))) for a, b in pairs]
    assert apart == pytest.approx(expected)
    differences = box_differences(*batch[:4])
    assert differences == pytest.approx([np.abs(a[:4] - b[:4]).mean() for a, b in pairs])
    errors = pair_errors(*batch, SIZE)
    assert errors == pytest.approx([error(a, b, points) for a, b in pairs])


@given(batches(), st.booleans())
def test_potential_is_that_of_the_best_of_all_matchings(batch: Any, surplus: bool) -> None:
    """The least over every one-to-one matching, each missed or surplus object 1."""
    points = batch[-1]
    given = batch[1] + 1  # one more, which none of these is
    found = potentials(*batch, SIZE, given=batch[1], surplus=surplus)
    charged = potentials(*batch, SIZE, given=given, surplus=surplus)
    for value, more, (left, right) in zip(found, charged, samples(batch), strict=True):
        few, many = sorted((left, right), key=len)
        pairs = min(
            sum(error(a, b, points) for a, b in zip(few, order, strict=True))
            for order in permutations(many, len(few))
        )
        missing, extra = max(len(right) - len(left), 0), max(len(left) - len(right), 0) * surplus
        count = len(few) + missing + extra
        assert value == pytest.approx((pairs + missing + extra) / count if count else 0)
        bigger = count + surplus
        assert more == pytest.approx((pairs + missing + extra + surplus) / bigger if bigger else 0)
        if len(np.unique(left, axis=0)) < len(left):
            continue  # `potential` counts what is given twice apart
        single = rr.metrics.potential(
            left[:, :4], left[:, 4:].reshape(len(left), points, 2),
            right[:, :4], right[:, 4:].reshape(len(right), points, 2),
            size=SIZE, surplus=surplus,
        )  # fmt: skip
        assert single == pytest.approx(value)  # it sorts the objects first
        assert 0 <= value <= 1
