"""Published data sets by name.

Goes in: a name. Comes out: a `datasets.Dataset` in its published columns, or rows of it: downloaded
where there is network, or read from a folder that was downloaded elsewhere.

Needs the extra ``eval`` (`datasets`, Pillow and pycocotools).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from rankreward.datasets.checks import Report, note
from rankreward.datasets.geometry import objects_of
from rankreward.datasets.rows import Row, count_class, encode_mask, strata_of
from rankreward.errors import InputError, require
from rankreward.recipe import Recipe
from rankreward.rewards.references import read_references

_TRAINING = ("id", "problem", "solution", "image", "img_height", "img_width")
_EVALUATION = ("image", "text", "mask")  # what the published evaluation cannot do without


@dataclass(frozen=True)
class Published:
    """A data set on the Hugging Face Hub.

    Attributes:
        repository: its name there.
        split: of the rows.
        kind: ``"training"`` has references in a frame of 840 x 840 pixels; ``"evaluation"`` has
            masks at the images' own size.
        revision: the commit, or None for whatever is newest, which may change.
    """

    repository: str
    split: str
    kind: Literal["training", "evaluation"]
    revision: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it has at least."""
        return _TRAINING if self.kind == "training" else _EVALUATION


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "visionreasoner_7k": Published(
            "Ricky06662/VisionReasoner_multi_object_7k_840",
            "train",
            "training",
            "8056f125d15bda2c0cdc75ca84b47bbdd83dbfc7",
        ),
        "visionreasoner_1k": Published(
            "Ricky06662/VisionReasoner_multi_object_1k_840", "train", "training"
        ),
        "refcocog_9k": Published("Ricky06662/refCOCOg_9k_840", "train", "training"),
        "refcocog_2k": Published("Ricky06662/refCOCOg_2k_840", "train", "training"),
        "reasonseg_val": Published("Ricky06662/ReasonSeg_val", "test", "evaluation"),
        "reasonseg_test": Published("Ricky06662/ReasonSeg_test", "test", "evaluation"),
        "refcoco_val": Published("Ricky06662/refcoco_val", "test", "evaluation"),
        "refcoco_testA": Published("Ricky06662/refcoco_testA", "test", "evaluation"),
        "refcocoplus_val": Published("Ricky06662/refcocoplus_val", "test", "evaluation"),
        "refcocoplus_testA": Published("Ricky06662/refcocoplus_testA", "test", "evaluation"),
        "refcocog_val": Published("Ricky06662/refcocog_val", "test", "evaluation"),
        "refcocog_test": Published("Ricky06662/refcocog_test", "test", "evaluation"),
        "coconut": Published("hao05/coconut", "test", "evaluation"),
    }
)
"""The data sets of the Seg-Zero family by name: what VisionReasoner and Seg-Zero train on, and what
they and Dr. Seg evaluate on.

In the ReasonSeg sets, pixels to ignore have become object pixels: their masks were made true and
false of 0, 1 and 255. Figures on them are not those of LISA's protocol, which leaves such pixels
out. ``coconut`` is Dr. Seg's multi-object benchmark.
"""


def load(name: str, folder: str | Path | None = None) -> Any:
    """A published data set.

    Args:
        name: one of `PUBLISHED`.
        folder: where its Parquet files are, if it was downloaded elsewhere.

    Returns:
        A `datasets.Dataset` with at least `Published.columns`; images are decoded when asked for.

    Raises:
        InputError: there is no such name, it cannot be downloaded, the folder holds no Parquet
            files, or a column is missing. The message says what to download and where to put it.
        MissingExtraError: `datasets` is not installed.
    """
    if name not in PUBLISHED:
        raise InputError(f"name: expected one of {', '.join(PUBLISHED)}, got {name!r}")
    which = PUBLISHED[name]
    data = _download(name, which) if folder is None else _local(Path(folder), name, which)
    lacks = [column for column in which.columns if column not in data.column_names]
    if lacks:
        raise InputError(
            f"{name}: expected the columns {', '.join(which.columns)}, lacks {', '.join(lacks)}"
        )
    return data


