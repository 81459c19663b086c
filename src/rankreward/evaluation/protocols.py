"""The published evaluations of segmentation by words, by name.

Goes in: predicted and reference masks. Comes out: what each paper's evaluation makes of them.
Papers print the same names and differ on empty masks and on pixels to ignore; a `Protocol` says as
data what each does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rankreward.errors import InputError
from rankreward.evaluation.masks import (
    Edge,
    Empty,
    cumulative_iou,
    mask_measures,
    mask_overlap,
    mean_image_iou,
)
from rankreward.evaluation.measures import Ratio

__all__ = [
    "PROTOCOLS",
    "Empty",
    "Overlap",
    "Protocol",
    "cumulative_iou",
    "mask_measures",
    "mask_overlap",
    "mean_image_iou",
]


class Overlap(NamedTuple):
    """What one sample adds to the measures.

    Attributes:
        intersection: pixels.
        union: pixels.
        is_target: whether there is something to find.
        is_rejected: whether the answer says that there is not.
    """

    intersection: int
    union: int
    is_target: bool
    is_rejected: bool


@dataclass(frozen=True)
class Protocol:
    """How a published evaluation scores masks; see `PROTOCOLS`.

    Numbers of different protocols are not comparable: the same masks get other scores.

    Attributes:
        name: its name.
        empty: what a correct rejection counts in gIoU. 0 in the script of Seg-Zero and
            VisionReasoner for sets with targets alone, 1 in VisionReasoner's for sets without,
            after GRES; dropped in Dr. Seg's, as every sample with an empty union is; 1 in LISA's
            for every empty union.
        ignored: what becomes of pixels that ReasonSeg marks 255. LISA leaves them out of both
            masks; the sets prepared for the Seg-Zero family made them foreground, so that a mask
            equal to the true one does not score 1. RefCOCO and gRefCOCO mark none.
        rejection: how an answer says that there is nothing: it has no boxes (VisionReasoner); its
            mask is empty (LISA, which prints no N-acc); or it declares so, as ReLA's no-target
            head does beside the mask; where masks come without such a declaration, an empty one
            is a rejection. Answers in words declare it by a list of no objects.
        edge: whether Pr@t asks for an IoU above t, or of at least t as ReLA's evaluator does. The
            others print none.
        sam_masks: which of SAM2's masks counts: the best-scored of three (Seg-Zero,
            VisionReasoner, Dr. Seg), or its single one. None where the model has a mask decoder
            of its own (ReLA, LISA).
        temperature: at which answers are sampled: 0, greedy, in Seg-Zero and VisionReasoner; 1,
            with top-p 1, in Dr. Seg. None where no answer is sampled (ReLA, LISA).
        frame: width and height in pixels that images are squashed to and that answers are in, 840
            in the Seg-Zero family; None where answers have no coordinates (ReLA, LISA).

    Source:
        Seg-Zero, arXiv 2503.06520; VisionReasoner, arXiv 2505.12081; Dr. Seg, arXiv 2603.00152;
        GRES with ReLA, arXiv 2306.00968; LISA, arXiv 2308.00692; each with its released scripts.
    """

    name: str
    empty: Empty
    ignored: Literal["left_out", "foreground"]
    rejection: Literal["no_boxes", "empty_mask", "declared"]
    edge: Edge
    sam_masks: Literal["best", "single"] | None
    temperature: float | None
    frame: tuple[int, int] | None

    def overlap(
        self,
        predicted: ArrayLike,
        reference: ArrayLike,
        *,
        boxes: int | None,
        ignore: ArrayLike | None = None,
        declared: bool | None = None,
    ) -> Overlap:
        """Compare one sample's masks.

        Args:
            predicted: (H, W) bool; empty where the answer could not be read, which costs the
                reference's area in cIoU.
            reference: (H, W) bool.
            boxes: how many boxes the answer has; None if it could not be read.
            ignore: (H, W) bool, pixels marked to be ignored; none unless given. Void ones, which
                nobody annotated, are no matter of protocols: no mask given here has them.
            declared: whether the answer declares that there is nothing; None if it has no way to.

        Returns:
            Both areas, and what they are of. A rejected target has intersection 0, but its union
            still has the predicted pixels, as in ReLA; a correct rejection has 0 and 0.

        Raises:
            InputError: the masks are not boolean or differ in shape, or an answer without boxes
                has a mask.

        Example:
            >>> ignore = [[False, False, True]]
            >>> for name in ("seg_zero", "lisa"):
            ...     masks = [[True, True, False]], [[True, True, False]]
            ...     print(PROTOCOLS[name].overlap(*masks, boxes=1, ignore=ignore)[:2])
            (2, 3)
            (2, 2)
        """
        found, target = np.asarray(predicted), np.asarray(reference)
        if ignore is not None:
            mask_overlap(target, ignore)  # refuses what is no mask of this image
            if self.ignored == "foreground":
                target = target | np.asarray(ignore)
            else:
                target = target & ~np.asarray(ignore)
                mask_overlap(found, target)
                found = found & ~np.asarray(ignore)
        both, either = mask_overlap(found, target)
        rejected = self._rejects(bool(found.any()), boxes, declared)
        is_target = bool(target.any())
        if rejected:
            both, either = 0, either if is_target else 0
        return Overlap(both, either, is_target, rejected)

    def measures(self, overlaps: Sequence[Overlap]) -> dict[str, Ratio]:
        """The measures of n samples, as `mask_measures` names them.

        Args:
            overlaps: what `overlap` says of each.

        Returns:
            Name to measure; ``.value`` is the number.

        Example:
            >>> four = [(800, 1000, True, False), (10, 100, True, False)]
            >>> four += [(0, 0, False, True), (0, 500, False, False)]
            >>> samples = [Overlap(*sample) for sample in four]
            >>> for name in ("seg_zero", "seg_zero_no_object", "dr_seg"):
            ...     print(round(PROTOCOLS[name].measures(samples)["gIoU"].value, 4))
            0.225
            0.475
            0.3
        """
        columns = np.array(overlaps, dtype=np.float64).reshape(-1, 4).T
        return mask_measures(*columns[:2], *(columns[2:] != 0), empty=self.empty, edge=self.edge)

    def _rejects(self, has_mask: bool, boxes: int | None, declared: bool | None) -> bool:  # noqa: FBT001
        if self.rejection == "no_boxes":
            if boxes == 0 and has_mask:
                raise InputError("predicted: expected an empty mask where there are no boxes")
            return boxes == 0
        if self.rejection == "declared" and declared is not None:
            return declared
        return not has_mask


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("seg_zero", "zero", "foreground", "no_boxes", "above", "best", 0.0, (840, 840)),
        # The same family's script for sets that ask for what is not there, such as gRefCOCO.
        Protocol(
            "seg_zero_no_object", "one", "foreground", "no_boxes", "above", "best", 0.0, (840, 840)
        ),
        Protocol("dr_seg", "drop", "foreground", "no_boxes", "above", "best", 1.0, (840, 840)),
        Protocol("rela", "one", "foreground", "declared", "at_least", None, None, None),
        Protocol("lisa", "one", "left_out", "empty_mask", "above", None, None, None),
    )
}
