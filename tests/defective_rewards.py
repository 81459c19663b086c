"""What published rewards do wrong, each re-stated in a few lines of our own, and set right.

Goes in: completions and references. Comes out: rewards with the defect, and without it. The pairs
are in `DEFECTS`, with the invariant that finds each.
"""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

BLOCK = re.compile(r"<answer>([^<]*)</answer>$")


def read(text, pattern=BLOCK):
    """The answer's objects, or None."""
    found = pattern.search(text)
    try:
        said = json.loads(found.group(1), parse_constant=refuse) if found else None
    except (ValueError, RecursionError):
        return None
    said = [said] if isinstance(said, dict) else said
    fine = isinstance(said, list) and all(numbers(each) for each in said)
    return said if fine else None


def refuse(name):
    raise ValueError(name)


def numbers(entry):
    """Whether an entry has a box, and all its places are finite numbers."""
    if not isinstance(entry, dict) or len(places := box(entry)) != 4:
        return False
    places = [*places, *(v for value in entry.values() if isinstance(value, list) for v in value)]
    return all(type(v) in {int, float} and abs(v) < 1e9 for v in places)


def box(entry):
    found = entry.get("bbox_2d") or entry.get("bbox")
    return found if isinstance(found, list) else []


def iou(one, other):
    a, b = np.array(box(one), float), np.array(box(other), float)
    overlap = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap
    return float(overlap / union) if union > 0 and overlap > 0 else 0.0


def distance(one, other):
    return float(np.abs(np.subtract(box(one), box(other))).mean())


def matched(said, truth, worth):
    """The pairs of the highest sum of `worth`."""
    table = np.array([[worth(one, other) for other in truth] for one in said]).reshape(
        len(said), len(truth)
    )
    rows, columns = linear_sum_assignment(-table)
    return [(said[i], truth[j]) for i, j in zip(rows, columns, strict=True)]


def soft(said, truth):
    """The sum of IoUs of the best pairs, over the larger count: sound."""
    if not said and not truth:
        return 1.0
    pairs = matched(said, truth, iou)
    return math.fsum(iou(*pair) for pair in pairs) / max(len(said), len(truth), 1)


def sound(completions, references):
    """Readable 1, and the soft IoU."""
    said = [read(text) for text in completions]
    return [
        0.0 if each is None else 1.0 + soft(each, json.loads(reference))
        for each, reference in zip(said, references, strict=True)
    ]


def thresholds(completions, references):
    """Dr. Seg: pairs are matched by thresholds, so that ties fall by the order of the lists."""

    def passed(one, other):
        return (iou(one, other) > 0.5) + (distance(one, other) < 10)

    paid = []
    for text, reference in zip(completions, references, strict=True):
        said, truth = read(text) or [], json.loads(reference)
        pairs = matched(said, truth, passed)
        paid.append(sum(iou(*pair) for pair in pairs) / max(len(pairs), 1))
    return paid


def nan_ranks_on_top(completions, references):
    """Dr. Seg: json reads NaN, and nothing in the window is above it."""
    window, paid = np.linspace(0, 1, 100), []
    for text, reference in zip(completions, references, strict=True):
        try:
            said = json.loads(BLOCK.search(text).group(1))[0]["bbox_2d"]
            (truth,) = json.loads(reference)[:1] or [{"bbox_2d": [0, 0, 0, 0]}]
            error = float(np.abs(np.subtract(said, truth["bbox_2d"])).mean())
            paid.append(float(np.searchsorted(window, 1 / (1 + error), side="right") / 100))
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError):
            paid.append(0.0)
    return paid


def format_counts_objects(completions, references):
    """VisionReasoner: each object with its keys is paid, right or not, and no object is not."""
    paid = []
    for text, reference in zip(completions, references, strict=True):
        said, truth = read(text) or [], json.loads(reference)
        paid.append(2.0 * bool(said) + (soft(said, truth) if said and truth else 0.0))
    return paid


def first_braces(completions, references):
    """Seg-Zero: the first braces of the text are the answer, wherever they stand."""
    paid = []
    for text, reference in zip(completions, references, strict=True):
        said = read(text, re.compile(r"(\{[^{}]*\})")) or []
        paid.append(soft(said, [json.loads(reference)]) if said else 0.0)
    return paid


def answered(completions, references):
    """The same, of the answer alone."""
    said = [read(text) for text in completions]
    return [
        soft(each, [json.loads(reference)]) if each else 0.0
        for each, reference in zip(said, references, strict=True)
    ]


def backtracks(completions, references):
    """The usual pattern for the blocks: every way to share the tags among three gaps is tried."""
    blocks = re.compile(r".*?<think>.*?</think>.*?<answer>.*?</answer>\Z", re.DOTALL)
    paid = sound(completions, references)
    return [each + bool(blocks.search(text)) for text, each in zip(completions, paid, strict=True)]


