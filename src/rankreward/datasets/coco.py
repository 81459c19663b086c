"""COCO-style annotations: one JSON of images, annotations and categories.

Goes in: the path of an instances file (polygons, run lengths, compressed or not) or of a panoptic
file with its folder of PNGs, and the folder of images. Comes out: a list of `Picture`, of which
`rankreward.datasets.pictures` makes rows. The JSON is held in memory; masks are decoded when asked
for.

Needs the extra ``eval`` (pycocotools for polygons, Pillow for panoptic PNGs).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankreward.datasets.pictures import Instance, Picture
from rankreward.datasets.rows import Mask, decode_file, decode_mask
from rankreward.errors import InputError, require


def read_instances(
    annotations: str | Path | Mapping[str, Any], images: str | Path
) -> list[Picture]:
    """The pictures of an instances file.

    Args:
        annotations: path of the JSON, or what it holds.
        images: the folder with the images.

    Returns:
        One `Picture` an image, in the file's order; an image without annotations has none.

    Raises:
        InputError: the file cannot be read, lacks a part, names an image or category that it
            does not describe, or a ``file_name`` outside its folder.

    Cost:
        O(annotations) memory; no mask is decoded.
    """
    data = load_json(annotations)
    with _described("instances"):
        sizes = {image["id"]: image for image in parts(data, "images", annotations)}
        names = category_names(data, annotations)
        found: dict[Any, list[Instance]] = {key: [] for key in sizes}
        for entry in parts(data, "annotations", annotations):
            image = sizes.get(entry["image_id"])
            found.setdefault(entry["image_id"], []).append(_instance(entry, image, names))
        return [_picture(image, Path(images), found[key]) for key, image in sizes.items()]


def read_panoptic(
    annotations: str | Path | Mapping[str, Any], masks: str | Path, images: str | Path
) -> list[Picture]:
    """The pictures of a panoptic file; its segments are the instances.

    Args:
        annotations: path of the JSON, or what it holds.
        masks: the folder with the PNGs, whose colours are segments: R + 256 G + 65536 B.
        images: the folder with the images.

    Returns:
        One `Picture` an annotated image.

    Raises:
        InputError: as for `read_instances`.
    """
    data = load_json(annotations)
    pictures = []
    with _described("panoptic"):
        sizes = {image["id"]: image for image in parts(data, "images", annotations)}
        names = category_names(data, annotations)
        for entry in parts(data, "annotations", annotations):
            image, png = sizes.get(entry["image_id"]), _inside(Path(masks), entry["file_name"])
            found = [_panoptic_instance(each, png, image, names) for each in entry["segments_info"]]
            if image is None:  # an image without segments; others say so of their first
                raise InputError(f"{png.name}: its image_id is not described in the file")
            pictures.append(_picture(image, Path(images), found))
    return pictures


def decode_segmentation(segmentation: Any, height: int, width: int, name: str) -> Mask:
    """The mask of a COCO ``segmentation``.

    Args:
        segmentation: polygons, a list of [x1, y1, x2, y2, ...] of three corners or more, whose
            union is meant; or an RLE, compressed or not.
        height: of the image.
        width: of the image.
        name: whose it is, for the error.

    Returns:
        (H, W) bool.

    Raises:
        InputError: it is neither, or an RLE of another size.
    """
    if isinstance(segmentation, Mapping):
        mask = decode_mask(segmentation, name)
        if mask.shape != (height, width):
            raise InputError(
                f"{name}: expected an RLE of {width} x {height} pixels, the image's, "
                f"got {mask.shape[1]} x {mask.shape[0]}"
            )
        return mask
    if not isinstance(segmentation, list) or not segmentation:
        raise InputError(f"{name}: expected polygons or an RLE, got {segmentation!r:.60}")
    coder = require("pycocotools.mask", extra="eval")
    polygons = [_polygon(each, name) for each in segmentation]
    return decode_mask(coder.merge(coder.frPyObjects(polygons, height, width)), name)


def load_json(source: str | Path | Mapping[str, Any] | Sequence[Any]) -> Any:
    """What a JSON file holds; what is none of a path is given back as it is.

    Raises:
        InputError: it is not there or no JSON.
    """
    if not isinstance(source, str | Path):
        return source
    try:
        return json.loads(Path(source).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{source}: expected a JSON file, got {error}") from error


def parts(data: Any, key: str, source: Any) -> list[Any]:
    """A list that a COCO file has to hold."""
    if not isinstance(data, Mapping) or not isinstance(data.get(key), list):
        shown = source if isinstance(source, str | Path) else "annotations"
        raise InputError(f"{shown}: expected a COCO file with the list {key!r}")
    return list(data[key])


def category_names(data: Any, source: Any) -> dict[Any, str]:
    """The categories' names by id."""
    return {each["id"]: str(each["name"]) for each in parts(data, "categories", source)}


