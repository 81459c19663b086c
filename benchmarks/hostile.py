"""How long hostile text takes to be read.

Every schema, strictly and with all that can be tolerated, reads texts that make the usual patterns
slow, at 100 kB and at 1 MB. Linear means that the second takes about ten times as long.

    python benchmarks/hostile.py --json runs/hostile.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from rankreward.parsing import SCHEMAS, parse
from rankreward.parsing.response import TOLERANCES

SMALL, LARGE = 100_000, 1_000_000
MOST_MS, MOST_RATIO = 25.0, 12.0
ENTRY = (
    '{"bbox_2d": [1, 2, 3, 4], "point_2d": [1, 2], "point_1": [1, 2], "point_2": [1, 2], '
    '"label": "a"}'
)
BLOCKS = ("answer", "bbox", "points", "labels")

Shape = Callable[[int], str]


def repeat(unit: str, before: str = "", after: str = "") -> Shape:
    """A text of about a length that repeats one unit."""
    return lambda size: before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def halves(first: str, second: str) -> Shape:
    """A text of one unit, and then of another, as often."""
    return lambda size: first * (size // 2 // len(first)) + second * (size // 2 // len(second))


# What stands inside each of the blocks.
BODIES: dict[str, Shape] = {
    "brackets": repeat("["),
    "nested lists": halves("[", "]"),
    "list of lists": repeat("[],", "[", "[]]"),
    "pairs": repeat("[1,1],", "[", "[1,1]]"),
    "numbers": repeat("1,", "[", "1]"),
    "braces": repeat("{", "["),
    "nested objects": repeat('{"a":', "["),
    "objects": repeat("{},", "[", "{}]"),
    "objects with a NaN": repeat('{"a":NaN},', "[", "{}]"),
    "NaN": repeat("NaN,", "[", "NaN]"),
    "entries": repeat(f"{ENTRY}, ", "[", f"{ENTRY}]"),
    "entries, a late NaN": repeat(f"{ENTRY}, ", "[", "NaN]"),
    "entries, cut": repeat(f"{ENTRY}, ", "["),
    "entries, single quotes": repeat(f"{ENTRY}, ".replace('"', "'"), "[", "{}]"),
    "keys": repeat('"a":1,', "[{", '"a":1}]'),
    "keys that differ": lambda size: json.dumps([{f"{k}": k for k in range(size // 16)}]),
    "quotes": repeat('"'),
    "one open quote": repeat("a", '["'),
    "single quotes": repeat("'"),
    "one open single quote": repeat("a", "['"),
    "both quotes": repeat("\"'"),
    "texts": repeat('"a",', "[", '""]'),
    "single-quoted texts": repeat("'a',", "[", "'']"),
    "backslashes": repeat("\\", '["'),
    "escaped quotes": repeat('\\"', '["'),
    "escaped single quotes": repeat("\\'", "['"),
    "quotes in single quotes": repeat('"', "['", "']"),
    "escaped backslashes": repeat("\\\\", "['", "']"),
    "Python's words": repeat("None,", "[", "None]"),
    "fences": repeat("```json\n"),
    "ticks": repeat("`"),
    "one fence": repeat("[],", "```json\n[", "[]]\n```"),
    "digits": repeat("9", "[", "]"),
    "decimals": repeat("9", "[0.", "]"),
    "exponent": repeat("9", "[1e", "]"),
    "integers of 4000 digits": repeat("9" * 4000 + ",", "[", "1]"),
    "numeric texts": repeat('"12.5",', "[", '"1"]'),
    "one long text": repeat("1", '[{"bbox_2d": ["', '"]}]'),
    "colons": repeat(":"),
    "commas": repeat(",", "["),
    "spaces": repeat(" ", "[", "]"),
    "spaces between": repeat("1 , ", "[", "1]"),
    "dotless i": repeat("\u0131\u0130", '["', '"]'),
    "surrogates": repeat("\ud800", '["', '"]'),
    "NUL": repeat("\0"),
}
# What stands in the place of the whole completion; @ is each of the blocks' tags.
TEXTS: dict[str, Shape] = {
    "unclosed think": repeat("<think>"),
    "closed think": repeat("</think>"),
    "openers": repeat("<@>", "<think>a</think>"),
    "closers": repeat("</@>", "<think>a</think><@>"),
    "blocks": repeat("<@></@>", "<think>a</think>"),
    "upper-case blocks": repeat("<@>[1,2,3,4]</@>", "<THINK>a</THINK>"),
    "nested blocks": lambda size: "<think>a</think>" + halves("<@>", "</@>")(size),
    "bare blocks": repeat("<@>[1,2,3,4]</@>"),
    "unclosed block": repeat(" ", "<think>a</think><@>"),
    "partial closers": repeat("</@", "<think>a</think><@>"),
    "captions": repeat("<caption></caption>", "<think>a</think><answer>{}</answer>"),
    "looks": repeat("<look>a</look>", "<think>", "</think><answer>[]</answer>"),
    "unclosed looks": repeat("<look>", "<think>", "</think><answer>[]</answer>"),
    "nested looks": lambda size: f"<think>{halves('<look>', '</look>')(size)}</think>",
    "alternating tags": repeat("<a><b></a></b>", "<think>", "</think>"),
    "tags": repeat("<a>", "<think>", "</think>"),
    "small blocks": repeat("<a>b</a>", "<think>", "</think>"),
    "less-than": repeat("<", "<think>", "</think>"),
    "long tag": repeat("a", "<think><", "></think>"),
    "long tags": repeat("<" + "a" * 32, "<think>", "</think>"),
    "dots": repeat("a. ", "<think>", "</think>"),
    "dotless i": repeat("<LOOK>\u0131</LOOK>", "<think>", "</think>"),
    "surrogates": repeat("\ud800A", "<think>", "</think>"),
}
CASES: dict[str, dict[str, Any]] = {
    "strict": {},
    "any": {"keyword": "any"},
    "all": {"keyword": "any", "tolerate": TOLERANCES},
    **{name: {"tolerate": (name,)} for name in TOLERANCES},
}


def texts(size: int, schema: str) -> dict[str, str]:
    """All hostile texts of a size for a schema."""
    tags = SCHEMAS[schema].blocks
    made = {}
    for tag in tags:
        for name, shape in TEXTS.items():
            if "@" in shape(200) or tag == tags[0]:
                made[f"{name} <{tag}>"] = _fill(shape, tag, size)
        for name, shape in BODIES.items():
            if tag == "caption" or SCHEMAS[schema].form == "text":
                continue
            blocks = {"bbox": "[1,2,3,4]", "points": "[[1,2]]", "labels": "[1]"}
            body = shape(size)
            inside = [
                f"<{each}>{body if each == tag else blocks.get(each, 'a')}</{each}>"
                for each in tags
            ]
            made[f"{name} in <{tag}>"] = f"<think>a</think>{''.join(inside)}"
    return made


def _fill(shape: Shape, tag: str, size: int) -> str:
    # A tag is longer than the sign that stands for it: the text is made shorter by as much.
    share = size / len(shape(size).replace("@", tag))
    return shape(int(size * share)).replace("@", tag)


def milliseconds(text: str, schema: str, options: dict[str, Any], repeats: int) -> float:
    """The shortest time of a few."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()  # what other processes take does not count
        parse(text, schema, **options)
        best = min(best, time.process_time() - start)
    return best * 1e3


