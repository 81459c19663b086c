"""What is kept of an answer, so that every measure can be computed later.

Goes in: a question, a completion, and a segmenter. Comes out: plain values that JSON holds, in
pixels of the original image: boxes, points, and how many pixels which masks share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError, require
from rankreward.evaluation.protocols import Overlap, Protocol
from rankreward.evaluation.samples import Question
from rankreward.evaluation.segmenters import Segmenter
from rankreward.metrics import box_iou, match
from rankreward.parsing import SCHEMAS, Objects, Response
from rankreward.parsing.response import parse_for
from rankreward.recipe import Recipe
from rankreward.rewards.images import crop
from rankreward.rewards.masks import predict_mask
from rankreward.rewards.similarity import Similarity

Mask = NDArray[np.bool_]
_KINDS = ("both", "extra", "missed", "ignored_predicted", "ignored_missed")
_PREDICTED = {"both", "extra", "ignored_predicted"}
_REFERENCE = {"both", "missed"}
_IGNORED = {"ignored_predicted", "ignored_missed"}


def framed(image: Any, recipe: Recipe) -> Any:
    """An image as the policy sees it.

    Args:
        image: a PIL.Image.
        recipe: says which size: that of its frame, the sides apart, by Pillow's bilinear filter,
            as in VisionReasoner's evaluation; a frame that is a grid leaves it as it is.
    """
    frame = recipe.response.frame
    if frame is None or frame.unit != "pixels" or image.size == (frame.width, frame.height):
        return image
    pil: Any = require("PIL.Image", extra="eval")
    return image.resize((frame.width, frame.height), pil.Resampling.BILINEAR)


def facts_of(
    question: Question,
    text: str,
    recipe: Recipe,
    segmenter: Segmenter | None = None,
    *,
    similarity: Similarity | None = None,
    keep_mask: bool = False,
) -> dict[str, Any]:
    """What a completion says of a question, in plain values.

    Args:
        question: with an image of W x H pixels.
        text: the completion.
        recipe: how it is laid out, and in which frame its places are.
        segmenter: makes the predicted mask; None for no masks.
        similarity: compares its caption and its reasoning with the image; None for no comparison.
        keep_mask: whether to keep the predicted mask, as a COCO RLE.

    Returns:
        - ``failure``: ``code`` and ``message`` of what is wrong with the completion, or None;
        - ``count``: how many objects it gives, None if they could not be read;
        - ``boxes``, ``points``, ``signs``, ``labels``: of these, in pixels of the image, not
          clipped; None where the recipe has none or they could not be read;
        - ``reference_boxes``: what is right; None if unknown, or answers have no boxes;
        - ``reference_count``: how many objects there are; None if unknown;
        - ``size``, W and H, and ``strata``;
        - ``pixels``: see `pixels_of`; None without a segmenter or a reference mask;
        - ``captions``, where there is a `similarity`, and ``mask``, where it is kept.

    Raises:
        InputError: the segmenter breaks its protocol.
        Exception: whatever segmenter and similarity raise.
    """
    response = parse_for(text, recipe.response)
    found, schema = response.answer, SCHEMAS[recipe.response.schema_]
    boxed = schema.box is not None or schema.form == "tags"
    failure = response.failure
    facts: dict[str, Any] = {
        "failure": failure and {"code": failure.code, "message": failure.message},
        "count": None if found is None else len(found),
        **_places(found, question.image.size, recipe, boxed=boxed),
        "reference_boxes": _listed(question.boxes) if boxed else None,
        "reference_count": None if question.boxes is None else len(question.boxes),
        "size": list(question.image.size),
        "strata": dict(question.strata),
        "pixels": None,
    }
    wanted = question.mask is not None or keep_mask
    if segmenter is not None and boxed and wanted:
        predicted = predicted_mask(response, question.image, recipe, segmenter)
        if question.mask is not None:
            facts["pixels"] = pixels_of(predicted, question.mask, question.ignore, question.void)
        if keep_mask:
            facts["mask"] = _rle(predicted)
    if similarity is not None:
        facts["captions"] = _captions(response, question, similarity)
    return facts


def predicted_mask(
    response: Response, image: Any, recipe: Recipe, segmenter: Segmenter, index: int = 0
) -> Mask:
    """(H, W) bool, the union of the masks of all predicted objects.

    Args:
        response: a completion that was read for `recipe`; one without an answer finds nothing.
        image: a PIL.Image, or (H, W, 3) uint8.
        recipe: in whose frame its places are.
        segmenter: makes one mask an object.
        index: the completion's place, for errors.

    Raises:
        InputError: as for `rankreward.rewards.masks.predict_mask`.
    """
    found = response.answer
    if found is None or len(found) == 0:
        return np.zeros(np.asarray(image).shape[:2], dtype=bool)
    frame = recipe.response.frame
    assert frame is not None  # answers with objects have one
    return predict_mask(
        segmenter, image, found.boxes, found.points, found.signs, frame.width, frame.height, index
    )


def box_score(found: NDArray[np.float64] | None, target: NDArray[np.float64]) -> float:
    """How well boxes fit, each with at most one partner.

    Args:
        found: (M, 4), xyxy; None if they could not be read, which finds nothing.
        target: (N, 4), in the same frame.

    Returns:
        The IoU of matched boxes, summed and divided by the larger of the two counts, so that a
        missed and a surplus box both cost; in [0, 1], NaN for N = 0.

    Example:
        >>> box_score(np.array([[0, 0, 2, 2], [5, 5, 6, 6]]), np.array([[0, 0, 2, 2]]))
        0.5
    """
    if len(target) == 0:
        return float("nan")
    if found is None or len(found) == 0:
        return 0.0
    overlap = box_iou(found, target)
    rows, columns = match(-overlap)
    return float(overlap[rows, columns].sum() / max(overlap.shape))


def pixels_of(
    predicted: Mask, reference: Mask, ignore: Mask | None = None, void: Mask | None = None
) -> dict[str, int]:
    """How many pixels there are of each kind; all that a protocol needs to know of masks.

    Args:
        predicted: (H, W) bool.
        reference: (H, W) bool.
        ignore: (H, W) bool, pixels marked to be ignored; what that means is a protocol's rule.
        void: (H, W) bool, pixels that nobody annotated, which are left out of everything.

    Returns:
        Of the pixels that are not ignored ``both``, in both masks, ``extra``, predicted alone, and
        ``missed``, in the reference alone; of the ignored ones ``ignored_predicted`` and
        ``ignored_missed``. Void pixels are in none of them.

    Raises:
        InputError: the shapes differ.

    Example:
        >>> pixels_of(np.array([[True, True]]), np.array([[False, True]]))["extra"]
        1
    """
    given = (each for each in (predicted, reference, ignore, void) if each is not None)
    shapes = [each.shape for each in given]
    if len(set(shapes)) > 1:
        raise InputError(f"masks: expected one shape, got {', '.join(map(str, shapes))}")
    aside = np.zeros(reference.shape, dtype=bool) if ignore is None else ignore
    known = np.ones(reference.shape, dtype=bool) if void is None else ~void
    parts = {
        "both": predicted & reference & ~aside,
        "extra": predicted & ~reference & ~aside,
        "missed": ~predicted & reference & ~aside,
        "ignored_predicted": predicted & aside,
        "ignored_missed": ~predicted & aside,
    }
    return {name: int(np.count_nonzero(part & known)) for name, part in parts.items()}


def overlap_of(pixels: Mapping[str, int], protocol: Protocol, *, count: int | None) -> Overlap:
    """What `Protocol.overlap` says of masks of which only `pixels_of` is left.

    Args:
        pixels: as from `pixels_of`.
        protocol: the protocol.
        count: how many boxes the answer has; None if it could not be read. An answer declares
            that there is nothing by having none: one that could not be read declares nothing.

    Returns:
        The same as of the masks themselves, void pixels being in neither.

    Raises:
        InputError: as for `Protocol.overlap`.

    Example:
        >>> from rankreward.evaluation.protocols import PROTOCOLS
        >>> pixels = pixels_of(np.array([[True, True]]), np.array([[False, True]]))
        >>> overlap_of(pixels, PROTOCOLS["seg_zero"], count=1)[:2]
        (1, 2)
    """
    # The order of pixels counts nowhere, and ground that neither mask holds does not either: a
    # row of these pixels, kind by kind, stands for the image.
    in_predicted, in_reference, in_aside = (
        np.repeat([name in kind for name in _KINDS], [pixels[name] for name in _KINDS])[None]
        for kind in (_PREDICTED, _REFERENCE, _IGNORED)
    )
    ignore = in_aside if in_aside.any() else None
    return protocol.overlap(
        in_predicted, in_reference, boxes=count, ignore=ignore, declared=count == 0
    )


def _places(
    found: Objects | None, size: tuple[int, int], recipe: Recipe, *, boxed: bool
) -> dict[str, Any]:
    """Boxes and points of an answer, from the frame to the image."""
    if found is None:
        return dict.fromkeys(("boxes", "points", "signs", "labels"))
    frame = recipe.response.frame
    assert frame is not None  # answers with objects have one
    scale = np.array(size) / (frame.width, frame.height)
    return {
        "boxes": _listed(found.boxes * np.tile(scale, 2)) if boxed else None,
        "points": _listed(found.points * scale),
        "signs": None if found.signs is None else found.signs.tolist(),
        "labels": None if found.labels is None else list(found.labels),
    }


def _listed(values: NDArray[np.float64] | None) -> list[Any] | None:
    """Nested lists; None in the place of NaN, which JSON has no word for."""
    if values is None:
        return None
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    return list(plain.tolist())


def _captions(response: Response, question: Question, similarity: Similarity) -> dict[str, Any]:
    """Cosines of caption and reasoning with the reference's crop and the whole image.

    None where there is no such text, or the encoder cannot read it.
    """
    texts = {"caption": response.caption, "reasoning": response.think}
    given = {name: text for name, text in texts.items() if text}
    if question.boxes is None or len(question.boxes) != 1:
        raise InputError("similarity: expected samples with one reference box each")
    near = crop(question.image, question.boxes[0], *question.image.size)
    result: dict[str, Any] = dict.fromkeys(texts)
    if given:
        pictures: list[Any] = [near] * len(given) + [question.image] * len(given)
        values = np.asarray(similarity(pictures, [*given.values()] * 2), dtype=np.float64)
        for name, pair in zip(given, values.reshape(2, -1).T, strict=True):
            result[name] = _listed(pair)
    return result


def _rle(mask: ArrayLike) -> dict[str, Any]:
    coder: Any = require("pycocotools.mask", extra="eval")
    rle = coder.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}
