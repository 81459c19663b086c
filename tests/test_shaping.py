"""Advantages against published examples, slow twins in plain Python, and the trainers' formulas."""

from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import rankreward as rr
from rankreward.shaping import dr_grpo, gdpo, group_revision, grpo, revision_gain, rloo

Floats = NDArray[np.float64]
Batch = tuple[Floats, NDArray[np.int64]]
SHAPERS: dict[str, Callable[..., Any]] = {
    "grpo": grpo,
    "grpo batch": lambda *args, **kw: grpo(*args, std="batch", **kw),
    "grpo none": lambda *args, **kw: grpo(*args, std="none", **kw),
    "dr_grpo": dr_grpo,
    "rloo": rloo,
    "gdpo": lambda rewards, groups: gdpo({"a": rewards}, groups),
    "group_revision": lambda rewards, groups: group_revision(rewards, rewards * 0, groups),
}
TENS = st.floats(-10, 10)
every_shaper = pytest.mark.parametrize("shaper", SHAPERS.values(), ids=SHAPERS)


def batches(numbers: st.SearchStrategy[float] = TENS) -> st.SearchStrategy[Batch]:
    """Rewards and ids of unequal groups in any order, singletons among them; never empty."""
    row = st.tuples(numbers, st.integers(-2, 3))
    rows = st.lists(row, min_size=1, max_size=24)
    return rows.map(
        lambda pairs: (np.array([r for r, _ in pairs]), np.array([g for _, g in pairs]))
    )


def per_group(
    values: Iterable[float], groups: Iterable[Any], rule: Callable[[list[float]], list[float]]
) -> list[float]:
    """The slow twin: apply a rule to each group's list and put the answers back in place."""
    members: dict[Any, list[int]] = {}
    for row, name in enumerate(groups):
        members.setdefault(name, []).append(row)
    values, answer = list(values), {}
    for rows in members.values():
        answer.update(zip(rows, rule([float(values[row]) for row in rows]), strict=True))
    return [answer[row] for row in range(len(values))]


def z_scores(values: list[float], eps: float) -> list[float]:
    mean = statistics.fmean(values) if values else 0.0
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return [(value - mean) / (spread + eps) for value in values]


# The published examples.


def test_grpo_example() -> None:
    """G1: four rewards under verl's formula."""
    np.testing.assert_allclose(grpo([7, 5, 5, 3], 4), [1.2247, 0, 0, -1.2247], atol=5e-5)


@every_shaper
@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 1 / 3, -1e9])
def test_equal_rewards_are_worth_exactly_nothing(shaper: Callable[..., Any], value: float) -> None:
    """G2: zero variance gives 0, not a rounding error over eps."""
    assert shaper(np.full(14, value), 7).tolist() == [0.0] * 14


def test_zero_variance_without_eps() -> None:
    """eps=0 divides nothing by 0: equal rewards still get 0."""
    assert grpo([0.1] * 3 + [1, 3], [0, 0, 0, 1, 1], eps=0)[:3].tolist() == [0, 0, 0]
    assert gdpo({"a": [0.1] * 6}, 3, eps=0).tolist() == [0] * 6


@pytest.mark.parametrize(
    "shaper", [grpo, dr_grpo, rloo, lambda r, g, **kw: group_revision(r, [0.0] * 3, g, **kw)]
)
def test_singletons(shaper: Callable[..., Any]) -> None:
    """G2: a group of one gets 0, or its raw reward as in verl; the others are not touched."""
    zero, raw = (shaper([7.0, 3.0, 5.0], [0, 0, 1], singleton=s) for s in ("zero", "raw"))
    assert zero[2] == 0.0
    assert raw[2] == 5.0
    assert zero[:2].tolist() == raw[:2].tolist()
    assert shaper([7.0, 3.0, 5.0], [0, 0, 1]).tolist() == zero.tolist()


def test_dr_grpo_and_rloo_examples() -> None:
    """G3: the same four rewards."""
    assert dr_grpo([7, 5, 5, 3], 4).tolist() == [2, 0, 0, -2]
    np.testing.assert_allclose(rloo([7, 5, 5, 3], 4), [2.667, 0, 0, -2.667], atol=5e-4)


