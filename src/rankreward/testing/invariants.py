"""Invariants: what a reward of completions with boxes, points or texts should promise.

Goes in: nothing. Comes out: the table `INVARIANTS`. Each of them was broken by a published reward,
or would let a policy earn without getting better; `reason` says which.
"""

from __future__ import annotations

from rankreward.testing import greed, hostile, promises
from rankreward.testing.layouts import Layout
from rankreward.testing.trial import Invariant


def _many(layout: Layout) -> str:
    return "" if layout.many else "an answer is one object, or a text"


def _ordered_reference(layout: Layout) -> str:
    masks = layout.schema.form == "tags"
    return "a reference is a mask" if masks else _many(layout)


def _placed(layout: Layout) -> str:
    return "an answer is a text" if layout.textual else ""


def _boxed(layout: Layout) -> str:
    return "" if layout.boxed else "an answer has no box"


def _in_block(layout: Layout) -> str:
    return "" if "answer" in layout.schema.blocks else "there is no answer block"


def _reasoning(layout: Layout) -> str:
    return _in_block(layout) if layout.think else "there is no think block"


def _rejecting(layout: Layout) -> str:
    return "" if layout.may_be_empty else "an answer cannot say that there is nothing"


def _single(layout: Layout) -> str:
    return "the reward looks at the whole group" if layout.grouped else ""


INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "returns",
        "a well-formed answer gets a number, one a completion",
        "what a trainer cannot read ends the run, or is dropped without a word (verl)",
        promises.returns,
        strict=True,
    ),
    Invariant(
        "finite",
        "whatever the policy writes, the reward is a finite number and nothing is raised",
        "one exception costs a run, or in verl the rollout; one NaN makes every advantage of its "
        "group NaN",
        promises.finite,
        strict=True,
    ),
    Invariant(
        "extremes",
        "text of any depth or length of its numbers raises nothing",
        "a policy that repeats itself nests brackets and digits past what json takes: "
        "RecursionError, and ValueError from 4300 digits on",
        hostile.extremes,
        strict=True,
        drawn=False,
    ),
    Invariant(
        "bounded",
        "the reward stays within the bounds that were stated",
        "a reward without bounds lets one term drown the others",
        promises.bounded,
    ),
    Invariant(
        "deterministic",
        "the same batch is paid the same again",
        "otherwise advantages are noise, and no run can be repeated",
        promises.deterministic,
    ),
    Invariant(
        "inputs_unchanged",
        "completions and references are left as they are",
        "trainers hand the same lists to each reward function in turn",
        promises.inputs_unchanged,
    ),
    Invariant(
        "alone",
        "what a completion is paid does not depend on the others in the batch",
        "Think2Seg-RS scores a batch inside one `try`, so that one bad completion takes the "
        "reward from all; trainers deal rollouts to workers as they like",
        promises.alone,
        applies=_single,
    ),
    Invariant(
        "perfect_pays_most",
        "no text is paid more than the right answer",
        "what pays more is what the policy will write",
        promises.perfect_pays_most,
    ),
    Invariant(
        "right_beats_wrong",
        "the right answer is paid more than one that is far off",
        "in VLM-R1 right and wrong answers share one curve of length; Dr. Seg's pays both alike "
        "while its service is down",
        promises.right_beats_wrong,
    ),
    Invariant(
        "answer_order",
        "the order of the answer's objects does not matter",
        "Dr. Seg's released code pairs objects by thresholds; where none is met the pairs are "
        "those of the lists",
        promises.answer_order,
        applies=_many,
    ),
    Invariant(
        "reference_order",
        "the order of the reference's objects does not matter",
        "as before: a data set's order says nothing",
        promises.reference_order,
        applies=_ordered_reference,
    ),
    Invariant(
        "duplicates",
        "to say an object once more is not paid more",
        "precision by the best IoU of each box grows with copies of the best one",
        promises.duplicates,
        applies=_many,
    ),
    Invariant(
        "extra_object",
        "the right answer is paid more than the same with a wrong object",
        "recall alone, or one hit for the whole: boxes everywhere earn as much as the right one",
        greed.extra_object,
        applies=_many,
    ),
    Invariant(
        "missing_object",
        "the right answer is paid more than the same without one of two objects",
        "precision alone, or one hit for the whole: the easiest object is enough",
        greed.missing_object,
        applies=_many,
    ),
    Invariant(
        "whole_frame",
        "the right box of a small object is paid more than the whole frame",
        "the intersection over the reference's area is 1 for whatever covers it",
        greed.whole_frame,
        applies=_boxed,
    ),
    Invariant(
        "bad_number",
        "NaN, infinity or null in an answer is paid less than the number",
        "Dr. Seg's released code pays NaN in full: it ranks above everything",
        promises.no_number,
        applies=_placed,
    ),
    Invariant(
        "rejection",
        "where there is nothing to find, saying so is paid more than a false positive",
        "VisionReasoner's released code pays 2 for the rejection and 4 for a box",
        promises.rejection,
        applies=_rejecting,
    ),
    Invariant(
        "answer_block",
        "an answer that stands in the reasoning alone pays nothing",
        "Seg-Zero's released code takes the first braces of the text, and pays an empty answer "
        "in full",
        promises.answer_block,
        applies=_in_block,
    ),
    Invariant(
        "draft",
        "a draft in the reasoning takes nothing from the right answer",
        "likewise: a right answer after a wrong draft earns 2 of 5; Rex-Thinker counts boxes "
        "that are quoted in the reasoning",
        promises.draft,
        applies=_reasoning,
    ),
    Invariant(
        "closer",
        "an object that is nearer to the right one is not paid less",
        "otherwise there is no way uphill",
        promises.closer,
        applies=_placed,
    ),
    Invariant(
        "linear_cost",
        "the cost grows with the length of a text, not with its square or cube",
        "the usual regular expression for the blocks is cubic on text that repeats a tag",
        hostile.linear_cost,
        drawn=False,
    ),
)
"""The invariants, in the order of a report. `bounded` is checked where bounds are given."""
