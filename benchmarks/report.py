"""What the benchmarks found, beside the goals.

Goes in: the JSON of pytest-benchmark, in which `conftest.versus` left every round of ours and of
each rival. Comes out: `results.json`, the tables of `docs/performance.md`, and its picture.

    python benchmarks/report.py --raw runs/some.json --results /tmp/some.json  # touches no page
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
GREY = "#777777"  # as far from white as from black: the page may be either
HOSTILE = ("row", "texts", "slowest", "least_linear", "reached")
REACHED, MISSED = "#2a88d8", "#d8622a"


def main(raw: Path, results: Path, figure: Path | None, page: Path | None = None) -> None:
    found = summarize(json.loads(raw.read_text()))
    results.write_text(json.dumps(found, indent=1) + "\n")
    for name, lines in TABLES.items():
        if found[_PARTS[name]]:
            print(lines(found), end="\n\n")
            if page is not None:
                write_table(page, name, lines(found))
    if figure is not None:
        figure.parent.mkdir(exist_ok=True)
        draw(found, figure)


def summarize(raw: dict[str, Any]) -> dict[str, Any]:
    """Medians and quartiles: of ours in seconds, of a rival as its time over ours, a round each."""
    machine = raw["machine_info"]
    parts: dict[str, list[dict[str, Any]]] = {"rows": [], "recipes": [], "hostile": []}
    for benchmark in raw["benchmarks"]:
        info = benchmark["extra_info"]
        match info.get("table"):
            case "hostile":
                parts["hostile"].append({key: info[key] for key in HOSTILE})
            case "recipes":
                parts["recipes"].append(_row(info) | {"rollouts": info["rollouts"]})
            case _:
                parts["rows"].append(_row(info))
    return {
        "machine": {
            "cpu": machine["cpu"].get("brand_raw", "unknown"),
            "cores": machine["cores"],
            "system": f"{machine['system']} {machine['machine']}",
        },
        "versions": machine["versions"],
        **parts,
    }


def _row(info: dict[str, Any]) -> dict[str, Any]:
    ours, limit = np.array(info["ours"]), info["limit"]
    row = {"row": info["row"], "ours": _quartiles(ours), "rounds": len(ours)}
    if limit is not None:
        row |= {"limit": limit, "reached": bool(np.median(ours) < limit)}
    row["rivals"] = {}
    for name, seconds in info["rivals"].items():
        times = _quartiles(np.array(seconds) / ours)
        if name in info["goal"]:
            goal = info["goal"][name]
            times |= {"goal": _round(goal), "reached": times["median"] >= goal}
        row["rivals"][name] = times
    return row


def _quartiles(sample: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(sample, [0.25, 0.5, 0.75]).tolist()
    return {"median": _round(median), "low": _round(low), "high": _round(high)}


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def table(found: dict[str, Any]) -> str:
    """A line for each rival, and for each row that has to keep within a time."""
    lines = [
        "| what | ours | rival | ratio (quartiles) | goal | reached |",
        "|---|--:|---|--:|--:|---|",
    ]
    for row in found["rows"]:
        ours = _time(row["ours"]["median"])
        if "limit" in row:
            goal, reached = f"< {_time(row['limit'])}", _yes(row["reached"])
            lines.append(f"| {row['row']} | {ours} | | | {goal} | {reached} |")
        for name, ratio in row["rivals"].items():
            low, median, high = (f"{ratio[key]:.3g}" for key in ("low", "median", "high"))
            goal, reached = "", ""
            if "goal" in ratio:
                goal, reached = f">= {ratio['goal']:.3g}x", _yes(ratio["reached"])
            spread = f"{median}x ({low} to {high})"
            lines.append(f"| {row['row']} | {ours} | {name} | {spread} | {goal} | {reached} |")
    return "\n".join(lines)


def recipes_table(found: dict[str, Any]) -> str:
    """A line for each recipe: what a rollout takes, and how many are scored a second."""
    lines = [
        "| recipe | us a rollout (quartiles) | rollouts a second | rival | ratio (quartiles) |",
        "|---|--:|--:|---|--:|",
    ]
    for row in found["recipes"]:
        each = {key: 1e6 * row["ours"][key] / row["rollouts"] for key in ("median", "low", "high")}
        spread = f"{_figure(each['median'])} ({_figure(each['low'])} to {_figure(each['high'])})"
        rate = _figure(1e6 / each["median"])
        rivals = [
            (name, f"{times['median']:.3g}x ({times['low']:.3g} to {times['high']:.3g})")
            for name, times in row["rivals"].items()
        ]
        lines += [
            f"| `{row['row']}` | {spread} | {rate} | {name} | {times} |"
            for name, times in rivals or [("", "")]
        ]
    return "\n".join(lines)


def hostile_table(found: dict[str, Any]) -> str:
    """A line for each schema and each recipe: its two worst texts."""
    lines = [
        "| what | texts | slowest at 100 kB | ms | least linear | 1 MB over 100 kB | reached |",
        "|---|--:|---|--:|---|--:|---|",
    ]
    for row in found["hostile"]:
        slowest, bent = row["slowest"], row["least_linear"]
        cells = (
            *(row["row"], row["texts"], _code(slowest["shape"]), f"{slowest['ms']:.3g}"),
            *(_code(bent["shape"]), f"{bent['ratio']:.3g}x", _yes(row["reached"])),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "figures": table,
    "recipes": recipes_table,
    "hostile": hostile_table,
}
"""What stands between the comments of the page, by their names."""
_PARTS = {"figures": "rows", "recipes": "recipes", "hostile": "hostile"}  # of the results


def write_table(page: Path, name: str, text: str) -> None:
    """Put a table into a page, between its comments `name` and `/name`."""
    before, begin, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not (begin and end):
        raise ValueError(f"{page}: expected the comments {name} and /{name}")
    page.write_text(f"{before}{begin}{text}\n{end}{after}")


def _figure(value: float) -> str:
    """Three digits, and never as a power of ten."""
    return f"{float(f'{value:.3g}'):,g}"


def _code(shape: str) -> str:
    """A shape's name, its tag as code, which a page would take for its own."""
    words, mark, tag = shape.partition("<")
    return f"{words}`<{tag}`" if mark else words


