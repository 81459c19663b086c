"""What a study found: the runs' records become tables and figures.

Goes in: the folder of the runs, or the file that they were collected in. Comes out: that file, the
tables of `docs/evidence.md` and its figures.

    python examples/study/evidence.py --runs runs/study   # collect, then tables and figures
    python examples/study/evidence.py                     # from results.jsonl.gz alone
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "digits")]

from study_design import Design
from study_stats import (
    METRICS,
    PARTS,
    Difference,
    Floats,
    Runs,
    collect,
    difference,
    end,
    holm,
    late,
    read,
    save,
    whole,
)

RESULTS, PILOT = HERE / "results.jsonl.gz", HERE / "pilot.jsonl.gz"
DOCS = HERE.parents[1] / "docs"
# Variants that are one reward in effect; docs/evidence.md says why.
SAME = {
    "ranked": ("dr_seg", "dr_seg_no_look", "warm_none"),
    "raw": ("raw", "raw_no_look"),
    "zscore": ("zscore", "zscore_no_look"),
    "gdpo": ("gdpo", "gdpo_no_look"),
}
MORE_PAIRS = (("vision_reasoner", "raw"), ("gdpo", "zscore"))
MEASURES = ("mean box IoU", "count accuracy", "gIoU", "parsable answers")


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text, and the others numbers."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def variants_table(design: Design) -> str:
    """What every variant is."""
    rows = [[f"`{name}`", each.about] for name, each in design.variants.items()]
    return "\n".join(
        f"| {name} | {about} |" for name, about in [("reward", "what it is"), ("---", "---"), *rows]
    )


def main_table(runs: Runs) -> str:
    """Every variant: held-out measures, and how far its IoU is from two others'."""
    where, iou = "in-distribution", end("in-distribution", "mean box IoU")
    rows = []
    for name in runs.variants:
        cells = [f"`{name}`", str(len(runs.seeds(name)))]
        cells += [
            _mean_and_spread(runs.values(name, of))
            for of in (*(end(where, measure) for measure in MEASURES), late("raw/point"))
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
        "point, sampled",
        "IoU less `dr_seg`",
        "IoU less `raw`",
    )
    return markdown(header, [_start_row(runs, where), *rows])


def same_table(runs: Runs) -> str:
    """How far runs of one reward under two names are apart, and what all of a reward's runs say."""
    iou, rows = end("in-distribution", "mean box IoU"), []
    raws = f"{len(SAME['raw'])} of the rewards above"
    asked = [
        *(
            (f"`{first}` less `{other}`", [first], [other])
            for first, *others in SAME.values()
            for other in others
        ),
        *(
            (f"{name} less raw: means of {len(SAME[name])} and {raws}", SAME[name], SAME["raw"])
            for name in ("ranked", "zscore", "gdpo")
        ),
    ]
    for label, first, second in asked:
        gap = runs.differences(first, second, iou)
        spread = f"{gap.std(ddof=1):.3f}" if len(gap) > 1 else ""
        rows.append([label, str(difference(gap)), spread])
    return markdown(("runs", "difference in IoU", "deviation over seeds"), rows)


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


def registered_table(runs: Runs, design: Design) -> str:
    """The questions that were asked beforehand, and their answers once all their seeds are in."""
    registered = design.registered
    if registered is None:
        return "None."
    of = end(registered.held_out, registered.measure)
    found = [runs.difference(first, second, of) for first, second in registered.pairs]
    asked = [min(map(design.seeds_of, pair)) for pair in registered.pairs]
    # Holm's adjustment of one question depends on the others: they are answered together.
    complete = [each.seeds for each in found] == asked
    adjusted = holm([each.p for each in found])
    rows = []
    for (first, second), of_all, each, p in zip(
        registered.pairs, asked, found, adjusted, strict=True
    ):
        answer = (f"{p:.2g}", verdict(each, p, registered.least)) if complete else ("", "not yet")
        rows.append(
            [
                f"`{first}` over `{second}`",
                *(f"{each.seeds} of {of_all}", str(each), f"{each.p:.2g}", *answer),
            ]
        )
    return markdown(("question", "seeds", "difference", "p", "p, Holm", "answer"), rows)