def test_gdpo_tells_apart_what_the_sum_does_not() -> None:
    """G4 and G5: two answers with the same sum; equal under GRPO, unequal under GDPO."""
    form, accuracy = np.array([1.0, 0, 1, 1]), np.array([0.0, 1, 1, 0])
    np.testing.assert_allclose(grpo(form + accuracy, 4), [-0.5, -0.5, 1.5, -0.5], atol=5e-4)
    parts = {"format": form, "accuracy": accuracy}
    before = gdpo(parts, 4, whiten=False)
    np.testing.assert_allclose(before, [-0.366, -0.634, 1.366, -0.366], atol=5e-4)
    np.testing.assert_allclose(gdpo(parts, 4), [-0.398, -0.689, 1.486, -0.398], atol=5e-4)


def test_gdpo_weights_example() -> None:
    """G6: weights count after standardising, not before."""
    parts = {"format": [1, 1, 1, 0], "accuracy": [0, 0, 1, 0]}
    found = gdpo(parts, 4, {"accuracy": 1.0, "format": 0.5})
    np.testing.assert_allclose(found, [-0.199, -0.199, 1.391, -0.993], atol=5e-4)


def test_group_revision_example() -> None:
    """G7: gains, refined rewards, and the improved second revision that is pushed down harder."""
    gain = np.array([0.747, 0.2351, 0])
    potentials = [0.1014, 0.3067, 0.45]  # rounded: the second gain is .2350 from these
    np.testing.assert_allclose(revision_gain(potentials, 0.4009), gain, atol=2e-4)
    rewards = np.array([7.0, 4, 3])
    refined = rewards + 5 * gain
    np.testing.assert_allclose(refined, [10.735, 5.1755, 3], atol=5e-5)
    plain = grpo(refined, 3)
    np.testing.assert_allclose(plain, [1.111, -0.283, -0.828], atol=5e-4)
    found = group_revision(rewards, gain, 3)
    np.testing.assert_allclose(found, [1.941, -0.349, -0.828], atol=5e-4)
    gentle = group_revision(rewards, gain, 3, modulate="positive")
    assert gentle.tolist() == [found[0], plain[1], plain[2]]


def test_a_bonus_before_the_advantages() -> None:
    """G8: GRPO-CARE's consistency bonus of .5 to the first and third of eight."""
    rewards = [1.5, 1, 1.5, 0, 1, 0, 0, 0]
    expected = [1.26, 0.54, 1.26, -0.9, 0.54, -0.9, -0.9, -0.9]
    np.testing.assert_allclose(grpo(rewards, 8), expected, atol=5e-3)


# Slow twins.


@given(batches(), st.sampled_from([1e-6, 1e-4, 0.5]), st.booleans())
def test_grpo_like_a_loop(batch: Batch, eps: float, unbiased: bool) -> None:
    """Each group by itself with `statistics`."""

    def rule(values: list[float]) -> list[float]:
        mean = statistics.fmean(values)
        spread = statistics.stdev if unbiased and len(values) > 1 else statistics.pstdev
        return [(value - mean) / (spread(values) + eps) for value in values]

    found = grpo(*batch, eps=eps, unbiased=unbiased)
    np.testing.assert_allclose(found, per_group(*batch, rule), rtol=1e-9, atol=1e-8)


@given(batches())
def test_grpo_over_the_batch_like_a_loop(batch: Batch) -> None:
    """The mean is the group's, the standard deviation that of all rewards."""
    rewards = batch[0].tolist()
    spread = statistics.stdev(rewards) if len(rewards) > 1 else 0.0

    def rule(values: list[float]) -> list[float]:
        return [(value - statistics.fmean(values)) / (spread + 1e-4) for value in values]

    found = grpo(*batch, std="batch", eps=1e-4)
    np.testing.assert_allclose(found, per_group(*batch, rule), rtol=1e-9, atol=1e-9)


