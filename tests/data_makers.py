"""Makers of rows and annotation files that the tests of data share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import skimage.filters
import skimage.segmentation
from PIL import Image
from pycocotools import mask as coder
from scipy import ndimage

from rankreward.datasets.digits import scenes
from rankreward.datasets.geometry import objects_of
from rankreward.datasets.rows import Row, encode_mask, strata_of, union_of


def disc(height: int, width: int, x: float, y: float, radius: float) -> Any:
    """(H, W) bool, a disc."""
    rows, columns = np.mgrid[:height, :width]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def row_from(name: str, image: Any, query: str, masks: list[Any], **how: Any) -> Row:
    """A row of masks."""
    height, width = np.asarray(image).shape[:2]
    boxes, points = objects_of(masks, **how)
    mask = encode_mask(union_of(masks, height, width))
    return Row(name, image, query, boxes, points, mask, width, height, strata_of(masks))


def digit_rows(count: int, **how: Any) -> list[Row]:
    """Rows of the digit scenes, from their masks."""
    made = scenes(count, seed=0, max_digits=4)
    return [
        row_from(
            f"digits_{i}", Image.fromarray(s.image), s.query, [t.mask for t in s.targets], **how
        )
        for i, s in enumerate(made)
    ]


def coins() -> tuple[Any, list[Any]]:
    """scikit-image's photograph of coins, (303, 384, 3) uint8, and the mask of each of the 24."""
    grey = skimage.data.coins()
    seeds = np.where(grey < 30, 1, np.where(grey > 150, 2, 0))
    solid = skimage.segmentation.watershed(skimage.filters.sobel(grey), seeds) == 2
    labels, count = ndimage.label(ndimage.binary_fill_holes(solid))
    masks = [labels == value for value in range(1, count + 1)]
    return np.stack([grey] * 3, axis=2), [mask for mask in masks if mask.sum() > 20]


SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]
BAR = [40.0, 5.0, 60.0, 5.0, 60.0, 25.0, 40.0, 25.0]
SIZE = (60, 80)  # height, width


def plain_rle(mask: Any) -> dict[str, Any]:
    """The uncompressed RLE of a mask, counted out pixel by pixel."""
    runs, value, length = [], False, 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    return {"size": list(mask.shape), "counts": [*runs, length]}


def packed_rle(mask: Any) -> dict[str, Any]:
    """The compressed RLE of a mask, by pycocotools alone."""
    made = coder.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in made["size"]], "counts": made["counts"].decode()}


def annotation(identity: int, image: int, category: int, segmentation: Any, **more: Any) -> Any:
    return {
        "id": identity,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": 0,
        **more,
    }


def coco(folder: Path) -> dict[str, Any]:
    """An instances file's content of two pictures, which are written to the folder.

    Picture 1: three cups (a polygon, two discs as RLE, plain and packed), one plate. Picture 2: a
    cup, a crowd of cups, two plates, one of which is of two polygons. Picture 3: nothing.
    """
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    images = []
    for identity in (1, 2, 3):
        pixels = generator.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{identity}.png")
        images.append(
            {"id": identity, "file_name": f"{identity}.png", "height": SIZE[0], "width": SIZE[1]}
        )
    return {
        "images": images,
        "categories": [{"id": 5, "name": "cup"}, {"id": 9, "name": "dinner plate"}],
        "annotations": [
            annotation(11, 1, 5, [SQUARE]),
            annotation(12, 1, 5, plain_rle(disc(*SIZE, 60, 40, 8))),
            annotation(13, 1, 5, packed_rle(disc(*SIZE, 20, 45, 6))),
            annotation(14, 1, 9, [BAR]),
            annotation(21, 2, 5, [SQUARE]),
            annotation(22, 2, 5, plain_rle(disc(*SIZE, 60, 40, 8)), iscrowd=1),
            annotation(23, 2, 9, [BAR]),
            annotation(
                24,
                2,
                9,
                [[2.0, 40.0, 12.0, 40.0, 12.0, 50.0], [20.0, 40.0, 30.0, 40.0, 30.0, 50.0]],
            ),
        ],
    }


def write_json(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


def panoptic(folder: Path) -> dict[str, Any]:
    """A panoptic file's content of one picture, whose PNG of segments is written to the folder."""
    folder.mkdir(exist_ok=True)
    ids = np.zeros(SIZE, dtype=np.int64)
    ids[disc(*SIZE, 20, 20, 9)] = 7
    ids[disc(*SIZE, 60, 20, 9)] = 300  # needs two colours
    ids[disc(*SIZE, 40, 45, 9)] = 70000  # needs three
    ids[:3] = 2
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)
    Image.fromarray(colours).save(folder / "1_panoptic.png")
    Image.fromarray(np.full((*SIZE, 3), 90, dtype=np.uint8)).save(folder / "1.jpg")
    segments = [
        {"id": i, "category_id": c, "iscrowd": 0} for i, c in ((7, 1), (300, 1), (70000, 1), (2, 2))
    ]
    return {
        "images": [{"id": 1, "file_name": "1.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 1, "name": "coin"}, {"id": 2, "name": "sky"}],
        "annotations": [{"image_id": 1, "file_name": "1_panoptic.png", "segments_info": segments}],
    }
