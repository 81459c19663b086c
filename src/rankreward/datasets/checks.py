"""Checks that name the row.

Goes in: rows. Comes out: a `Report` of what is wrong with which; the rest goes on. A report that is
strict raises at the first problem instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.datasets.rows import Mask, Row, decode_mask, open_image
from rankreward.datasets.solutions import PLACEHOLDERS, solution_of
from rankreward.errors import InputError
from rankreward.recipe import Recipe
from rankreward.rewards.references import read_references


@dataclass(frozen=True)
class Problem:
    """What is wrong with one row.

    Attributes:
        row: the row's id, or what there is instead, such as an annotation's.
        code: its kind, such as ``"box_outside"``.
        message: what was expected and what came.
    """

    row: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.code}: {self.message}"


@dataclass
class Report:
    """What is wrong with a data set.

    Attributes:
        limit: how many problems are kept in words, at least 1; all are counted.
        strict: whether the first problem raises.
        problems: the first `limit` of them.
        counts: how many there are of each kind.
    """

    limit: int = 100
    strict: bool = False
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise InputError(f"limit: expected at least 1, got {self.limit}")

    def __bool__(self) -> bool:
        return bool(self.counts)

    def add(self, problem: Problem) -> None:
        """Take note of a problem.

        Raises:
            InputError: the report is strict.
        """
        if self.strict:
            raise InputError(str(problem))
        self.counts[problem.code] += 1
        if len(self.problems) < self.limit:
            self.problems.append(problem)

    def drain(self) -> dict[str, Any]:
        """What the report holds, as JSON has it, for `recall`; it is empty after that."""
        kept = [asdict(each) for each in self.problems]
        drained = {"counts": dict(self.counts), "problems": kept}
        self.problems.clear()
        self.counts.clear()
        return drained

    def recall(self, kept: Mapping[str, Any]) -> None:
        """Take note of what another report found, by its `drain`.

        Raises:
            InputError: this report is strict, and the other has a problem.
        """
        found = [Problem(**each) for each in kept["problems"]]
        if self.strict and found:
            raise InputError(str(found[0]))
        self.counts.update(kept["counts"])
        self.problems += found[: self.limit - len(self.problems)]

    def __str__(self) -> str:
        total = self.counts.total()
        kinds = ", ".join(f"{code} {count}" for code, count in self.counts.most_common())
        lines = [f"{total} problems{': ' + kinds if kinds else ''}", *map(str, self.problems)]
        if total > len(self.problems):
            lines.append(f"and {total - len(self.problems)} more")
        return "\n".join(lines)


def note(report: Report | None, row: str, code: str, message: str) -> None:
    """Add to a report; raise where there is none, for nothing is left out in silence."""
    (Report(strict=True) if report is None else report).add(Problem(row, code, message))


def check(
    rows: Iterable[Row],
    recipe: str | Recipe | None = None,
    *,
    report: Report | None = None,
    needs_query: bool = True,
    progress: Callable[[Iterable[Row]], Iterable[Row]] = iter,
) -> Report:
    """Look at every row; its image is decoded.

    Args:
        rows: the rows, taken one at a time.
        recipe: the recipe that is to score answers, or None where the rows are for evaluation.
        report: what problems are added to; a new one unless given.
        needs_query: whether an empty query is a problem.
        progress: wraps the loop over rows, as `tqdm.tqdm` does.

    Returns:
        The report; empty, hence false, if all is well.

    Raises:
        InputError: the report is strict and there is a problem.
        ConfigError: there is no such recipe.
    """
    report = Report() if report is None else report
    loaded = None if recipe is None else Recipe.load(recipe)
    seen: set[str] = set()
    for row in progress(rows):
        for problem in problems_of(row, loaded, seen=seen, needs_query=needs_query):
            report.add(problem)
    return report


def problems_of(
    row: Row, recipe: Recipe | None = None, *, seen: set[str], needs_query: bool = True
) -> list[Problem]:
    """All that is wrong with one row.

    Args:
        row: the row.
        recipe: as for `check`.
        seen: ids of the rows before, to which this one's is added.
        needs_query: as for `check`.
    """
    found: list[tuple[str, str]] = []
    if row.id in seen:
        found.append(("duplicate_id", "expected an id of its own, got one of a row before"))
    seen.add(row.id)
    found += [*_of_query(row, needs_query=needs_query), *_of_boxes(row)]
    mask, wrong = _read_masks(row)
    found += [*wrong, *_of_points(row, mask)]
    try:
        picture = open_image(row)
    except InputError as error:
        return _named(row, [*found, ("unreadable_image", str(error))])
    if picture.size != (row.width, row.height):
        got = f"{picture.size[0]} x {picture.size[1]}"
        found.append(("image_size", f"expected {row.width} x {row.height} pixels, got {got}"))
    elif recipe is not None and not found:  # a broken row's reference would only say it again
        found += _of_reference(row, recipe)
    return _named(row, found)


def _named(row: Row, found: list[tuple[str, str]]) -> list[Problem]:
    return [Problem(row.id, code, message) for code, message in found]


def _of_query(row: Row, *, needs_query: bool) -> list[tuple[str, str]]:
    if needs_query and not row.query.strip():
        return [("query_empty", "expected a text that says what to find, got none")]
    held = [each for each in PLACEHOLDERS if each in row.query]
    if held:  # it would stand for a second image
        return [("placeholder", f"expected a query without {held[0]}, got {row.query!r:.80}")]
    return []


def _of_boxes(row: Row) -> list[tuple[str, str]]:
    found = []
    for place, box in enumerate(row.boxes):
        x1, y1, x2, y2 = box.tolist()
        if min(x1, y1) < 0 or max(x1, x2) > row.width or max(y1, y2) > row.height:
            size = f"the image of {row.width} x {row.height}"
            found.append(("box_outside", f"box {place}: expected it in {size}, got {box.tolist()}"))
        elif x1 >= x2 or y1 >= y2:
            found.append(
                ("box_without_area", f"box {place}: expected x1 < x2, y1 < y2, got {box.tolist()}")
            )
    return found


def _read_masks(row: Row) -> tuple[Mask | None, list[tuple[str, str]]]:
    """The union mask, where it can be read, and what is wrong with it and those left out."""
    masks: list[Mask | None] = []
    found = []
    for name, rle in (("mask", row.mask), ("ignore", row.ignore), ("void", row.void)):
        mask = None
        if rle is not None:
            try:
                mask = decode_mask(rle, name)
            except InputError as error:
                found.append(("mask_unreadable", str(error)))
        if mask is not None and mask.shape != (row.height, row.width):
            expected = f"{row.width} x {row.height} pixels, the image's"
            got = f"{mask.shape[1]} x {mask.shape[0]}"
            found.append(("mask_size", f"{name}: expected {expected}, got {got}"))
            mask = None
        masks.append(mask)
    if masks[0] is not None and masks[0].any() != bool(len(row)):
        code = "mask_empty" if len(row) else "mask_without_objects"
        pixels = int(masks[0].sum())
        found.append((code, f"got a mask of {pixels} pixels for {len(row)} objects"))
    return masks[0], found


def _of_points(row: Row, mask: Mask | None) -> list[tuple[str, str]]:
    found = []
    for place, (box, points) in enumerate(zip(row.boxes, row.points, strict=True)):
        for point in points:
            where = f"point {point.tolist()} of object {place}"
            # Negated, so that NaN is outside, too.
            if not ((box[:2] <= point) & (point <= box[2:])).all():
                found.append(("point_outside_box", f"{where}: expected it in {box.tolist()}"))
            elif mask is not None and not _on(mask, point):
                found.append(("point_outside_mask", f"{where}: expected a pixel of the mask"))
    return found


def _on(mask: Mask, point: NDArray[np.float64]) -> bool:
    x, y = np.floor(point).astype(int).tolist()
    inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
    return bool(inside and mask[y, x])


def _of_reference(row: Row, recipe: Recipe) -> list[tuple[str, str]]:
    """What the scorer would say of the reference that training gets."""
    try:
        read_references([solution_of(row, recipe)], recipe)
    except InputError as error:
        return [("reference", str(error).removeprefix("references[0]: "))]
    return []
