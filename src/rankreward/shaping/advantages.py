"""The advantages of GRPO and its kin.

Goes in: a reward, or several components, for each completion. Comes out: (B,) advantages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import ArrayLike

from rankreward.errors import InputError
from rankreward.metrics.arrays import as_floats
from rankreward.shaping.groups import Groups, Index, centred, deviation, group_index, scaled, sizes
from rankreward.shaping.tensors import (
    Floats,
    T,
    answers_in_kind,
    as_array,
    as_column,
    in_kind,
    is_tensor,
)

Std = Literal["group", "batch", "none"]
Singleton = Literal["zero", "raw"]


@answers_in_kind
def grpo(
    rewards: ArrayLike,
    /,
    groups: Groups,
    *,
    std: Std = "group",
    eps: float = 1e-6,
    unbiased: bool = True,
    singleton: Singleton = "zero",
) -> Floats:
    r"""How many standard deviations a reward lies above the mean of its group.

    .. math:: A_i = (r_i - \bar r_g) / (s + \epsilon)

    verl, and so Dr. Seg and VisionReasoner, computes ``eps=1e-6, singleton="raw"``; TRL
    ``eps=1e-4, singleton="zero"``, with `std` as its ``scale_rewards``.

    Args:
        rewards: (B,), finite.
        groups: (B,) ids of any hashable kind, in any order, or the size of consecutive groups.
        std: what `s` is: the standard deviation of the ``"group"``, that of all B rewards
            (``"batch"``), or ``"none"``, which divides by nothing and ignores `eps`.
        eps: at least 0, in units of the reward; keeps tiny differences from becoming large ones.
        unbiased: divide by n - 1, as both trainers do, or by n.
        singleton: what a group of one gets. ``"zero"`` (TRL): nothing to compare with, nothing to
            learn. ``"raw"`` (verl): the reward itself, beside the z-scores of the others; verl's
            own number is that over 1 + eps.

    Returns:
        (B,) float64 of mean 0 in each group, or a tensor of the type and device of `rewards`,
        without gradient. Groups whose rewards are all equal get exactly 0.

    Raises:
        InputError: a reward is NaN or infinite (the message names its index), `groups` does not
            fit, or an option is unknown.

    Cost:
        O(B log B), in float64 on the CPU.

    Example:
        >>> from rankreward.shaping import grpo
        >>> grpo([7, 5, 5, 3, 1, 1], ["a", "a", "a", "a", "b", "b"]).round(4).tolist()
        [1.2247, 0.0, 0.0, -1.2247, 0.0, 0.0]

    Source:
        DeepSeekMath, arXiv 2402.03300, section 4.1; verl `compute_grpo_outcome_advantage`; TRL
        `GRPOTrainer`.
    """
    values, index = _read(rewards, groups)
    _check_choice("std", std, Std)
    _check_eps(eps)
    advantages = centred(values, index)
    if std == "group":
        spread = deviation(advantages, index, unbiased=unbiased)
        advantages = scaled(advantages, spread, eps)
    elif std == "batch":
        whole = np.zeros_like(index)
        spread = deviation(centred(values, whole), whole, unbiased=unbiased)
        advantages = scaled(advantages, spread, eps)
    return _settle(singleton, advantages, values, index)


@answers_in_kind
def dr_grpo(rewards: ArrayLike, /, groups: Groups, *, singleton: Singleton = "zero") -> Floats:
    r"""How much a reward lies above the mean of its group.

    .. math:: A_i = r_i - \bar r_g

    Dividing by the standard deviation weighs questions that are nearly solved, or nearly hopeless,
    above the rest; this does not. The other half of Dr. GRPO, a loss over a constant length, is
    the trainer's.

    Args:
        rewards: (B,), finite.
        groups: (B,) ids of any hashable kind, in any order, or the size of consecutive groups.
        singleton: what a group of one gets, ``"zero"`` (TRL) or its ``"raw"`` reward (verl).

    Returns:
        (B,) float64 of mean 0 in each group, in units of the reward, or a tensor like `rewards`.

    Raises:
        InputError: a reward is NaN or infinite, `groups` does not fit, or an option is unknown.

    Cost:
        O(B log B).

    Example:
        >>> from rankreward.shaping import dr_grpo
        >>> dr_grpo([7, 5, 5, 3], 4).tolist()
        [2.0, 0.0, 0.0, -2.0]

    Source:
        Understanding R1-Zero-like training, arXiv 2503.20783, section 3.2.
    """
    values, index = _read(rewards, groups)
    return _settle(singleton, centred(values, index), values, index)


@answers_in_kind
def rloo(rewards: ArrayLike, /, groups: Groups, *, singleton: Singleton = "zero") -> Floats:
    r"""How much a reward lies above the mean of the others in its group.

    .. math:: A_i = r_i - \frac{1}{G-1} \sum_{j \ne i} r_j = \frac{G}{G-1} (r_i - \bar r_g)

    A baseline without the reward itself leaves the gradient unbiased.

    Args:
        rewards: (B,), finite.
        groups: (B,) ids of any hashable kind, in any order, or the size of consecutive groups.
        singleton: what a group of one gets, which has no others: ``"zero"`` (TRL) or its
            ``"raw"`` reward (verl).

    Returns:
        (B,) float64 of mean 0 in each group, in units of the reward, or a tensor like `rewards`.

    Raises:
        InputError: a reward is NaN or infinite, `groups` does not fit, or an option is unknown.

    Cost:
        O(B log B).

    Example:
        >>> from rankreward.shaping import rloo
        >>> rloo([7, 5, 5, 3], 4).round(3).tolist()
        [2.667, 0.0, 0.0, -2.667]

    Source:
        Back to Basics, arXiv 2402.14740; verl `compute_rloo_outcome_advantage`.
    """
    values, index = _read(rewards, groups)
    rows = sizes(index)
    advantages = centred(values, index) * (rows / np.maximum(rows - 1, 1))
    return _settle(singleton, advantages, values, index)


@overload
def gdpo(
    components: Mapping[str, T],
    groups: Groups,
    weights: Mapping[str, float] | None = ...,
    *,
    eps: float = ...,
    whiten: bool = ...,
) -> T: ...
@overload
def gdpo(
    components: Mapping[str, ArrayLike],
    groups: Groups,
    weights: Mapping[str, float] | None = ...,
    *,
    eps: float = ...,
    whiten: bool = ...,
) -> Floats: ...
def gdpo(
    components: Mapping[str, Any],
    groups: Groups,
    weights: Mapping[str, float] | None = None,
    *,
    eps: float = 1e-4,
    whiten: bool = True,
) -> Any:
    r"""Standardise each component in its group, add up, standardise over the batch.

    .. math::

        S_i = \sum_k w_k \frac{x_{ik} - \bar x_{gk}}{s_{gk} + \epsilon}, \qquad
        A_i = \frac{S_i - \bar S}{s_S + \epsilon}

    Of components added up raw, the one that varies most decides, and answers that earn the same
    sum in different ways get the same advantage; here each component counts by its weight.

    Args:
        components: by name (B,), or (B, K) for K columns that share the name's weight. NaN says
            that the component is undefined there: it stays out of mean and standard deviation and
            adds 0. A row whose components are all NaN gets 0 and stays out of the batch step.
        groups: (B,) ids of any hashable kind, in any order, or the size of consecutive groups.
        weights: a finite number for each name; 1 each if not given.
        eps: at least 0, of both steps.
        whiten: False leaves out the step over the batch and returns `S`.

    Returns:
        (B,) float64 of mean 0 in each group; or a tensor like the first component that is one.
        A component that is constant in a group, or defined once, adds 0.

    Raises:
        InputError: no component, components of different lengths, an infinite value (the message
            names its index), names of weights other than those of the components, or `groups`
            does not fit.

    Cost:
        O(B log B + BK).

    Example:
        Twice the same sum, told apart by which of the two is the rarer gift:

        >>> from rankreward.shaping import gdpo
        >>> parts = {"format": [1, 0, 1, 1], "accuracy": [0, 1, 1, 0]}
        >>> gdpo(parts, 4).round(3).tolist()
        [-0.398, -0.689, 1.486, -0.398]

    Source:
        GDPO, arXiv 2601.05242; TRL's ``multi_objective_aggregation="normalize_then_sum"``, whose
        treatment of undefined values and whose `eps` this follows. Standard deviations are
        unbiased.
    """
    columns = {name: _component(name, values) for name, values in components.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise InputError(f"components: expected one or more of the same length, got {lengths}")
    factors = _weights(weights, columns)
    _check_eps(eps)
    rows = next(iter(lengths.values()))
    index = group_index(groups, rows)
    total, scored = np.zeros(rows), np.zeros(rows, dtype=bool)
    for name, values in columns.items():
        for column in values.T:
            there = ~np.isnan(column)
            total[there] += factors[name] * _z_scores(column[there], index[there], eps)
            scored |= there
    if whiten:
        total[scored] = _z_scores(total[scored], np.zeros_like(index[scored]), eps)
    return in_kind(next(filter(is_tensor, components.values()), None), total)


def _read(rewards: ArrayLike, groups: Groups) -> tuple[Floats, Index]:
    values = as_column("rewards", rewards)
    return values, group_index(groups, len(values))


def _settle(singleton: Singleton, advantages: Floats, rewards: Floats, index: Index) -> Floats:
    """Groups of one have 0 by now, which is what they get unless the raw reward is asked for."""
    _check_choice("singleton", singleton, Singleton)
    return np.where(sizes(index) == 1, rewards, advantages) if singleton == "raw" else advantages


def _z_scores(values: Floats, index: Index, eps: float) -> Floats:
    deviations = centred(values, index)
    return scaled(deviations, deviation(deviations, index), eps)


def _component(name: str, values: Any) -> Floats:
    """(B, K) float64, NaN where undefined."""
    label = f"components[{name!r}]"
    array = as_floats(label, as_array(values))
    if array.ndim not in {1, 2}:
        raise InputError(f"{label}: expected shape (B,) or (B, K), got {array.shape}")
    if np.isinf(array).any():
        place = ", ".join(str(axis[0]) for axis in np.nonzero(np.isinf(array)))
        raise InputError(f"{label}[{place}]: expected a finite number or NaN, got inf")
    return array[:, None] if array.ndim == 1 else array


def _weights(
    weights: Mapping[str, float] | None, columns: Mapping[str, Floats]
) -> dict[str, float]:
    if weights is None:
        return dict.fromkeys(columns, 1.0)
    if set(weights) != set(columns):
        raise InputError(
            f"weights: expected one for each of {sorted(columns)}, got {sorted(weights)}"
        )
    for name, weight in weights.items():
        if not math.isfinite(weight):
            raise InputError(f"weights[{name!r}]: expected a finite number, got {weight}")
    return dict(weights)


def _check_choice(name: str, value: object, choices: Any) -> None:
    if value not in get_args(choices):
        raise InputError(f"{name}: expected one of {get_args(choices)}, got {value!r}")


def _check_eps(eps: float) -> None:
    if not 0 <= eps < math.inf:
        raise InputError(f"eps: expected a number of at least 0, got {eps}")
