"""The reward of Dr. Seg, as its released code computes it, up to the ranks.

Goes in: a completion and the text of its reference. Comes out: the terms that are paid as they
are, and the metrics that a quantile service is to rank.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from rankreward.metrics.points import point_ramp
from rankreward.rewards.released.text import CAUGHT, first_body, has_only_blocks
from rankreward.rewards.released.vision_reasoner import (
    columns,
    fit,
    item_format,
    pair,
    read_answer,
    repeats,
)

_SENTENCE_END = re.compile(r"[.!?。！？]")  # noqa: RUF001
_NO_WORD = re.compile(r"[^\w.!?。！？]+")  # but for the ends of sentences  # noqa: RUF001
_SIGMA = "\N{GREEK CAPITAL LETTER SIGMA}"
# The two for ASCII at once: lower case, a line feed for an end, a space for what is no word.
_ASCII = bytes(
    ord(chr(code).lower())
    if chr(code).isalnum() or chr(code) == "_"
    else 10
    if chr(code) in ".!?"
    else 32
    for code in range(128)
) + bytes(128)
# The words of the released prompt's example that an answer must not copy.
_PLACEHOLDERS = ("your reasoning text", "more reasoning text", "your visual focus")


def score(text: str, reference: str) -> tuple[dict[str, float], dict[str, float]]:
    """Score one completion, before ranking.

    The released code then adds, to the terms, each metric's share of a window's values that are
    at most as large, rounded to one decimal by Python's ``round``; NaN counts as the largest.

    Args:
        text: the completion: ``<think>`` and ``<answer>`` blocks, the latter a JSON list of
            ``{"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}`` in an 840-pixel frame, and a
            ``<look>`` that says something in either.
        reference: such a list, as JSON.

    Returns:
        The terms: ``format`` in [0, 4] and ``non_repeat``, 0 or 1. The metrics: ``iou``,
        ``count`` and ``point`` in [0, 1], or NaN for coordinates that are NaN. A broken answer
        or reference is an empty one. Nothing raises.

    Cost:
        O(len(text)), and a matching of at most 120 by 120.

    Example:
        >>> answer = '[{"bbox_2d": [0, 0, 9, 9], "point_2d": [4, 4]}]'
        >>> thought = "<think><look>the left</look></think>"
        >>> terms, metrics = score(f"{thought}<answer>{answer}</answer>", answer)
        >>> terms
        {'format': 4.0, 'non_repeat': 1.0}
        >>> metrics
        {'iou': 1.0, 'count': 1.0, 'point': 1.0}

    Source:
        Dr. Seg, arXiv 2603.00152: released code, commit 1873f80.
    """
    data = read_answer(text)
    blocks = float(has_only_blocks(text, "think", "answer"))
    terms = {
        "format": blocks + item_format(data) + float(_looks(text)),
        "non_repeat": float(_is_fresh(text)),
    }
    try:
        true = json.loads(reference)
    except CAUGHT:
        true = None
    return terms, _metrics(data, true)


def reads(reference: str) -> bool:
    """Whether the released code can read a reference, empty ones included."""
    try:
        data = json.loads(reference)
        boxes, points = (np.array(rows, dtype=float) for rows in columns(data))
    except CAUGHT:
        return False
    return fit(data, boxes, points)


def _looks(text: str) -> bool:
    """Whether the first think or the first answer block holds a look that is not blank."""
    return any(_has_look(first_body(text, tag) or "") for tag in ("think", "answer"))


def _has_look(body: str) -> bool:
    place = body.find("<look>")
    while place >= 0:
        stop = body.find("</look>", place)
        if stop < 0:
            return False
        if body[place + len("<look>") : stop].strip():
            return True
        place = body.find("<look>", stop)
    return False


def _is_fresh(text: str) -> bool:
    """Whether at most one sentence repeats and no words of the prompt's example are copied."""
    sentences = [each for each in _sentences(text) if each]
    words = " ".join(sentences)
    copied = any(placeholder in words for placeholder in _PLACEHOLDERS)
    return not copied and repeats(sentences) < 2


def _sentences(text: str) -> list[str]:
    """The words of each sentence in lower case, a space between two; perhaps none."""
    if text.isascii():
        words = text.encode().translate(_ASCII)
        while b"  " in words:  # half of each gap at a time
            words = words.replace(b"  ", b" ")
        return [line.strip(" ") for line in words.decode().split("\n")]
    # A capital sigma alone becomes what the letters around it ask for, a sentence at a time.
    if _SIGMA in text:
        lower = ".".join(each.lower() for each in _SENTENCE_END.split(text))
    else:
        lower = text.lower()
    return [each.strip(" ") for each in _SENTENCE_END.split(_NO_WORD.sub(" ", lower))]


def _metrics(data: Any, true: Any) -> dict[str, float]:
    (boxes, points), (true_boxes, true_points) = _objects(data), _objects(true)
    few, many = sorted((len(boxes), len(true_boxes)))
    metrics = {"iou": 0.0, "count": few / many if many else 1.0, "point": 0.0}
    if not few:
        return metrics
    try:
        # This makes numbers of numeric texts, and NaN of null.
        arrays = [np.array(x, dtype=float) for x in (boxes, points, true_boxes, true_points)]
        pairs = pair(*arrays)
    except CAUGHT:
        return metrics
    point = float(point_ramp(pairs.distance).mean())
    return metrics | {"iou": float(pairs.iou.mean()), "point": point}


def _objects(data: Any) -> tuple[list[Any], list[Any]]:
    """The boxes and points; none at all where one item lacks one."""
    try:
        return columns(data) if isinstance(data, list) else ([], [])
    except CAUGHT:
        return [], []
