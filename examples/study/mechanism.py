"""Why ranks could train better, where it can be computed: a policy of 18 numbers, five prompts.

A prompt has 150 answers, each with an offset, an error of size and a count; IoU, count ratio and
point ramp follow. The policy is a softmax over the answers whose logits are sums of one number for
each offset, each size and each count, and of what the prompt makes plain by itself, so that
expectations, the score function (the gradient of the log-probability) and the policy gradient have
closed forms. For a reward that is the sum of parts r_k, with deviations s_k in a group and s of
the sum, the gradient under standardised advantages is the sum over k of

    Cov(r_k, score) / s  =  (s_k / s) * corr_k * (deviation of the score),

so a part pulls by how much it spreads in its group times how well it correlates with the score.
Ranks and standard scores make the spread of the parts alike in the window, over all prompts. Closed
forms, of endless groups, are held against a simulation with the library's window and its `grpo`.

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
DECAY = (0.10, 0.15, 0.20, 0.30, 0.15)  # of IoU by offset: some prompts are harder
# How plain the right count is: to the last prompt alone it is not.
PLAIN = (4.0, 4.0, 4.0, 4.0, 0.0)


@dataclass(frozen=True, eq=False)
class Task:
    """The answers: their metrics (P, A) by prompt, and the features (A, F) that make up logits.

    `plain` (P, A) is what the prompts add to the logits, whatever the weights.
    """

    metrics: Parts
    features: Floats
    plain: Floats

    def policy(self, weights: Floats) -> Floats:
        """(P, A) the probabilities of the answers to each prompt."""
        logits = self.features @ weights + self.plain
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))


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


def make_task(scale: Mapping[str, float] | None = None, *, rare: bool = False) -> Task:
    """All prompts and answers; a metric named in `scale` is multiplied.

    With `rare` the count gives way to a metric of two values that few answers earn: those with the
    count that is one too small.
    """
    grid = np.meshgrid(*map(np.arange, (OFFSETS, SIZES, COUNTS)), indexing="ij")
    offset, size, count = (axis.ravel() for axis in grid)
    decay, plain = np.array(DECAY)[:, None], np.array(PLAIN)[:, None]
    metrics = {
        # Rounded, so that what is equal but for the last bits ties at every scale.
        "iou": np.round(0.9 * np.exp(-decay * offset - 0.25 * size), 9),
        **(
            {"rare": (count == 0) * 1.0}
            if rare
            else {"count": np.minimum(count + 1, 2) / np.maximum(count + 1, 2)}  # 2 is right
        ),
        "point": np.clip((8.0 - offset) / 7.0, 0.0, 1.0),
    }
    metrics = {
        name: np.broadcast_to(values * (scale or {}).get(name, 1.0), (len(DECAY), len(offset)))
        for name, values in metrics.items()
    }
    features = [np.eye(n)[axis] for n, axis in ((OFFSETS, offset), (SIZES, size), (COUNTS, count))]
    return Task(metrics, np.concatenate(features, axis=1), plain * (count == 1))


def start(task: Task) -> Floats:
    """The weights of a policy that mostly knows the count, as after supervised learning."""
    weights = np.zeros(task.features.shape[1])
    weights[OFFSETS + SIZES + 1] = 2.0
    return weights


def raw(values: Floats, chances: Floats) -> Floats:
    return values


def zscore(values: Floats, chances: Floats) -> Floats:
    """Of all prompts together, as a window has them."""
    mean = (chances * values).sum() / chances.sum()
    spread = np.sqrt((chances * (values - mean) ** 2).sum() / chances.sum())
    return np.asarray((values - mean) / spread) if spread > 1e-12 else np.zeros_like(values)


def weak(values: Floats, chances: Floats) -> Floats:
    """The chance, over all prompts, of no larger value: the rank in an endless window."""
    return _not_larger(values, chances)[0]


def mid(values: Floats, chances: Floats) -> Floats:
    """The same, equal values counting half."""
    not_larger, equal = _not_larger(values, chances)
    return np.asarray(not_larger - equal / 2)


def _not_larger(values: Floats, chances: Floats) -> tuple[Floats, Floats]:
    """The chances of a value that is not larger, and of one that is equal."""
    _, place = np.unique(values, return_inverse=True)
    place = place.reshape(values.shape)
    equal = np.bincount(place.ravel(), weights=chances.ravel()) / chances.sum()
    return np.cumsum(equal)[place], equal[place]


NORMALIZERS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "raw": raw,
    "zscore": zscore,
    "ranked, weak ties": weak,
    "ranked, mid ties": mid,
}


def pull(task: Task, chances: Floats, normalizer: str) -> Pull:
    """The closed forms, for the sum of the normalised metrics in endless groups."""

    def mean(values: Floats) -> Floats:
        return np.asarray((chances * values).sum(axis=1, keepdims=True))

    parts = {name: NORMALIZERS[normalizer](v, chances) for name, v in task.metrics.items()}
    centred = {name: values - mean(values) for name, values in parts.items()}
    total = np.sum([*centred.values()], axis=0)
    spread = np.sqrt(mean(total**2))
    advantages = {name: values / spread for name, values in centred.items()}
    score = task.features - (chances @ task.features)[:, None, :]
    weighted = chances[:, :, None] * score / len(chances)
    along = {name: np.einsum("pa,paf->f", values, weighted) for name, values in advantages.items()}
    whole = np.sum([*along.values()], axis=0)
    breadth = np.sqrt((weighted * score).sum())
    whole_advantage = total / spread
    return Pull(
        {
            name: float(mean(values * whole_advantage).sum() / mean(whole_advantage**2).sum())
            for name, values in advantages.items()
        },
        {name: _correlation(values, weighted, mean, breadth) for name, values in centred.items()},
        {name: float(each @ whole / (whole @ whole)) for name, each in along.items()},
        whole,
    )


def _correlation(
    centred: Floats, weighted: Floats, mean: Callable[[Floats], Floats], breadth: float
) -> float:
    covariance = np.einsum("pa,paf->f", centred, weighted)
    spread = np.sqrt(mean(centred**2).mean())
    return float(np.linalg.norm(covariance) / max(spread * breadth, 1e-12))


def simulate(
    task: Task, chances: Floats, normalizer: str, groups: int, size: int = GROUP, seed: int = 0
) -> Pull:
    """The same from samples: ranks in the library's window, advantages by its `grpo`.

    `groups` are shared out among the prompts, and have `size` answers each.
    """
    rng = np.random.default_rng(seed)
    prompts = np.arange(groups).repeat(size) % len(chances)
    picks = np.empty(len(prompts), dtype=int)
    for prompt, row in enumerate(chances):
        own = prompts == prompt
        picks[own] = rng.choice(len(row), own.sum(), p=row)
    values = np.stack([task.metrics[name][prompts, picks] for name in task.metrics], axis=1)
    parts = dict(zip(task.metrics, _normalised(values, normalizer).T, strict=True))
    total = np.sum([*parts.values()], axis=0)
    advantages = grpo(total, size, eps=0.0)
    within = {name: _own_part(column, total, size) for name, column in parts.items()}
    score = task.features[picks] - (chances @ task.features)[prompts]
    along = {name: column @ score / len(picks) for name, column in within.items()}
    whole = advantages @ score / len(picks)
    breadth = np.sqrt((score**2).sum(axis=1).mean())
    correlation = {}
    for name, column in parts.items():
        means = np.bincount(prompts, weights=column) / np.bincount(prompts)
        centred = column - means[prompts]
        covariance = centred @ score / len(picks)
        correlation[name] = float(np.linalg.norm(covariance) / max(centred.std() * breadth, 1e-12))
    return Pull(
        {
            name: float(column @ advantages / (advantages**2).sum())
            for name, column in within.items()
        },
        correlation,
        {name: float(each @ whole / (whole @ whole)) for name, each in along.items()},
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


def _own_part(column: Floats, total: Floats, size: int) -> Floats:
    """A part of the advantages: centred in its group, over the deviation of the group's sums."""
    spread = total.reshape(-1, size).std(axis=1, ddof=1, keepdims=True)
    own = column.reshape(-1, size)
    centred = own - own.mean(axis=1, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(own), where=spread > 1e-9).ravel()


