"""SAM2 as a segmenter: all objects in one call against one by one, and an image encoded once.

    python benchmarks/segmenters.py           # a random SAM2 of 128 pixels, a few seconds
    python benchmarks/segmenters.py --full    # a random hiera-tiny of 1,024 pixels, some minutes

The masks of random weights mean nothing, their time does. `one by one` calls the segmenter for each
object, with the image's embedding kept; `encoded anew` is one call for all, and an encoding for
each call, as where every rollout on an image encodes it. Ratios are taken round by round, in turns.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from rich.console import Console
from rich.table import Table
from tiny_sam2 import tiny_sam2
from transformers import Sam2Config, Sam2Model

from rankreward.bench import Call, Quartiles, paired, ratios
from rankreward.evaluation import Sam2

HEIGHT, WIDTH = 480, 640
RIVALS = ("one by one", "encoded anew")


def calls(kept: Sam2, anew: Sam2, image: Any, count: int) -> dict[str, Call]:
    """Ours and its rivals, for so many boxes with a point each."""
    rng = np.random.default_rng(count)
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * [WIDTH, HEIGHT]
    boxes, points = corners.reshape(-1, 4), corners.mean(axis=1, keepdims=True)

    def one_by_one() -> None:
        for box, point in zip(boxes, points, strict=True):
            kept.segment(image, box[None], point[None])

    return {
        "ours": lambda: kept.segment(image, boxes, points),
        "one by one": one_by_one,
        "encoded anew": lambda: anew.segment(image, boxes, points),
    }


def figure(quartiles: Quartiles, unit: str = "") -> str:
    """A median with the quartiles around it."""
    low, median, high = (f"{each:.3g}" for each in quartiles)
    return f"{median}{unit} ({low} to {high})"


def main() -> None:
    """Time each number of objects, and print what the others take."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the real size, with random weights")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 5, 30, 200])
    parser.add_argument("--chunk", type=int, default=32)
    args = parser.parse_args()
    model = Sam2Model(Sam2Config()) if args.full else tiny_sam2()
    kept, anew = (Sam2(model, cache=cache, chunk=args.chunk) for cache in (1, 0))
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    table = Table("objects", "ours, ms", *(f"{name}, times as long" for name in RIVALS))
    for count in args.objects:
        times = paired(calls(kept, anew, image, count), rounds=args.rounds)
        spread = ratios(times, "ours")
        ours = figure(Quartiles.of(1e3 * times["ours"]))
        table.add_row(str(count), ours, *(figure(spread[name], "x") for name in RIVALS))
    Console().print(table)


if __name__ == "__main__":
    main()
