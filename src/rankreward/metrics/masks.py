"""Masks: how well two segmentations agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import InputError

WORD = 64  # bits
BLOCK = 1 << 15  # words intersected at a time; what stays in a core's cache


@dataclass(frozen=True, eq=False)
class PackedMasks:
    """Masks of one image size, at one bit a pixel; made by `pack_masks`.

    Attributes:
        words: (K, ceil(H W / 64)) uint64, the pixels row by row, then zero bits. The order of
            the bits within a word is the machine's: fit to count, not to exchange.
        shape: (H, W), in pixels.

    Raises:
        InputError: `words` is no uint64 array of the width that `shape` asks for.
    """

    words: NDArray[np.uint64]
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        width = -(-self.shape[0] * self.shape[1] // WORD)
        if self.words.dtype != np.uint64 or self.words.shape[1:] != (width,):
            raise InputError(
                f"words: expected uint64 of shape (K, {width}) for masks of {self.shape}, "
                f"got {self.words.dtype} of {self.words.shape}"
            )


def pack_masks(masks: ArrayLike) -> PackedMasks:
    """Masks at one bit a pixel, for masks that are compared more than once.

    Args:
        masks: (K, H, W), booleans or 0 and 1. An empty list packs, too: as no masks, of no size.

    Returns:
        The same masks, an eighth of the size of booleans.

    Raises:
        InputError: the shape is another one, or a value is neither 0 nor 1, such as 255.

    Cost:
        O(K H W).

    Example:
        >>> packed = pack_masks(np.ones((2, 10, 10)))
        >>> packed.words.shape, packed.shape
        ((2, 2), (10, 10))
    """
    plain = _as_masks("masks", masks)
    count, height, width = plain.shape
    size = -(-height * width // WORD)
    words = np.zeros((count, size), dtype=np.uint64)
    bits = np.packbits(plain.reshape(count, height * width), axis=1)
    words.view(np.uint8)[:, : bits.shape[1]] = bits
    return PackedMasks(words, (height, width))


def mask_iou(
    a: PackedMasks | ArrayLike, b: PackedMasks | ArrayLike, *, empty: float = math.nan
) -> NDArray[np.float64]:
    r"""Intersection over union of every mask in `a` with every mask in `b`.

    .. math:: \mathrm{IoU} = \frac{|A \cap B|}{|A \cup B|}

    Args:
        a: (M, H, W), booleans or 0 and 1; or the same masks packed. An empty list is no masks.
        b: (N, H, W), likewise; of the same image.
        empty: the value of two masks without a pixel, in [0, 1]; NaN, undefined, unless given.
            Benchmarks differ: a correct rejection counts 1 for some and 0 for others.

    Returns:
        (M, N) float64 in [0, 1], and `empty` where both masks are empty.

    Raises:
        InputError: a shape is not (K, H, W), the sizes differ, a value is neither 0 nor 1, or
            `empty` is out of its range.

    Cost:
        O((M + N) H W) to pack, then O(M N H W / 64).

    Example:
        >>> mask_iou([[[1, 1, 0]]], [[[0, 1, 1]], [[1, 1, 0]], [[0, 0, 0]]]).round(3).tolist()
        [[0.333, 1.0, 0.0]]
        >>> nothing = np.zeros((1, 4, 4), dtype=bool)
        >>> mask_iou(nothing, nothing).tolist(), mask_iou(nothing, nothing, empty=1.0).tolist()
        ([[nan]], [[1.0]])
    """
    _check_empty(empty)
    first, second = _packed("a", a), _packed("b", b)
    _check_size(first.shape, second.shape, len(first.words), len(second.words))
    overlap = _intersections(first.words, second.words)
    whole = _areas(first.words)[:, None] + _areas(second.words)[None, :] - overlap
    result = np.full(whole.shape, float(empty))
    np.divide(overlap, whole, out=result, where=whole > 0)
    return result


def union(masks: PackedMasks | ArrayLike) -> PackedMasks | NDArray[np.bool_]:
    """All masks as one; how instances become the one mask of a referring expression.

    Args:
        masks: (K, H, W), booleans or 0 and 1; or the same masks packed.

    Returns:
        (1, H, W) bool, or one packed mask for packed ones; empty if K is 0.

    Raises:
        InputError: the shape is another one (an empty list has no size), or a value is neither
            0 nor 1.

    Cost:
        O(K H W), packed O(K H W / 64).

    Example:
        >>> union([[[1, 0, 0]], [[0, 0, 1]]]).tolist()
        [[[True, False, True]]]
        >>> union(np.zeros((0, 2, 2))).any().item()
        False
    """
    if isinstance(masks, PackedMasks):
        _check_pixels("masks", masks.shape)
        words = np.bitwise_or.reduce(masks.words, axis=0, keepdims=True)
        return PackedMasks(words, masks.shape)
    plain = _as_masks("masks", masks)
    _check_pixels("masks", plain.shape[1:])
    return np.asarray(plain.any(axis=0, keepdims=True))


def boundary_iou(
    a: ArrayLike, b: ArrayLike, width: int | None = None, *, empty: float = math.nan
) -> NDArray[np.float64]:
    r"""IoU of the bands inside the contours, for every mask in `a` with every mask in `b`.

    .. math:: \frac{|A_d \cap B_d|}{|A_d \cup B_d|}

    where :math:`A_d` are the pixels of A at most d from its outside. The distance is the larger
    of the two differences in rows and columns, and what lies beyond the image is outside, both
    as in the code of the paper.

    Args:
        a: (M, H, W), booleans or 0 and 1. An empty list is no masks.
        b: (N, H, W), likewise; of the same image.
        width: d, in whole pixels, at least 1; a twentieth of the shorter side of the image,
            rounded down, unless given. The paper takes 2% of the diagonal.
        empty: the value of two masks without a pixel, as in `mask_iou`.

    Returns:
        (M, N) float64 in [0, 1], and `empty` where both masks are empty. With a width of half
        the shorter side or more it is the mask IoU.

    Raises:
        InputError: as for `mask_iou`, or `width` is no whole number of at least 1.

    Cost:
        O((M + N) H W log d), then as `mask_iou`.

    Example:
        >>> square = np.pad(np.ones((1, 6, 6)), ((0, 0), (2, 2), (2, 2)))
        >>> hole = square.copy()
        >>> hole[:, 4:6, 4:6] = 0
        >>> boundary_iou(square, hole, 2).tolist(), mask_iou(square, hole).round(3).tolist()
        ([[1.0]], [[0.889]])

    Source:
        Cheng et al., CVPR 2021, arXiv 2103.16562; the default width is that of LENS.
    """
    _check_empty(empty)
    if width is not None and (not isinstance(width, (int, np.integer)) or width < 1):
        raise InputError(f"width: expected a whole number of at least 1, got {width!r}")
    first, second = _as_masks("a", a), _as_masks("b", b)
    _check_size(first.shape[1:], second.shape[1:], len(first), len(second))
    return mask_iou(_band(first, width), _band(second, width), empty=empty)


def s_measure(prediction: ArrayLike, target: ArrayLike, alpha: float = 0.5) -> NDArray[np.float64]:
    r"""Structure measure of every prediction against every target.

    .. math:: S = \alpha S_\mathrm{object} + (1 - \alpha) S_\mathrm{region}

    The object part asks whether the prediction is high and even on the target, and low and even
    off it: :math:`2 \bar x / (\bar x^2 + 1 + \sigma)` of both, weighted by area. The region part
    is the structural similarity of the four quadrants around the centroid of the target, each
    weighted by its area.

    Args:
        prediction: (M, H, W) in [0, 1]: masks, or how sure each pixel is. An empty list is no
            predictions.
        target: (N, H, W), booleans or 0 and 1; of the same image.
        alpha: the weight of the object part, in [0, 1].

    Returns:
        (M, N) float64 in [0, 1], 1 for equal masks. It is not symmetric. Against a target
        without a pixel it is 1 minus the mean of the prediction, against one of the whole image
        the mean. As in the authors' code, a negative value becomes 0, and a quadrant in which
        both sides are flat counts 1, whatever their levels: a prediction without a pixel has
        :math:`\alpha` times the background's share or more, not 0.

    Raises:
        InputError: a shape is not (K, H, W), the sizes differ, there are masks without pixels,
            a target is neither 0 nor 1, a prediction or `alpha` lies outside [0, 1].

    Cost:
        O(M N H W); a prediction of 0 and 1 only is counted, which is several times faster.

    Example:
        >>> image = np.zeros((3, 768, 768), dtype=bool)
        >>> image[0, 100:484, 100:484] = True  # the target
        >>> image[1, 100:292, 100:484] = True  # its upper half; the third stays empty
        >>> s_measure(image, image[:1]).round(4).tolist()
        [[1.0], [0.6364], [0.375]]

    Source:
        Fan et al., ICCV 2017, arXiv 1708.00786, and its MATLAB code, whose rounding of the
        centroid (one-based, halves up) this keeps.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha: expected a number in [0, 1], got {alpha!r}")
    shades, masks = _as_shades("prediction", prediction), _as_masks("target", target)
    _check_size(shades.shape[1:], masks.shape[1:], len(shades), len(masks), "prediction", "target")
    result = np.empty((len(shades), len(masks)))
    for i, shade in enumerate(shades):
        binary = shade.astype(bool)
        values = binary if (binary == shade).all() else shade
        for j, mask in enumerate(masks):
            result[i, j] = _structure(values, mask, alpha)
    return result


