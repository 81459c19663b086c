"""References: the ground truth that a dataset column holds.

Goes in: a JSON text, or what it stands for. Comes out: a `Target`. A reference that cannot be read
is an error, unlike a completion: scoring against nothing would pay noise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rankreward.errors import BadReferenceError
from rankreward.kinds import MASKED, PAIRWISE, CountRatio, Discriminative, RevisionGain
from rankreward.parsing import SCHEMAS, Objects, Schema
from rankreward.parsing.answers import parse_objects
from rankreward.parsing.batch import read_objects
from rankreward.parsing.failure import Failure
from rankreward.recipe import Frame, Recipe
from rankreward.rewards.masks import read_mask
from rankreward.rewards.rollouts import Target

MARGIN = 2.0  # pixels; rounding may put an edge a little outside
# The form of the datasets of the Seg-Zero family.
_TAGGED = re.compile(
    r"\s*<box>\((\d+), ?(\d+)\), ?\((\d+), ?(\d+)\)</box>\s*"
    r"<points>\((\d+), ?(\d+)\), ?\((\d+), ?(\d+)\)</points>\s*"
)


def read_references(references: Sequence[Any], recipe: Recipe) -> list[Target]:
    """Read the references of a batch.

    Args:
        references: B references. For answers that are objects each is a JSON text, or the list or
            mapping it stands for, with the keys of the recipe's schema; an empty list says that
            there is nothing to find. Where the recipe looks at masks, it is a mapping of ``mask``
            (an array, or COCO's run lengths) and, if boxes or points are needed too, ``objects``.
            For answers that are texts it is the right text.
        recipe: what is needed, and in which frame.

    Returns:
        B targets; rollouts of a group share their reference, and each is read once.

    Raises:
        BadReferenceError: one cannot be read; the message names the place and the reason.
    """
    references = list(references)  # made on the fly, an entry would lose its identity at once
    texts = list(dict.fromkeys(each for each in references if isinstance(each, str)))
    objects = read_objects(texts, SCHEMAS[recipe.response.schema_])
    quick = {text: each for text, each in zip(texts, objects, strict=True) if each is not None}
    read: dict[Any, Target] = {}
    targets = []
    for index, reference in enumerate(references):
        key = reference if isinstance(reference, str) else id(reference)
        if key not in read:
            read[key] = _read(reference, index, recipe, quick)
        targets.append(read[key])
    return targets


def _read(reference: Any, index: int, recipe: Recipe, quick: Mapping[str, Objects]) -> Target:
    response = recipe.response
    if response.schema_ == "text":
        if not isinstance(reference, str) or not reference.strip():
            raise BadReferenceError(
                f"references[{index}]: expected the right answer as a text, got {reference!r:.60}"
            )
        return Target(text=reference.strip())
    assert response.frame is not None
    schema = SCHEMAS[response.schema_]
    if not needs_masks(recipe):
        if schema.form == "tags":
            return Target()  # what a user's own metric compares with, it reads itself
        return Target(objects=_objects(reference, index, schema, response.frame, quick))
    if isinstance(reference, str):
        reference = _load(reference, index)
    if not isinstance(reference, Mapping) or "mask" not in reference:
        raise BadReferenceError(
            f"references[{index}]: expected a mapping with the key 'mask', which recipe "
            f"{recipe.name!r} needs, got {_shown(reference)}"
        )
    mask = read_mask(reference["mask"], index)
    objects = None
    if _needs_objects(recipe) or ("objects" in reference and schema.form != "tags"):
        if "objects" not in reference:
            raise BadReferenceError(
                f"references[{index}]: expected the key 'objects' beside 'mask', which recipe "
                f"{recipe.name!r} needs, got {', '.join(map(str, reference))}"
            )
        objects = _objects(reference["objects"], index, schema, response.frame, quick)
        if bool(len(objects)) != bool(mask.any()):
            raise BadReferenceError(
                f"references[{index}]: expected a mask that is empty if there are no objects, and "
                f"only then, got {len(objects)} objects and {int(mask.sum())} pixels"
            )
    return Target(objects=objects, mask=mask)


def needs_masks(recipe: Recipe) -> bool:
    """Whether any of the recipe's metrics compares masks."""
    return any(isinstance(metric, MASKED) for metric in recipe.accuracy.metrics.values())


def _needs_objects(recipe: Recipe) -> bool:
    parts = (*recipe.terms.values(), *recipe.accuracy.metrics.values())
    kinds = (*PAIRWISE, CountRatio, Discriminative, RevisionGain)
    return any(isinstance(part, kinds) for part in parts)


def _objects(
    reference: Any, index: int, schema: Schema, frame: Frame, quick: Mapping[str, Objects]
) -> Objects:
    text = reference if isinstance(reference, str) else _dump(reference, index, schema)
    tagged = _TAGGED.fullmatch(text) if schema.form == "object" else None
    read: Objects | Failure | None = quick.get(text)
    if tagged is not None:
        numbers = np.array([float(value) for value in tagged.groups()])
        read = Objects(numbers[None, :4], numbers[4:].reshape(1, 2, 2))
    elif read is None:
        read = parse_objects(text, 0, schema, max_objects=len(text))
    if isinstance(read, Failure):
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise BadReferenceError(
            f"references[{index}]: expected {_shape(schema)}, got {shown!r}: {read.message}"
        )
    points = read.points.reshape(len(read), 2 * read.points.shape[1])
    # Objects are few: their numbers are sooner looked at one by one than as arrays.
    rows = np.concatenate([read.boxes, points], axis=1).tolist()
    _check_frame(rows, index, schema, frame)
    return _once(read, rows)


def _check_frame(rows: list[list[float]], index: int, schema: Schema, frame: Frame) -> None:
    """A box without area, or a place far outside, is most often one of another format or frame."""
    right, bottom = frame.width + MARGIN, frame.height + MARGIN
    for row in rows:
        flat = schema.box is not None and (row[0] >= row[2] or row[1] >= row[3])
        if flat or min(row) < -MARGIN or max(row[::2]) > right or max(row[1::2]) > bottom:
            points = [list(point) for point in zip(row[4::2], row[5::2], strict=True)]
            raise BadReferenceError(
                f"references[{index}]: expected boxes x1 < x2, y1 < y2 and points inside the "
                f"recipe's frame of {frame.width} x {frame.height}, got {row[:4]}, {points}; "
                "Recipe.resized makes a recipe for another frame"
            )


def _once(read: Objects, rows: list[list[float]]) -> Objects:
    """The objects without repetitions: what is annotated twice is one thing to find."""
    labels = read.labels or ("",) * len(read)
    seen: dict[tuple[Any, ...], int] = {}
    for place, (row, label) in enumerate(zip(rows, labels, strict=True)):
        seen.setdefault((*row, label), place)
    if len(seen) == len(read):
        return read
    keep = list(seen.values())
    kept = None if read.labels is None else tuple(read.labels[place] for place in keep)
    return Objects(read.boxes[keep], read.points[keep], kept)


def _shape(schema: Schema) -> str:
    """What a reference looks like, for errors."""
    parts = [f'"{schema.box}": [x1, y1, x2, y2]'] if schema.box else []
    parts += [f'"{key}": [x, y]' for key in schema.points]
    parts += [f'"{schema.label}": a text'] if schema.label else []
    inside = "{" + ", ".join(parts) + "}"
    if schema.form == "object":
        return f"JSON {inside} or <box>(x1,y1),(x2,y2)</box><points>(x,y),(x,y)</points>"
    return f"a JSON list of {inside}"


def _load(reference: str, index: int) -> Any:
    try:
        return json.loads(reference)
    except (ValueError, RecursionError) as error:
        raise BadReferenceError(
            f"references[{index}]: expected JSON with the key 'mask', got {reference!r:.60}"
        ) from error


def _dump(reference: Any, index: int, schema: Schema) -> str:
    if not isinstance(reference, list | tuple | dict):
        kind = type(reference).__name__
        raise BadReferenceError(f"references[{index}]: expected {_shape(schema)}, got {kind}")
    try:
        return json.dumps(reference, default=lambda array: array.tolist())
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BadReferenceError(
            f"references[{index}]: expected {_shape(schema)}, got {error}"
        ) from error


def _shown(reference: Any) -> str:
    if isinstance(reference, Mapping):
        return f"the keys {', '.join(map(str, reference)) or 'none'}"
    return type(reference).__name__
