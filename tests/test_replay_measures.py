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
    """Each kind of share is a covariance over a variance, in plain loops; they add up to 1."""
    found = own_of(log)
    for kind in OF_TERMS:
        values = {name: found[f"{kind}/{name}"].value for name in RECIPE.parts}
        assert values == pytest.approx(twin.shares(log, kind), abs=1e-7, nan_ok=True), kind
        total = sum(values.values())
        assert math.isnan(total) or total == pytest.approx(1)


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
    """The shares of terms in a group's difference add up to 1, and are 0 where both pay alike."""
    for step in log:
        first, second, index = earned_of(step, 0), earned_of(step, 1), index_of(step)
        for group in range(index.max() + 1):
            members = np.flatnonzero(index == group).tolist()
            apart = first.advantages[members] - second.advantages[members]
            found = because(first, second, members)
            if np.abs(apart).max() > 1e-6:
                assert sum(found.values()) == pytest.approx(1)
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
    assert sum(found.values()) == pytest.approx(1)


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


def test_one_step_has_no_interval() -> None:
    """One step drawn again is itself: there is nothing to tell an interval by."""
    base = dict.fromkeys(RECIPE.parts, 0.5)
    log = [[Paid("a", (base, base)), Paid("a", ({**base, "iou": 1.0}, base))]]
    assert math.isnan(own_of(log)["reward"].low)


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
