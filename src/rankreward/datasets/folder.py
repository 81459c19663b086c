"""A folder of images and masks.

Goes in: a folder with ``name.jpg`` (or .jpeg, .png, .webp, .bmp) and a mask ``name.png`` for each,
in the same folder or another, and a JSON of queries. Comes out: a `Row` for each query. Pixels to
ignore are kept apart from objects and ground.

Needs the extra ``eval`` (Pillow and pycocotools).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rankreward.datasets.checks import Report, note
from rankreward.datasets.coco import load_json
from rankreward.datasets.geometry import Second, objects_of
from rankreward.datasets.rows import Mask, Row, decode_file, encode_mask, strata_of, union_of
from rankreward.errors import InputError

Objects = Literal["values", "components", "whole"]
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def folder_rows(
    images: str | Path,
    masks: str | Path | None = None,
    *,
    queries: str | Path | Mapping[str, Any] | None = None,
    query: str = "",
    objects: Objects = "values",
    ignore: int | None = 255,
    inclusive: bool = True,
    points: int = 1,
    second: Second = "median",
    report: Report | None = None,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> Iterator[Row]:
    """Rows of a folder.

    Args:
        images: the folder with the images, of which a name stands once.
        masks: the folder with the masks; that of the images unless given, and then an image is
            no PNG.
        queries: a JSON mapping of an image's name, without its ending, to a text or a list of
            texts, or the path of one. An image that it does not name is left out.
        query: what to ask where there are no queries.
        objects: what an object is: all pixels of one ``"values"``, a connected part
            (``"components"``, by edges and corners), or all that is not 0 (``"whole"``).
        ignore: the value of pixels that are neither object nor ground; None if there is none.
        inclusive: see `rankreward.datasets.geometry.box_of`.
        points: points an object, 1 or 2.
        second: see `rankreward.datasets.geometry.interior_points`.
        report: takes the images whose mask is missing or cannot be read; without one the first
            raises.
        progress: wraps the loop over images, as `tqdm.tqdm` does.

    Yields:
        One `Row` at a time, in the order of names, with the strata ``size`` and ``count``. A mask
        of zeros alone is a row of which K is 0.

    Raises:
        InputError: there is no image, or queries cannot be read; or an image's mask is not right,
            and there is no report. A mask of 0 and `ignore` alone is not: it is most often a
            mask of 0 and 255, whose 255 is the object.
    """
    paths, asked = _images(Path(images), masks), _queries(queries)
    place = Path(images if masks is None else masks)
    for path in progress(paths):
        texts = [query] if asked is None else asked.get(path.stem, [])
        if not texts:
            continue
        try:
            labels = _labels(place / f"{path.stem}.png")
            found, aside = _split(labels, objects, ignore)
        except InputError as error:
            note(report, path.stem, "mask", str(error))
            continue
        height, width = labels.shape
        boxes, places = objects_of(found, inclusive=inclusive, points=points, second=second)
        union, strata = encode_mask(union_of(found, height, width)), strata_of(found)
        for number, text in enumerate(texts):
            name = path.stem if len(texts) == 1 else f"{path.stem}_{number}"
            yield Row(name, path, text, boxes, places, union, width, height, strata, aside)


def _images(folder: Path, masks: str | Path | None) -> list[Path]:
    endings = [each for each in _IMAGES if masks is not None or each != ".png"]
    try:
        paths = sorted(each for each in folder.iterdir() if each.suffix.lower() in endings)
    except OSError as error:
        raise InputError(f"images: expected a folder at {folder}, got {error}") from error
    if not paths:
        raise InputError(f"images: expected {', '.join(endings)} files in {folder}, got none")
    return paths


def _queries(source: str | Path | Mapping[str, Any] | None) -> dict[str, list[str]] | None:
    if source is None:
        return None
    data = load_json(source)
    if not isinstance(data, Mapping):
        raise InputError("queries: expected a JSON mapping of names to texts")
    asked = {}
    for name, value in data.items():
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"queries: expected a text or a list of texts for {name!r}")
        asked[name] = texts
    return asked


def _labels(path: Path) -> NDArray[np.int64]:
    """(H, W) the values of a mask; those of a palette are its indices."""
    image = decode_file(path)
    labels = np.asarray(image)
    if labels.ndim != 2:
        raise InputError(f"{path}: expected a mask of one channel, got one of mode {image.mode}")
    return labels.astype(np.int64)


def _split(
    labels: NDArray[np.int64], objects: Objects, ignore: int | None
) -> tuple[list[Mask], dict[str, Any] | None]:
    """The objects' masks and the ignored pixels of a mask's values."""
    aside = np.zeros(labels.shape, dtype=bool) if ignore is None else labels == ignore
    solid = (labels != 0) & ~aside
    if aside.any() and not solid.any():
        raise InputError(
            f"expected objects beside the pixels to ignore, got the values 0 and {ignore} alone; "
            f"if {ignore} is the object, say ignore=None"
        )
    kept = encode_mask(aside) if aside.any() else None
    if objects == "whole":
        return ([solid] if solid.any() else []), kept
    if objects == "components":
        labels, count = ndimage.label(solid, structure=np.ones((3, 3)))
        return [np.asarray(labels == value) for value in range(1, count + 1)], kept
    if objects != "values":
        raise InputError(f"objects: expected 'values', 'components' or 'whole', got {objects!r}")
    return [np.asarray(labels == value) for value in np.unique(labels[solid])], kept