@given(batches())
def test_rloo_like_a_loop(batch: Batch) -> None:
    """Each reward less the mean of the others, which is G/(G-1) times that less the mean of all."""

    def rule(values: list[float]) -> list[float]:
        if len(values) == 1:
            return [0.0]
        return [
            value - statistics.fmean(values[:i] + values[i + 1 :]) for i, value in enumerate(values)
        ]

    found = rloo(*batch)
    np.testing.assert_allclose(found, per_group(*batch, rule), rtol=1e-9, atol=1e-9)
    count = np.array(per_group(*batch, lambda values: [len(values)] * len(values)))
    np.testing.assert_allclose(found, count / np.maximum(count - 1, 1) * dr_grpo(*batch))


part_rows = st.tuples(
    *[st.one_of(st.just(math.nan), st.integers(0, 4).map(float))] * 3, st.integers(0, 2)
)


@given(
    st.lists(part_rows, min_size=1, max_size=20), st.lists(st.floats(-2, 2), min_size=3, max_size=3)
)
def test_gdpo_like_a_loop(rows: list[tuple[float, ...]], factors: list[float]) -> None:
    """Undefined values take no part; a row without any takes no part in the batch step either."""
    *columns, groups = zip(*rows, strict=True)

    def rule(values: list[float]) -> list[float]:
        kept = [value for value in values if not math.isnan(value)]
        scores = iter(z_scores(kept, 1e-4))
        return [0.0 if math.isnan(value) else next(scores) for value in values]

    scores = [per_group(column, groups, rule) for column in columns]
    total = [
        sum(w * s for w, s in zip(factors, row, strict=True)) for row in zip(*scores, strict=True)
    ]
    weights = dict(zip("abc", factors, strict=True))
    found = gdpo(dict(zip("abc", columns, strict=True)), groups, weights, whiten=False)
    np.testing.assert_allclose(found, total, atol=1e-9)

    scored = [not all(map(math.isnan, row[:3])) for row in rows]
    whole = iter(z_scores(list(itertools.compress(total, scored)), 1e-4))
    expected = [next(whole) if there else 0.0 for there in scored]
    found = gdpo(dict(zip("abc", columns, strict=True)), groups, weights)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gdpo_columns_share_a_weight() -> None:
    """A (B, K) component is K components of one weight; without weights each counts 1."""
    a, b, c = np.random.default_rng(3).random((3, 12))
    together = gdpo({"a": a, "rest": np.stack([b, c], axis=1)}, 4, {"a": 2, "rest": 0.5})
    apart = gdpo({"a": a, "b": b, "c": c}, 4, {"a": 2, "b": 0.5, "c": 0.5})
    assert together.tolist() == apart.tolist()
    assert (
        gdpo({"a": a, "b": b}, 4).tolist() == gdpo({"a": a, "b": b}, 4, {"a": 1, "b": 1}).tolist()
    )


@given(batches(st.floats(0, 4)), st.data())
def test_group_revision_like_its_formula(batch: Batch, data: st.DataObject) -> None:
    """(1 + gain) times GRPO of the refined rewards; with `positive` no advantage gets smaller."""
    rewards, groups = batch
    gain = np.array([data.draw(st.floats(0, 1)) for _ in rewards])
    plain = grpo(rewards + 3 * gain, groups)
    found = group_revision(rewards, gain, groups, omega=3)
    np.testing.assert_allclose(found, (1 + gain) * plain)
    gentle = group_revision(rewards, gain, groups, omega=3, modulate="positive")
    np.testing.assert_allclose(gentle, np.where(plain > 0, found, plain))


@given(st.lists(st.tuples(st.floats(0, 1e300), st.floats(0, 1e300)), max_size=8))
def test_revision_gain_is_a_share(pairs: list[tuple[float, float]]) -> None:
    """In [0, 1]; 0 where nothing got better, among them perfect first answers; 1 at no error."""
    after, before = np.array(pairs).reshape(-1, 2).T
    gain = revision_gain(after, before)
    assert np.all((gain >= 0) & (gain <= 1))
    assert np.all(gain[after >= before] == 0)
    assert np.all(gain[(after == 0) & (before > 0)] == 1)


