"""The measures of a replay, beside a slow twin, and what has to hold for any rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import replay_twin as twin
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_twin import Paid

from rankreward.recipe import Recipe
from rankreward.replay.agreement import PAIR, Earned, earned, pair_sums
from rankreward.replay.cases import because
from rankreward.replay.shares import OF_TERMS, own_measures, own_sums
from rankreward.replay.sums import Measured, StepSums
from rankreward.rewards.scorer import RewardBatch
from rankreward.shaping.groups import group_index

RECIPE = Recipe.load("dr_seg")
# Few values, so that ties and groups without a signal are common; thirds add up inexactly.
VALUES = st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 0.5, 1.0])
METRICS = ("iou", "count", "point")


def terms() -> st.SearchStrategy[dict[str, float]]:
    return st.fixed_dictionaries(dict.fromkeys(RECIPE.parts, VALUES))


@st.composite
def steps(draw: st.DrawFn) -> list[list[Paid]]:
    """One to four steps of one to twelve rollouts in up to four groups, paid by two recipes."""
    rollout = st.builds(Paid, st.sampled_from("abcd"), st.tuples(terms(), terms()))
    return draw(st.lists(st.lists(rollout, min_size=1, max_size=12), min_size=1, max_size=4))


def index_of(step: Sequence[Paid]) -> np.ndarray:
    return group_index([each.group for each in step], len(step))


def batch_of(step: Sequence[Paid], recipe: int) -> RewardBatch:
    columns = {name: np.array([r.terms[recipe][name] for r in step]) for name in RECIPE.parts}
    total = np.array([each.reward(recipe) for each in step])
    metrics = {name: columns[name] for name in METRICS}
    failures = [None] * len(step)
    return RewardBatch(total, columns, metrics, metrics, np.ones(len(step)), failures)


def earned_of(step: Sequence[Paid], recipe: int) -> Earned:
    batch = batch_of(step, recipe)
    return earned(batch.total, batch.terms, index_of(step))


def pair_of(log: Sequence[Sequence[Paid]], one: int = 0, other: int = 1) -> dict[str, Measured]:
    sums = StepSums()
    for number, step in enumerate(log):
        found = pair_sums(earned_of(step, one), earned_of(step, other), index_of(step))
        sums.add(number, {(("a", "b"), name): value for name, value in found.items()})
    named = {(("a", "b"), name): ratio for name, ratio in PAIR.items()}
    return {each.name: each for each in sums.measured(named, resamples=20)}


def own_of(log: Sequence[Sequence[Paid]], recipe: int = 0) -> dict[str, Measured]:
    sums = StepSums()
    for number, step in enumerate(log):
        batch, index = batch_of(step, recipe), index_of(step)
        found = own_sums(batch, earned_of(step, recipe), index, RECIPE)
        sums.add(number, {(("a",), name): value for name, value in found.items()})
    named = {(("a",), name): ratio for name, ratio in own_measures(RECIPE).items()}
    return {each.name: each for each in sums.measured(named, resamples=20)}


@settings(max_examples=50)  # the twin is slow
@given(steps())
def test_two_recipes_agree_as_a_slow_twin_says(log: list[list[Paid]]) -> None:
    """Every measure of two recipes is that of plain loops and `scipy.stats`."""
    found = pair_of(log)
    for name, value in twin.pair_measures(log).items():
        assert found[name].value == pytest.approx(value, abs=1e-7, nan_ok=True), name
    assert found.keys() == twin.pair_measures(log).keys()


@settings(max_examples=50)  # the twin is slow
@given(steps())
def test_thirds_are_those_of_the_steps(log: list[list[Paid]]) -> None:
    """The value of a third is the measure of its steps alone; with fewer than three there is none."""
    found = pair_of(log)
    parts = np.array_split(np.arange(len(log)), 3)
    for place, part in enumerate(parts):
        if len(log) < 3:
            assert all(math.isnan(each.thirds[place]) for each in found.values())
            continue
        alone = twin.pair_measures([log[k] for k in part])
        for name, value in alone.items():
            assert found[name].thirds[place] == pytest.approx(value, abs=1e-7, nan_ok=True), name


@settings(max_examples=50)  # the twin is slow
@given(steps())
def test_shares_of_terms_are_those_of_a_slow_twin(log: list[list[Paid]]) -> None:
    """Each kind of share is that of plain loops; those that rest on a variance add up to 1."""
    found = own_of(log)
    for kind in OF_TERMS:
        values = {name: found[f"{kind}/{name}"].value for name in RECIPE.parts}
        assert values == pytest.approx(twin.shares(log, kind), abs=1e-7, nan_ok=True), kind
        total = sum(values.values())
        assert math.isnan(total) or total == pytest.approx(1) or kind == "advantage"
        assert not abs(total) > 1 + 1e-9


@settings(max_examples=50)  # the twin is slow
@given(steps())
def test_rewards_and_groups_without_a_signal_are_counted(log: list[list[Paid]]) -> None:
    """The mean reward and the share of groups that pay all alike are those of plain loops."""
    found = own_of(log)
    groups = [group for step in log for group in twin.groups_of(step)]
    dead = [not twin.has_signal(group, 0) for group in groups]
    assert found["no_signal"].value == pytest.approx(sum(dead) / len(groups))
    assert found["no_signal"].groups == len(groups)
    assert found["within/iou"].groups == len(groups) - sum(dead)
    rewards = [each.reward(0) for step in log for each in step]
    assert found["reward"].value == pytest.approx(sum(rewards) / len(rewards))


@settings(max_examples=50)  # the twin is slow
@given(steps(), st.data())
def test_shares_of_metrics_leave_out_what_does_not_apply(
    log: list[list[Paid]], data: st.DataObject
) -> None:
    """Metrics that are NaN on a rollout take no part there; the rest is as in plain loops."""
    sums, plain = StepSums(), []
    for number, step in enumerate(log):
        batch, index = batch_of(step, 0), index_of(step)
        holes = data.draw(st.lists(st.booleans(), min_size=len(step), max_size=len(step)))
        raw = {**batch.raw, "iou": np.where(holes, np.nan, batch.raw["iou"])}
        batch = RewardBatch(batch.total, batch.terms, raw, batch.ranks, batch.scale, batch.failures)
        found = own_sums(batch, earned_of(step, 0), index, RECIPE)
        sums.add(number, {(("a",), name): value for name, value in found.items()})
        rows = [{name: raw[name][row] for name in METRICS} for row in range(len(step))]
        plain.append([(each.group, row) for each, row in zip(step, rows, strict=True)])
    named = {(("a",), name): ratio for name, ratio in own_measures(RECIPE).items()}
    measured = {each.name: each.value for each in sums.measured(named, resamples=1)}
    for name, value in twin.metric_shares(plain).items():
        assert measured[f"raw/{name}"] == pytest.approx(value, nan_ok=True)


@settings(max_examples=50)  # the twin is slow
@given(steps())
def test_a_recipe_agrees_with_itself(log: list[list[Paid]]) -> None:
    """Against itself correlations are 1 and differences 0, wherever they are defined."""
    found = {name: each.value for name, each in pair_of(log, 0, 0).items()}
    for name in ("spearman", "kendall", "cosine", "correlation", "same_best"):
        assert math.isnan(found[name]) or found[name] == pytest.approx(1)
    for name in ("sign_changed", "discordant", "one_sided"):
        assert math.isnan(found[name]) or found[name] == 0
    assert found["signal_first_only"] == found["signal_second_only"] == 0


@settings(max_examples=50)  # the twin is slow
@given(steps(), st.sampled_from([0.25, 3.0, 1000.0]))
def test_scaling_a_reward_changes_nothing(log: list[list[Paid]], factor: float) -> None:
    """A reward times a positive constant orders, signals and agrees as before."""
    scaled = [
        [
            Paid(each.group, (each.terms[0], {k: v * factor for k, v in each.terms[1].items()}))
            for each in step
        ]
        for step in log
    ]
    before, after = pair_of(log), pair_of(scaled)
    for name, each in before.items():
        assert after[name].value == pytest.approx(each.value, abs=1e-4, nan_ok=True), name


@settings(max_examples=50)  # the twin is slow
@given(steps())
def test_changing_sides_changes_only_the_names(log: list[list[Paid]]) -> None:
    """Second against first is first against second, with the one-sided signals swapped."""
    one, other = pair_of(log), pair_of(log, 1, 0)
    swapped = {"signal_first_only": "signal_second_only", "signal_second_only": "signal_first_only"}
    for name, each in one.items():
        there = other[swapped.get(name, name)].value
        assert each.value == pytest.approx(there, nan_ok=True), name


@settings(max_examples=50)  # the twin is slow
@given(steps())
def test_why_two_disagree_adds_up(log: list[list[Paid]]) -> None:
    """The sizes of terms' shares in a group's difference add up to 1; there are none without one."""
    for step in log:
        first, second, index = earned_of(step, 0), earned_of(step, 1), index_of(step)
        for group in range(index.max() + 1):
            members = np.flatnonzero(index == group).tolist()
            apart = first.advantages[members] - second.advantages[members]
            found = because(first, second, members)
            if np.abs(apart).max() > 1e-6:
                assert sum(map(abs, found.values())) == pytest.approx(1)
            else:
                assert np.allclose(apart, 0, atol=1e-6)


def test_why_two_disagree_names_the_term() -> None:
    """Two rewards that differ in one term alone disagree because of it, and of nothing else."""
    base = dict.fromkeys(RECIPE.parts, 0.0)
    step = [
        Paid("a", ({**base, "iou": iou, "look": look}, {**base, "iou": iou}))
        for iou, look in ((0.2, 0.0), (0.4, 0.0), (0.6, 0.0), (0.8, 0.0))
    ]
    assert because(earned_of(step, 0), earned_of(step, 1), [0, 1, 2, 3]) == {}
    step[0].terms[0]["look"] = 1.0
    found = because(earned_of(step, 0), earned_of(step, 1), [0, 1, 2, 3])
    assert set(found) == {"look", "iou"}
    assert found["look"] > 0.5
    assert sum(map(abs, found.values())) == pytest.approx(1)


def test_one_group_in_which_terms_cancel_does_not_drown_the_others() -> None:
    """A group whose terms nearly cancel counts as one group, however small its variance is."""
    base = dict.fromkeys(RECIPE.parts, 0.0)
    calm = [
        Paid(str(g), ({**base, "iou": g / 9 + i / 7}, base)) for g in range(9) for i in range(4)
    ]
    odd = [
        Paid("odd", ({**base, "iou": 0.05 * i, "count": 1e-6 * i * i - 0.05 * i}, base))
        for i in range(4)
    ]
    found = own_of([[*calm, *odd]])
    assert found["advantage/iou"].value == pytest.approx((9 + 0.5) / 10, abs=1e-3)
    assert found["advantage/count"].value == pytest.approx(-0.5 / 10, abs=1e-3)


def test_an_interval_is_that_of_the_mean_over_steps() -> None:
    """For steps of one kind its half-width is 1.96 standard errors, as the normal law has it."""
    rng, sums, name = np.random.default_rng(0), StepSums(), (("a",), "reward")
    values = rng.normal(3.0, 1.0, 400)
    for step, value in enumerate(values):
        row = {"reward": value * 8, "rows": 8.0, "groups": 1.0}
        sums.add(step, {(("a",), key): each for key, each in row.items()})
    (found,) = sums.measured({name: own_measures(RECIPE)["reward"]}, resamples=4000)
    error = values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert found.value - found.low == pytest.approx(1.96 * error, rel=0.1)
    assert found.high - found.value == pytest.approx(1.96 * error, rel=0.1)


def mean_of(values: Sequence[float], resamples: int = 1000) -> Measured:
    """The mean over steps of one rollout each."""
    sums = StepSums()
    for step, value in enumerate(values):
        row = {"reward": float(value), "rows": 1.0, "groups": 1.0}
        sums.add(step, {(("a",), key): each for key, each in row.items()})
    (found,) = sums.measured(
        {(("a",), "reward"): own_measures(RECIPE)["reward"]}, resamples=resamples
    )
    return found


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_few_steps_have_no_interval(steps: int) -> None:
    """With fewer than ten steps there is too little to tell an interval by; with ten there is one."""
    found = mean_of(range(steps))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.value == (steps - 1) / 2
    ten = mean_of(range(10))
    assert 0 <= ten.low < 4.5 < ten.high <= 9


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """For 1500 means of ten normal steps the 95% interval holds the true one nearly so often.

    A percentile bootstrap that does not know how few the steps are would in 89% of them.
    """
    rng = np.random.default_rng(11)
    found = [mean_of(rng.normal(size=10)) for _ in range(1500)]
    held = np.mean([each.low <= 0 <= each.high for each in found])
    assert 0.925 < held < 0.97


def test_terms_that_cancel_out_leave_no_variance() -> None:
    """Rewards that differ by rounding alone have no variance, and so no term a share of it."""
    base = dict.fromkeys(RECIPE.parts, 0.0)
    one = {**base, "non_repeat": 0.2, "iou": 0.2, "count": 0.5, "point": 0.5}
    other = {**one, "answer_format": 0.1, "look": 0.2, "count": 0.2}
    found = own_of([[Paid("a", (one, base)), Paid("a", (other, base))]])
    for kind in OF_TERMS:
        assert math.isnan(found[f"{kind}/count"].value), kind


def test_metrics_count_by_their_share_in_the_accuracy() -> None:
    """A metric of a tenth of the share has a hundredth of the variance, raw and ranked."""
    shares = {"accuracy.metrics.iou.share": 0.1, "accuracy.metrics.point.share": -1.0}
    values = {name: np.array([0.0, 1.0]) for name in METRICS}
    step = [Paid("a", (dict.fromkeys(RECIPE.parts, each),) * 2) for each in (0.0, 1.0)]
    batch, index = batch_of(step, 0), index_of(step)
    batch = RewardBatch(batch.total, batch.terms, values, values, batch.scale, batch.failures)
    found = own_sums(batch, earned_of(step, 0), index, RECIPE.override(shares))
    for kind in ("raw", "ranked"):
        assert found[f"{kind}/iou"] == pytest.approx(0.005)
        assert found[f"{kind}/count"] == found[f"{kind}/point"] == pytest.approx(0.5)


@pytest.mark.parametrize(("rows", "groups", "values"), [(600, 1, 40), (600, 7, 4), (40, 40, 9)])
def test_pairs_of_large_groups_are_those_of_all_pairs(rows: int, groups: int, values: int) -> None:
    """Pairs told apart, ordered differently and told by one are those of a table of all pairs."""
    rng = np.random.default_rng(rows + groups)
    index = rng.permutation(np.arange(rows) % groups)
    a, b = (rng.integers(values, size=rows) / 3 for _ in range(2))
    found = pair_sums(earned(a, {"x": a}, index), earned(b, {"x": b}, index), index)
    same = np.triu(index[:, None] == index, 1)
    one, other = (np.sign(x[:, None] - x)[same] for x in (a, b))
    assert found["pairs"] == same.sum()
    assert found["told_apart"] == (one * other != 0).sum()
    assert found["one_sided"] == ((one != 0) != (other != 0)).sum()
    assert found["discordant"] == (one * other < 0).sum()


def test_parts_of_a_step_add_up() -> None:
    """A step whose groups come in two parts has the group measures of the whole."""
    rng = np.random.default_rng(1)
    step = [
        Paid(str(row // 4), tuple({k: float(rng.random()) for k in RECIPE.parts} for _ in range(2)))
        for row in range(16)
    ]
    whole, parts = pair_of([step]), StepSums()
    for part in (step[:8], step[8:]):
        found = pair_sums(earned_of(part, 0), earned_of(part, 1), index_of(part))
        parts.add(7, {(("a", "b"), name): value for name, value in found.items()})
    assert parts.steps == [7]
    named = {(("a", "b"), name): ratio for name, ratio in PAIR.items()}
    for each in parts.measured(named):
        if each.name not in {"spearman", "kendall"}:
            assert each.value == pytest.approx(whole[each.name].value, nan_ok=True)
