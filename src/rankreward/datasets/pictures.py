"""Pictures with annotated instances, and the rows made of them.

Goes in: what a reader found annotated in each image, masks not yet decoded. Comes out: rows, one
for each category of an image or for each annotation, decoded one at a time.

Needs the extra ``eval`` (pycocotools).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rankreward.datasets.checks import Report, note
from rankreward.datasets.geometry import Second, objects_of
from rankreward.datasets.rows import Mask, Row, encode_mask, strata_of, union_of
from rankreward.errors import InputError

Crowd = Literal["ignore", "object", "skip"]


@dataclass(frozen=True, eq=False)
class Instance:
    """One annotation.

    Attributes:
        id: its id in the file.
        category: the name of its category.
        crowd: whether it covers a group that nobody took apart (``iscrowd``).
        mask: decodes its mask, (H, W) bool.

    Raises:
        InputError: by `mask`, where it cannot be decoded.
    """

    id: str
    category: str
    crowd: bool
    mask: Callable[[], Mask]


@dataclass(frozen=True, eq=False)
class Picture:
    """One image and what is annotated in it.

    Attributes:
        id: its id in the file.
        path: where the image is.
        width: in pixels.
        height: in pixels.
        instances: in the file's order.
    """

    id: str
    path: Path
    width: int
    height: int
    instances: tuple[Instance, ...]

    def by_category(self) -> dict[str, list[Instance]]:
        """The instances by the name of their category, in the file's order."""
        groups: dict[str, list[Instance]] = {}
        for instance in self.instances:
            groups.setdefault(instance.category, []).append(instance)
        return groups


def rows_of(
    pictures: Iterable[Picture],
    *,
    per: Literal["category", "annotation"] = "category",
    query: str = "all {category}",
    categories: Sequence[str] | None = None,
    crowd: Crowd = "ignore",
    inclusive: bool = True,
    points: int = 1,
    second: Second = "median",
    report: Report | None = None,
    progress: Callable[[Iterable[Picture]], Iterable[Picture]] = iter,
) -> Iterator[Row]:
    """Rows of annotated pictures.

    Args:
        pictures: of `rankreward.datasets.coco.read_instances` or `read_panoptic`.
        per: a row for each category of an image, or for each annotation.
        query: the question, with the category's name in place of ``{category}``.
        categories: only these; all unless given.
        crowd: what a crowd annotation is: void pixels beside the objects (``"ignore"``), which
            every protocol of evaluation leaves out, an ``"object"``, or a reason to ``"skip"`` the
            category in this image. Where an object is within a crowd it is an object.
        inclusive: see `rankreward.datasets.geometry.box_of`; True as in published data.
        points: points an object, 1 or 2.
        second: see `rankreward.datasets.geometry.interior_points`.
        report: takes the annotations that cannot be read, whose rows are left out; without one
            the first raises.
        progress: wraps the loop over pictures, as `tqdm.tqdm` does.

    Yields:
        One `Row` at a time, with the strata ``category``, ``size`` and ``count``.

    Raises:
        InputError: an annotation cannot be read and there is no report.
    """
    for picture in progress(pictures):
        for category, instances in picture.by_category().items():
            if categories is not None and category not in categories:
                continue
            for name, group in _groups(picture, category, instances, per, crowd):
                try:
                    yield row_of(
                        picture,
                        name,
                        group,
                        query.replace("{category}", category),
                        crowd=crowd,
                        inclusive=inclusive,
                        points=points,
                        second=second,
                        category=category,
                    )
                except InputError as error:
                    note(report, name, "annotation", str(error))


def row_of(
    picture: Picture,
    name: str,
    instances: Sequence[Instance],
    query: str,
    *,
    crowd: Crowd = "ignore",
    inclusive: bool = True,
    points: int = 1,
    second: Second = "median",
    **strata: str,
) -> Row:
    """The row that asks for some instances of a picture; arguments as for `rows_of`.

    Raises:
        InputError: a mask cannot be decoded, or is empty.
    """
    aside = [each for each in instances if each.crowd and crowd == "ignore"]
    masks = [_mask_of(each) for each in instances if each not in aside]
    crowds = [each.mask() for each in aside]
    boxes, places = objects_of(masks, inclusive=inclusive, points=points, second=second)
    size = picture.height, picture.width
    union = union_of(masks, *size)
    void = union_of(crowds, *size) & ~union
    return Row(
        name,
        picture.path,
        query,
        boxes,
        places,
        encode_mask(union),
        picture.width,
        picture.height,
        strata_of(masks, **strata),
        void=encode_mask(void) if void.any() else None,
    )


def _groups(
    picture: Picture, category: str, instances: Sequence[Instance], per: str, crowd: Crowd
) -> Iterator[tuple[str, list[Instance]]]:
    """Names and instances of the rows of one category of a picture."""
    crowds = [each for each in instances if each.crowd and crowd != "object"]
    single = [each for each in instances if each not in crowds]
    if per == "annotation":
        for each in single:
            yield f"{picture.id}_{each.id}", [each]
    elif single and not (crowds and crowd == "skip"):
        yield f"{picture.id}_{category.replace(' ', '_')}", [*single, *crowds]


def _mask_of(instance: Instance) -> Mask:
    mask = instance.mask()
    if not mask.any():
        raise InputError(f"annotation {instance.id}: expected a mask with pixels, got none")
    return mask