def test_revision_gain_takes_one_first_answer_or_many() -> None:
    """A number stands for every revision; an initial potential of 0 gains nothing."""
    assert revision_gain([0.0, 0.5, 2.0], 1).tolist() == [1.0, 0.5, 0.0]
    assert revision_gain([0.0, 0.5], [0.0, 1.0]).tolist() == [0.0, 0.5]
    assert revision_gain([0.0, 0.5], np.float64(0)).tolist() == [0.0, 0.0]


# The trainers.


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_trl_sum_then_normalize(scale: Any) -> None:
    """TRL's formulas, in torch and in its layout."""
    rewards = torch.randn(32, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    spread = {"group": rewards.std(1, keepdim=True), "batch": rewards.std()}
    expected = rewards - rewards.mean(1, keepdim=True)
    if scale != "none":
        expected = expected / (spread[scale] + 1e-4)
    found = grpo(rewards.flatten(), 8, std=scale, eps=1e-4)
    torch.testing.assert_close(found, expected.flatten())


def test_trl_normalize_then_sum() -> None:
    """TRL's GDPO, in torch and in its layout."""
    parts = torch.rand(32, 8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weights = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    scores = (parts - parts.mean(1, keepdim=True)) / (parts.std(1, keepdim=True) + 1e-4)
    total = (scores * weights).sum(2).flatten()
    expected = (total - total.mean()) / (total.std() + 1e-4)
    components = dict(zip("abc", parts.reshape(-1, 3).T, strict=True))
    found = gdpo(components, 8, dict(zip("abc", weights.tolist(), strict=True)))
    torch.testing.assert_close(found, expected)


# Properties.


@every_shaper
@given(batches())
def test_every_group_has_mean_zero(shaper: Callable[..., Any], batch: Batch) -> None:
    """An advantage compares answers to one question; over the question it cancels."""
    advantages = shaper(*batch)
    for name in set(batch[1].tolist()):
        assert advantages[batch[1] == name].sum() == pytest.approx(0, abs=1e-6)


@every_shaper
@given(batches(), st.randoms(use_true_random=False))
def test_order_of_rows_is_of_no_meaning(
    shaper: Callable[..., Any], batch: Batch, random: Any
) -> None:
    """Rows that change places take their advantages along."""
    order = random.sample(range(len(batch[0])), len(batch[0]))
    found = shaper(batch[0][order], batch[1][order])
    np.testing.assert_allclose(found, shaper(*batch)[order], rtol=1e-6, atol=1e-8)


@every_shaper
@given(batches(st.integers(-8, 8).map(float)), st.integers(-64, 64))
def test_what_all_earn_counts_nothing(shaper: Callable[..., Any], batch: Batch, bonus: int) -> None:
    """A constant added to every reward changes no advantage; sums of whole numbers are exact."""
    np.testing.assert_allclose(shaper(batch[0] + bonus, batch[1]), shaper(*batch), atol=1e-9)


@given(batches(st.integers(-8, 8).map(float)), st.sampled_from([0.25, 8.0]))
def test_units_of_the_reward(batch: Batch, factor: float) -> None:
    """Standardised advantages have no unit once eps is 0; the others have that of the reward."""
    rewards, groups = batch
    for std in ("group", "batch"):
        found = grpo(rewards * factor, groups, std=std, eps=0)
        np.testing.assert_allclose(found, grpo(rewards, groups, std=std, eps=0), atol=1e-9)
    whole = gdpo({"a": rewards}, groups, eps=0)
    np.testing.assert_allclose(gdpo({"a": rewards * factor}, groups, eps=0), whole, atol=1e-9)
    for shaper in (dr_grpo, rloo):
        np.testing.assert_allclose(shaper(rewards * factor, groups), shaper(*batch) * factor)


@given(batches())
def test_dr_grpo_is_grpo_without_a_divisor(batch: Batch) -> None:
    """`std="none"` is Dr. GRPO's advantage, whatever eps."""
    assert grpo(*batch, std="none", eps=9).tolist() == dr_grpo(*batch).tolist()


@every_shaper
def test_groups_do_not_see_each_other(shaper: Callable[..., Any]) -> None:
    """The sign of an advantage is settled within the group, however much better another one is."""
    found = shaper(np.array([1.0, 2.0, 1001.0, 1002.0]), 2)
    assert np.sign(found).tolist() == [-1, 1, -1, 1]


# Groups.


@pytest.mark.parametrize(
    "groups",
    [
        2,
        np.int64(2),
        [3, 3, 1, 1],
        np.array([3, 3, 1, 1]),
        np.array([0.5, 0.5, -1, -1]),
        torch.tensor([3, 3, 1, 1]),
        ["b", "b", "a", "a"],
        np.array(["b", "b", "a", "a"]),
        np.array(["b", "b", None, None], dtype=object),
        [None, None, "a", "a"],
        [(1, 2), (1, 2), (1, 3), (1, 3)],
        [1, 1, "1", "1"],
        [uuid.UUID(int=1)] * 2 + [uuid.UUID(int=0)] * 2,
        iter("aabb"),
    ],
    ids=range(14),
)
def test_any_kind_of_group(groups: Any) -> None:
    """Ids need no order and no common type; only which are equal counts."""
    assert dr_grpo([1.0, 3.0, 10.0, 30.0], groups).tolist() == [-1, 1, -10, 10]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (3, "groups: expected a size that divides the 4 rows, got 3"),
        (0, "groups: expected a size that divides the 4 rows, got 0"),
        (True, "groups: expected hashable ids or a group size"),
        (2.0, "groups: expected hashable ids or a group size"),
        (None, "groups: expected hashable ids or a group size"),
        ([[1], [1], [2], [2]], "groups: expected hashable ids"),
        ("aabb", "groups: expected one id a row or a group size, got the text 'aabb'"),
        ([1, 1, 2], "groups: expected 4 ids, one a row, got 3"),
        (np.zeros((2, 2)), r"groups: expected shape \(4,\) or a group size, got \(2, 2\)"),
        (np.array(2), r"groups: expected shape \(4,\) or a group size, got \(\)"),
        ([1, 1, math.nan, 2], "groups: expected ids that equal themselves"),
        (np.array([1, 1, math.nan, 2]), "groups: expected ids that equal themselves"),
        (list(torch.tensor([1, 1, 2, 2])), "groups: expected ids that equal themselves"),
    ],
    ids=repr,
)
@every_shaper
def test_bad_groups(shaper: Callable[..., Any], groups: Any, message: str) -> None:
    """Groups that do not fit say what was expected and what came."""
    with pytest.raises(rr.InputError, match=message):
        shaper(np.array([1.0, 2, 3, 4]), groups)


