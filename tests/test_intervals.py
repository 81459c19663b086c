"""Intervals: slow loops, SciPy's bootstrap, and how often they hold the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import rankreward as rr
from rankreward.evaluation import intervals
from rankreward.evaluation.intervals import Interval, difference, interval, table
from rankreward.evaluation.measures import Quantile, Ratio, Statistic, mean

RNG = np.random.default_rng(0)
INTERSECTION = RNG.integers(0, 100, 150).astype(float)
UNION = INTERSECTION + RNG.integers(0, 80, 150)
ERRORS = RNG.normal(0, 3, 150)
LENGTHS = RNG.integers(1, 400, 150).astype(float)
TARGET = RNG.random(150) < 0.7

# A measure, and the same as a plain function of the samples drawn.
MEASURES: dict[str, tuple[Any, Any]] = {
    "cumulative": (Ratio(INTERSECTION, UNION), lambda i: INTERSECTION[i].sum() / UNION[i].sum()),
    "mean": (mean(LENGTHS), lambda i: LENGTHS[i].mean()),
    "some": (mean(LENGTHS > 200, TARGET), lambda i: (LENGTHS[i] > 200)[TARGET[i]].mean()),
    "root": (
        Ratio(ERRORS**2, np.ones(150), root=True),
        lambda i: math.sqrt((ERRORS[i] ** 2).mean()),
    ),
    "p50": (Quantile(LENGTHS, 0.5), lambda i: np.percentile(LENGTHS[i], 50)),
    "p95": (Quantile(LENGTHS, 0.95), lambda i: np.percentile(LENGTHS[i], 95)),
    "other": (
        Statistic(lambda x, y: np.corrcoef(x, y)[0, 1], (LENGTHS, ERRORS)),
        lambda i: np.corrcoef(LENGTHS[i], ERRORS[i])[0, 1],
    ),
}


@pytest.mark.parametrize("name", MEASURES)
def test_intervals_equal_a_slow_loop(name: str) -> None:
    """Drawing one resample after the other with the same seed gives the same interval."""
    measure, function = MEASURES[name]
    rng = np.random.default_rng(7)
    spread = [function(rng.integers(0, 150, 150)) for _ in range(300)]
    found = interval(measure, resamples=300, level=0.9, seed=7)
    assert found.value == pytest.approx(function(np.arange(150)), rel=1e-12)
    np.testing.assert_allclose([found.low, found.high], np.percentile(spread, [5, 95]), rtol=1e-10)
    assert found.undefined == 0


@pytest.mark.parametrize("name", MEASURES)
def test_differences_equal_a_slow_loop(name: str) -> None:
    """In pairs, each resample draws the same samples for both."""
    measure, function = MEASURES[name]
    other, rng = MEASURES["mean"][0], np.random.default_rng(3)
    draws = [rng.integers(0, 150, 150) for _ in range(200)]
    spread = [LENGTHS[i].mean() - function(i) for i in draws]
    found = difference(measure, other, paired=True, resamples=200, seed=3)
    assert found.value == pytest.approx(other.value - measure.value)
    np.testing.assert_allclose(
        [found.low, found.high], np.percentile(spread, [2.5, 97.5]), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("cells", [1, 151, 1000])
def test_memory_does_not_change_the_interval(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few resamples are held at a time, the same ones are drawn."""
    expected = interval(MEASURES["p95"][0], resamples=50)
    monkeypatch.setattr(intervals, "_CELLS", cells)
    assert interval(MEASURES["p95"][0], resamples=50) == expected


@pytest.mark.parametrize("name", ["cumulative", "p50"])
def test_intervals_are_those_of_scipy(name: str) -> None:
    """SciPy's percentile bootstrap, with other draws, agrees to a few percent of the width."""
    measure, function = MEASURES[name]
    found = interval(measure, resamples=20_000, level=0.9)
    other = stats.bootstrap(
        (np.arange(150),), function, vectorized=False, method="percentile",
        confidence_level=0.9, n_resamples=4000, rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    width = other.high - other.low
    assert found.low == pytest.approx(other.low, abs=0.08 * width)
    assert found.high == pytest.approx(other.high, abs=0.08 * width)


@pytest.mark.parametrize("kind", ["alone", "paired", "unpaired"])
def test_intervals_hold_the_truth_as_often_as_they_say(kind: str) -> None:
    """Of 400 experiments with 80 samples, 90% intervals hold the true value in about 90%."""
    rng, held = np.random.default_rng(11), 0
    for seed in range(400):
        shared = rng.normal(0, 3, 80)
        before = mean(shared + rng.normal(0, 1, 80))
        if kind == "alone":
            found, truth = interval(before, resamples=300, level=0.9, seed=seed), 0.0
        else:
            noise = rng.normal(0.5, 1, 80 if kind == "paired" else 60)
            base = shared if kind == "paired" else rng.normal(0, 3, 60)
            paired = kind == "paired"
            found = difference(
                before, mean(base + noise), paired=paired, resamples=300, level=0.9, seed=seed
            )
            truth = 0.5
        held += found.low <= truth <= found.high
    assert 0.85 <= held / 400 <= 0.94


def test_widths_are_those_of_the_normal_distribution() -> None:
    """Pairs cancel what they share; without them the variances add up."""
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 3, 3000)
    before, after = shared + rng.normal(0, 1, 3000), shared + rng.normal(1, 1, 3000)
    for paired, variance in (
        (True, (after - before).var()),
        (False, before.var() + after.var()),
    ):
        found = difference(mean(before), mean(after), paired=paired)
        expected = 2 * 1.96 * math.sqrt(variance / 3000)
        assert found.high - found.low == pytest.approx(expected, rel=0.06)