def learn(task: Task, normalizer: str, steps: int = 400, rate: float = 0.05) -> Parts:
    """Exact gradient ascent; the expected metrics of every step, as shares of the best there is."""
    weights, curves = start(task), {name: [] for name in task.metrics}
    for _ in range(steps):
        chances = task.policy(weights)
        for name, values in task.metrics.items():
            best = values.max(axis=1).mean()
            curves[name].append(float((chances * values).sum(axis=1).mean() / best))
        weights = weights + rate * pull(task, chances, normalizer).gradient
    return {name: np.array(curve) for name, curve in curves.items()}


def shares_table(groups: int) -> str:
    """Shares and correlations, exact and simulated, and what is learnt; raw at three scales."""
    rows = []
    for normalizer in NORMALIZERS:
        for factor in (0.1, 1.0, 10.0) if normalizer == "raw" else (1.0,):
            task = make_task({"iou": factor})
            chances = task.policy(start(task))
            exact, drawn = (
                pull(task, chances, normalizer),
                simulate(task, chances, normalizer, groups),
            )
            learnt = learn(task, normalizer)
            rows.append(
                [
                    f"{normalizer}, IoU times {factor:g}" if normalizer == "raw" else normalizer,
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


def rare_table() -> str:
    """Whether a metric that few answers earn is learnt beside others."""
    task = make_task(rare=True)
    chances = task.policy(start(task))
    rows = []
    for normalizer in NORMALIZERS:
        share = pull(task, chances, normalizer).share["rare"]
        learnt = learn(task, normalizer, steps=401)["rare"]
        rows.append([normalizer, f"{share:.4f}", *(f"{learnt[k]:.3f}" for k in (0, 100, 200, 400))])
    steps = ("at the start", "after 100 steps", "200", "400")
    return markdown(("reward", "share of the rare metric", *steps), rows)


def ties_table() -> str:
    """The deviation of the rank of a metric of two values, by how often the better one comes."""
    rows = []
    for p in (0.02, 0.1, 0.5, 0.9, 0.98):
        values, chances = np.array([0.0, 1.0]), np.array([1 - p, p])
        ranks = (rank(values[None], chances[None])[0] for rank in (weak, mid))
        cells = [f"{_deviation(each, chances):.3f}" for each in ranks]
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
    tables = {
        "mechanism": shares_table(args.groups),
        "ties": ties_table(),
        "rare": rare_table(),
    }
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