# What goes in, what comes out.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grpo([1, 2, math.nan], 3), r"rewards\[2\]: expected a finite number, got nan"),
        (lambda: dr_grpo([1, -math.inf], 2), r"rewards\[1\]: expected a finite number, got -inf"),
        (lambda: rloo([[1, 2]], 1), r"rewards: expected shape \(B,\), got \(1, 2\)"),
        (lambda: rloo(1.0, 1), r"rewards: expected shape \(B,\), got \(\)"),
        (lambda: rloo(["a"], 1), "rewards: expected numbers"),
        (lambda: grpo(torch.tensor([True, False]), 2), "rewards: expected numbers"),
        (
            lambda: grpo([1], 1, std="all"),
            r"std: expected one of \('group', 'batch', 'none'\), got 'all'",
        ),
        (lambda: grpo([1], 1, singleton=0), r"singleton: expected one of \('zero', 'raw'\), got 0"),
        (lambda: grpo([1], 1, eps=-1), "eps: expected a number of at least 0, got -1"),
        (lambda: grpo([1], 1, eps=math.nan), "eps: expected a number of at least 0, got nan"),
        (lambda: gdpo({}, 1), "components: expected one or more of the same length, got {}"),
        (
            lambda: gdpo({"a": [1], "b": [1, 2]}, 1),
            "components: expected one or more of the same length",
        ),
        (
            lambda: gdpo({"a": [1, math.inf]}, 1),
            r"components\['a'\]\[1\]: expected a finite number or NaN",
        ),
        (lambda: gdpo({"a": [[1, math.inf]]}, 1), r"components\['a'\]\[0, 1\]: expected"),
        (
            lambda: gdpo({"a": 1.0}, 1),
            r"components\['a'\]: expected shape \(B,\) or \(B, K\), got \(\)",
        ),
        (
            lambda: gdpo({"a": [1]}, 1, {"b": 1}),
            r"weights: expected one for each of \['a'\], got \['b'\]",
        ),
        (lambda: gdpo({"a": [1]}, 1, {"a": math.inf}), r"weights\['a'\]: expected a finite number"),
        (lambda: gdpo({"a": [1]}, 1, eps=-1), "eps: expected"),
        (lambda: revision_gain([1, -1], 1), r"potentials\[1\]: expected at least 0, got -1"),
        (
            lambda: revision_gain([1, 1], math.nan),
            r"initial\[0\]: expected a finite number, got nan",
        ),
        (lambda: revision_gain([1, 1], [1]), "initial: expected one number or 2, got 1"),
        (lambda: group_revision([1], [1, 1], 1), "gain: expected 1, one a reward, got 2"),
        (lambda: group_revision([1], [-0.5], 1), r"gain\[0\]: expected at least 0, got -0.5"),
        (lambda: group_revision([1], [0], 1, omega=math.inf), "omega: expected a finite number"),
        (lambda: group_revision([1], [0], 1, modulate="all"), "modulate: expected one of"),
    ],
)
def test_bad_input(call: Callable[[], Any], message: str) -> None:
    """Every argument that is wrong raises in one line, with its name and place."""
    with pytest.raises(rr.InputError, match=message):
        call()


