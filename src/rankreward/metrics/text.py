"""Text: whether a policy repeats itself or rambles, and what its captions single out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rankreward.compiled import as_bytes, kernels
from rankreward.errors import InputError
from rankreward.metrics.arrays import as_floats

CaptionForm = Literal["binary", "difference", "scaled", "softmax"]

# A sentence ends at any of these marks, but not inside a number such as 12.5. Each pattern looks
# at most one character ahead, so that no text makes it backtrack.
_SENTENCE_END = re.compile(r"[.!?](?!\d)|[。！？]")  # noqa: RUF001
_TAG = re.compile(r"</?[a-z_]+>")
_NO_WORD = re.compile(r"[^\w\n]+")  # but for line feeds, which end sentences here
# The same for ASCII, as bytes: one pass that makes lower case, ends sentences by a line feed and
# words by a space, after the marks inside numbers are gone. It is several times as fast.
_INSIDE_NUMBER = re.compile(rb"[.!?](?=[0-9])")
_ASCII = bytes(
    ord(chr(code).lower()) if chr(code).isalnum() else 10 if chr(code) in ".!?" else 32
    for code in range(128)
) + bytes(128)
# The kernel's, which has to stop at a tag as well.
_TABLE = np.frombuffer(bytearray(_ASCII), np.uint8)
_TABLE[ord("<")] = 10

KERNELS = "rankreward.metrics.kernels"
_CHARACTER = 2e-8  # what `repeated_sentences` takes, in seconds; `compiled` adds it up


def repeated_sentences(text: str) -> int:
    """How many sentences repeat an earlier one.

    Only words and their order tell sentences apart: not case, white space, quotes, brackets or
    tags such as ``<look>``. A sentence without a word does not count.

    Args:
        text: any text.

    Returns:
        At least 0: the number of sentences less the number of distinct ones.

    Cost:
        O(len(text)).

    Example:
        >>> repeated_sentences("A cat. A dog. a  cat! A cat.")
        2
    """
    text = _TAG.sub(" ", text)
    if text.isascii():
        words = _INSIDE_NUMBER.sub(b" ", text.encode()).translate(_ASCII)
        while b"  " in words:  # half of each gap at a time; to split would make an object a word
            words = words.replace(b"  ", b" ")
        return _repeats([line.strip() for line in words.split(b"\n")])
    lines = _SENTENCE_END.sub("\n", text.replace("\n", " ").replace("_", " "))
    return _repeats([line.strip() for line in _NO_WORD.sub(" ", lines).casefold().split("\n")])


def repeated_sentences_of(texts: Sequence[str]) -> NDArray[np.int64]:
    """How many sentences of each text repeat an earlier one; see `repeated_sentences`.

    Args:
        texts: B texts.

    Returns:
        (B,) int64, at least 0.

    Example:
        >>> repeated_sentences_of(["A cat. A cat.", "A cat. A dog.", ""]).tolist()
        [1, 0, 0]
    """
    compiled = kernels(KERNELS, sum(map(len, texts)) * _CHARACTER)
    if compiled is None:
        return np.array([repeated_sentences(text) for text in texts], dtype=np.int64)
    repeats = np.empty(len(texts), dtype=np.int64)
    compiled.count_repeats(*as_bytes(texts), _TABLE, repeats)
    for index, text in enumerate(texts):
        if repeats[index] < 0 or not text.isascii():
            repeats[index] = repeated_sentences(text)
    return repeats


def length_score(length: ArrayLike, budget: ArrayLike, slope: float) -> NDArray[np.float64]:
    r"""What a length is worth: all of it within a budget, less for each unit beyond.

    .. math:: \min(1, \max(0, 1 - slope (L - B)))

    Args:
        length: lengths L, any shape, in tokens, words or what else is counted; finite.
        budget: budgets B, of a shape that broadcasts with it; inf is no limit.
        slope: what a unit beyond the budget costs, above 0.

    Returns:
        float64 in [0, 1].

    Raises:
        InputError: `slope` is not above 0, a length is not finite, or a budget is NaN.

    Example:
        >>> length_score([85, 205, 705], 96, 0.002).round(3).tolist()
        [1.0, 0.782, 0.0]

    Source:
        PixelThink, arXiv 2505.23727.
    """
    lengths, budgets = as_floats("length", length), as_floats("budget", budget)
    if not slope > 0:
        raise InputError(f"slope: expected more than 0, got {slope:g}")
    if not np.isfinite(lengths).all() or np.isnan(budgets).any():
        raise InputError("length, budget: expected finite lengths and budgets that are no NaN")
    return np.clip(1.0 - slope * (lengths - budgets), 0.0, 1.0)


def discriminative(
    s1: ArrayLike, s2: ArrayLike, form: CaptionForm = "binary", temperature: float = 0.1
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


def _repeats(sentences: Sequence[bytes | str]) -> int:
    """How many of the sentences repeat an earlier one; empty ones do not count."""
    kept = [each for each in sentences if each]
    return len(kept) - len(set(kept))
