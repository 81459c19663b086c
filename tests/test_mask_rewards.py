"""Masks of references against pixel loops and pycocotools; of predictions with a stand-in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from rankreward.errors import BadReferenceError, InputError
from rankreward.evaluation import GrabCut
from rankreward.rewards.masks import _runs, predict_mask, read_mask

Mask = NDArray[np.bool_]
masks = arrays(bool, st.tuples(st.integers(1, 17), st.integers(1, 17)))


def slow_runs(mask: Mask) -> list[int]:
    """The runs of a mask, pixel by pixel down the columns."""
    runs, last = [0], False
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            if mask[y, x] != last:
                runs.append(0)
                last = not last
            runs[-1] += 1
    return runs


def slow_text(runs: list[int]) -> str:
    """Runs as COCO writes them: differences, in groups of five bits from the lowest."""
    text = ""
    for i, run in enumerate(runs):
        left = run - runs[i - 2] if i > 2 else run
        while True:
            group, left = left & 31, left >> 5
            done = left == (-1 if group & 16 else 0)
            text += chr(48 + group + (0 if done else 32))
            if done:
                break
    return text


def rle(mask: Mask, counts: Any) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": counts}


@given(masks)
def test_every_form_is_the_same_mask(mask: Mask) -> None:
    """Arrays, lists, images and RLEs of one mask are read as that mask."""
    runs = slow_runs(mask)
    forms = [
        mask,
        mask.astype(np.uint8),
        mask.astype(np.uint8) * 255,
        mask.astype(float),
        mask.astype(np.int64).tolist(),
        mask.tolist(),
        mask.T.copy().T,
        Image.fromarray(mask),
        Image.fromarray(mask.astype(np.uint8) * 255),
        Image.fromarray(mask.astype(np.uint8)),
        rle(mask, runs),
        rle(mask, np.array(runs)),
        rle(mask, [*runs[:-1], runs[-1], 0, 0]),  # runs may be empty
        rle(mask, slow_text(runs)),
        rle(mask, slow_text(runs).encode()),
        {"size": np.array(mask.shape), "counts": tuple(runs)},
    ]
    for form in forms:
        found = read_mask(form, 0)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # its own
@given(masks, st.integers(1, 40))
def test_rles_are_those_of_pycocotools(mask: Mask, times: int) -> None:
    """Compressed RLEs of pycocotools, of small masks and of long runs, read as it decodes them."""
    large = mask.repeat(times, axis=0)
    written = coco.encode(np.asfortranarray(large.astype(np.uint8)))
    np.testing.assert_array_equal(read_mask(written, 0), coco.decode(written).astype(bool))
    np.testing.assert_array_equal(read_mask(written, 0), large)
    assert written["counts"].decode() == slow_text(slow_runs(large))


@given(st.lists(st.integers(0, 10**9)))
@example([0])
@example([5, 0, 10**6, 0, 0, 16, 15, 31, 32])
def test_compressed_runs_round_trip(runs: list[int]) -> None:
    """Any runs, however far apart, come back as they were written."""
    assert _runs(slow_text(runs).encode()) == runs


@given(masks, st.data())
def test_an_rle_that_breaks_off_is_an_error(mask: Mask, data: st.DataObject) -> None:
    """No beginning of a compressed RLE is read as a whole one."""
    runs = slow_runs(mask)
    text = slow_text(runs)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(BadReferenceError, match="RLE"):
        read_mask(rle(mask, cut), 0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[0, 1, 255]], r"got the values \[0, 1, 255\]; 255 for pixels to ignore is not supported"),
        ([[1, 255]], "255 for pixels to ignore"),
        ([[0, 2]], r"got the values \[0, 2\]"),
        ([[0, -1]], r"got the values \[-1, 0\]"),
        ([[0.0, 0.5]], r"got the values \[0.0, 0.5\]"),
        ([[0.0, np.nan]], r"got the values \[0.0, nan\]"),
        ([0, 1], r"got shape \(2,\)"),
        ([[[0, 1]]], r"got shape \(1, 1, 2\)"),
        (np.zeros((0, 4), bool), r"got shape \(0, 4\)"),
        ([[0, 1], [0]], "got .*inhomogeneous"),
        ("mask.png", "got str of <U8"),
        (None, "got NoneType of object"),
        ([["0", "1"]], "got list of <U1"),
        (Image.new("RGB", (2, 2)), "got an image of mode RGB"),
        (Image.new("P", (2, 2)), "got an image of mode P"),
        ({}, "cannot be read .*size"),
        ({"size": [2, 2]}, "cannot be read .*counts"),
        ({"size": [2, 2], "counts": None}, "cannot be read"),
        ({"size": [2, 2, 1], "counts": [4]}, "cannot be read"),
        ({"size": [2, 2.0], "counts": [4]}, "expected a whole number, got 2.0"),
        ({"size": [2, 2], "counts": [True, 3]}, "expected a whole number, got True"),
        ({"size": [2, 2], "counts": []}, "add up to 0 for a size of 2 x 2"),
        ({"size": [2, 2], "counts": [3]}, "add up to 3 for a size of 2 x 2"),
        ({"size": [2, 2], "counts": [5, -1]}, "runs from -1 up that add up to 4"),
        ({"size": [0, 2], "counts": [0]}, "size of 0 x 2"),
        ({"size": [-2, -2], "counts": [4]}, "size of -2 x -2"),
        ({"size": [2, 2], "counts": ""}, "add up to 0"),
        ({"size": [2, 2], "counts": "T"}, "cannot be read .*no end"),
        ({"size": [2, 2], "counts": "4\x00"}, "unexpected character"),
        ({"size": [2, 2], "counts": "4\u00e9"}, "unexpected character"),
    ],
)
def test_what_is_no_mask_is_an_error(value: Any, message: str) -> None:
    """The error names the reference, what was expected and what was found."""
    with pytest.raises(BadReferenceError, match=rf"references\[7\]: expected a mask .*{message}"):
        read_mask(value, 7)


class Stand:
    """Fills the boxes that it is asked for, and keeps what it was asked."""

    def __init__(self, answer: Any = None) -> None:
        self.answer, self.calls = answer, []

    def segment(self, image: Any, boxes: Any, points: Any, *signs: Any) -> Any:
        self.calls.append((image, boxes, points, *signs))
        if self.answer is not None:
            return self.answer
        filled = np.zeros((len(boxes), *image.shape[:2]), dtype=bool)
        for mask, (x1, y1, x2, y2) in zip(filled, boxes.round().astype(int), strict=True):
            mask[y1:y2, x1:x2] = True
        return filled


IMAGE = np.zeros((20, 40, 3), np.uint8)
BOXES = [[10, 10, 50, 50], [60, 0, 100, 100]]
POINTS = [[[20, 20]], [[80, 50]]]


def test_places_are_scaled_from_the_frame() -> None:
    """A frame of 100 x 100 over an image of 40 x 20: x shrinks to 0.4, y to 0.2."""
    stand = Stand()
    found = predict_mask(stand, IMAGE, BOXES, POINTS, None, 100, 100, 0)
    image, boxes, points = stand.calls[0]
    assert image is IMAGE
    np.testing.assert_allclose(boxes, [[4, 2, 20, 10], [24, 0, 40, 20]])
    np.testing.assert_allclose(points, [[[8, 4]], [[32, 10]]])
    expected = np.zeros((20, 40), bool)
    expected[2:10, 4:20] = expected[:, 24:] = True
    np.testing.assert_array_equal(found, expected)


def test_signs_are_passed_where_there_are_some() -> None:
    """A fourth argument only if given; points that are none are no NaN, and keep their sign."""
    stand = Stand()
    points = [[[20, 20], [30, 30]], [[80, 50], [np.nan, np.nan]]]
    predict_mask(stand, IMAGE, BOXES, points, [[1, 0], [1, -1]], 100, 100, 0)
    _, _, places, signs = stand.calls[0]
    np.testing.assert_allclose(places, [[[8, 4], [12, 6]], [[32, 10], [0, 0]]])
    assert signs.tolist() == [[1, 0], [1, -1]]
    assert signs.dtype == np.int64


def test_what_lies_outside_is_cut_off() -> None:
    """Boxes end at the image, points outside move to its nearest pixel, the rest are left out."""
    stand = Stand()
    boxes = [[-50, -50, 50, 50], [100, 0, 150, 50], [20, 30, 20, 60], [1e300, 0, 1.7e308, 9]]
    points = [[[-9, 400]], [[1, 1]], [[2, 2]], [[3, 3]]]
    predict_mask(stand, IMAGE, boxes, points, [[1], [0], [0], [0]], 100, 100, 0)
    _, corners, places, signs = stand.calls[0]
    np.testing.assert_array_equal(corners, [[0, 0, 20, 10]])
    np.testing.assert_array_equal(places, [[[0, 19]]])
    np.testing.assert_array_equal(signs, [[1]])


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), [], [[100, 0, 150, 50]], [[5, 5, 5, 9]]])
@pytest.mark.parametrize("signed", [False, True])
def test_no_object_needs_no_segmenter(boxes: Any, signed: bool) -> None:
    """Without an object in the image the mask is empty and nobody is asked."""
    stand = Stand()
    points = np.full((len(boxes), 1, 2), 3.0) if len(boxes) else []
    signs = np.ones((len(boxes), 1)) if len(boxes) else []
    found = predict_mask(stand, IMAGE, boxes, points, signs if signed else None, 100, 100, 0)
    assert found.shape == (20, 40)
    assert found.dtype == bool
    assert not found.any()
    assert stand.calls == []


place = st.floats(-1e9, 1e9)


@given(
    st.integers(1, 5),
    st.integers(0, 3),
    st.tuples(*[st.integers(1, 30)] * 2),
    st.tuples(*[st.floats(1, 2000)] * 2),
    st.data(),
)
def test_the_segmenter_sees_places_in_the_image(
    count: int, hints: int, size: Any, frame: Any, data: st.DataObject
) -> None:
    """Whatever an answer says, boxes have area in the image, points a pixel, and none is NaN."""
    boxes = data.draw(arrays(float, (count, 4), elements=place))
    points = data.draw(arrays(float, (count, hints, 2), elements=place))
    signs = data.draw(arrays(int, (count, hints), elements=st.integers(-1, 1)))
    points[signs == -1] = np.nan
    before = boxes.copy(), points.copy(), signs.copy()
    image, stand = np.zeros((*size, 3), np.uint8), Stand()
    predict_mask(stand, image, boxes, points, signs, *frame, 0)
    for array, old in zip((boxes, points, signs), before, strict=True):
        np.testing.assert_array_equal(array, old)
    for _, corners, places, marks in stand.calls:
        assert 1 <= len(corners) == len(places) == len(marks) <= count
        assert (corners[:, :2] < corners[:, 2:]).all()
        assert (corners >= 0).all()
        assert (corners <= np.tile(size[::-1], 2)).all()
        assert ((places >= 0) & (places <= np.array(size[::-1]) - 1)).all()


def test_pillow_images_are_segmented_as_rgb() -> None:
    """Gray and transparent images reach the segmenter as RGB arrays that it may write to."""
    for mode in ("L", "RGB", "RGBA"):
        stand = Stand()
        predict_mask(stand, Image.new(mode, (40, 20)), BOXES, POINTS, None, 100, 100, 0)
        image = stand.calls[0][0]
        assert (image.shape, image.dtype, image.flags.writeable) == ((20, 40, 3), np.uint8, True)


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (np.zeros((2, 20, 40)), r"\(2, 20, 40\) float64"),
        (np.zeros((1, 20, 40), bool), r"\(1, 20, 40\) bool"),
        (np.zeros((2, 40, 20), bool), r"\(2, 40, 20\) bool"),
        ("mask", r"\(\) <U4"),
    ],
)
def test_a_segmenter_that_answers_otherwise_is_an_error(answer: Any, got: str) -> None:
    """The answer is one boolean mask a box."""
    with pytest.raises(InputError, match=rf"segmenter: expected \(2, 20, 40\) bool.* got {got}"):
        predict_mask(Stand(answer), IMAGE, BOXES, POINTS, None, 100, 100, 3)


def test_what_the_segmenter_raises_goes_through() -> None:
    """The same exception, with a note that names the completion."""
    failure = ConnectionError("gone")

    class Broken:
        def segment(self, *prompt: Any) -> Any:
            raise failure

    with pytest.raises(ConnectionError) as caught:
        predict_mask(Broken(), IMAGE, BOXES, POINTS, None, 100, 100, 5)
    assert caught.value is failure
    assert caught.value.__notes__ == ["while segmenting completion 5"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((20, 40))}, r"image: expected a PIL.Image .*, got \(20, 40\) float64"),
        ({"boxes": [[0, 0, 1]]}, r"boxes: expected shape \(N, 4\)"),
        ({"boxes": [[0, 0, np.nan, 1]] * 2}, "boxes: expected finite numbers"),
        ({"points": [[20, 20], [80, 50]]}, r"points: expected shape \(2, P, 2\)"),
        ({"points": POINTS[:1]}, r"points: expected shape \(2, P, 2\)"),
        ({"points": [[[np.nan, 1]], [[1, 1]]]}, "points: expected finite numbers but where a sign"),
        (
            {"points": [[[np.nan, 1]], [[1, 1]]], "signs": [[1], [1]]},
            "points: expected finite numbers but where a sign",
        ),
        ({"signs": [1, 1]}, r"signs: expected -1, 0 and 1 of shape \(2, 1\)"),
        ({"signs": [[1], [2]]}, r"signs: .* got \[1.0, 2.0\]"),
        ({"signs": [[True], [False]]}, "signs: expected numbers"),
    ],
)
def test_wrong_arguments_are_errors(change: dict[str, Any], message: str) -> None:
    """Shapes and values are checked before anyone is asked."""
    stand = Stand()
    prompt = {"image": IMAGE, "boxes": BOXES, "points": POINTS, "signs": None} | change
    with pytest.raises(InputError, match=message):
        predict_mask(stand, **prompt, frame_width=100, frame_height=100, index=0)
    assert stand.calls == []


def test_grabcut_is_such_a_segmenter() -> None:
    """A bright square is cut from the box and the point that an answer gives in another frame."""
    image = np.full((60, 80, 3), 20, np.uint8)
    image[15:45, 20:60] = 230
    found = predict_mask(
        GrabCut(), image, [[250, 250, 750, 750]], [[[500, 500]]], None, 1000, 1000, 0
    )
    np.testing.assert_array_equal(found, image[..., 0] == 230)