def published_rows(
    name: str,
    folder: str | Path | None = None,
    *,
    points: int = 1,
    report: Report | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Iterator[Row]:
    """Rows of a published data set.

    Those for training are in pixels of the resized image and have no mask. Those for evaluation
    have the published mask as one object, for the data do not take instances apart; a mask of
    nothing is a row of which K is 0.

    Args:
        name: as for `load`.
        folder: as for `load`.
        points: points an object, where they are made from masks.
        report: takes the rows that cannot be read; without one the first raises.
        progress: wraps the loop over rows, as `tqdm.tqdm` does.

    Yields:
        One `Row` at a time.

    Raises:
        InputError: as for `load`; or a row cannot be read, and there is no report.
    """
    data = load(name, folder)
    make: Callable[[Mapping[str, Any], str], Row] = training_row
    if PUBLISHED[name].kind == "evaluation":
        make = functools.partial(_evaluation_row, points=points)
    for place, columns in enumerate(progress(data)):
        try:
            row = make(columns, f"{name}_{place}")
        except (InputError, TypeError, AttributeError, ValueError) as error:
            note(report, f"{name}_{place}", "published", str(error))
            continue
        yield row


def _download(name: str, which: Published) -> Any:
    library = require("datasets", extra="eval")
    try:
        return library.load_dataset(which.repository, revision=which.revision, split=which.split)
    except Exception as error:  # whatever the network, the Hub or the cache comes up with
        raise InputError(_how_to_get(name, which, error)) from error


def _local(folder: Path, name: str, which: Published) -> Any:
    files = sorted(str(path) for path in folder.rglob("*.parquet"))
    if not files:
        raise InputError(f"{folder}: no Parquet files. {_how_to_get(name, which, None)}")
    library = require("datasets", extra="eval")
    try:
        return library.load_dataset("parquet", data_files=files, split="train")
    except Exception as error:  # a broken file, of which PyArrow and `datasets` say so in many ways
        raise InputError(f"{folder}: Parquet files that cannot be read ({error})") from error


def _how_to_get(name: str, which: Published, error: Exception | None) -> str:
    reason = (
        "" if error is None else f" ({type(error).__name__}: {' '.join(str(error).split()):.200})"
    )
    revision = f" --revision {which.revision}" if which.revision else ""
    return (
        f"{name}: the data set {which.repository!r} could not be had{reason}. On a machine with "
        f"network run\n    hf download {which.repository} --repo-type dataset{revision} "
        f"--local-dir {name}\nthen copy that folder here and give its path as the folder"
    )


def training_row(columns: Mapping[str, Any], name: str) -> Row:
    """A row of the training kind, in pixels of its resized image.

    Args:
        columns: of VisionReasoner's or Seg-Zero's training data, the image decoded.
        name: its name, if it has no id.

    Raises:
        InputError: its reference cannot be read.
    """
    # One object in tags is Seg-Zero's form, a list VisionReasoner's; both have the same frame.
    form = "seg_zero" if columns["solution"].lstrip().startswith("<box>") else "vision_reasoner"
    (target,) = read_references([columns["solution"]], Recipe.load(form))
    assert target.objects is not None  # neither recipe looks at masks
    width, height = columns["image"].size
    return Row(
        str(columns["id"] or name),
        columns["image"],
        columns["problem"],
        target.objects.boxes,
        target.objects.points,
        None,
        width,
        height,
        {"count": count_class(len(target.objects))},
    )


def _evaluation_row(columns: Mapping[str, Any], name: str, points: int) -> Row:
    """A row of the evaluation kind: the whole mask is one object."""
    mask, image = np.asarray(columns["mask"], dtype=bool), columns["image"]
    if mask.shape != (image.height, image.width):
        raise InputError(
            f"expected a mask of {image.width} x {image.height} pixels, the image's, "
            f"got shape {mask.shape}"
        )
    masks = [mask] if mask.any() else []
    boxes, places = objects_of(masks, points=points)
    return Row(
        name,
        image,
        columns["text"],
        boxes,
        places,
        encode_mask(mask),
        image.width,
        image.height,
        strata_of(masks),
    )