def beside_table(runs: Runs, design: Design) -> str:
    """What was not asked: other measures of the questions' rewards, and two differences more."""
    pairs = [*(design.registered.pairs if design.registered else []), *MORE_PAIRS]
    measures = [*(end("in-distribution", name) for name in MEASURES[:3]), late("raw/point")]
    rows = [
        [
            f"`{first}` less `{second}`",
            str(runs.difference(first, second, measures[0]).seeds),
            *(str(runs.difference(first, second, of)) for of in measures),
        ]
        for first, second in pairs
    ]
    return markdown(("rewards", "seeds", "IoU", "count", "gIoU", "point, sampled"), rows)


def pilot_table(runs: Runs) -> str:
    """The baseline at every difficulty: how far it comes, and what its signal is of."""
    where, rows = "in-distribution", []
    for name in runs.variants:
        start = runs.values(name, lambda record: record["before"][where]["mean box IoU"])[0]
        ends = runs.values(name, end(where, "mean box IoU"))
        shares = [runs.values(name, whole(f"share/{term}")) for term in METRICS]
        rows.append(
            [
                f"`{name}`",
                f"{start:.3f}",
                ", ".join(f"{value:.3f}" for value in ends),
                *(", ".join(f"{value:.0%}" for value in values) for values in shares),
            ]
        )
    shares_of = (f"share of {metric}" for metric in METRICS)
    header = ("scenes", "IoU at the start", "IoU at the end, each seed", *shares_of)
    return markdown(header, rows)


def verdict(found: Difference, adjusted: float, least: float) -> str:
    """What the rule that was fixed beforehand says of a difference."""
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
    return ["start", "", *[f"{start[name]:.3f}" for name in MEASURES], "", "", ""]


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
        kept = read(args.results) if args.results.exists() else []
        save(collect(args.runs, design, kept), args.results)
    if args.pilot is not None:
        save(collect(args.pilot, Design.load(HERE / "pilot.yaml")), PILOT)
    runs = Runs(read(args.results))
    made = tables(runs, design)
    for name, text in made.items():
        write_table(args.page, name, text)
    from study_figures import draw  # noqa: PLC0415 - tables need no plots

    draw(runs, args.page.parent)
    print(made["main"])


def tables(runs: Runs, design: Design) -> dict[str, str]:
    """All tables of the page. The same seeds of every variant, but for the registered questions."""
    same = runs.first(design.seeds)
    return {
        "variants": variants_table(design),
        "main": main_table(same),
        "same": same_table(same),
        "others": other_sets_table(same),
        "training": training_table(same),
        "pilot": pilot_table(Runs(read(PILOT))),
        "registered": registered_table(runs, design),
        "beside": beside_table(runs, design),
        "cost": cost(runs, design),
    }


def cost(runs: Runs, design: Design) -> str:
    """How many runs are in, and what they took."""
    seconds = sum(record["seconds"]["processor"] for record in runs.by.values())
    full = [name for name in design.variants if len(runs.seeds(name)) >= design.seeds_of(name)]
    least = min((len(runs.seeds(name)) for name in design.variants), default=0)
    return (
        f"{len(runs.by)} of {len(list(design.runs()))} runs are in: {len(full)} of "
        f"{len(design.variants)} variants have all their seeds, "
        f"every variant has at least {least}. "
        f"Together they took {seconds / 3600:.1f} hours of one core. {made_with(runs)}"
    )


def made_with(runs: Runs) -> str:
    """On what the runs were made; all of it, should it differ between them."""
    counts = Counter(
        ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))
        + f", on {'a GPU' if record['device'] == 'cuda' else 'the CPU'}"
        for record in runs.by.values()
    )
    return "Made with " + "; ".join(f"{made} ({n} runs)" for made, n in counts.items()) + "."


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--design", type=Path, default=HERE / "study.yaml")
    parser.add_argument("--runs", type=Path, help="folder of runs to collect first")
    parser.add_argument("--pilot", type=Path, help="folder of the pilot's runs, likewise")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=DOCS / "evidence.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