@contextmanager
def _described(kind: str) -> Iterator[None]:
    """Say of a file that lacks a key, or has another type in its place, that it does."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"annotations: expected a COCO {kind} file, got {error!r}") from error


def _instance(
    entry: Mapping[str, Any], image: Mapping[str, Any] | None, names: Mapping[Any, str]
) -> Instance:
    name, category = f"annotation {entry['id']}", entry["category_id"]
    if image is None or category not in names:
        raise InputError(f"{name}: its image_id or category_id is not described in the file")
    size = int(image["height"]), int(image["width"])
    read = functools.partial(decode_segmentation, entry.get("segmentation"), *size, name)
    return Instance(str(entry["id"]), names[category], bool(entry.get("iscrowd")), read)


def _panoptic_instance(
    segment: Mapping[str, Any],
    png: Path,
    image: Mapping[str, Any] | None,
    names: Mapping[Any, str],
) -> Instance:
    name, category = f"{png.stem}_{segment['id']}", segment["category_id"]
    if image is None or category not in names:
        raise InputError(f"segment {name}: its image_id or category_id is not described")
    size = int(image["height"]), int(image["width"])
    read = functools.partial(_segment, png, int(segment["id"]), *size)
    return Instance(name, names[category], bool(segment.get("iscrowd")), read)


def _picture(image: Mapping[str, Any], folder: Path, found: Sequence[Instance]) -> Picture:
    size = int(image["width"]), int(image["height"])
    return Picture(str(image["id"]), _inside(folder, image["file_name"]), *size, tuple(found))


def _inside(folder: Path, name: str) -> Path:
    """The path of a file that annotations name; they may come from anyone."""
    path = folder / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"file_name: expected a path within {folder}, got {name!r}, which leaves it; put the "
            "file there, or give the folder that holds all of them"
        )
    return path


def _polygon(corners: Any, name: str) -> list[float]:
    """The numbers of one polygon; pycocotools takes four of them for a box."""
    try:
        numbers = np.asarray(corners, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.ndim != 1 or len(numbers) < 6 or len(numbers) % 2 or not np.isfinite(numbers).all():
        raise InputError(
            f"{name}: expected a polygon x1, y1, x2, y2, x3, y3, ..., got {corners!r:.60}"
        )
    flat: list[float] = numbers.tolist()
    return flat


def _segment(png: Path, identity: int, height: int, width: int) -> Mask:
    """The mask of one panoptic segment."""
    colours = _segments(png)
    if colours.shape != (height, width):
        raise InputError(
            f"{png}: expected {width} x {height} pixels, the image's, "
            f"got {colours.shape[1]} x {colours.shape[0]}"
        )
    return np.asarray(colours == identity)


@functools.lru_cache(maxsize=1)  # the segments of an image are asked for one after the other
def _segments(png: Path) -> NDArray[np.int64]:
    colours = np.asarray(decode_file(png).convert("RGB"), dtype=np.int64)
    whole: NDArray[np.int64] = colours @ np.array([1, 256, 65536])
    return whole
