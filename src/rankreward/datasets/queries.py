"""What a digit scene may be asked for.

Goes in: the digits of a scene. Comes out: a query in words, and the digits that it asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_TARGET = 0.1  # share of the queries by label or value that nothing in the scene answers


@dataclass(frozen=True, eq=False)
class Digit:
    """One digit in a scene.

    Attributes:
        label: which digit, 0 to 9.
        box: (4,) int64, xyxy in pixels, the right and lower edges exclusive.
        point: (2,) int64, xy in pixels, the most interior pixel of the stroke.
        mask: (H, W) bool, the pixels of the stroke.
    """

    label: int
    box: NDArray[np.int64]
    point: NDArray[np.int64]
    mask: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Area of the box in square pixels; what "largest" and "smallest" mean in a query."""
        return int((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


_PLACES: dict[str, tuple[Callable[..., Any], int]] = {
    "leftmost": (min, 0),
    "topmost": (min, 1),
    "rightmost": (max, 2),
    "lowest": (max, 3),
}


def ask(rng: np.random.Generator, digits: list[Digit]) -> tuple[str, list[Digit]]:
    """Choose a query that has an answer in the scene, or now and then one that has none."""
    kind = rng.choice(["all", "extreme", "place", "compare"], p=[0.5, 0.15, 0.15, 0.2])
    if kind == "all":
        return _ask_all(rng, digits)
    if kind == "extreme":
        return _ask_extreme(rng, digits)
    if kind == "place":
        return _ask_place(rng, digits)
    return _ask_compare(rng, digits)


def _ask_all(rng: np.random.Generator, digits: list[Digit]) -> tuple[str, list[Digit]]:
    present = {digit.label for digit in digits}
    if rng.random() < NO_TARGET:
        label = int(rng.choice(sorted(set(range(10)) - present)))
    else:
        label = int(rng.choice(sorted(present)))
    return f"all {label}s", [digit for digit in digits if digit.label == label]


def _ask_extreme(rng: np.random.Generator, digits: list[Digit]) -> tuple[str, list[Digit]]:
    word, best = _one_of(rng, ("largest", max), ("smallest", min))
    label = int(rng.choice(sorted({digit.label for digit in digits})))
    same = [digit for digit in digits if digit.label == label]
    return f"the {word} {label}", [best(same, key=lambda digit: digit.area)]


def _ask_place(rng: np.random.Generator, digits: list[Digit]) -> tuple[str, list[Digit]]:
    word = list(_PLACES)[int(rng.integers(4))]
    best, side = _PLACES[word]
    return f"the {word} digit", [best(digits, key=lambda digit: digit.box[side])]


def _ask_compare(rng: np.random.Generator, digits: list[Digit]) -> tuple[str, list[Digit]]:
    labels = [digit.label for digit in digits]
    greater = rng.random() < 0.5
    if rng.random() < NO_TARGET:
        threshold = rng.integers(max(labels), 10) if greater else rng.integers(min(labels) + 1)
    else:  # at least this one is asked for
        label = int(rng.choice(labels))
        greater = label == 9 or (greater and label > 0)
        threshold = rng.integers(label) if greater else rng.integers(label + 1, 10)
    if greater:
        found = [digit for digit in digits if digit.label > threshold]
        return f"every digit greater than {threshold}", found
    found = [digit for digit in digits if digit.label < threshold]
    return f"every digit less than {threshold}", found


def ask_unseen(rng: np.random.Generator, digits: list[Digit]) -> tuple[str, list[Digit]]:
    """A query of the usual words in a form that they never take."""
    label = int(rng.choice(sorted({digit.label for digit in digits})))
    same = [digit for digit in digits if digit.label == label]
    form = int(rng.integers(3))
    if form == 0:
        return f"every {label}", same
    if form == 1:
        word, best = _one_of(rng, ("largest", max), ("smallest", min))
        return f"the {word} digit", [best(digits, key=lambda digit: digit.area)]
    word = list(_PLACES)[int(rng.integers(4))]
    best, side = _PLACES[word]
    return f"the {word} {label}", [best(same, key=lambda digit: digit.box[side])]


def _one_of(
    rng: np.random.Generator, *choices: tuple[str, Callable[..., Any]]
) -> tuple[str, Callable[..., Any]]:
    return choices[int(rng.integers(len(choices)))]
