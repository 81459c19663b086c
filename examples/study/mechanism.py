"""Why ranks could train better, where it can be computed: a policy of 18 numbers and 150 answers.

An answer has an offset, an error of size and a count; IoU, count ratio and point ramp follow. The
policy is a softmax over the answers whose logits are sums of one number for each offset, each size
and each count, so that expectations, the score function (the gradient of the log-probability) and
the policy gradient have closed forms. For a reward that is a sum of parts r_k with deviations s_k,
the gradient under standardised advantages is the sum over k of

    Cov(r_k, score) / s  =  (s_k / s) * corr_k * (deviation of the score),

so a part pulls by how much it spreads times how well it correlates with the score. Ranks and
standard scores fix the first factor, and nothing fixes the second. Closed forms are held against a
simulation with the library's own window and its own `grpo`.

    python examples/study/mechanism.py     # seconds; the tables and the figure of docs/evidence.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "digits")]

from evidence import DOCS, markdown, write_table
from rankreward.quantiles import QuantileService
from rankreward.shaping import grpo

Floats = NDArray[np.float64]
Parts = dict[str, Floats]  # of every answer
GROUP = 8
OFFSETS, SIZES, COUNTS = 10, 5, 3


@dataclass(frozen=True, eq=False)
class Task:
    """The answers: their metrics (A,), and the features (A, F) that logits are linear in."""

    metrics: Parts
    features: Floats

    def policy(self, weights: Floats) -> Floats:
        """(A,) the probabilities of the answers."""
        logits = self.features @ weights
        chances = np.exp(logits - logits.max())
        return np.asarray(chances / chances.sum())


@dataclass(frozen=True, eq=False)
class Pull:
    """Of each part of a reward: its share of the advantages' variance, and of the gradient.

    `correlation` is the length of the covariance with the score function, divided by the part's
    deviation and by the score's; it does not change if the part is scaled. `gradient` (F,) is that
    of the standardised reward, and `along` each part's share of it.
    """

    share: dict[str, float]
    correlation: dict[str, float]
    along: dict[str, float]
    gradient: Floats


def make_task(scale: Mapping[str, float] | None = None) -> Task:
    """All answers; a metric named in `scale` is multiplied."""
    grid = np.meshgrid(*map(np.arange, (OFFSETS, SIZES, COUNTS)), indexing="ij")
    offset, size, count = (axis.ravel() for axis in grid)
    metrics = {
        "iou": 0.9 * np.exp(-0.15 * offset - 0.25 * size),
        "count": np.minimum(count + 1, 2) / np.maximum(count + 1, 2),  # 2 is right
        "point": np.clip((8.0 - offset) / 7.0, 0.0, 1.0),
    }
    metrics = {name: values * (scale or {}).get(name, 1.0) for name, values in metrics.items()}
    features = [np.eye(n)[axis] for n, axis in ((OFFSETS, offset), (SIZES, size), (COUNTS, count))]
    return Task(metrics, np.concatenate(features, axis=1))


def start(task: Task) -> Floats:
    """The weights of a policy that mostly knows the count, as after supervised learning."""
    weights = np.zeros(task.features.shape[1])
    weights[OFFSETS + SIZES + 1] = 2.0
    return weights


def raw(values: Floats, chances: Floats) -> Floats:
    return values


def zscore(values: Floats, chances: Floats) -> Floats:
    mean = chances @ values
    spread = np.sqrt(chances @ (values - mean) ** 2)
    return np.asarray((values - mean) / spread) if spread > 1e-12 else np.zeros_like(values)


def weak(values: Floats, chances: Floats) -> Floats:
    """The chance of a value that is not larger: the rank in an endless window."""
    return np.asarray((values[None, :] <= values[:, None]) @ chances)


def mid(values: Floats, chances: Floats) -> Floats:
    """The same, equal values counting half."""
    less = (values[None, :] < values[:, None]) @ chances
    return np.asarray((less + weak(values, chances)) / 2)


NORMALIZERS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "raw": raw,
    "zscore": zscore,
    "ranked, weak ties": weak,
    "ranked, mid ties": mid,
}


def pull(task: Task, chances: Floats, normalizer: str) -> Pull:
    """The closed forms, for the sum of the normalised metrics."""
    parts = {name: NORMALIZERS[normalizer](v, chances) for name, v in task.metrics.items()}
    centred = {name: values - chances @ values for name, values in parts.items()}
    total = np.sum([*centred.values()], axis=0)
    power = chances @ total**2
    score = task.features - chances @ task.features
    covariance = {name: (chances * values) @ score for name, values in centred.items()}
    whole = np.sum([*covariance.values()], axis=0)
    breadth = np.sqrt(chances @ (score**2).sum(axis=1))
    spread = {name: np.sqrt(chances @ values**2) for name, values in centred.items()}
    return Pull(
        {name: float(chances @ (values * total) / power) for name, values in centred.items()},
        {
            name: float(np.linalg.norm(each) / max(spread[name] * breadth, 1e-12))
            for name, each in covariance.items()
        },
        {name: float(each @ whole / (whole @ whole)) for name, each in covariance.items()},
        whole / np.sqrt(power),
    )


def simulate(task: Task, chances: Floats, normalizer: str, groups: int, seed: int = 0) -> Pull:
    """The same from samples: ranks in the library's window, advantages by its `grpo`."""
    rng = np.random.default_rng(seed)
    picks = rng.choice(len(chances), groups * GROUP, p=chances)
    values = np.stack([task.metrics[name][picks] for name in task.metrics], axis=1)
    parts = dict(zip(task.metrics, _normalised(values, normalizer).T, strict=True))
    advantages = grpo(np.sum([*parts.values()], axis=0), GROUP, eps=0.0)
    score = task.features[picks] - chances @ task.features
    within = {name: _standard(column, parts) for name, column in parts.items()}
    power = (advantages**2).sum()
    covariance = {name: column @ score / len(picks) for name, column in within.items()}
    whole = advantages @ score / len(picks)
    breadth = np.sqrt((score**2).sum(axis=1).mean())
    plain = {name: (column - column.mean()) for name, column in parts.items()}
    correlation = {
        name: float(np.linalg.norm(c @ score / len(picks)) / max(c.std() * breadth, 1e-12))
        for name, c in plain.items()
    }
    return Pull(
        {name: float(column @ advantages / power) for name, column in within.items()},
        correlation,
        {name: float(each @ whole / (whole @ whole)) for name, each in covariance.items()},
        whole,
    )


