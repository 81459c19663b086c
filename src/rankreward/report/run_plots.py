"""The plots of a run's page on a matplotlib axis that the caller gives.

Goes in: a `rankreward.runs.reading.Run` and an axis. Comes out: matplotlib artists. Each draws one
chart of the page, bold lines being running means as there. Needs the extra ``report``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankreward.errors import InputError
from rankreward.report import run_charts
from rankreward.report.run_axes import draw
from rankreward.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_reward(ax: Axes, run: Run) -> None:
    """Draw the mean reward over steps.

    A ranked reward need not rise: ranks are taken among recent rollouts, which get better too.

    Args:
        ax: the axis to draw on.
        run: what `rankreward.runs.reading.read_run` gives.

    Raises:
        InputError: no step has a reward.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run
        >>> from rankreward.report import plot_reward
        >>> run = Run("run", "TRL", [{"step": 1, "reward": 4.0}, {"step": 2, "reward": 5.0}])
        >>> ax = Figure().subplots()
        >>> plot_reward(ax, run)
        >>> ax.get_ylabel(), len(ax.lines)
        ('mean reward', 2)
    """
    draw(ax, run_charts.reward_chart(run))


def plot_raw(ax: Axes, run: Run, metric: str) -> None:
    """Draw the mean of one metric before ranking: whether the policy gets better.

    Args:
        ax: the axis to draw on.
        run: as for `plot_reward`.
        metric: its name, such as ``"iou"``.

    Raises:
        InputError: no step has it.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run
        >>> from rankreward.report import plot_raw
        >>> ax = Figure().subplots()
        >>> plot_raw(ax, Run("run", "TRL", [{"step": 1, "rankreward/raw/iou": 0.5}]), "iou")
        >>> ax.get_title(loc="left")
        'raw/iou'
    """
    charts = run_charts.raw_charts(run)
    chart = next((each for each in charts if each.title == f"raw/{metric}"), None)
    if chart is None:
        known = ", ".join(each.title.removeprefix("raw/") for each in charts) or "none"
        raise InputError(f"metric: expected one that the run logged ({known}), got {metric!r}")
    draw(ax, chart)


def plot_ranks(ax: Axes, run: Run) -> None:
    """Draw the mean rank of each metric: what it counts for.

    Args:
        ax: the axis to draw on.
        run: as for `plot_reward`.

    Raises:
        InputError: no step has any.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run
        >>> from rankreward.report import plot_ranks
        >>> ax = Figure().subplots()
        >>> plot_ranks(ax, Run("run", "TRL", [{"step": 1, "rankreward/rank/iou": 0.5}]))
        >>> ax.get_title(loc="left")
        'Ranks'
    """
    draw(ax, run_charts.rank_chart(run))


def plot_terms(ax: Axes, run: Run) -> None:
    """Draw what each term adds to the reward.

    Args:
        ax: the axis to draw on.
        run: as for `plot_reward`.

    Raises:
        InputError: no step has any.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run
        >>> from rankreward.report import plot_terms
        >>> ax = Figure().subplots()
        >>> plot_terms(ax, Run("run", "TRL", [{"step": 1, "rankreward/term/iou": 0.3}]))
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['iou']
    """
    draw(ax, run_charts.terms_chart(run))


def plot_variance_shares(ax: Axes, run: Run, *, ranked: bool = False) -> None:
    """Draw each metric's share of the variance, stacked.

    Args:
        ax: the axis to draw on.
        run: as for `plot_reward`.
        ranked: False for the metrics as measured, True for what they count for.

    Raises:
        InputError: no step has any.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run
        >>> from rankreward.report import plot_variance_shares
        >>> entry = {"step": 1, "rankreward/variance_share/iou": 0.2}
        >>> ax = Figure().subplots()
        >>> plot_variance_shares(ax, Run("run", "TRL", [entry]))
        >>> ax.get_ylabel()
        'share'
    """
    draw(ax, run_charts.share_charts(run)[ranked])


def plot_ecdfs(ax: Axes, run: Run, metric: str, *, key: str = "") -> None:
    """Draw the distribution of one metric in the windows that a run saved, the oldest palest.

    Args:
        ax: the axis to draw on.
        run: as for `plot_reward`.
        metric: its name.
        key: of several windows, which.

    Raises:
        InputError: no window holds a value of it.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run, Window
        >>> from rankreward.report import plot_ecdfs
        >>> window = Window(7, "", ("iou",), np.array([[0.2], [0.9]]))
        >>> ax = Figure().subplots()
        >>> plot_ecdfs(ax, Run("run", "TRL", [], windows=[window]), "iou")
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['step 7']
    """
    draw(ax, run_charts.ecdf_chart(run, metric, key))


def plot_ties(ax: Axes, run: Run) -> None:
    """Draw how often two rollouts of a batch have the same value, by metric.

    Args:
        ax: the axis to draw on.
        run: as for `plot_reward`.

    Raises:
        InputError: no step has any.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run
        >>> from rankreward.report import plot_ties
        >>> ax = Figure().subplots()
        >>> plot_ties(ax, Run("run", "TRL", [{"step": 1, "rankreward/ties/count": 0.8}]))
        >>> ax.get_ylabel()
        'share of pairs'
    """
    draw(ax, run_charts.ties_chart(run))


def plot_failures(ax: Axes, run: Run) -> None:
    """Draw the share of completions that cannot be read, in all and by what is wrong.

    Kinds that never came are left out.

    Args:
        ax: the axis to draw on.
        run: as for `plot_reward`.

    Raises:
        InputError: no step says how many there were.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run
        >>> from rankreward.report import plot_failures
        >>> ax = Figure().subplots()
        >>> plot_failures(ax, Run("run", "TRL", [{"step": 1, "rankreward/failures": 0.1}]))
        >>> ax.get_ylabel()
        'share of completions'
    """
    draw(ax, run_charts.failures_chart(run))


def plot_group_spread(ax: Axes, run: Run) -> None:
    """Draw the standard deviation of the reward, within groups and over the step.

    Args:
        ax: the axis to draw on.
        run: as for `plot_reward`.

    Raises:
        InputError: no step has either.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run
        >>> from rankreward.report import plot_group_spread
        >>> ax = Figure().subplots()
        >>> plot_group_spread(ax, Run("run", "TRL", [{"step": 1, "reward_std": 0.2}]))
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['over the step']
    """
    draw(ax, run_charts.spread_chart(run))


def plot_dead_groups(ax: Axes, run: Run) -> None:
    """Draw the share of groups all of whose answers are paid the same, which teach nothing.

    Args:
        ax: the axis to draw on.
        run: as for `plot_reward`.

    Raises:
        InputError: no step has it.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run
        >>> from rankreward.report import plot_dead_groups
        >>> ax = Figure().subplots()
        >>> plot_dead_groups(ax, Run("run", "TRL", [{"step": 1, "rankreward/dead_groups": 0.1}]))
        >>> ax.get_ylabel()
        'share of groups'
    """
    draw(ax, run_charts.dead_chart(run))


def plot_length(ax: Axes, run: Run) -> None:
    """Draw the mean length of a completion: in tokens, else in characters.

    Args:
        ax: the axis to draw on.
        run: as for `plot_reward`.

    Raises:
        InputError: no step has it.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run
        >>> from rankreward.report import plot_length
        >>> ax = Figure().subplots()
        >>> plot_length(ax, Run("run", "TRL", [{"step": 1, "completions/mean_tokens": 20}]))
        >>> ax.get_ylabel()
        'mean tokens'
    """
    draw(ax, run_charts.length_chart(run))


def plot_entropy(ax: Axes, run: Run) -> None:
    """Draw the policy's mean entropy a token.

    Args:
        ax: the axis to draw on.
        run: as for `plot_reward`.

    Raises:
        InputError: no step has it.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from rankreward.runs import Run
        >>> from rankreward.report import plot_entropy
        >>> ax = Figure().subplots()
        >>> plot_entropy(ax, Run("run", "TRL", [{"step": 1, "entropy": 0.9}]))
        >>> ax.get_ylabel()
        'nats a token'
    """
    draw(ax, run_charts.entropy_chart(run))