def _yes(reached: bool) -> str:  # noqa: FBT001 - a value, not a switch
    return "yes" if reached else "**no**"


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def draw(found: dict[str, Any], path: Path) -> None:
    """Ratios on a log scale: a dot at the median, a bar between the quartiles, a tick at the goal.

    The goals below 1 are about growth, not about a rival, and stand in the table alone.
    """
    lines = [
        (row["row"], name, ratio)
        for row in found["rows"]
        for name, ratio in row["rivals"].items()
        if ratio.get("goal", 1) >= 1
    ]
    settings = {
        "svg.hashsalt": "rankreward",
        "svg.fonttype": "none",
        "font.size": 9,
        "text.color": GREY,
        "axes.edgecolor": GREY,
        "axes.labelcolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(9, 1.0 + 0.21 * len(lines)), layout="constrained")
        ax = figure.subplots()
        for place, (_, _, ratio) in enumerate(lines):
            color = REACHED if ratio.get("reached", True) else MISSED
            ax.plot([ratio["low"], ratio["high"]], [place, place], color=color, linewidth=2.5)
            ax.plot(ratio["median"], place, "o", color=color, markersize=5)
            if "goal" in ratio:
                ax.plot(ratio["goal"], place, "|", color=GREY, markersize=9, markeredgewidth=2)
            ax.annotate(
                f"{ratio['median']:.3g}x",
                (1.0, place),
                (4, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
            )
        ax.set_yticks(range(len(lines)), [f"{row}: {name}" for row, name, _ in lines])
        ax.set_ylim(len(lines) - 0.4, -0.6)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}x")
        ax.axvline(1, color=GREY, linewidth=0.8)
        ax.grid(axis="x", color=GREY, alpha=0.3)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_xlabel(
            "times as long as rankreward takes\n"
            "dot: median, bar: middle half of the rounds, tick: goal, orange: goal missed"
        )
        figure.savefig(path, transparent=True, metadata={"Date": None})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", type=Path, default=ROOT / "runs/benchmarks.json")
    parser.add_argument("--results", type=Path, help="write here, and neither page nor picture")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    if given.results is not None:
        main(given.raw, given.results, None)
    else:
        results = ROOT / "benchmarks/results.json"
        main(given.raw, results, ROOT / "docs/performance.svg", PAGE)