def _as_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """`values` as (K, H, W) numbers or booleans; an empty list as (0, 0, 0).

    Raises:
        InputError: they are something else, or masks without a pixel.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected masks of one size, got {error}") from error
    if array.shape == (0,):
        array = array.reshape(0, 0, 0)
    if array.ndim != 3:
        raise InputError(f"{name}: expected shape (K, H, W), got {array.shape}")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: expected numbers or booleans, got an array of {array.dtype}")
    if len(array):
        _check_pixels(name, array.shape[1:])
    return array


def _as_masks(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    """`values` as (K, H, W) bool.

    Raises:
        InputError: they are no masks; 255 may mean white or "ignore", so nothing is guessed.
    """
    array = _as_array(name, values)
    mask = array.astype(bool, copy=False)
    if array.dtype != bool and not np.array_equal(mask, array):
        raise InputError(f"{name}: expected booleans or 0 and 1, got {array[mask != array][0]}")
    return mask


def _as_shades(name: str, values: ArrayLike) -> NDArray[Any]:
    """`values` as (K, H, W) in [0, 1], of float64 unless they are booleans."""
    array = _as_array(name, values)
    if array.dtype == bool:
        return array
    shades = array.astype(np.float64)
    inside = (shades >= 0) & (shades <= 1)
    if not inside.all():
        raise InputError(f"{name}: expected numbers in [0, 1], got {shades[~inside][0]}")
    return shades


def _check_pixels(name: str, shape: tuple[int, ...]) -> None:
    if not math.prod(shape):
        raise InputError(f"{name}: expected masks of at least one pixel, got size {shape}")


def _check_empty(empty: float) -> None:
    if not (math.isnan(empty) or 0 <= empty <= 1):
        raise InputError(f"empty: expected a number in [0, 1] or NaN, got {empty!r}")


def _check_size(
    first: tuple[int, ...], second: tuple[int, ...], m: int, n: int, a: str = "a", b: str = "b"
) -> None:
    """Masks of one image have one size; an empty list has none, and fits any."""
    unknown = (m == 0 and first == (0, 0)) or (n == 0 and second == (0, 0))
    if first != second and not unknown:
        raise InputError(f"{a}, {b}: expected masks of one size, got {first} and {second}")


def _packed(name: str, masks: PackedMasks | ArrayLike) -> PackedMasks:
    return masks if isinstance(masks, PackedMasks) else pack_masks(_as_masks(name, masks))


def _areas(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(K,) pixels of each packed mask."""
    return np.asarray(np.bitwise_count(words).sum(axis=-1, dtype=np.int64))


