"""Strategies: what Hypothesis draws for a test of a reward.

Goes in: a frame, or what answers look like (whatever `Layout.of` takes). Comes out: strategies of
boxes, points, answers, references, completions, batches and windows. They shrink to what is short
and simple: few objects, small whole numbers, plain words.

Example:
    >>> from hypothesis import find
    >>> from rankreward.testing import boxes, completions
    >>> find(boxes((100, 100)), lambda box: box[0] >= 50)
    [50, 0, 54, 4]
    >>> find(completions("boxes", "malformed"), lambda text: "NaN" in text)
    '<think>I compare.</think><answer>[{"bbox_2d": [NaN, 0, 4, 4]}]</answer>'
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Literal, get_args

import numpy as np

from rankreward.errors import InputError, require
from rankreward.testing.layouts import Answer, Layout

st: Any = require("hypothesis.strategies", extra="testing")

Kind = Literal["well_formed", "malformed", "hostile"]
LEAST = 4  # units of a box's sides
LABELS = ["cup", "dog"]
WORDS = ["A", "B", "C", "D", "0", "3", "7"]  # right answers, where they are texts
BAD_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "null"]
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?=\s*[,\]])")
"""A number of an answer; no digit of a key."""
_PIECES = [
    *("a", " ", "\n", ".", "I see a cup.", "<think>", "</think>", "<answer>", "</answer>"),
    *("<look>", "</look>", "<caption>", "</caption>", "<bbox>", "</bbox>", "<points>", "</points>"),
    *("[", "]", "{", "}", '"', "'", ",", ":", '"bbox_2d"', '"bbox"', '"point_2d"', "[1, 2, 3, 4]"),
    *("NaN", "1e999", "-1", "null", "```json\n", "\x00", "\ud800", "\u202e", "<|im_end|>", "\\u12"),
]


def boxes(frame: tuple[int, int] = (840, 840), *, step: int = 1) -> Any:
    """Boxes [x1, y1, x2, y2] of whole numbers with an area, inside a frame.

    Args:
        frame: width and height.
        step: coordinates are multiples of it; sides are 4 steps at least.

    Returns:
        A strategy of lists of 4 integers.
    """
    width, height = (st.integers(0, length // step - LEAST) for length in frame)
    return st.tuples(width, height, width, height).map(partial(_box, step=step))


def _box(corners: tuple[int, ...], step: int) -> list[int]:
    """A box from any two corners, at least `LEAST` steps wide and high."""
    low, high = zip(*(sorted(corners[k::2]) for k in (0, 1)), strict=True)
    return [*(v * step for v in low), *((v + LEAST) * step for v in high)]


def points(frame: tuple[int, int] = (840, 840), *, inside: Sequence[int] | None = None) -> Any:
    """Points [x, y] of whole numbers.

    Args:
        frame: width and height.
        inside: a box x1, y1, x2, y2 that holds them; the frame unless given.

    Returns:
        A strategy of lists of 2 integers.
    """
    x1, y1, x2, y2 = (0, 0, *frame) if inside is None else inside
    return st.tuples(st.integers(x1, x2), st.integers(y1, y2)).map(list)


def objects(layout: Layout, around: Any = None) -> Any:
    """One object of an answer, its points inside its box.

    Args:
        layout: what answers look like.
        around: a strategy of boxes; any in the frame unless given.

    Returns:
        A strategy of mappings by the keys of the schema.
    """
    found = boxes(layout.frame, step=layout.step) if around is None else around
    place = st.integers(0, max(layout.frame))
    spots = st.tuples(*(st.tuples(place, place) for _ in _point_keys(layout)))
    return st.tuples(found, spots, st.sampled_from(LABELS)).map(partial(_entry, layout))


def _point_keys(layout: Layout) -> tuple[str, ...]:
    return ("point",) if layout.schema.form == "tags" else layout.schema.points


def _entry(layout: Layout, drawn: tuple[list[int], Any, str]) -> dict[str, Any]:
    """An object of a box, of how far its points are from the box's corner, and of a label."""
    (x1, y1, x2, y2), spots, label = drawn
    schema, entry = layout.schema, {}
    if layout.boxed:
        entry[schema.box or "bbox"] = [x1, y1, x2, y2]
    for key, (x, y) in zip(_point_keys(layout), spots, strict=True):
        entry[key] = [x1 + x % (x2 - x1 + 1), y1 + y % (y2 - y1 + 1)]
    return entry | ({schema.label: label} if schema.label else {})