def _normalised(values: Floats, normalizer: str) -> Floats:
    """(B, K) what the sampled metrics count for, by the library's own window."""
    if normalizer == "raw":
        return values
    names = tuple(f"m{k}" for k in range(values.shape[1]))
    ties = "mid" if normalizer.endswith("mid ties") else "weak"
    window = QuantileService(metrics=names, window=len(values), warm_start=0, ties=ties)
    window.push(values)
    window.flush(step=1)
    return window.standardize(values) if normalizer == "zscore" else window.rank(values)


def _standard(column: Floats, parts: Mapping[str, Floats]) -> Floats:
    """A part of the advantages: centred in its group, over the deviation of the group's sums."""
    total = np.sum([*parts.values()], axis=0).reshape(-1, GROUP)
    spread = total.std(axis=1, ddof=1, keepdims=True)
    own = column.reshape(-1, GROUP)
    centred = own - own.mean(axis=1, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(own), where=spread > 1e-9).ravel()


def learn(task: Task, normalizer: str, steps: int = 400, rate: float = 0.05) -> Parts:
    """Exact gradient ascent; the expected metrics (unscaled by their own largest value) a step."""
    weights, curves = start(task), {name: [] for name in task.metrics}
    for _ in range(steps):
        chances = task.policy(weights)
        for name, values in task.metrics.items():
            curves[name].append(float(chances @ values / values.max()))
        weights = weights + rate * pull(task, chances, normalizer).gradient
    return {name: np.array(curve) for name, curve in curves.items()}


def shares_table(groups: int) -> str:
    """Shares and correlations at three scales of IoU, exact and simulated, and what is learnt."""
    rows = []
    for factor in (0.1, 1.0, 10.0):
        task = make_task({"iou": factor})
        chances = task.policy(start(task))
        for normalizer in NORMALIZERS:
            exact, drawn = (
                pull(task, chances, normalizer),
                simulate(task, chances, normalizer, groups),
            )
            learnt = learn(task, normalizer)
            rows.append(
                [
                    f"{normalizer}, IoU times {factor:g}",
                    *(f"{exact.share[n]:.2f} / {drawn.share[n]:.2f}" for n in exact.share),
                    *(
                        f"{exact.correlation[n]:.2f} / {drawn.correlation[n]:.2f}"
                        for n in exact.share
                    ),
                    f"{exact.along['iou']:.2f} / {drawn.along['iou']:.2f}",
                    *(f"{learnt[n][-1]:.2f}" for n in exact.share),
                ]
            )
    header = (
        *("reward", "share of IoU", "of count", "of point"),
        *("correlation of IoU", "of count", "of point", "IoU's share of the gradient"),
        *("IoU learnt", "count learnt", "point learnt"),
    )
    return markdown(header, rows)


def ties_table() -> str:
    """The deviation of the rank of a metric of two values, by how often the better one comes."""
    rows = []
    for p in (0.02, 0.1, 0.5, 0.9, 0.98):
        values, chances = np.array([0.0, 1.0]), np.array([1 - p, p])
        cells = [f"{_deviation(rank(values, chances), chances):.3f}" for rank in (weak, mid)]
        rows.append([f"{p:g}", *(f"{1 - p:.2f} to 1.00", cells[0], "0.50 apart", cells[1])])
    header = ("share of right answers", "weak: ranks", "deviation", "mid: ranks", "deviation")
    return markdown(header, rows)


def _deviation(values: Floats, chances: Floats) -> float:
    return float(np.sqrt(chances @ (values - chances @ values) ** 2))


def draw(path: Path) -> None:
    """Shares over the scale of IoU, and what is learnt at a tenth of it."""
    import matplotlib  # noqa: PLC0415 - closed forms need no plots

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "rankreward"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, 4, figsize=(13, 3))
    factors = np.geomspace(0.01, 100, 25)
    for index, normalizer in enumerate(NORMALIZERS):
        shares = []
        for factor in factors:
            task = make_task({"iou": factor})
            shares.append(pull(task, task.policy(start(task)), normalizer).share["iou"])
        axes[0].plot(factors, shares, label=normalizer, color=f"C{index}")
    axes[0].set(xscale="log", xlabel="IoU multiplied by", title="IoU's share of the variance")
    axes[0].legend(fontsize=7)
    small = make_task({"iou": 0.1})
    for ax, metric in zip(axes[1:], small.metrics, strict=True):
        for index, normalizer in enumerate(NORMALIZERS):
            ax.plot(learn(small, normalizer)[metric], color=f"C{index}")
        ax.set(xlabel="step", title=f"expected {metric}, IoU times 0.1", ylim=(0, 1))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    args = parse_args()
    tables = {"mechanism": shares_table(args.groups), "ties": ties_table()}
    for name, text in tables.items():
        print(text, end="\n\n")
        write_table(args.page, name, text)
    draw(args.page.parent / "evidence-mechanism.svg")


def parse_args() -> Any:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=20_000, help="simulated groups")
    parser.add_argument("--page", type=Path, default=DOCS / "evidence.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
