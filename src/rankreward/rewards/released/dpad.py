"""DPAD as released: Seg-Zero's checks, a caption, and how well the caption singles out the target.

Goes in: a completion and its tagged reference, as for Seg-Zero. Comes out: what each term pays,
and what the discriminative term, `rankreward.metrics.discriminative`, is to compare.
"""

from __future__ import annotations

from rankreward.rewards.released import seg_zero
from rankreward.rewards.released.text import first_body, has_only_blocks


def score(text: str, reference: str) -> dict[str, float]:
    """What the released code of DPAD pays for one completion, without the discriminative term.

    Args:
        text: the completion, whatever it holds.
        reference: ``<box>(x1,y1),(x2,y2)</box><points>(x,y),(x,y)</points>``, whole pixels.

    Returns:
        - `thinking_format`: 1.0 if the whole text is a think, an answer and a caption block with
          only white space in between, else 0.0; the caption may be blank;
        - `answer_format`, `point`, `box_l1`: as Seg-Zero's strict ones, 0.0 or 1.0;
        - `iou`: the inclusive IoU itself, in [0, 1], where the paper pays 1 above 0.5.

    Cost:
        Linear in the lengths of the texts.

    Example:
        >>> reference = "<box>(0,0),(9,9)</box><points>(2,2),(7,7)</points>"
        >>> answer = '{"bbox": [0, 0, 9, 4], "points_1": [2, 2], "points_2": [7, 4]}'
        >>> list(score(f"<think>..</think><answer>{answer}</answer>", reference).values())
        [0.0, 1.0, 0.5, 1.0, 1.0]

    Source:
        DPAD, arXiv 2603.04002, and its released reward code.
    """
    terms = {"thinking_format": float(has_only_blocks(text, "think", "answer", "caption"))}
    return terms | seg_zero.compare(text, reference, strict=True)


def caption(text: str) -> str | None:
    """The body of the first caption block, stripped, perhaps empty; None where none is closed.

    A completion without a caption has both similarities 0, and so no discriminative reward.

    Example:
        >>> caption("<caption> the left cup </caption>"), caption("<caption>the left")
        ('the left cup', None)

    Source:
        DPAD, arXiv 2603.04002.
    """
    body = first_body(text, "caption")
    return None if body is None else body.strip()


def target(reference: str) -> tuple[int, ...] | None:
    """The box of a tagged reference, xyxy; None where the released code finds none."""
    return seg_zero.target_box(reference)
