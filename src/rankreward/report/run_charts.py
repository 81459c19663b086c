"""What there is to draw of a run.

Goes in: a `rankreward.runs.reading.Run`, or several. Comes out: `Chart`s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from rankreward.errors import InputError
from rankreward.report.chart import MOST, POINTS, Chart, Floats, Line
from rankreward.runs import Run, Window
from rankreward.runs.names import (
    CHARACTERS,
    DEAD,
    ENTROPY,
    GRADIENT,
    GROUP_STD,
    KL,
    REWARD,
    REWARD_STD,
    SECONDS,
    TOKENS,
)


def reward_chart(run: Run) -> Chart:
    """The mean reward of a step."""
    about = (
        "A ranked reward need not rise: ranks are taken among recent rollouts, and those get "
        "better too. Watch the raw metrics."
    )
    return _chart("Reward", about, _named(run, REWARD), y_label="mean reward")


def raw_charts(run: Run) -> list[Chart]:
    """The raw metrics, a chart each, as their scales differ."""
    about = "As measured, before ranking: whether the policy gets better."
    return [
        _chart(name.removeprefix("rankreward/"), about, _named(run, name), y_label="mean")
        for name in run.names("rankreward/raw/")
    ]


def rank_chart(run: Run) -> Chart:
    """The mean rank of each metric."""
    about = (
        "What each metric counts for. Above 1/2 the step is better than the window; a metric at 1 "
        "cannot tell rollouts apart any more."
    )
    return _chart("Ranks", about, _prefixed(run, "rankreward/rank/"), y_label="mean rank")


def terms_chart(run: Run) -> Chart:
    """What each term adds to the reward."""
    about = "What each term adds to the reward. One that is flat at its weight is learned."
    return _chart("Terms", about, _prefixed(run, "rankreward/term/"), y_label="mean contribution")


def share_charts(run: Run) -> list[Chart]:
    """Each metric's share of the variance, before and after ranking."""
    before = "Added up raw, the metric with the largest share would drive the reward."
    after = "The same of what the metrics count for: evener shares are what ranking is for."
    charts = (
        ("Variance shares before ranking", before, "variance_share"),
        ("Variance shares after ranking", after, "rank_variance_share"),
    )
    return [
        _chart(title, about, _stacked(_prefixed(run, f"rankreward/{name}/")), "areas", "share")
        for title, about, name in charts
    ]


def ties_chart(run: Run) -> Chart:
    """How often two rollouts of a batch have the same value."""
    about = "Rollouts that tie get the same rank. A metric near 1 teaches a group nothing."
    return _chart("Ties", about, _prefixed(run, "rankreward/ties/"), y_label="share of pairs")


def failures_chart(run: Run) -> Chart:
    """The share of completions that cannot be read, by what is wrong with them."""
    kinds = [line for line in _prefixed(run, "rankreward/failure/") if line.y.any()]
    kinds.sort(key=lambda line: -float(line.y.mean()))
    lines = [*_named(run, "rankreward/failures", "any failure"), *kinds]
    about = "Completions that cannot be read. Rising: the policy is losing the format."
    return _chart("Failures", about, lines, y_label="share of completions")


def spread_chart(run: Run) -> Chart:
    """The standard deviation of the reward, within groups and over the step."""
    lines = [*_named(run, GROUP_STD, "within groups"), *_named(run, REWARD_STD, "over the step")]
    about = "GRPO learns from differences within a group: without any there is no signal."
    return _chart("Spread of the reward", about, lines, y_label="standard deviation")


def dead_chart(run: Run) -> Chart:
    """The share of groups all of whose rewards are equal."""
    about = "Groups all of whose answers are paid the same: they teach nothing."
    if run.source in _BY_TRL:
        about += ' Under scale_rewards="batch" TRL logs whole batches so instead.'
    return _chart("Dead groups", about, _named(run, DEAD, "dead groups"), y_label="share of groups")


def length_chart(run: Run) -> Chart:
    """The mean length of a completion: in tokens, or in characters where tokens were not logged."""
    unit, name = ("tokens", TOKENS) if run.names(TOKENS) else ("characters", CHARACTERS)
    about = "A jump to the limit, or a fall to almost nothing, comes before most collapses."
    return _chart("Response length", about, _named(run, name, "length"), y_label=f"mean {unit}")


def entropy_chart(run: Run) -> Chart:
    """The policy's mean entropy a token."""
    about = "How undecided the policy is. Near 0 a group's answers are all alike."
    return _chart("Entropy", about, _named(run, ENTROPY), y_label="nats a token")


def window_chart(run: Run) -> Chart:
    """The rows in the window, and how many a flush added and evicted."""
    names = {"size": "rows", "added": "added by a flush", "evicted": "evicted by a flush"}
    lines = [line for key, name in names.items() for line in _named(run, _WINDOW + key, name)]
    about = "Ranks are taken among these rows. They grow until the window is full."
    return _chart("Window", about, lines, "counts", "rows")


def flushes_chart(run: Run) -> Chart:
    """The flushes so far that added rows."""
    lines = _named(run, _WINDOW + "flushes", "flushes")
    return _chart(
        "Flushes", "One a step; flat where nothing was added.", lines, "counts", "flushes"
    )


