"""Which term drives a reward, as sums that add up over a log.

Goes in: what a recipe paid the rollouts of a step, term by term. Comes out: sums, whose ratios are
the measures (`own_measures`) once they have been added up over steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rankreward.recipe import Recipe
from rankreward.replay.agreement import DIGITS, Earned, Ratio
from rankreward.rewards.scorer import RewardBatch
from rankreward.shaping.groups import Index, centred

Floats = NDArray[np.float64]

OF_TERMS = ("total", "within", "advantage")
OF_METRICS = ("raw", "ranked")


def own_measures(recipe: Recipe) -> dict[str, Ratio]:
    """The measures of one recipe by name, such as ``within/iou``."""
    measures = {
        "reward": Ratio("reward", "rows", "groups"),
        "failures": Ratio("failures", "rows", "groups"),
        "no_signal": Ratio("no_signal", "groups", "groups"),
    }
    names = dict.fromkeys(OF_TERMS, recipe.parts)
    names |= {kind: tuple(recipe.accuracy.metrics) for kind in OF_METRICS}
    for kind, parts in names.items():
        for part in parts:
            measures[f"{kind}/{part}"] = Ratio(f"{kind}/{part}", f"{kind}/", "signal")
    return measures


def own_sums(batch: RewardBatch, earned: Earned, index: Index, recipe: Recipe) -> dict[str, float]:
    """The sums of one recipe over the rollouts of one step.

    Args:
        batch: what it paid B rollouts.
        earned: the same beside the other answers to the same question.
        index: (B,) the number of each rollout's group.
        recipe: the recipe.

    Returns:
        The sums that `own_measures` names. Of these measures:

        - ``reward``, ``failures``: the mean reward, and the share of completions in which
          something could not be read.
        - ``no_signal``: share of groups all of whose rewards are equal, to nine places.
        - ``total/<term>``: the covariance of the term with the reward over all rollouts of a step,
          as a share of the reward's variance. Terms add up to 1; one that works against the others
          has less than 0.
        - ``within/<term>``: the same after the mean of each group is taken away, which is all
          that a group-relative trainer sees.
        - ``advantage/<term>``: which term drives the advantages of GRPO, in which each group counts
          alike: the covariance of the term with the reward within a group, as a share of the sum
          of the terms' covariances without their signs; the mean over groups with a signal. A
          covariance over the variance alone would be endless where terms cancel out.
        - ``raw/<metric>``, ``ranked/<metric>``: the variance of a metric times its share in the
          accuracy, within groups, as a share of the sum over metrics: as measured, and after the
          recipe's normalizer. Rollouts to which a metric does not apply stay out of it.
    """
    sums = {
        "rows": float(len(batch)),
        "groups": float(len(earned.signal)),
        "signal": float(earned.signal.sum()),
        "no_signal": float((~earned.signal).sum()),
        "reward": float(batch.total.sum()),
        "failures": float(len(batch) - batch.failures.count(None)),
    }
    whole = np.zeros_like(index)
    sums |= _covariances("total", {k: centred(v, whole) for k, v in batch.terms.items()})
    sums |= _covariances("within", {k: centred(v, index) for k, v in batch.terms.items()})
    sums |= _drives("advantage", earned.parts, index)
    shares = {name: metric.share for name, metric in recipe.accuracy.metrics.items()}
    sums |= _squares("raw", batch.raw, shares, index)
    return sums | _squares("ranked", batch.ranks, shares, index)


def _covariances(kind: str, parts: Mapping[str, Floats]) -> dict[str, float]:
    """Of centred parts with their sum; where terms cancel out, what rounding leaves is none."""
    together = np.sum(list(parts.values()), axis=0).round(DIGITS)
    sums = {f"{kind}/{name}": float(values @ together) for name, values in parts.items()}
    return {**sums, f"{kind}/": float(sum(sums.values()))}


def _drives(kind: str, parts: Mapping[str, Floats], index: Index) -> dict[str, float]:
    """Of centred parts with their sum, group by group; the groups' shares added up."""
    together = np.sum(list(parts.values()), axis=0).round(DIGITS)
    moved = np.array([np.bincount(index, values * together) for values in parts.values()])
    strength = np.abs(moved).sum(axis=0)
    there = strength > 0
    shares = (moved[:, there] / strength[there]).sum(axis=1)
    sums = {f"{kind}/{name}": float(share) for name, share in zip(parts, shares, strict=True)}
    return {**sums, f"{kind}/": float(there.sum())}


def _squares(
    kind: str, metrics: Mapping[str, Floats], shares: Mapping[str, float], index: Index
) -> dict[str, float]:
    """Of metrics about the means of their groups."""
    sums = {}
    for name, values in metrics.items():
        there = ~np.isnan(values)
        apart = centred(values[there] * shares[name], index[there]).round(DIGITS)
        sums[f"{kind}/{name}"] = float(apart @ apart)
    return {**sums, f"{kind}/": float(sum(sums.values()))}
