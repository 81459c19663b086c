"""What a study found: the runs' records become tables, intervals and figures.

Goes in: the folder of the runs, or the file that they were collected in. Comes out: that file, the
tables of `docs/evidence.md` and its figures. Differences are paired by seed, for runs of one seed
have the same start and the same scenes in the same order.

    python examples/study/evidence.py --runs runs/study   # collect, then tables and figures
    python examples/study/evidence.py                     # from results.jsonl.gz alone
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "digits")]

from study_design import Design, Registered

RESULTS = HERE / "results.jsonl.gz"
DOCS = HERE.parents[1] / "docs"
RESAMPLES = 10_000
METRICS = ("iou", "count", "point")
PARTS = (*METRICS, "box")
Record = dict[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """One variant less another, over the seeds that both have.

    `low` and `high` are the 95% percentile interval of a bootstrap over seeds; `p` is the exact
    two-sided p-value of the mean under all flips of signs.
    """

    seeds: int
    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        if not self.seeds:
            return ""
        if self.seeds < 3:
            return f"{self.mean:+.3f}"
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


class Runs:
    """The records of a study, by variant and seed."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.by = {(record["variant"], record["seed"]): record for record in records}
        self.variants = list(dict.fromkeys(name for name, _ in self.by))

    def seeds(self, variant: str) -> list[int]:
        return sorted(seed for name, seed in self.by if name == variant)

    def values(self, variant: str, of: Callable[[Record], float]) -> Floats:
        """What each run of a variant came to, in the order of its seeds."""
        return np.array([of(self.by[variant, seed]) for seed in self.seeds(variant)])

    def difference(self, first: str, second: str, of: Callable[[Record], float]) -> Difference:
        """`first` less `second`, over the seeds that both have."""
        seeds = [seed for seed in self.seeds(first) if (second, seed) in self.by]
        pairs = [of(self.by[first, seed]) - of(self.by[second, seed]) for seed in seeds]
        return difference(np.array(pairs))


def difference(values: Floats) -> Difference:
    """The mean of paired differences, its bootstrap interval and its sign-flip p-value."""
    n = len(values)
    if n == 0:
        return Difference(0, *[float("nan")] * 4)
    draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return Difference(n, float(values.mean()), float(low), float(high), sign_flip(values))


def sign_flip(values: Floats) -> float:
    """The share of all 2^n choices of signs whose mean is at least as far from 0."""
    signs = np.array(list(itertools.product((-1, 1), repeat=len(values))))
    means = np.abs(signs @ values)
    return float((means >= np.abs(values.sum()) - 1e-12).mean())


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: the smallest times n, the next times n - 1, never falling."""
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, place in enumerate(np.argsort(ps, kind="stable")):
        worst = max(worst, min(1.0, ps[place] * (len(ps) - rank)))
        adjusted[place] = worst
    return adjusted


def end(held_out: str, measure: str) -> Callable[[Record], float]:
    """A measure on a held-out set after training."""
    return lambda record: float(record["after"][held_out][measure])


def late(name: str) -> Callable[[Record], float]:
    """The mean of a curve over the last quarter of training."""

    def mean(record: Record) -> float:
        curve = record["curves"].get(name, [float("nan")])
        return float(np.mean(curve[-max(len(curve) // 4, 1) :]))

    return mean


def collect(folder: Path, design: Design) -> list[Record]:
    """The records of a folder that are of this design, in its order.

    Raises:
        SystemExit: one was run with other settings than the design has now.
    """
    records = []
    for name, seed in design.runs():
        path = folder / f"{name}-{seed}.json"
        if path.exists():
            records.append(json.loads(path.read_text()))
            if records[-1]["fingerprint"] != design.fingerprint(name):
                raise SystemExit(f"{path}: expected settings as the design has them, got others")
    order = list(design.variants)
    return sorted(records, key=lambda record: (order.index(record["variant"]), record["seed"]))


def save(records: Iterable[Record], path: Path) -> None:
    """One run a line; the same records give the same bytes."""
    text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(path: Path) -> list[Record]:
    """What `save` wrote."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text, and the others numbers."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main_table(runs: Runs) -> str:
    """Every variant: held-out measures, and how far its IoU is from two others'."""
    where, iou = "in-distribution", end("in-distribution", "mean box IoU")
    rows = []
    for name in runs.variants:
        cells = [f"`{name}`", str(len(runs.seeds(name)))]
        cells += [
            _mean_and_spread(runs.values(name, end(where, measure)))
            for measure in ("mean box IoU", "count accuracy", "gIoU", "parsable answers")
        ]
        cells += [
            "" if name == other else str(runs.difference(name, other, iou))
            for other in ("dr_seg", "raw")
        ]
        rows.append(cells)
    header = (
        "reward",
        "seeds",
        "IoU",
        "count",
        "gIoU",
        "parsable",
        "IoU less `dr_seg`",
        "IoU less `raw`",
    )
    return markdown(header, [_start_row(runs, where), *rows])


