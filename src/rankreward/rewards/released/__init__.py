"""The rewards of published systems, as their released code computes them, to the last digit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

from rankreward.errors import BadReferenceError
from rankreward.kinds import System
from rankreward.rewards.released import dpad, dr_seg, seg_zero, vision_reasoner
from rankreward.rewards.rollouts import Rollouts


def _dr_seg(text: str, reference: str) -> dict[str, float]:
    terms, metrics = dr_seg.score(text, reference)
    return terms | metrics


_SCORES: dict[System, Callable[[str, str], dict[str, float]]] = {
    "vision_reasoner": vision_reasoner.score,
    "dr_seg": _dr_seg,
    "seg_zero": partial(seg_zero.score, strict=True),
    "seg_zero_soft": partial(seg_zero.score, strict=False),
    "dpad": dpad.score,
}


_READS: dict[System, Callable[[str], bool]] = {
    "vision_reasoner": vision_reasoner.reads,
    "dr_seg": dr_seg.reads,
    "seg_zero": seg_zero.reads,
    "seg_zero_soft": seg_zero.reads,
    "dpad": seg_zero.reads,
}


def components(system: System, rollouts: Rollouts) -> list[dict[str, float]]:
    """Every component of a system's released reward, for each completion; computed once a batch.

    Raises:
        BadReferenceError: a reference is no text; the released code reads nothing else.
    """
    if system not in rollouts.released:
        for index, reference in enumerate(rollouts.references):
            if not isinstance(reference, str):
                kind = type(reference).__name__
                raise BadReferenceError(
                    f"references[{index}]: expected a text, as the released code reads, got {kind}"
                )
        _warn_of_unreadable(system, rollouts.references)
        pairs = zip(rollouts.responses, rollouts.references, strict=True)
        score = _SCORES[system]
        rollouts.released[system] = [score(each.text, reference) for each, reference in pairs]
    return rollouts.released[system]


def _warn_of_unreadable(system: System, references: Sequence[str]) -> None:
    """Say of the first such reference what the released code keeps to itself."""
    lists = system in {"vision_reasoner", "dr_seg"}
    reads = _READS[system]
    seen: set[str] = set()  # rollouts of a group share their reference
    for index, reference in enumerate(references):
        if reference in seen:
            continue
        seen.add(reference)
        if not reads(reference):
            form = "a JSON list of bbox_2d and point_2d" if lists else "<box>..</box><points>.."
            warnings.warn(
                f"references[{index}]: the released code of {system} reads "
                f"{form} and scores against nothing otherwise, got {reference!r:.60}",
                stacklevel=2,
            )
            return
