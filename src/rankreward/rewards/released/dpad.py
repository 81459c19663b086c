"""DPAD as released: Seg-Zero's checks, a caption, and how well the caption singles out the target.

Goes in: a completion and its tagged reference, as for Seg-Zero; for the discriminative term the
similarities that an image-text encoder gives. Comes out: what each term pays.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rankreward.errors import InputError
from rankreward.metrics.arrays import as_floats
from rankreward.rewards.released import seg_zero
from rankreward.rewards.released.text import first_body, has_only_blocks

Form = Literal["binary", "difference", "scaled", "softmax"]


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


def discriminative(
    s1: ArrayLike, s2: ArrayLike, form: Form = "binary", temperature: float = 0.1
) -> NDArray[np.float64]:
    r"""What a caption earns for fitting the target better than the image as a whole.

    With :math:`\Delta = \max(0, s_1 - s_2)`: `binary` is :math:`[\Delta > 0]`, `difference` is
    :math:`\Delta`, `scaled` is :math:`s_1 \Delta`, and `softmax` is the weight of :math:`s_1`
    against :math:`s_2`, both divided by `temperature`.

    Args:
        s1: any shape; the similarity of each caption to the crop of its reference box.
        s2: the same shape; its similarity to the whole image.
        form: `binary` is the paper's choice; the released code runs `scaled`, whose values are
            about 0.01.
        temperature: of `softmax` only, above 0.

    Returns:
        float64 of the same shape. Similarities of 0, as for a caption that is missing or too
        long for the encoder, give 0; 0.5 for `softmax`.

    Raises:
        InputError: the shapes differ, a similarity is not finite, `form` is unknown, or
            `temperature` is not above 0.

    Example:
        >>> discriminative([0.2554, 0.22], [0.2277, 0.25]).tolist()
        [1.0, 0.0]

    Source:
        DPAD, arXiv 2603.04002, and its released reward code.
    """
    target, whole = as_floats("s1", s1), as_floats("s2", s2)
    if target.shape != whole.shape:
        raise InputError(f"s2: expected the shape of s1, {target.shape}, got {whole.shape}")
    if not (np.isfinite(target).all() and np.isfinite(whole).all()):
        raise InputError("s1, s2: expected finite numbers, got NaN or inf")
    if not temperature > 0:
        raise InputError(f"temperature: expected more than 0, got {temperature:g}")
    margin = np.maximum(target - whole, 0.0)
    if form == "binary":
        return np.asarray(margin > 0, dtype=np.float64)
    if form == "difference":
        return np.asarray(margin)
    if form == "scaled":
        return np.asarray(target * margin)
    if form == "softmax":
        return np.asarray(expit((target - whole) / temperature), dtype=np.float64)
    raise InputError(f"form: expected binary, difference, scaled or softmax, got {form!r}")


def target(reference: str) -> tuple[int, ...] | None:
    """The box of a tagged reference, xyxy; None where the released code finds none."""
    return seg_zero.target_box(reference)
