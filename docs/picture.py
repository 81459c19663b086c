"""Draw the picture of the README from the committed log of a real training run.

python docs/picture.py docs/picture.svg
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rankreward.logs import chunks, read_log
from rankreward.replay import Replayed, read_contestants, replay
from rankreward.report.replay_plots import plot_dead_groups, plot_shares

LOG = Path(__file__).parent.parent / "examples" / "logs" / "digits.jsonl.gz"
NAMES = {  # what is typed after --recipes, and what the picture calls it
    "vision_reasoner": "thresholds",
    "dr_seg+kind=none": "raw sum",
    "dr_seg": "ranks",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    args = parser.parse_args()
    args.picture.write_text(draw())
    print(args.picture)


def draw() -> str:
    """The picture as SVG; the same on each call."""
    rows = read_log([LOG])
    found = replay(chunks(rows, grouped=True), read_contestants(list(NAMES), frame=84))
    with matplotlib.rc_context({"svg.hashsalt": "rankreward", "svg.fonttype": "path"}):
        figure = Figure(figsize=(10, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        plot_shares(left, {called: shares(found, typed) for typed, called in NAMES.items()})
        left.set_title("what moves the policy", fontsize="medium")
        dead = {called: found.get("no_signal", typed) for typed, called in NAMES.items()}
        ends = {called: (each.value, each.low, each.high) for called, each in dead.items()}
        plot_dead_groups(right, ends)
        right.set_xlim(0, 0.5)
        right.set_title("groups that teach nothing", fontsize="medium")
        right.set_xlabel("share of groups without a signal")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None}, facecolor="white")
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def shares(found: Replayed, label: str) -> dict[str, float]:
    """Term to its share of what drives the advantages; the small ones together."""
    terms = {name: each.value for name, each in found.of("advantage", label).items()}
    large = {name: terms.get(name, 0.0) for name in ("iou", "point", "count", "box")}
    rest = float(np.nansum([value for name, value in terms.items() if name not in large]))
    return {**large, "format and looking": rest}


if __name__ == "__main__":
    main()
