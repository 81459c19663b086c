"""The measures of a replay, slowly: one rollout, one pair, one group at a time.

Goes in: steps of rollouts, each with its group and what recipes paid it, term by term. Comes out:
the measures by name. Nothing is shared with `rankreward.replay` but the definitions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

Terms = dict[str, float]


@dataclass
class Paid:
    """A rollout: its group, and the terms that each recipe paid."""

    group: str
    terms: tuple[Terms, ...]

    def reward(self, recipe: int) -> float:
        return math.fsum(self.terms[recipe].values())


Step = Sequence[Paid]


def groups_of(step: Step) -> list[list[Paid]]:
    found: dict[str, list[Paid]] = {}
    for rollout in step:
        found.setdefault(rollout.group, []).append(rollout)
    return list(found.values())


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0 else math.nan


def rewards(group: Sequence[Paid], recipe: int) -> list[float]:
    return [round(each.reward(recipe), 9) for each in group]


def spread(values: Sequence[float]) -> float:
    middle = mean(values)
    below = max(len(values) - 1, 1)
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / below)


def has_signal(group: Sequence[Paid], recipe: int) -> bool:
    return len(set(rewards(group, recipe))) > 1


def advantages(group: Sequence[Paid], recipe: int) -> list[float]:
    values = rewards(group, recipe)
    if not has_signal(group, recipe):
        return [0.0] * len(values)
    middle = mean(values)
    return [(value - middle) / (spread(values) + 1e-6) for value in values]


def sign(value: float) -> int:
    return 0 if abs(value) < 1e-9 else int(math.copysign(1, value))


def pair_measures(steps: Sequence[Step], one: int = 0, other: int = 1) -> dict[str, float]:
    groups = [group for step in steps for group in groups_of(step)]
    both = [group for group in groups if has_signal(group, one) and has_signal(group, other)]
    found = {
        "spearman": over_steps(steps, one, other, stats.spearmanr),
        "kendall": over_steps(steps, one, other, stats.kendalltau),
        "cosine": mean([stats.pearsonr(rewards(g, one), rewards(g, other))[0] for g in both]),
    }
    pairs = [(advantages(g, one), advantages(g, other)) for g in groups]
    flat = [(a, b) for first, second in pairs for a, b in zip(first, second, strict=True)]
    squares = math.fsum(a * a for a, _ in flat), math.fsum(b * b for _, b in flat)
    found["correlation"] = ratio(
        math.fsum(a * b for a, b in flat), math.sqrt(squares[0]) * math.sqrt(squares[1])
    )
    changed = [
        sign(a) * sign(b) < 0
        for group in both
        for a, b in zip(advantages(group, one), advantages(group, other), strict=True)
    ]
    found["sign_changed"] = mean([float(each) for each in changed])
    orders = [
        (sign(a.reward(one) - b.reward(one)), sign(a.reward(other) - b.reward(other)))
        for group in groups
        for a, b in itertools.combinations(group, 2)
    ]
    told = [a * b < 0 for a, b in orders if a and b]
    found["discordant"] = mean([float(each) for each in told])
    found["one_sided"] = mean([float((a == 0) != (b == 0)) for a, b in orders])
    found["same_best"] = mean([overlap(group, one, other) for group in both])
    signals = [(has_signal(group, one), has_signal(group, other)) for group in groups]
    found["signal_first_only"] = signals.count((True, False)) / len(groups)
    found["signal_second_only"] = signals.count((False, True)) / len(groups)
    found["signal_neither"] = signals.count((False, False)) / len(groups)
    return found


def over_steps(steps: Sequence[Step], one: int, other: int, measure: Callable[..., Any]) -> float:
    values = []
    for step in steps:
        a, b = rewards(step, one), rewards(step, other)
        if len(set(a)) > 1 and len(set(b)) > 1:
            values.append((measure(a, b)[0], len(step)))
    return ratio(math.fsum(v * n for v, n in values), sum(n for _, n in values))


def overlap(group: Sequence[Paid], one: int, other: int) -> float:
    best = []
    for recipe in (one, other):
        values = rewards(group, recipe)
        best.append({place for place, value in enumerate(values) if value == max(values)})
    return len(best[0] & best[1]) / len(best[0] | best[1])


def shares(steps: Sequence[Step], kind: str, recipe: int = 0) -> dict[str, float]:
    """Of the terms: ``total``, ``within`` or ``advantage``."""
    sets: list[tuple[Step, float]] = []
    for step in steps:
        if kind == "total":
            sets.append((step, 1.0))
        else:
            sets += [(group, 1.0) for group in groups_of(step)]
    if kind == "advantage":
        return drives(steps, recipe)
    names = list(steps[0][0].terms[recipe])
    tops = {
        name: math.fsum(covariance(rows, name, recipe) / by**2 for rows, by in sets)
        for name in names
    }
    return {name: ratio(top, math.fsum(tops.values())) for name, top in tops.items()}


def drives(steps: Sequence[Step], recipe: int) -> dict[str, float]:
    """Mean over groups with a signal of each term's part, the parts' sizes adding up to 1."""
    names = list(steps[0][0].terms[recipe])
    found: dict[str, list[float]] = {name: [] for name in names}
    for group in (group for step in steps for group in groups_of(step)):
        parts = {name: covariance(group, name, recipe) for name in names}
        size = math.fsum(abs(part) for part in parts.values())
        if has_signal(group, recipe) and size > 0:
            for name, part in parts.items():
                found[name].append(part / size)
    return {name: mean(values) for name, values in found.items()}


def covariance(rows: Step, name: str, recipe: int) -> float:
    """Of a term with the reward, times the number of rows."""
    term = [each.terms[recipe][name] for each in rows]
    total = [each.reward(recipe) for each in rows]
    apart = [round(value - mean(total), 9) for value in total]
    return math.fsum((a - mean(term)) * b for a, b in zip(term, apart, strict=True))


def metric_shares(
    steps: Sequence[Sequence[tuple[str, dict[str, float]]]],
) -> dict[str, float]:
    """Shares of the variance within groups, of metrics that may be NaN; (group, metrics) a row."""
    squares: dict[str, list[float]] = {}
    for step in steps:
        for group in {group for group, _ in step}:
            for name in step[0][1]:
                values = [row[name] for where, row in step if where == group]
                values = [value for value in values if not math.isnan(value)]
                apart = [round(value - mean(values), 9) ** 2 for value in values]
                squares.setdefault(name, []).extend(apart)
    total = math.fsum(each for column in squares.values() for each in column)
    return {name: ratio(math.fsum(column), total) for name, column in squares.items()}
