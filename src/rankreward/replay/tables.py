"""A replay as tables and as a paragraph.

Goes in: `Replayed`. Comes out: sheets for the terminal and for files, and what they say in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from rankreward.replay.agreement import PAIR
from rankreward.replay.replaying import Replayed
from rankreward.replay.shares import OF_METRICS, OF_TERMS
from rankreward.replay.sums import Measured
from rankreward.tables import Sheet

ENDS = ("value", "low", "high", "first third", "second third", "last third", "groups")
WORDS = {
    "spearman": "rank correlation of rewards (Spearman)",
    "kendall": "rank correlation of rewards (Kendall)",
    "cosine": "cosine of a group's advantages",
    "correlation": "correlation of all advantages",
    "sign_changed": "advantages that change sign",
    "discordant": "pairs ordered differently",
    "one_sided": "pairs that only one tells apart",
    "same_best": "same best rollout",
    "signal_first_only": "groups with a signal under the first only",
    "signal_second_only": "groups with a signal under the second only",
    "signal_neither": "groups with a signal under neither",
}
_MOVED = 0.05  # a share that moves by less over a run is not worth a sentence
_DRIVERS = 3  # terms that the overview names
_NOUGHT = 0.005  # a share below 0 that is nearer to it is not worth a word
_SAID = 3  # pairs that the paragraph goes through; of more, the two ends


def sheets(found: Replayed) -> dict[str, Sheet]:
    """The tables for files by name: a line each for every measure of every recipe and pair."""
    pairs = tuple(
        (*pair, name, *_ends(found.get(name, *pair))) for pair in found.pairs for name in PAIR
    )
    tables = {
        "signal": signal_sheet(found),
        "agreement": Sheet("Agreement", ("first", "second", "measure", *ENDS), pairs),
    }
    for name, kinds in (("terms", OF_TERMS), ("metrics", OF_METRICS)):
        rows = tuple(
            (label, part, kind, *_ends(measured))
            for label in found.labels
            for kind in kinds
            for part, measured in found.of(kind, label).items()
        )
        header = ("recipe", name.removesuffix("s"), "share", *ENDS)
        tables[name] = Sheet(f"Shares of variance by {name}", header, rows)
    return tables


def terminal_sheets(found: Replayed) -> list[Sheet]:
    """What a reader wants to see first: a line for each recipe, and one for each two."""
    return [overview_sheet(found), pairs_sheet(found)]


def overview_sheet(found: Replayed) -> Sheet:
    """How much of the log each recipe learns from, and what of."""
    rows = []
    for label in found.labels:
        reward, none = found.get("reward", label), found.get("no_signal", label)
        shares = found.of("advantage", label)
        words = "; ".join(filter(None, (_named(_largest(shares)[:_DRIVERS]), _against(shares))))
        rows.append((label, reward.value, _with_ends(none, _percent), words))
    header = ("recipe", "mean reward", "no signal", "what drives its advantages")
    title = "Groups without a signal (95% interval), and what drives the others"
    return Sheet(title, header, tuple(rows))


def pairs_sheet(found: Replayed) -> Sheet:
    """How far each two recipes agree."""
    rows = []
    for pair in found.pairs:
        near = found.get("correlation", *pair)
        others = (found.get(name, *pair).value for name in ("sign_changed", "same_best"))
        rows.append((" and ".join(pair), _with_ends(near, _short), *map(_percent, others)))
    header = ("recipes", "correlation", "change sign", "same best")
    return Sheet("Agreement of the advantages (95% interval)", header, tuple(rows))


def detail_sheets(found: Replayed) -> list[Sheet]:
    """Every measure, table by table."""
    shown = [signal_sheet(found), correlation_sheet(found)]
    for pair in found.pairs:
        rows = tuple((WORDS[name], *_ends(found.get(name, *pair))) for name in PAIR)
        shown.append(Sheet(f"{pair[0]} against {pair[1]}", ("measure", *ENDS), rows))
    for label in found.labels:
        shown += [_terms_sheet(found, label), _metrics_sheet(found, label)]
    return shown


def signal_sheet(found: Replayed) -> Sheet:
    """How much of the log each recipe learns from."""
    rows = []
    for label in found.labels:
        reward, failures = found.get("reward", label), found.get("failures", label)
        rows.append((label, reward.value, failures.value, *_ends(found.get("no_signal", label))))
    header = ("recipe", "mean reward", "unreadable", "groups without a signal", *ENDS[1:])
    return Sheet("Rewards, and groups whose rollouts all earn the same", header, tuple(rows))


def correlation_sheet(found: Replayed, name: str = "spearman") -> Sheet:
    """One measure of each two recipes, as a matrix."""
    header = (WORDS[name], *found.labels)
    matrix = correlations(found, name)
    rows = tuple((label, *row) for label, row in zip(found.labels, matrix, strict=True))
    return Sheet("Every recipe against every other", header, rows)


def correlations(found: Replayed, name: str = "spearman") -> list[list[float]]:
    """(C, C) one measure of each two recipes; 1 on the diagonal."""
    values = {frozenset(pair): found.get(name, *pair).value for pair in found.pairs}
    labels = found.labels
    return [[1.0 if a == b else values[frozenset((a, b))] for b in labels] for a in labels]


def verdict(found: Replayed) -> list[str]:
    """What the measures say, in words, a subject a paragraph; advice it is not."""
    counted = (
        f"{found.rows} rollouts in {found.groups} groups of {found.steps} steps were paid by "
        f"{len(found.labels)} recipes; {found.bad} bad rows were left out."
    )
    none = [found.get("no_signal", label) for label in found.labels]
    parts = [f"{_percent(each.value)} from {each.labels[0]}" for each in none]
    parts[0] = parts[0].replace(" from ", " of groups get no signal from ", 1)
    signal = [counted, f"{_listed(parts)}.", *filter(None, map(_moved, none))]
    drivers = [" ".join(_drivers(found, label)) for label in found.labels]
    agreement = [_agreement(found, pair) for pair in _told(found)]
    return [" ".join(signal), *filter(None, drivers), *agreement]


def _ends(each: Measured) -> tuple[float | int, ...]:
    return (each.value, each.low, each.high, *each.thirds, each.groups)


def _terms_sheet(found: Replayed, label: str) -> Sheet:
    within, advantage = found.of("within", label), found.of("advantage", label)
    rows = tuple(
        (term, total.value, within[term].value, *_ends(advantage[term]))
        for term, total in found.of("total", label).items()
    )
    header = ("term", "of all variance", "within groups", "of advantages", *ENDS[1:])
    return Sheet(f"{label}: which term drives it", header, rows)


def _metrics_sheet(found: Replayed, label: str) -> Sheet:
    ranked = found.of("ranked", label)
    rows = tuple(
        (metric, raw.value, raw.low, raw.high, *_ends(ranked[metric])[:3])
        for metric, raw in found.of("raw", label).items()
    )
    header = ("metric", "raw", "raw low", "raw high", "normalized", "low", "high")
    return Sheet(f"{label}: variance of its metrics within groups", header, rows)


def _moved(each: Measured) -> str:
    first, _, last = each.thirds
    if not abs(last - first) >= _MOVED:
        return ""
    return (
        f"From {each.labels[0]} it is {_percent(first)} in the first third of the steps and "
        f"{_percent(last)} in the last."
    )


def _drivers(found: Replayed, label: str) -> list[str]:
    said = []
    shares = _largest(found.of("advantage", label))
    if shares:
        parts = [f"{_percent(value)} by {name}" for name, value in shares[:2]]
        against = _against(found.of("advantage", label))
        less = f"; {against}" if against else ""
        said.append(f"{label}'s advantages are driven {_listed(parts)}{less}.")
    raw, ranked = found.of("raw", label), found.of("ranked", label)
    metrics = _largest(raw)
    if len(metrics) > 1:
        name, value = metrics[0]
        after = ranked[name].value
        same = all(math.isclose(raw[each].value, ranked[each].value) for each in raw)
        then = "" if same or math.isnan(after) else f", and {_percent(after)} once normalized"
        said.append(
            f"Of its metrics as measured, {name} carries {_percent(value)} of the variance within "
            f"groups{then}."
        )
    return said


def _largest(shares: Mapping[str, Measured]) -> list[tuple[str, float]]:
    """Name and value of what is defined and above 0, the largest first."""
    found = [(name, each.value) for name, each in shares.items() if each.value > 0]
    return sorted(found, key=lambda each: -each[1])


def _against(shares: Mapping[str, Measured]) -> str:
    """The terms whose share is below 0, the largest first; what is nearly 0 is left out."""
    found = [(name, each.value) for name, each in shares.items() if each.value <= -_NOUGHT]
    words = _named(sorted(found, key=lambda each: each[1]))
    return f"against it: {words}" if words else ""


def _named(shares: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {_percent(share)}" for name, share in shares)


def _with_ends(each: Measured, shown: Callable[[float], str]) -> str:
    """A value with its interval, as ``14% (13% to 16%)``."""
    ends = "-" if math.isnan(each.low) else f"{shown(each.low)} to {shown(each.high)}"
    return f"{shown(each.value)} ({ends})"


def _told(found: Replayed) -> list[tuple[str, str]]:
    """The pairs to speak of: all, or the one that agrees least and the one that agrees most."""
    if len(found.pairs) <= _SAID:
        return found.pairs
    values = [(found.get("correlation", *pair).value, pair) for pair in found.pairs]
    order = sorted(each for each in values if not math.isnan(each[0]))
    return [pair for _, pair in (order[:1] + order[1:][-1:])]


def _agreement(found: Replayed, pair: tuple[str, str]) -> str:
    near, sign = found.get("correlation", *pair), found.get("sign_changed", *pair)
    if math.isnan(near.value):
        silent = [label for label in pair if found.get("no_signal", label).value == 1]
        who = f"Neither {pair[0]} nor {pair[1]} gives a signal"
        who = who if len(silent) > 1 else f"Of {pair[0]} and {pair[1]} {silent[0]} gives no signal"
        return f"{who}, so that they cannot be compared."
    ends = "" if math.isnan(near.low) else f" ({near.low:.2f} to {near.high:.2f})"
    said = f"The advantages of {pair[0]} and {pair[1]} correlate at {near.value:.2f}{ends}"
    if math.isnan(sign.value):
        return f"{said}; no group has a signal under both."
    best = found.get("same_best", *pair).value
    return (
        f"{said}: where both give a signal {_percent(sign.value)} of them change sign, and "
        f"{_percent(best)} of the best rollouts are the same."
    )


def _percent(share: float) -> str:
    if math.isnan(share):
        return "-"
    size = abs(share)
    return f"{100 * share:.1f}%" if 0 < size < 0.0995 or 0.9905 < size < 1 else f"{share:.0%}"


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