def answers(source: Any, *, near: Answer | None = None, least: int = 1, most: int = 4) -> Any:
    """Answers: a list of objects, or a text where answers are texts.

    Args:
        source: whatever `Layout.of` takes.
        near: an answer that some of the objects are taken from, as they are or a little moved.
        least: the fewest objects; one where the schema has no more.
        most: the most objects.

    Returns:
        A strategy of lists of mappings, all different unless `near` is given, or of texts.
    """
    layout = Layout.of(source)
    if layout.textual:
        return st.sampled_from(WORDS)
    if not layout.many:
        least = most = 1
    if near is None:
        return _different(layout, least, most)
    return _drawn(layout, least, most).map(partial(_said, layout, near))


@lru_cache(maxsize=256)  # to make a strategy costs more than to draw from it
def _different(layout: Layout, least: int, most: int) -> Any:
    """Objects of different places."""
    place = partial(_place, layout)
    return st.lists(objects(layout), min_size=least, max_size=most, unique_by=place)


@lru_cache(maxsize=256)
def _drawn(layout: Layout, least: int, most: int) -> Any:
    """What answers near another are made of; see `_said`."""
    row = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(-12, 12), objects(layout))
    return st.lists(row, min_size=least, max_size=most)


def _said(layout: Layout, near: Answer, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """For each row an object that is right, one that is moved a little, or one anywhere."""
    return [
        anywhere
        if how == 2 or not near or isinstance(near, str)
        else _moved(layout, near[which % len(near)], by * how)
        for how, which, by, anywhere in rows
    ]


def _place(layout: Layout, entry: dict[str, Any]) -> tuple[int, ...]:
    """What tells objects apart: their boxes, or where they have none their points."""
    return tuple(layout.box(entry) if layout.boxed else entry[layout.schema.points[0]])


def _moved(layout: Layout, entry: dict[str, Any], by: int) -> dict[str, Any]:
    return {
        key: [v + by * layout.step for v in value] if isinstance(value, list) else value
        for key, value in entry.items()
    }


def truths(source: Any, *, empty: bool = True) -> Any:
    """What there is to find, before it is written as a reference.

    Args:
        source: whatever `Layout.of` takes.
        empty: whether there may be nothing, where the schema can say so.
    """
    layout = Layout.of(source)
    return answers(layout, least=0 if empty and layout.may_be_empty else 1)


def references(source: Any, *, empty: bool = True) -> Any:
    """References, as a dataset's column holds them; the empty one among them.

    Args:
        source: whatever `Layout.of` takes.
        empty: whether there may be nothing to find, where the schema can say so.

    Returns:
        A strategy of references in the layout's form.
    """
    layout = Layout.of(source)
    return truths(layout, empty=empty).map(layout.reference)


def completions(source: Any, kind: Kind = "well_formed", *, near: Answer | None = None) -> Any:
    """Completions of a policy.

    Args:
        source: whatever `Layout.of` takes.
        kind: ``well_formed``, all that the prompt asks for; ``malformed``, that with one fault of
            those that policies make; ``hostile``, pieces of tags, JSON and Unicode in any order.
        near: the right answer, near which some are.

    Returns:
        A strategy of texts.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in get_args(Kind):
        raise InputError(f"kind: expected {', '.join(get_args(Kind))}, got {kind!r}")
    return _writers(Layout.of(source), kind).map(lambda write: write(near or []))


def any_completion(source: Any, near: Answer | None = None) -> Any:
    """Completions of every kind."""
    return _writers(Layout.of(source), "any").map(lambda write: write(near or []))


@lru_cache(maxsize=256)
def _writers(layout: Layout, kind: str) -> Any:
    """Functions that are given a right answer and write a completion."""
    if kind == "any":
        kinds = [_writers(layout, each) for each in get_args(Kind)]
        return kinds[0] | kinds[1] | kinds[2]
    if kind == "hostile":
        tags = [f"<{tag}>" for tag in layout.schema.blocks]
        pieces = st.lists(st.sampled_from([*_PIECES, *tags]), max_size=20).map("".join)
        return (pieces | st.text(max_size=40)).map(lambda text: lambda _: text)
    fault = st.sampled_from(FAULTS) if kind == "malformed" else st.just(str)
    if layout.textual:
        said = st.sampled_from(WORDS).map(lambda word: lambda _: word)
    else:
        rows = _drawn(layout, 0 if layout.may_be_empty else 1, 4 if layout.many else 1)
        said = rows.map(lambda drawn: lambda near: _said(layout, near, drawn))
    return st.tuples(fault, said).map(lambda pair: lambda near: pair[0](layout.text(pair[1](near))))


@lru_cache(maxsize=256)
def _rows(layout: Layout) -> Any:
    """A completion of any kind and its reference."""
    return st.tuples(truths(layout), _writers(layout, "any")).map(
        lambda pair: (pair[1](pair[0]), layout.reference(pair[0]))
    )


@lru_cache(maxsize=256)
def some_rows(layout: Layout, least: int, most: int) -> Any:
    """Completions of any kind with their references, in pairs."""
    return st.lists(_rows(layout), min_size=least, max_size=most)


def batches(source: Any, *, most: int = 4) -> Any:
    """Batches as a trainer scores them: completions of every kind, and their references.

    Args:
        source: whatever `Layout.of` takes.
        most: the most completions.

    Returns:
        A strategy of pairs of lists of one length, 1 to `most`.
    """
    rows = some_rows(Layout.of(source), 1, most)
    return rows.map(lambda pairs: ([text for text, _ in pairs], [each for _, each in pairs]))


def far_apart(layout: Layout) -> Any:
    """Two answers that have nothing in common: objects two thirds of the frame apart, or texts."""
    if layout.textual:
        others = [*WORDS, " ".join(WORDS)]
        return st.sampled_from([(w, other) for w in WORDS for other in others if w != other])
    width, height = layout.frame
    third = width // 3 // layout.step * layout.step
    near = boxes((third, height), step=layout.step)
    return objects(layout, near).map(lambda one: ([one], [_shifted(one, 2 * third)]))


def small_boxes(layout: Layout) -> Any:
    """Boxes in the corner, a third of the frame wide and high at most."""
    width, height = (side // 3 for side in layout.frame)
    return boxes((width, height), step=layout.step)


def _shifted(entry: dict[str, Any], dx: int) -> dict[str, Any]:
    return {
        key: [v + (dx, 0)[k % 2] for k, v in enumerate(value)] if isinstance(value, list) else value
        for key, value in entry.items()
    }


def moved_copies(layout: Layout, truth: list[dict[str, Any]]) -> Any:
    """Answers of some of these objects, each as it is or a little moved."""
    row = st.tuples(st.integers(0, len(truth) - 1), st.integers(-12, 12))
    rows = st.lists(row, min_size=1, max_size=3)
    return rows.map(lambda pairs: [_moved(layout, truth[which], by) for which, by in pairs])


def windows(columns: int = 3, *, most: int = 30, nan: bool = True) -> Any:
    """Rows of raw metrics, for a window: with ties, zeros and ones.

    Args:
        columns: N, the number of metrics.
        most: the most rows.
        nan: whether a metric may be undefined.

    Returns:
        A strategy of (n, N) float64 arrays, n from 0 to `most`, values in [0, 1] or NaN.
    """
    value = st.sampled_from([0.0, 1.0, 0.5]) | st.floats(0.0, 1.0)
    value = value | st.just(float("nan")) if nan else value
    rows = st.lists(st.lists(value, min_size=columns, max_size=columns), max_size=most)
    return rows.map(lambda table: np.array(table, dtype=np.float64).reshape(-1, columns))


def bad_number(text: str, place: int, bad: str) -> str:
    """The text with one of its numbers, counted from 0 and round again, made none."""
    found = list(NUMBER.finditer(text))
    if not found:
        return text
    spot = found[place % len(found)]
    return text[: spot.start()] + bad + text[spot.end() :]


def _swap(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


FAULTS: list[Callable[[str], str]] = [
    *(partial(bad_number, place=0, bad=bad) for bad in (*BAD_NUMBERS, '"3"', "1" * 400, "true")),
    lambda text: text[: len(text) // 2],
    lambda text: f"{text}\n",
    lambda text: f"Sure: {text}",
    lambda text: f"{text}<|im_end|>",
    lambda text: text * 2,
    lambda text: text.upper(),
    _swap('"', "'"),
    _swap("<answer>", ""),
    _swap("</answer>", ""),
    _swap("</think>", ""),
    _swap("<answer>", "<answer>```json\n"),
    _swap("<answer>", "<answer><answer>"),
    _swap("[", "{"),
    _swap("]", ""),
    _swap("{", ""),
    _swap("bbox", "box"),
    _swap("point", "pt"),
]
"""The faults that policies make, each a function of a well-formed text."""
