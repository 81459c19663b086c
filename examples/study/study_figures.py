"""The figures of a study: curves of training, differences at its end, what the signal is of.

Goes in: the runs. Comes out: three pictures in a folder. Every run is drawn, and none left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "rankreward"
matplotlib.rcParams["svg.fonttype"] = "none"  # text as text: smaller files

from matplotlib import pyplot as plt

from study_stats import METRICS, Runs, end

PARTS = {"iou": "C0", "count": "C1", "box": "C1", "point": "C2"}


def draw(runs: Runs, folder: Path) -> None:
    """Write `evidence-curves.svg`, `evidence-differences.svg` and `evidence-shares.svg`."""
    for name, made in (
        ("curves", curves(runs)),
        ("differences", differences(runs)),
        ("shares", shares(runs)),
    ):
        made.tight_layout()
        made.savefig(folder / f"evidence-{name}.svg", metadata={"Date": None})
        plt.close(made)


def curves(runs: Runs) -> Any:
    """Raw metrics of sampled answers over training: thin a run, thick the mean of its variant."""
    figure, axes = _grid(runs)
    for ax, name in zip(axes, runs.variants, strict=False):
        for metric in METRICS:
            lines = [runs.by[name, seed]["curves"][f"raw/{metric}"] for seed in runs.seeds(name)]
            for line in lines:
                ax.plot(_places(line), line, color=PARTS[metric], alpha=0.25, linewidth=0.5)
            ax.plot(_places(lines[0]), np.mean(lines, axis=0), color=PARTS[metric], label=metric)
        ax.set_title(f"{name} ({len(lines)})", fontsize=8)
        ax.set_ylim(0, 1)
    axes[0].legend(fontsize=6)
    return figure


def shares(runs: Runs) -> Any:
    """The share of the advantages' variance that each term accounts for, over training."""
    figure, axes = _grid(runs)
    for ax, name in zip(axes, runs.variants, strict=False):
        some = runs.by[name, runs.seeds(name)[0]]["curves"]
        terms = [key.partition("/")[2] for key in some if key.startswith("share/")]
        means = {
            term: np.mean(
                [runs.by[name, seed]["curves"][f"share/{term}"] for seed in runs.seeds(name)],
                axis=0,
            )
            for term in terms
        }
        for term in terms:
            if term in PARTS:
                ax.plot(_places(means[term]), means[term], color=PARTS[term], label=term)
        rest = sum((means[term] for term in terms if term not in PARTS), np.zeros(1))
        ax.plot(
            _places(means[terms[0]]), rest + np.zeros(len(means[terms[0]])), "0.5", label="format"
        )
        ax.set_title(name, fontsize=8)
        ax.set_ylim(-0.1, 1)
    axes[0].legend(fontsize=6)
    return figure


def differences(runs: Runs) -> Any:
    """How far each variant's held-out IoU is from `dr_seg`'s: a dot a seed, mean and interval."""
    others = [name for name in runs.variants if name != "dr_seg"]
    sets = list(next(iter(runs.by.values()))["after"])
    figure, axes = plt.subplots(
        1,
        len(sets),
        figsize=(3.2 * len(sets), 0.28 * len(others) + 1.2),
        sharey=True,
        squeeze=False,
    )
    for ax, where in zip(axes[0], sets, strict=True):
        of = end(where, "mean box IoU")
        for place, name in enumerate(others):
            seeds = [seed for seed in runs.seeds(name) if ("dr_seg", seed) in runs.by]
            dots = [of(runs.by[name, seed]) - of(runs.by["dr_seg", seed]) for seed in seeds]
            found = runs.difference(name, "dr_seg", of)
            ax.plot(dots, [place] * len(dots), "o", color="0.7", markersize=3)
            ax.plot([found.low, found.high], [place, place], color="C0")
            ax.plot(found.mean, place, "s", color="C0", markersize=4)
        ax.axvline(0, color="0.3", linewidth=0.7)
        ax.set_title(where, fontsize=9)
        ax.set_xlabel("IoU less that of dr_seg", fontsize=8)
    axes[0][0].set_yticks(range(len(others)), others, fontsize=7)
    axes[0][0].invert_yaxis()
    return figure


def _grid(runs: Runs) -> tuple[Any, Any]:
    rows = -(-len(runs.variants) // 5)
    figure, axes = plt.subplots(
        rows, 5, figsize=(12, 1.9 * rows), sharex=True, sharey=True, squeeze=False
    )
    for ax in axes.ravel()[len(runs.variants) :]:
        ax.set_visible(False)
    return figure, axes.ravel()


def _places(line: Any) -> Any:
    """Where along training the points of a curve are, from 0 to 1."""
    return (np.arange(len(line)) + 0.5) / len(line)