def test_unpaired_draws_are_two() -> None:
    """A measure less itself is exactly 0 in pairs, and not when each is drawn by itself."""
    measure = MEASURES["mean"][0]
    assert difference(measure, measure, paired=True) == Interval(0.0, 0.0, 0.0, 0)
    apart = difference(measure, measure, paired=False)
    assert apart.low < 0 < apart.high
    assert apart.value == 0.0


def test_equal_seeds_give_equal_intervals() -> None:
    """The seed is all that chance depends on."""
    measure = MEASURES["cumulative"][0]
    assert interval(measure, seed=1) == interval(measure, seed=1) != interval(measure, seed=2)


def test_resamples_that_define_nothing_are_counted() -> None:
    """With one no-target sample in twenty, a third of the resamples have none, and say so."""
    rejected, nothing = np.arange(20) == 0, np.arange(20) == 0
    found = interval(mean(rejected, nothing), resamples=4000)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.undefined / 4000 == pytest.approx(0.95**20, abs=0.03)


def test_what_nothing_defines() -> None:
    """A measure of no sample is NaN with a NaN interval, and no warning."""
    found = interval(mean(np.ones(4), np.zeros(4, bool)), resamples=10)
    assert all(map(math.isnan, (found.value, found.low, found.high)))
    assert found.undefined == 10
    assert math.isnan(Quantile(np.array([]), 0.5).value)
    assert math.isnan(mean([]).value)


def test_tables_by_stratum() -> None:
    """Each stratum has what its samples alone have, and says how many of them count."""
    by = np.where(np.arange(150) % 3 == 0, "night", "day")
    rows = table({name: measure for name, (measure, _) in MEASURES.items()}, by=by, resamples=60)
    assert [row.stratum for row in rows] == ["day"] * len(MEASURES) + ["night"] * len(MEASURES)
    assert [row.measure for row in rows] == list(MEASURES) * 2
    for row in rows:
        index = np.flatnonzero(by == row.stratum)
        measure, function = MEASURES[row.measure]
        assert row.interval.value == pytest.approx(function(index))
        assert row.interval == interval(measure.take(index), resamples=60)
        counted = {"some": TARGET[index].sum(), "cumulative": (UNION[index] > 0).sum()}
        assert row.n == counted.get(row.measure, len(index))


def test_tables_of_all() -> None:
    """Without strata there is one, of all samples."""
    (row,) = table({"mean": MEASURES["mean"][0]}, resamples=30)
    assert (row.stratum, row.n) == ("all", 150)
    assert row.interval == interval(MEASURES["mean"][0], resamples=30)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.data())
def test_counts_stand_for_repeated_samples(values: list[int], data: Any) -> None:
    """Whatever the counts, a measure over them is the measure of the samples so often repeated."""
    counts = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values)))
    )
    index, numbers = np.repeat(np.arange(len(values)), counts), np.array(values, dtype=float)
    measures = [Ratio(numbers, numbers + 1), mean(numbers, numbers > 3)]
    if len(index):
        measures += [Quantile(numbers, q) for q in (0.0, 0.3, 0.5, 1.0)]  # type: ignore[misc]
        measures.append(Statistic(np.std, (numbers,)))  # type: ignore[arg-type]
    for measure in measures:
        found = measure.over(counts[None].astype(float))
        np.testing.assert_allclose(found, [measure.take(index).value], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval(mean([])), "expected at least 1 sample and 1 resample, got 0 and 2000"),
        (lambda: interval(mean([1.0]), resamples=0), "got 1 and 0"),
        (lambda: interval(mean([1.0]), level=1.0), r"level: expected a number in \(0, 1\)"),
        (
            lambda: difference(mean([1.0]), mean([1.0, 2.0]), paired=True),
            "expected the same samples, got 1 and 2; pass paired=False",
        ),
        (lambda: table({}), "measures: expected one number of samples"),
        (lambda: table({"a": mean([1.0]), "b": mean([1.0, 2.0])}), r"got \[1, 2\]"),
        (lambda: table({"a": mean([1.0])}, by=["x", "y"]), "by: expected 1 texts"),
        (lambda: table({"a": mean([1.0])}, by=[3]), "by: expected 1 texts"),  # type: ignore[list-item]
        (lambda: Ratio([1.0], [1.0, 2.0]), "top, bottom: expected one shape"),  # type: ignore[arg-type]
        (lambda: Ratio([[1.0]], [[1.0]]), r"top: expected \(n,\) finite"),  # type: ignore[list-item, arg-type]
        (lambda: mean([math.nan]), r"top: expected \(n,\) finite"),
        (lambda: mean([1.0], [1.0]), r"where: expected \(1,\) bool"),
        (lambda: Quantile([1.0], 1.5), "q: expected a number in"),  # type: ignore[arg-type]
        (lambda: Statistic(np.mean, ()), "arrays: expected arrays with one first axis"),  # type: ignore[arg-type]
        (lambda: Statistic(max, ([1], [1, 2])), "arrays: expected arrays with one first axis"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_are_named(call: Any, message: str) -> None:
    """Each wrong argument is an error that names it."""
    with pytest.raises(rr.InputError, match=message):
        call()