def kl_chart(run: Run) -> Chart:
    """The policy's mean divergence from where it began."""
    about = "How far the policy is from where it began."
    return _chart("KL divergence", about, _named(run, KL), y_label="nats a token")


def gradient_chart(run: Run) -> Chart:
    """The gradient's norm before it is clipped."""
    about = "Spikes are steps that may have done harm."
    return _chart("Gradient norm", about, _named(run, GRADIENT, "norm"), y_label="norm")


def seconds_chart(run: Run) -> Chart:
    """The seconds that the reward took."""
    about = "Reading, measuring and ranking, a batch."
    return _chart("Seconds on the reward", about, _named(run, SECONDS), y_label="seconds")


_WINDOW = "rankreward/window/"
_BY_TRL = ("TRL", "TensorBoard")
_KINDS = (
    "failure",
    "raw",
    "rank",
    "term",
    "ties",
    "variance_share",
    "rank_variance_share",
    "window",
)


def ecdf_chart(run: Run, metric: str, key: str = "") -> Chart:
    """The distribution of one metric in the windows of a run, over its steps.

    Raises:
        InputError: no window holds a value of it.
    """
    windows = [each for each in run.windows if each.key == key and metric in each.metrics]
    found = [(window.step, _column(window, metric)) for window in windows]
    lines = tuple(_ecdf(f"step {step}", values) for step, values in found if len(values))
    if not lines:
        of = f" under key {key!r}" if key else ""
        raise InputError(f"windows: expected values of {metric!r}{of}, got none")
    about = (
        "The height is the rank that a value earns. A jump is a tie; a curve that moves right is a "
        "policy that gets better. A window begins with rows of zeros."
    )
    title = f"{metric} ({key})" if key else metric
    return Chart(title, about, lines, "ecdfs", "value", "rank")


def ecdf_charts(run: Run) -> list[Chart]:
    """One for each metric and key of the windows that hold values."""
    pairs = dict.fromkeys(
        (window.key, metric)
        for window in run.windows
        for metric in window.metrics
        if len(_column(window, metric))
    )
    return [ecdf_chart(run, metric, key) for key, metric in pairs]


def compared_charts(runs: Sequence[Run]) -> list[Chart]:
    """Each figure of a run's curves and areas as a chart of its own, a line a run.

    Args:
        runs: at most `MOST`, with names that differ.
    """
    figures = {REWARD: "Reward", REWARD_STD: "Spread over the step"}
    figures |= {GROUP_STD: "Spread within groups", DEAD: "Dead groups"}
    figures["rankreward/failures"] = "Failures"
    for kind in _KINDS:
        for name in dict.fromkeys(n for run in runs for n in run.names(f"rankreward/{kind}/")):
            if kind != "failure" or any(run.figure(name)[1].any() for run in runs):
                figures[name] = name.removeprefix("rankreward/")
    figures |= {TOKENS: "Response length, tokens", CHARACTERS: "Response length, characters"}
    figures |= {ENTROPY: "Entropy", KL: "KL divergence", GRADIENT: "Gradient norm"}
    figures[SECONDS] = "Seconds"
    return [
        _chart(
            title,
            "",
            [line for run in runs for line in _named(run, name, run.name)],
            "counts" if name.startswith(_WINDOW) else "curves",
        )
        for name, title in figures.items()
    ]


def _chart(
    title: str,
    about: str,
    lines: Sequence[Line],
    kind: Literal["curves", "counts", "areas"] = "curves",
    y_label: str = "",
) -> Chart:
    left_out = tuple(line.name for line in lines[MOST:])
    return Chart(title, about, tuple(lines[:MOST]), kind, y_label=y_label, left_out=left_out)


def _named(run: Run, name: str, called: str = "") -> list[Line]:
    x, y = run.figure(name)
    return [Line(called or name.removeprefix("rankreward/"), x, y)] if len(x) else []


def _prefixed(run: Run, prefix: str) -> list[Line]:
    names = run.names(prefix)
    return [line for name in names for line in _named(run, name, name.removeprefix(prefix))]


def _stacked(lines: Sequence[Line]) -> list[Line]:
    """The same lines over the same steps; a share that is missing beside others is 0."""
    if not lines:
        return []
    steps = np.unique(np.concatenate([line.x for line in lines]))
    stacked = []
    for line in lines:
        values = np.zeros(len(steps))
        values[np.searchsorted(steps, line.x)] = line.y
        stacked.append(Line(line.name, steps, values))
    return stacked


def _column(window: Window, metric: str) -> Floats:
    if metric not in window.metrics:
        return np.zeros(0)
    values = window.rows[:, window.metrics.index(metric)]
    return np.asarray(values[~np.isnan(values)])


def _ecdf(name: str, values: Floats) -> Line:
    """The values at which the distribution rises, and how high; thinned by height."""
    at, counts = np.unique(values, return_counts=True)
    height = np.cumsum(counts) / len(values)
    if len(at) > POINTS:
        places = np.searchsorted(height, np.linspace(height[0], 1.0, POINTS) - 1e-12)
        places = np.unique([0, *places, len(at) - 1])
        at, height = at[places], height[places]
    return Line(name, at, height)
