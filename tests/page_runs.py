"""Runs and samples that the tests of pages share, with hostile texts wherever a text may stand."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from builders import Boxes
from PIL import Image

import rankreward as rr
from rankreward.evaluation.facts import facts_of
from rankreward.evaluation.samples import Question, Sample
from rankreward.report.page import write_comparison, write_page

RECIPE = rr.Recipe.load("dr_seg")
PROTOCOL = "seg_zero"
HOSTILE = (
    "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "</pre></textarea></style>\"'><svg onload=document.title='owned'>&lt;b&gt; $title \ud800 \u202e"
    "<a href=\"javascript:document.title='owned'\">x</a><!-- --> ]]>"
)


def question(place: int) -> Question:
    """Every sixth has nothing to find; its box and mask are the same rectangle."""
    rng = np.random.default_rng(place)
    image = rng.integers(60, 200, (80, 120, 3), dtype=np.uint8)
    boxes = np.array([[10, 10, 60, 50]] if place % 6 else np.zeros((0, 4)), float).reshape(-1, 4)
    mask = filled(boxes, (80, 120))
    strata = {"size": ("small", "large")[place % 2]}
    if place % 3 == 0:
        strata["kind"] = "a \"quoted\" & 'odd' <kind>"
    query = HOSTILE if place == 4 else f"thing {place}"
    return Question(Image.fromarray(image), query, boxes, mask, None, strata)


def filled(boxes: Any, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for x1, y1, x2, y2 in np.asarray(boxes).round().astype(int):
        mask[max(y1, 0) : y2, max(x1, 0) : x2] = True
    return mask


def completion(place: int, shift: float) -> str:
    """An answer that is off by `shift` pixels of the frame; every fifth cannot be read."""
    if place % 5 == 2:
        return f"<think>hm</think><answer>[NaN {HOSTILE}]</answer>"
    box = [70 + shift, 105, 420 + shift, 525]
    found = [] if place % 6 == 0 else [{"bbox_2d": box, "point_2d": [245, 315]}]
    thought = f"First <look>the {HOSTILE} cup</look>, then {place}."
    return f"<think>{thought}</think>\n<answer>{json.dumps(found)}</answer>"


def a_run(count: int, shift: float = 8.0, errors: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    records = []
    for place in range(count):
        record = {"id": f"s/{place} <i>", "place": place}
        if place in errors:
            records.append({**record, "stage": "policy", "error": f"Broken: {HOSTILE}"})
            continue
        text = completion(place, shift * place)
        facts = facts_of(question(place), text, RECIPE, Boxes(), keep_mask=True)
        records.append({**record, "completion": text, "tokens": 9, "finish": "stop", **facts})
    return records


def samples(count: int) -> list[Sample]:
    return [Sample(f"s/{place} <i>", place, partial(question, place)) for place in range(count)]


def write(folder: Path, count: int = 12, **options: Any) -> Path:
    options = {"recipe": RECIPE, "protocol": PROTOCOL, "resamples": 50, **options}
    return write_page(folder, a_run(count, errors=(7,)), samples(count), **options)


def a_pair(count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two runs: the third sample is as wrong in both, and read in the second alone."""
    before, after = a_run(count), a_run(count, shift=-3)
    text = (
        '<think>hm</think><answer>[{"bbox_2d": [700, 700, 750, 750], "point_2d": [1, 1]}]</answer>'
    )
    facts = facts_of(question(2), text, RECIPE, Boxes(), keep_mask=True)
    after[2] = {**after[2], "completion": text, **facts}
    return before, after


def write_pair(folder: Path, count: int = 12, **options: Any) -> Path:
    before, after = a_pair(count)
    options = {"recipe": RECIPE, "protocol": PROTOCOL, "resamples": 50, **options}
    return write_comparison(folder, before, after, samples(count), **options)