def other_sets_table(runs: Runs) -> str:
    """IoU on what was not trained on, and how far it is from that of `dr_seg`."""
    first = next(iter(runs.by.values()))
    sets = [name for name in first["after"] if name != "in-distribution"]
    rows = [
        [
            "start",
            *[f"{first['before'][name]['mean box IoU']:.3f}" for name in sets],
            *[""] * len(sets),
        ]
    ]
    for name in runs.variants:
        measures = [end(each, "mean box IoU") for each in sets]
        means = [_mean_and_spread(runs.values(name, of)) for of in measures]
        gaps = [
            "" if name == "dr_seg" else str(runs.difference(name, "dr_seg", of)) for of in measures
        ]
        rows.append([f"`{name}`", *means, *gaps])
    return markdown(("reward", *sets, *[f"{name}, less `dr_seg`" for name in sets]), rows)


def training_table(runs: Runs) -> str:
    """The last quarter of training: raw metrics of sampled answers, and what the signal is of."""
    rows = []
    for name in runs.variants:
        raw = [f"{runs.values(name, late(f'raw/{metric}')).mean():.3f}" for metric in METRICS]
        shares = {term: runs.values(name, late(f"share/{term}")).mean() for term in PARTS}
        # A reward of thresholds has a box term in the place of the count.
        second = shares["box"] if np.isnan(shares["count"]) else shares["count"]
        three = (shares["iou"], second, shares["point"])
        dead = runs.values(name, late("dead")).mean()
        cells = [f"{share:.0%}" for share in (*three, 1 - sum(three), dead)]
        rows.append([f"`{name}`", *raw, *cells])
    header = (
        *("reward", "IoU", "count", "point", "share of IoU", "of count or box", "of point"),
        *("of format", "dead groups"),
    )
    return markdown(header, rows)


def registered_table(runs: Runs, registered: Registered) -> str:
    """The questions that were asked beforehand, and their answers."""
    of = end(registered.held_out, registered.measure)
    found = [runs.difference(first, second, of) for first, second in registered.pairs]
    adjusted = holm([each.p for each in found])
    rows = []
    for (first, second), each, p in zip(registered.pairs, found, adjusted, strict=True):
        rows.append(
            [
                f"`{first}` over `{second}`",
                *(str(each.seeds), str(each), f"{each.p:.3f}", f"{p:.3f}"),
                verdict(each, p, registered.least),
            ]
        )
    return markdown(("question", "seeds", "difference", "p", "p, Holm", "answer"), rows)


def verdict(found: Difference, adjusted: float, least: float) -> str:
    """What the rule that was fixed beforehand says of a difference."""
    if found.seeds < 6:
        return "too few seeds"  # of fewer than 6 no choice of signs can give a p under 0.05 / 1
    if adjusted < 0.05 and found.mean >= least and found.low > 0:
        return "yes"
    if adjusted < 0.05 and found.mean <= -least and found.high < 0:
        return "the reverse"
    return "not shown"


def _mean_and_spread(values: Floats) -> str:
    if not len(values):
        return ""
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def _start_row(runs: Runs, where: str) -> list[str]:
    start = next(iter(runs.by.values()))["before"][where]
    names = ("mean box IoU", "count accuracy", "gIoU", "parsable answers")
    return ["start", "", *[f"{start[name]:.3f}" for name in names], "", ""]


def write_table(page: Path, name: str, text: str) -> None:
    """Put a table into a page, between its comments `name` and `/name`."""
    before, begin, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, finish, after = rest.partition(f"<!-- /{name} -->")
    if not (begin and finish):
        raise ValueError(f"{page}: expected the comments {name} and /{name}")
    page.write_text(f"{before}{begin}{text}\n{finish}{after}")


def main() -> None:
    args = parse_args()
    design = Design.load(args.design)
    if args.runs is not None:
        save(collect(args.runs, design), args.results)
    runs = Runs(read(args.results))
    tables = {
        "main": main_table(runs),
        "others": other_sets_table(runs),
        "training": training_table(runs),
        "cost": cost(runs, design),
    }
    if design.registered is not None:
        tables["registered"] = registered_table(runs, design.registered)
    for name, text in tables.items():
        write_table(args.page, name, text)
    from study_figures import draw  # noqa: PLC0415 - tables need no plots

    draw(runs, args.page.parent)
    print(tables["main"])


def cost(runs: Runs, design: Design) -> str:
    """How many runs are in, and what they took."""
    seconds = sum(record["seconds"]["processor"] for record in runs.by.values())
    full = [name for name in design.variants if len(runs.seeds(name)) >= design.seeds]
    least = min((len(runs.seeds(name)) for name in design.variants), default=0)
    return (
        f"{len(runs.by)} of {len(list(design.runs()))} runs are in: {len(full)} of "
        f"{len(design.variants)} variants have all {design.seeds} seeds, "
        f"every variant has at least {least}. "
        f"Together they took {seconds / 3600:.1f} hours of one core."
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--design", type=Path, default=HERE / "study.yaml")
    parser.add_argument("--runs", type=Path, help="folder of runs to collect first")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=DOCS / "evidence.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