def _intersections(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(M, N) pixels that each pair shares."""
    if not a.size or not b.size:  # the two widths differ where a side is an empty list
        return np.zeros((len(a), len(b)), dtype=np.int64)
    result = np.empty((len(a), len(b)), dtype=np.int64)
    step = max(1, BLOCK // b.shape[1])
    for i, row in enumerate(a):
        for j in range(0, len(b), step):
            result[i, j : j + step] = _areas(row & b[j : j + step])
    return result


def _band(masks: NDArray[np.bool_], width: int | None) -> NDArray[np.bool_]:
    """The pixels of each mask within `width` of its outside."""
    sides = masks.shape[1:]
    reach = max(1, min(sides) // 20) if width is None else min(int(width), max(1, *sides))
    return masks & ~_eroded(_eroded(masks, reach, 1), reach, 2)


def _eroded(masks: NDArray[np.bool_], reach: int, axis: int) -> NDArray[np.bool_]:
    """Pixels whose neighbours up to `reach` along `axis` are all set; beyond the edge none is."""
    around = [(0, 0), (0, 0), (0, 0)]
    around[axis] = (reach, reach)
    runs = np.moveaxis(np.pad(masks, around), axis, 0)
    length, wanted = 1, 2 * reach + 1
    while length < wanted:  # runs of `length` set pixels make runs of twice that
        step = min(length, wanted - length)
        runs = runs[:-step] & runs[step:]
        length += step
    return np.moveaxis(runs, 0, axis)


def _structure(values: NDArray[Any], mask: NDArray[np.bool_], alpha: float) -> float:
    """The structure measure of one pair of (H, W)."""
    area = np.count_nonzero(mask) / mask.size
    if area in (0.0, 1.0):
        whole = float(values.mean())
        return whole if area else 1.0 - whole
    off = values[~mask]
    objects = area * _evenness(values[mask])
    objects += (1.0 - area) * _evenness(~off if off.dtype == bool else 1.0 - off)
    down, across = (_centre(np.count_nonzero(mask, axis=axis)) for axis in (1, 0))
    regions = 0.0
    for rows in (slice(down), slice(down, None)):
        for columns in (slice(across), slice(across, None)):
            part = values[rows, columns].ravel()
            regions += part.size * _similarity(part, mask[rows, columns].ravel())
    value = alpha * objects + (1.0 - alpha) * regions / mask.size
    return min(1.0, max(0.0, value))


def _centre(counts: NDArray[np.intp]) -> int:
    """Where a centroid cuts an axis, of the pixels (n,) at each place: MATLAB's rounding."""
    mean = int(counts @ np.arange(len(counts))) / int(counts.sum())
    return math.floor(mean + 0.5) + 1


def _mean_and_spread(values: NDArray[Any]) -> tuple[float, float]:
    """The mean, and the sum of the squared differences from it: exactly 0 for equal values."""
    if values.dtype == bool:
        ones, size = int(np.count_nonzero(values)), values.size
        return ones / size, ones * (size - ones) / size
    base = float(values[0])
    shifted = values - base
    shift = float(shifted.mean())
    return base + shift, float(((shifted - shift) ** 2).sum())


def _evenness(values: NDArray[Any]) -> float:
    """The object part on one side: 1 where all (n,) values are 1, less for low or uneven ones."""
    mean, spread = _mean_and_spread(values)
    return 2.0 * mean / (mean * mean + 1.0 + math.sqrt(spread / max(values.size - 1, 1)))


def _similarity(values: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """Structural similarity of the (n,) pixels of one quadrant; 0 if it has none."""
    size = values.size
    if not size:
        return 0.0
    mean, spread = _mean_and_spread(values)
    level, contrast = _mean_and_spread(mask)
    if values.dtype == bool:
        ones, marked, both = (int(np.count_nonzero(x)) for x in (values, mask, values & mask))
        common = (size * both - ones * marked) / size
    else:
        common = float((values[mask] - mean).sum())
    # Sample variances and covariance share the factor 1 / (n - 1), which cancels.
    bound = (mean * mean + level * level) * (spread + contrast)
    return 4.0 * mean * level * common / bound if bound > 0 else 1.0