@every_shaper
@pytest.mark.parametrize("groups", [4, [], np.zeros(0)], ids=repr)
def test_empty_batch(shaper: Callable[..., Any], groups: Any) -> None:
    """No rewards, no advantages."""
    found = shaper(np.zeros(0), groups)
    assert found.shape == (0,)
    assert found.dtype == np.float64


def test_undefined_everywhere() -> None:
    """Components that are NaN in every row pay nobody."""
    assert gdpo({"a": [math.nan] * 4, "b": np.full((4, 2), math.nan)}, 2).tolist() == [0] * 4


@every_shaper
@given(batches())
def test_input_is_left_alone(shaper: Callable[..., Any], batch: Batch) -> None:
    """Neither rewards nor ids are written to."""
    before = [array.copy() for array in batch]
    for array in batch:
        array.setflags(write=False)
    shaper(*batch)
    assert all(np.array_equal(a, b) for a, b in zip(before, batch, strict=True))


@every_shaper
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_tensor_in_tensor_out(shaper: Callable[..., Any], dtype: torch.dtype) -> None:
    """A tensor gives the array's advantages, rounded to its own type, without a gradient."""
    rewards = torch.tensor([0.1, 0.7, 0.3, 4.0, 5.0, 7.0], dtype=dtype, requires_grad=True)
    found = shaper(rewards, torch.tensor([0, 1, 0, 1, 0, 1]))
    assert found.dtype == dtype
    assert not found.requires_grad
    expected = shaper(rewards.detach().double().numpy(), [0, 1, 0, 1, 0, 1])
    assert torch.equal(found, torch.from_numpy(expected).to(dtype))


def test_other_tensors() -> None:
    """Whole numbers are answered in float32, components by their first tensor, gains in kind."""
    assert dr_grpo(torch.tensor([1, 2]), 2).tolist() == [-0.5, 0.5]
    assert gdpo({"a": [1, 2], "b": torch.tensor([1.0, 2.0])}, 2).dtype == torch.float32
    potentials = torch.tensor([0.5, 2.0])
    assert torch.equal(revision_gain(potentials, torch.tensor(1.0)), torch.tensor([0.5, 0.0]))
    assert isinstance(revision_gain([0.5], potentials[:1]), np.ndarray)
    weight = torch.nn.Parameter(potentials)
    assert type(dr_grpo(weight, 2)) is torch.Tensor


def test_arrays_need_no_torch() -> None:
    """Neither importing nor using it on arrays loads torch."""
    code = (
        "import sys; from rankreward.shaping import grpo; "
        "print(grpo([1, 3], 2, eps=0, unbiased=False).tolist(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[-1.0, 1.0] False", done.stderr