def measure(schemas: list[str], cases: list[str]) -> list[dict[str, Any]]:
    """One row for each schema, case and shape."""
    rows = []
    for schema in schemas:
        small, large = texts(SMALL, schema), texts(LARGE, schema)
        for name in track(small, description=schema):
            for case in cases:
                quick = milliseconds(small[name], schema, CASES[case], 4)
                slow = milliseconds(large[name], schema, CASES[case], 3)
                rows.append(
                    {"schema": schema, "case": case, "shape": name, "ms": quick, "large_ms": slow}
                )
    return rows


def ratio(row: dict[str, Any]) -> float:
    """How many times as long the large text takes; below a ms the caches decide, not the parser."""
    return row["large_ms"] / max(row["ms"], 1.0)


def main() -> None:
    """Measure, print the slowest rows, and say whether all are fast enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write all rows")
    parser.add_argument("--schema", action="append", choices=list(SCHEMAS))
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--rows", type=int, default=15, help="how many of the slowest to print")
    args = parser.parse_args()
    rows = measure(args.schema or list(SCHEMAS), args.case or list(CASES))
    show("slowest at 100 kB", sorted(rows, key=lambda row: -row["ms"])[: args.rows])
    show("least linear", sorted(rows, key=lambda row: -ratio(row))[: args.rows])
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1))
    slow = sum(row["ms"] > MOST_MS or ratio(row) > MOST_RATIO for row in rows)
    Console().print(f"{len(rows)} rows, {slow} above {MOST_MS:g} ms or {MOST_RATIO:g} times")


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table."""
    table = Table("schema", "case", "shape", "ms at 100 kB", "ms at 1 MB", "ratio", title=title)
    for row in rows:
        figures = (f"{row['ms']:.2f}", f"{row['large_ms']:.1f}", f"{ratio(row):.1f}")
        table.add_row(row["schema"], row["case"], row["shape"], *figures)
    Console().print(table)


if __name__ == "__main__":
    main()
