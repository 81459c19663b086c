"""Hostile texts through `Scorer.score`: every recipe's terms and metrics, released ones as well.

The shapes are those of `hostile`, and some that are hard for what comes after the parser: stops,
looks, braces, and texts where lists belong. One completion is scored at a time, with the smallest
images there are, so that text is all that can cost.

    python benchmarks/hostile_scores.py --recipe dr_seg-released --json runs/scores.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hostile
import workload
from hostile import LARGE, MOST_MS, MOST_RATIO, SMALL, halves, ratio, repeat

import rankreward as rr
from rankreward.bench import no_garbage_collection, seconds_per_call
from rankreward.parsing import SCHEMAS, parse

Timed = Callable[[str], object]
Texts = Callable[[int], dict[str, str]]  # of a size

MIDDLE = 300_000
KEPT = 3  # of the slowest and of the least linear are timed with care, whatever their times
_POINTS = ("point_2d", "point_1", "point_2", "points_1", "points_2")
_ENTRY = {
    **{key: [1, 2, 3, 4] for key in ("bbox_2d", "bbox")},
    **{key: [1, 2] for key in _POINTS},
    "label": "cup",
}
# What stands in the answer block.
BODIES: dict[str, hostile.Shape] = {
    "one text": repeat("a", '"', '"'),
    "texts of blanks": repeat('"",', "[", '""]'),
    "lists of keys": repeat('["bbox_2d"],', "[", "[]]"),
    "object of keys": lambda size: json.dumps({f"bbox points {k}": k for k in range(size // 24)}),
    "object of a text": repeat("1", '{"bbox": "', '"}'),
    "object of numbers": repeat("1,", '{"bbox": [', "1]}"),
    "object of texts": repeat('"1",', '{"bbox": [', '"1"]}'),
    "object of lists": repeat("[],", '{"points_1": [1, 2], "bbox": [', "[]]}"),
    "object of digits": repeat("9" * 4000 + ",", '{"bbox": [', "1]}"),
    "boxes of texts": repeat('{"bbox_2d": ["1","1","1","1"], "point_2d": ["1"]},', "[", "{}]"),
    "boxes of lists": repeat('{"bbox_2d": [[],[],[],[]], "point_2d": [[],[]]},', "[", "{}]"),
    "a long box": repeat("1,", '[{"point_2d": [1, 2], "bbox_2d": [', "1]}]"),
    "long boxes": repeat('{"point_2d": [1, 2], "bbox_2d": [' + "1," * 800 + "1]},", "[", "{}]"),
    "120 objects": lambda size: json.dumps([_ENTRY] * 120).ljust(size),
    "120 objects that differ": lambda size: json.dumps(
        [_ENTRY | {"bbox_2d": [k, k, 500, 600], "point_2d": [k, 9 * k]} for k in range(120)]
    ).ljust(size),
}
# What stands in the think block, before a perfect answer.
THOUGHTS: dict[str, hostile.Shape] = {
    "stops": repeat("."),
    "short sentences": repeat("a."),
    "sentences": repeat("a. "),
    "other sentences": lambda size: ".".join(map(str, range(size // 6))),
    "sentences that differ": lambda size: " ".join(f"a{k}." for k in range(size // 8)),
    "wide stops": repeat("。"),
    "wide sentences": repeat("é。"),
    "one long sentence": repeat("a"),
    "words": repeat("a "),
    "accented words": repeat("é "),
    "letters that grow": repeat("\u0390\u1e9e\u0130 "),
    "underscores": repeat("_"),
    "signs": repeat("-"),
    "blank looks": repeat("<look> </look>"),
    "looks": repeat("<look>a</look>"),
    "empty braces": repeat("{}"),
    "braces": repeat("{"),
    "braces and gaps": repeat("{} "),
    "nearly copied": repeat("YOUR REASONIN your reasoning tex "),
    "breaks": repeat("\n"),
    "odd blanks": repeat("\u2003\x1c"),
    "seams": repeat("</think> <answe"),
    "seams and blanks": halves("</think>", " "),
}


def texts(size: int, recipe: rr.Recipe) -> dict[str, str]:
    """All hostile texts of a size for a recipe."""
    found = hostile.texts(size, recipe.response.schema_)
    batch = workload.make_batch(recipe, 0, 8, 64)
    plain = next(text for text in batch.completions if text.endswith(">"))
    _, _, after = plain.rpartition("</think>")
    before = plain[: plain.rfind("<caption>") + len("<caption>")]
    for name, shape in THOUGHTS.items():
        found[f"{name} in <think>"] = f"<think>{shape(size)}</think>{after.strip()}"
        found[f"{name} before <answer>"] = f"{shape(size)}{after.strip()}"
        if recipe.response.schema_ == "captioned_object":
            found[f"{name} in <caption>"] = f"{before}{shape(size)}</caption>"
    for name, shape in BODIES.items():
        end = workload.CAPTION if recipe.response.schema_ == "captioned_object" else ""
        found[f"{name} in an answer"] = f"<think>a</think><answer>{shape(size)}</answer>{end}"
    return found


def scoring(name: str) -> tuple[Texts, Timed]:
    """The texts for a recipe, and what is timed."""
    recipe = rr.Recipe.load(name)
    scorer = workload.make_scorer(recipe)
    batch = workload.make_batch(recipe, 0, 8, 64)

    def score(text: str) -> object:
        columns = {key: values[:1] for key, values in batch.columns.items()} | {"initial": [text]}
        images = None if batch.images is None else batch.images[:1]
        return scorer.score(
            [text], batch.references[:1], images=images, groups=[0], columns=columns, record=False
        )

    return partial(texts, recipe=recipe), score


def parsing(schema: str) -> tuple[Texts, Timed]:
    """The texts for a schema, and what is timed: reading with every tolerance."""
    options = hostile.CASES["all"]
    return partial(hostile.texts, schema=schema), lambda text: parse(text, schema, **options)


def worst(make: Texts, timed: Timed) -> list[dict[str, Any]]:
    """The slowest and the least linear of all texts, and all that may miss a goal.

    All are timed at 100 and at 300 kB, and these at 100 kB and at 1 MB, the shortest of a few
    times. Python's collector stays out of it: it walks the whole process once in a while, which
    makes large texts look worse than ten small ones.
    """
    small, middle = make(SMALL), make(MIDDLE)
    with no_garbage_collection():
        timed(next(iter(small.values())))
        quick = {
            name: (_time(timed, small[name], 2), _time(timed, middle[name], 1)) for name in small
        }
    growth = {name: long / max(short, 0.1) for name, (short, long) in quick.items()}
    chosen = {name for name in quick if quick[name][0] > 0.8 * MOST_MS or growth[name] > 4.5}
    chosen |= set(sorted(quick, key=lambda name: -quick[name][0])[:KEPT])
    chosen |= set(sorted(quick, key=lambda name: -growth[name])[:KEPT])
    large = make(LARGE)
    with no_garbage_collection():
        return [
            {
                "shape": name,
                "ms": _time(timed, small[name], 5),
                "large_ms": _time(timed, large[name], 3),
                "texts": len(small),
            }
            for name in sorted(chosen)
        ]


def misses(row: dict[str, Any]) -> bool:
    """Whether a row misses a goal."""
    return row["ms"] > MOST_MS or ratio(row) > MOST_RATIO


def record(benchmark: Any, what: str, make: Texts, timed: Timed) -> None:
    """Leave what `report` shows: the two worst texts."""
    rows = worst(make, timed)
    slowest, bent = _two_worst(rows)
    benchmark.pedantic(timed, args=(make(SMALL)[slowest["shape"]],), rounds=3)
    benchmark.extra_info.update(
        table="hostile",
        row=what,
        texts=slowest["texts"],
        slowest={"shape": slowest["shape"], "ms": round(slowest["ms"], 3)},
        least_linear={"shape": bent["shape"], "ratio": round(ratio(bent), 2)},
        reached=not any(map(misses, rows)),
    )


def _time(timed: Timed, text: str, repeats: int) -> float:
    """The shortest of a few times, in milliseconds."""
    return 1e3 * min(seconds_per_call(lambda: timed(text), 1) for _ in range(repeats))


def _two_worst(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The slowest and the least linear."""
    return max(rows, key=lambda row: row["ms"]), max(rows, key=ratio)


def main() -> None:
    """Print the worst texts of each recipe, and all that miss a goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", action="append", choices=rr.recipes())
    parser.add_argument("--schema", action="append", choices=list(SCHEMAS))
    parser.add_argument("--json", type=Path, help="where to write the rows")
    args = parser.parse_args()
    every = not (args.recipe or args.schema)
    cases = [("parse", name, parsing) for name in (SCHEMAS if every else args.schema or ())]
    cases += [("score", name, scoring) for name in (rr.recipes() if every else args.recipe or ())]
    found = []
    for what, name, make in cases:
        rows = [row | {"what": f"{what} {name}"} for row in worst(*make(name))]
        found += rows
        slowest, bent = _two_worst(rows)
        print(
            f"{what} {name}: {slowest['ms']:.2f} ms ({slowest['shape']}), "
            f"{ratio(bent):.1f}x ({bent['shape']}), {slowest['texts']} texts",
            flush=True,
        )
        for row in filter(misses, rows):
            print(f"    missed: {row['shape']}: {row['ms']:.2f} ms, {ratio(row):.1f}x", flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