def scans(completions, references):
    """The same, in one pass."""
    paid, tags = [], ("<think>", "</think>", "<answer>", "</answer>")
    for text, each in zip(completions, sound(completions, references), strict=True):
        places = [text.find(tag) for tag in tags]
        ordered = min(places) >= 0 and all(a < b for a, b in pairwise(places))
        paid.append(each + (ordered and text.endswith("</answer>")))
    return paid


def one_try(completions, references):
    """Think2Seg-RS: one completion that cannot be read takes the reward from the whole batch."""
    try:
        return [
            soft(json.loads(BLOCK.search(text).group(1)), json.loads(reference))
            for text, reference in zip(completions, references, strict=True)
        ]
    except Exception:  # noqa: BLE001 - the defect
        return [0.0] * len(completions)


def length_alone(completions, references):
    """VLM-R1: what was right is overwritten by 1 before the curve of length."""
    return [0.5 + 0.5 * math.cos(min(len(text), 2000) / 2000) for text in completions]


def best_of_each(completions, references):
    """Best IoU a box: the best IoU of each box, so that copies of a good one outweigh a bad one."""
    paid = []
    for text, reference in zip(completions, references, strict=True):
        said, truth = read(text), json.loads(reference)
        best = [max((iou(one, other) for other in truth), default=0.0) for one in said or []]
        right = said is not None and not said and not truth
        paid.append(float(right) if not best else sum(best) / len(best))
    return paid


def text_of(completion):
    found = BLOCK.search(completion)
    return found.group(1).strip() if found else ""


def substring(completions, references):
    """Visual-RFT: the right class somewhere in the answer is enough, so that all classes win."""
    return [
        float(reference in text_of(text))
        for text, reference in zip(completions, references, strict=True)
    ]


def relative(completions, references):
    """CrowdVLM-R1: a count of zero is never right."""
    paid = []
    for text, reference in zip(completions, references, strict=True):
        if not reference.isdigit():
            paid.append(float(text_of(text) == reference))
            continue
        said, truth = text_of(text), int(reference)
        error = abs(int(said) - truth) / truth if truth and re.fullmatch(r"[0-9]{1,9}", said) else 1
        paid.append(1.5 - error if error < 0.5 else 0.0)
    return paid


def exact(completions, references):
    """The answer is the reference."""
    return [
        float(text_of(text) == reference)
        for text, reference in zip(completions, references, strict=True)
    ]


def each_found(completions, references, pay):
    """A share of what there is to find, for answers that can be read."""
    paid = []
    for text, reference in zip(completions, references, strict=True):
        said, truth = read(text), json.loads(reference)
        if said is None or not truth:
            paid.append(float(said == truth))
        else:
            paid.append(float(pay(said, truth)))
    return paid


def recall_alone(completions, references):
    """Recall alone: an object is found if any box is near it, so that boxes everywhere are free."""

    def pay(said, truth):
        return np.mean([any(iou(one, other) >= 0.5 for one in said) for other in truth])

    return each_found(completions, references, pay)


def one_hit(completions, references):
    """One hit: a box near any of the objects is paid as if all were found."""

    def pay(said, truth):
        return any(iou(one, other) >= 0.5 for one in said for other in truth)

    return each_found(completions, references, pay)


def coverage(completions, references):
    """Coverage: the intersection over the area of the object, of which the frame has all."""

    def covered(one, other):
        a, b = np.array(box(one), float), np.array(box(other), float)
        sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
        return float(np.prod(sides) / np.prod(b[2:] - b[:2]))

    def pay(said, truth):
        pairs = matched(said, truth, covered)
        return sum(covered(*pair) for pair in pairs) / max(len(said), len(truth))

    return each_found(completions, references, pay)


DEFECTS = {
    # defect: (schema, the invariant that finds it, the same without the defect)
    thresholds: ("boxes", "answer_order", sound),
    nan_ranks_on_top: ("boxes", "bad_number", sound),
    format_counts_objects: ("grounding_list", "rejection", sound),
    first_braces: ("grounding_object", "answer_block", answered),
    backtracks: ("boxes", "linear_cost", scans),
    one_try: ("boxes", "alone", sound),
    length_alone: ("boxes", "right_beats_wrong", sound),
    best_of_each: ("boxes", "duplicates", sound),
    substring: ("text", "right_beats_wrong", exact),
    relative: ("text", "right_beats_wrong", exact),
    recall_alone: ("boxes", "extra_object", sound),
    one_hit: ("boxes", "missing_object", sound),
    coverage: ("boxes", "whole_frame", sound),
}
