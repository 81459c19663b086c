"""A benchmark of queries for many objects at once, as Dr. Seg's of COCONut.

Goes in: pictures of instances or of panoptic segments. Comes out: a `Row` for each image and class
that has several instances there, with the query "All <category>", their boxes and the union of
their masks.

The paper's rule is two instances or more; its filters of quality and its sample are not published.
They are arguments here, and by default filter nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rankreward.datasets.checks import Report, note
from rankreward.datasets.geometry import Second
from rankreward.datasets.pictures import Instance, Picture, row_of
from rankreward.datasets.rows import Row, decode_mask
from rankreward.errors import InputError


@dataclass(frozen=True)
class Filters:
    """Which image and class make a row.

    Attributes:
        min_instances: instances, at least.
        max_instances: instances, at most; None for any number.
        min_share: of the image's area that the union of masks covers, at least, in [0, 1].
        max_share: likewise, at most.
        min_box_share: of the image's area that each box covers, at least.
        min_side: of the image's shorter side in pixels, at least.
    """

    min_instances: int = 2
    max_instances: int | None = None
    min_share: float = 0.0
    max_share: float = 1.0
    min_box_share: float = 0.0
    min_side: int = 1

    def __post_init__(self) -> None:
        shares = self.min_share, self.max_share, self.min_box_share
        most = self.min_instances if self.max_instances is None else self.max_instances
        whole = 1 <= self.min_instances <= most and self.min_side >= 1
        if not whole or not all(0 <= share <= 1 for share in shares):
            raise InputError(
                "filters: expected shares in [0, 1], 1 <= min_instances <= max_instances and "
                f"min_side >= 1, got {self}"
            )


def multi_object(
    pictures: Iterable[Picture],
    *,
    n: int | None = None,
    seed: int = 0,
    filters: Filters | None = None,
    query: str = "All {category}",
    categories: Sequence[str] | None = None,
    points: int = 1,
    second: Second = "median",
    report: Report | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Iterator[Row]:
    """Rows for all instances of a class.

    A class of which an image has a crowd annotation is left out there: nobody counted it.

    Args:
        pictures: of `rankreward.datasets.coco.read_instances` or `read_panoptic`.
        n: how many rows to draw; all unless given.
        seed: of the drawing, without putting back, among what the filters keep.
        filters: which image and class make a row.
        query: the question, with the category's name in place of ``{category}``.
        categories: only these; all unless given.
        points: points an object, 1 or 2.
        second: see `rankreward.datasets.geometry.interior_points`.
        report: as for `rankreward.datasets.pictures.rows_of`.
        progress: wraps the loop over candidates, as `tqdm.tqdm` does.

    Yields:
        One `Row` at a time, in the pictures' order, or where `n` is given as they are drawn.

    Raises:
        InputError: fewer than `n` rows are left; or an annotation cannot be read and there is no
            report.

    Cost:
        Masks of candidates alone are decoded, and with `n` only until enough are found.

    Source:
        Dr. Seg, arXiv 2603.00152, its multi-object benchmark; COCONut, arXiv 2404.08639.
    """
    filters = filters or Filters()
    if n is not None and n < 1:
        raise InputError(f"n: expected at least 1 row, got {n}")
    found = list(_candidates(pictures, filters, categories))
    order = range(len(found)) if n is None else np.random.default_rng(seed).permutation(len(found))
    made = 0
    for place in progress([int(each) for each in order]):
        if n is not None and made == n:
            break
        picture, category, instances = found[place]
        name = f"{picture.id}_{category.replace(' ', '_')}"
        asked = query.replace("{category}", category)
        try:
            row = row_of(
                picture, name, instances, asked, points=points, second=second, category=category
            )
        except InputError as error:
            note(report, name, "annotation", str(error))
            continue
        if _kept(row, filters):
            made += 1
            yield row
    if n is not None and made < n:
        raise InputError(
            f"n: expected {n} rows, got {made} of {len(found)} images and classes; ask for fewer, "
            "or filter less"
        )


def _candidates(
    pictures: Iterable[Picture], filters: Filters, categories: Sequence[str] | None
) -> Iterator[tuple[Picture, str, list[Instance]]]:
    """What can be said without a mask."""
    for picture in pictures:
        if min(picture.width, picture.height) < filters.min_side:
            continue
        for category, instances in picture.by_category().items():
            wanted = categories is None or category in categories
            most = len(instances) if filters.max_instances is None else filters.max_instances
            crowd = any(each.crowd for each in instances)
            if wanted and not crowd and filters.min_instances <= len(instances) <= most:
                yield picture, category, instances


def _kept(row: Row, filters: Filters) -> bool:
    """What needs the masks."""
    assert row.mask is not None  # made of masks
    area = row.width * row.height
    share = decode_mask(row.mask, row.id).sum() / area
    # Boxes are inclusive: a pixel more is what they cover.
    boxes = (row.boxes[:, 2:] - row.boxes[:, :2] + 1).prod(axis=1) / area
    return bool(
        filters.min_share <= share <= filters.max_share and boxes.min() >= filters.min_box_share
    )
