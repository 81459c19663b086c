"""SAM2 as a segmenter: a random one of the real architecture, against a slow path."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  the name that everybody knows
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tiny_sam2 import MEAN, SIDE, STD, StandIn, tiny_sam2, tiny_video_sam2

import rankreward as rr
from rankreward.errors import ConfigError, InputError
from rankreward.evaluation import Sam2, Sam2Predictor

HEIGHT, WIDTH = 90, 150
Mask = NDArray[np.bool_]
KINDS = [Sam2, lambda model: Sam2Predictor(StandIn(model))]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_sam2()


@pytest.fixture(scope="module")
def plain() -> Any:
    """A model whose single mask is never replaced by the best one."""
    model = tiny_sam2()
    model.mask_decoder.dynamic_multimask_via_stability = False
    return model


def scene(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Four rectangles of random colours on grey."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 128, dtype=np.uint8)
    for _ in range(4):
        top, left = rng.integers(0, height), rng.integers(0, width)
        image[top : top + height // 2, left : left + width // 2] = rng.integers(0, 256, 3)
    return image


def prompts(count: int, seed: int = 0, *, height: int = HEIGHT, width: int = WIDTH) -> Any:
    """`count` boxes, two points for each, and their signs, at random; the first point is on it."""
    rng = np.random.default_rng(seed)
    size = np.array([width, height])
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * size
    signs = np.stack([np.ones(count), rng.integers(-1, 2, count)], axis=1).astype(int)
    return corners.reshape(-1, 4), rng.uniform(0, 1, (count, 2, 2)) * size, signs


def slow_logits(
    model: Any, image: Any, box: Any, points: Any, signs: Any, *, several: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (m, H, W) and scores (m,) of one object: the processor's steps, and pixels."""
    height, width = image.shape[:2]
    levels = F.interpolate(
        torch.tensor(image.transpose(2, 0, 1))[None], (SIDE, SIDE), mode="bilinear", antialias=True
    )
    given: dict[str, Any] = {"pixel_values": (levels / 255 - MEAN) / STD}
    if not np.isnan(box[0]):
        x1, y1, x2, y2 = (float(each) for each in box)
        given["input_boxes"] = torch.tensor(
            [[[x1 * SIDE / width, y1 * SIDE / height, x2 * SIDE / width, y2 * SIDE / height]]]
        )
    real = [
        (float(x) * SIDE / width, float(y) * SIDE / height, int(sign))
        for (x, y), sign in zip(points, signs, strict=True)
        if sign != -1
    ]
    if real:
        given["input_points"] = torch.tensor([[[[x, y] for x, y, _ in real]]])
        given["input_labels"] = torch.tensor([[[sign for _, _, sign in real]]])
    with torch.no_grad():
        output = model(multimask_output=several, **given)
    logits = F.interpolate(
        output.pred_masks[0], (height, width), mode="bilinear", align_corners=False
    )
    return logits[0], output.iou_scores[0, 0]


def slow(
    model: Any, image: Any, boxes: Any, points: Any, signs: Any = None, *, several: bool = True
) -> Mask:
    """(K, H, W), object by object, each with an encoding of its own."""
    signs = np.ones(np.shape(points)[:2], dtype=int) if signs is None else signs
    masks = []
    for box, places, marks in zip(boxes, points, signs, strict=True):
        logits, scores = slow_logits(model, image, box, places, marks, several=several)
        masks.append(logits[int(scores.argmax())].numpy() > 0)
    return np.array(masks)


def assert_alike(found: Mask, expected: Mask) -> None:
    """Equal but for pixels at the threshold, which rounding may turn: one in 1,000 at most."""
    assert found.dtype == bool
    assert found.shape == expected.shape
    assert (found != expected).sum() <= found.size // 1000


def share_of_pairs_that_differ(masks: Mask) -> float:
    return float(np.mean([first ^ second for first, second in itertools.pairwise(masks)]))


@contextmanager
def encodings(model: Any) -> Iterator[list[int]]:
    """Counts how often the model encodes an image."""
    seen: list[int] = []
    hook = model.vision_encoder.register_forward_hook(lambda *_: seen.append(1))
    try:
        yield seen
    finally:
        hook.remove()


def in_threads(works: list[Callable[[], Any]]) -> list[Any]:
    """What each gives, all at once; an error is raised here."""
    found: list[Any] = [None] * len(works)

    def run(index: int) -> None:
        try:
            found[index] = works[index]()
        except BaseException as error:  # noqa: BLE001  handed to the test
            found[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return found


@pytest.mark.parametrize("masks", ["best", "single"])
def test_masks_are_those_of_the_slow_path(model: Any, masks: Any) -> None:
    """A batch's masks are what the processor's steps and the model give object by object."""
    image, (boxes, points, signs) = scene(), prompts(20)
    found = Sam2(model, masks=masks).segment(image, boxes, points, signs)
    assert_alike(found, slow(model, image, boxes, points, signs, several=masks == "best"))
    assert share_of_pairs_that_differ(found) > 0.05  # or the claim would be empty
    assert (found ^ Sam2(model, masks=masks).segment(scene(1), boxes, points, signs)).mean() > 0.05


@given(seed=st.integers(0, 10**6), count=st.integers(1, 6), chunk=st.integers(1, 7), data=st.data())
@settings(max_examples=25)
def test_a_mask_depends_on_its_own_prompt_alone(
    model: Any, seed: int, count: int, chunk: int, data: st.DataObject
) -> None:
    """Whatever else is asked for, in whatever order and chunks, an object's mask is the same."""
    image, (boxes, points, signs) = scene(seed), prompts(count, seed)
    boxes[data.draw(st.lists(st.booleans(), min_size=count, max_size=count))] = np.nan
    order = np.array(data.draw(st.permutations(range(count))))
    together = Sam2(model, chunk=chunk).segment(image, boxes[order], points[order], signs[order])
    alone = Sam2(model)
    for place, i in enumerate(order):
        one = slice(i, i + 1)
        expected = alone.segment(image, boxes[one], points[one], signs[one])
        assert_alike(together[place : place + 1], expected)


def test_a_point_of_no_sign_is_as_if_it_were_not_there(model: Any) -> None:
    """With -1 a point changes nothing, wherever it lies; with 0 or 1 it does."""
    image, (boxes, points, _) = scene(), prompts(8)
    segmenter = Sam2(model)
    without = segmenter.segment(image, boxes, points[:, :1])
    for place in (0.0, 40.0, np.nan):
        points[:, 1] = place
        np.testing.assert_array_equal(
            segmenter.segment(image, boxes, points, [[1, -1]] * 8), without
        )
    points[:, 1] = 40.0
    off, on = (segmenter.segment(image, boxes, points, [[1, sign]] * 8) for sign in (0, 1))
    assert min((off ^ without).mean(), (on ^ without).mean(), (on ^ off).mean()) > 0.01
    np.testing.assert_array_equal(on, segmenter.segment(image, boxes, points))


def test_boxes_alone_and_points_alone(model: Any) -> None:
    """A row of NaN is no box, no points are none, and both may stand beside whole prompts."""
    image, (boxes, points, signs) = scene(), prompts(9)
    segmenter = Sam2(model)
    assert_alike(
        segmenter.segment(image, boxes, np.zeros((9, 0, 2))),
        slow(model, image, boxes, np.zeros((9, 0, 2))),
    )
    nothing = np.full((9, 4), np.nan)
    alone = segmenter.segment(image, nothing, points, signs)
    assert_alike(alone, slow(model, image, nothing, points, signs))
    mixed, marks = boxes.copy(), signs.copy()
    mixed[::3], marks[1::3] = np.nan, -1
    found = segmenter.segment(image, mixed, points, marks)
    assert_alike(found, slow(model, image, mixed, points, marks))
    np.testing.assert_array_equal(found[::3], alone[::3])
    assert (alone ^ segmenter.segment(image, boxes, points, signs)).mean() > 0.01


def test_none_one_and_many(model: Any) -> None:
    """No prompt loads nothing and gives (0, H, W); 200 take one encoding, in chunks."""
    nobody = Sam2("no/such-model")
    for boxes, points in (([], []), (np.zeros((0, 4)), np.zeros((0, 3, 2)))):
        found = nobody.segment(scene(), boxes, points)
        assert (found.shape, found.dtype) == ((0, HEIGHT, WIDTH), bool)
    boxes, points, _ = prompts(200)
    calls: list[int] = []
    hook = model.mask_decoder.register_forward_hook(lambda *_: calls.append(1))
    with encodings(model) as seen:
        many = Sam2(model, chunk=64).segment(scene(), boxes, points)
    hook.remove()
    assert (len(seen), len(calls)) == (1, 4)
    assert_alike(many, Sam2(model, chunk=200).segment(scene(), boxes, points))
    assert_alike(many[:1], Sam2(model).segment(scene(), boxes[:1], points[:1]))
    assert_alike(many[190:], slow(model, scene(), boxes[190:], points[190:]))


def test_boxes_at_and_beyond_the_border(model: Any) -> None:
    """They are passed on as they are: at an edge, of no area, the whole image, and far outside."""
    boxes = np.array(
        [
            [0, 0, WIDTH, HEIGHT],
            [0, 0, 1, 1],
            [WIDTH - 1, HEIGHT - 1, WIDTH, HEIGHT],
            [40, 30, 40, 30],
            [-60, -50, 2 * WIDTH, 3 * HEIGHT],
            [-9000, -9000, -8000, -8000],
        ]
    )
    points = np.array([[[0, 0]], [[WIDTH, HEIGHT]], [[-5, 10]], [[40, 30]], [[10, 10]], [[0, 0]]])
    found = Sam2(model).segment(scene(), boxes, points)
    assert_alike(found, slow(model, scene(), boxes, points))
    inside = Sam2(model).segment(scene(), boxes.clip(0, [WIDTH, HEIGHT] * 2), points)
    assert (found[4] ^ inside[4]).mean() > 0.01


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 300), (33, 31), (128, 128), (201, 130)])
def test_images_of_any_size(model: Any, size: tuple[int, int]) -> None:
    """Sides of one pixel, long ones, and the model's own: the mask has the image's size."""
    height, width = size
    image = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    boxes, points, _ = prompts(4, height=height, width=width)
    found = Sam2(model).segment(image, boxes, points)
    assert found.shape == (4, height, width)
    assert_alike(found, slow(model, image, boxes, points))


@pytest.mark.parametrize("kind", KINDS)
def test_grey_images_views_and_pictures(model: Any, kind: Any) -> None:
    """A picture of one channel, one that may not be written to and a mirrored view are images."""
    boxes, points, _ = prompts(5)
    segmenter = kind(model)
    grey = Image.fromarray(scene()).convert("L")
    found = segmenter.segment(grey, boxes, points)
    colours = np.stack([np.array(grey)] * 3, axis=2)
    np.testing.assert_array_equal(found, kind(model).segment(colours, boxes, points))
    fixed = scene()
    fixed.flags.writeable = False
    mirrored = segmenter.segment(fixed[:, ::-1], boxes, points)
    copied = kind(model).segment(fixed[:, ::-1].copy(), boxes, points)
    np.testing.assert_array_equal(mirrored, copied)


def test_an_image_is_encoded_once(model: Any) -> None:
    """Its pixels decide, not the object; another image of the same bytes is another image."""
    boxes, points, _ = prompts(3)
    segmenter = Sam2(model)
    with encodings(model) as seen:
        first = segmenter.segment(scene(), boxes, points)
        again = segmenter.segment(scene().copy(), boxes, points)
        picture = segmenter.segment(Image.fromarray(scene()), boxes, points)
        assert len(seen) == 1
        flat = np.ascontiguousarray(scene()).reshape(WIDTH, HEIGHT, 3)
        assert segmenter.segment(flat, boxes, points).shape == (3, WIDTH, HEIGHT)
        changed = scene()
        changed[0, 0, 0] ^= 1
        segmenter.segment(changed, boxes, points)
        assert len(seen) == 3
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, picture)


def test_what_was_used_last_is_kept(model: Any) -> None:
    """With room for two the one that waited longest goes; with room for none each is encoded."""
    boxes, points, _ = prompts(2)
    for cache, expected in ((2, [1, 2, 2, 3, 3, 4]), (0, [1, 2, 3, 4, 5, 6])):
        segmenter, counts = Sam2(model, cache=cache), []
        with encodings(model) as seen:
            for image in (0, 1, 0, 2, 0, 1):
                segmenter.segment(scene(image), boxes, points)
                counts.append(len(seen))
        assert counts == expected


@pytest.mark.parametrize("kind", KINDS)
def test_two_threads_with_two_images(model: Any, kind: Any) -> None:
    """They get what one gets, and only one at a time is in the model."""
    boxes, points, signs = prompts(6)
    expected = [kind(model).segment(scene(i), boxes, points, signs) for i in range(2)]
    inside, most = [0], [0]

    def enter(*_: Any) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.002)

    def leave(*_: Any) -> None:
        inside[0] -= 1

    hooks = [
        hook
        for part in (model.vision_encoder, model.mask_decoder)
        for hook in (part.register_forward_pre_hook(enter), part.register_forward_hook(leave))
    ]
    segmenter = kind(model)
    found = in_threads(
        [
            lambda i=i: [segmenter.segment(scene(i), boxes, points, signs) for _ in range(8)]
            for i in (0, 1)
        ]
    )
    for hook in hooks:
        hook.remove()
    assert most == [1]
    for masks, whole in zip(found, expected, strict=True):
        for mask in masks:
            np.testing.assert_array_equal(mask, whole)


def test_best_and_single_are_as_the_scores_say(plain: Any) -> None:
    """`best` is the mask of the highest of three scores, `single` the model's own single mask."""
    model = plain
    image, (boxes, points, signs) = scene(), prompts(30)
    best = Sam2(model).segment(image, boxes, points, signs)
    single = Sam2(model, masks="single").segment(image, boxes, points, signs)
    chosen = []
    for i in range(30):
        three, scores = slow_logits(model, image, boxes[i], points[i], signs[i], several=True)
        one, _ = slow_logits(model, image, boxes[i], points[i], signs[i], several=False)
        chosen.append(max(range(3), key=scores.tolist().__getitem__))
        assert_alike(best[i], three[chosen[-1]].numpy() > 0)
        assert_alike(single[i], one[0].numpy() > 0)
    assert len(set(chosen)) > 1
    assert (best ^ single).mean() > 0.05


def test_a_model_in_training_mode_is_put_into_evaluation_mode() -> None:
    """Else the single mask would not be that of evaluation."""
    boxes, points, _ = prompts(10)
    image, trained = scene(), tiny_sam2().train()
    found = Sam2(trained, masks="single").segment(image, boxes, points)
    expected = Sam2(tiny_sam2(), masks="single").segment(image, boxes, points)
    np.testing.assert_array_equal(found, expected)


def test_saved_and_loaded(model: Any, tmp_path: Path) -> None:
    """A folder gives the masks of the model saved there; in another dtype it computes in that."""
    model.save_pretrained(tmp_path)
    boxes, points, _ = prompts(10)
    expected = Sam2(model).segment(scene(), boxes, points)
    for path in (tmp_path, str(tmp_path)):
        found = Sam2(path, device="cpu").segment(scene(), boxes, points)
        np.testing.assert_array_equal(found, expected)
    half = Sam2(tmp_path, dtype="bfloat16", device="cpu")
    assert half.segment(scene(), boxes, points).shape == expected.shape
    assert half._model.dtype == torch.bfloat16


def test_a_checkpoint_for_films_is_one_for_images(tmp_path: Path) -> None:
    """The hub's checkpoints have the memory of films beside it, and load without a gap."""
    whole = tiny_video_sam2()
    whole.save_pretrained(tmp_path)
    boxes, points, _ = prompts(4)
    segmenter = Sam2(tmp_path, device="cpu")
    assert segmenter.segment(scene(), boxes, points).shape == (4, HEIGHT, WIDTH)
    loaded, saved = segmenter._model.state_dict(), whole.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in loaded.items())


def test_what_cannot_be_loaded_is_an_error(model: Any, tmp_path: Path) -> None:
    """It says what was expected and what to download; weights are never made up."""
    boxes, points, _ = prompts(1)
    for name in (str(tmp_path / "none"), str(tmp_path), "facebook/sam2-hiera-large-not-here"):
        with pytest.raises(ConfigError, match="hf download NAME") as caught:
            Sam2(name).segment(scene(), boxes, points)
        assert name in str(caught.value)
    weights = model.state_dict()
    del weights["mask_decoder.iou_token.weight"]
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ConfigError, match=r"which lacks 1, such as mask_decoder\.iou_token"):
        Sam2(tmp_path, device="cpu").segment(scene(), boxes, points)


def test_masks_that_are_not_finite_are_an_error() -> None:
    """NaN is never an empty mask, from a model or from a predictor."""
    model = tiny_sam2()
    boxes, points, _ = prompts(2)
    with torch.no_grad():
        model.mask_decoder.iou_token.weight.fill_(float("nan"))
    for segmenter in (Sam2(model), Sam2Predictor(StandIn(model))):
        with pytest.raises(ConfigError, match="expected finite masks and scores, got NaN"):
            segmenter.segment(scene(), boxes, points)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"masks": "three"}, "masks: expected 'best' or 'single', got 'three'"),
        ({"chunk": 0}, "chunk: expected a whole number of at least 1, got 0"),
        ({"chunk": True}, "chunk: expected a whole number"),
        ({"cache": -1}, "cache: expected a whole number of at least 0, got -1"),
        ({"dtype": "int8"}, "dtype: expected the name of a torch dtype"),
        ({"dtype": "half a float"}, "dtype: expected the name of a torch dtype"),
        ({"model": 7}, "model: expected a name, a folder or a transformers.Sam2Model, got int"),
    ],
)
def test_bad_arguments(model: Any, arguments: dict[str, Any], message: str) -> None:
    """Each is named when the segmenter is made."""
    with pytest.raises(InputError, match=message):
        Sam2(**{"model": model, **arguments})


NAN = float("nan")


@pytest.mark.parametrize(
    ("boxes", "points", "signs", "message"),
    [
        ([[0, 0, 5]], [[[1, 1]]], None, r"boxes: expected shape \(K, 4\), got \(1, 3\)"),
        ([[0, 0, 5, NAN]], [[[1, 1]]], None, "boxes: expected finite numbers, or NaN for a whole"),
        ([[0, 0, 5, np.inf]], [[[1, 1]]], None, "boxes: expected finite numbers"),
        ([[NAN] * 4], [[[1, 1]]], [[-1]], r"boxes\[0\]: expected a box, points or both"),
        ([[0, 0, 5, 5], [NAN] * 4], np.zeros((2, 0, 2)), None, r"boxes\[1\]: expected a box"),
        ([[0, 0, 5, 5]], [], None, r"points: expected shape \(1, P, 2\)"),
        ([[0, 0, 5, 5]], [[1, 1]], None, r"points: expected shape \(1, P, 2\)"),
        ([[0, 0, 5, 5]], [[[1, NAN]]], [[1]], "points: expected finite numbers"),
        ([[0, 0, 5, 5]], [[[1, 1]]], [[2]], r"signs: expected -1, 0 and 1"),
        ([[0, 0, 5, 5]], [[[1, 1]]], [1], r"signs: expected -1, 0 and 1"),
    ],
)
def test_bad_prompts(model: Any, boxes: Any, points: Any, signs: Any, message: str) -> None:
    """Each is named, before the model is asked."""
    with encodings(model) as seen, pytest.raises(InputError, match=message):
        Sam2(model).segment(scene(), boxes, points, signs)
    assert not seen


def test_bad_images(model: Any) -> None:
    """Floats and arrays without colours are none."""
    boxes, points, _ = prompts(1)
    for image in (scene()[..., 0], scene() / 255, np.zeros((0, 4, 3), dtype=np.uint8)):
        with pytest.raises(InputError, match=r"image: expected a PIL\.Image of 8 bits"):
            Sam2(model).segment(image, boxes, points)


@pytest.mark.parametrize("masks", ["best", "single"])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_both_segmenters_agree(plain: Any, masks: Any, count: int) -> None:
    """Meta's predictor and transformers' model, of one set of weights, give the same masks."""
    boxes, points, signs = prompts(count)
    if count > 2:
        boxes[2] = np.nan
    predictor = Sam2Predictor(StandIn(plain), masks=masks, chunk=4)
    found = predictor.segment(scene(), boxes, points, signs)
    expected = Sam2(plain, masks=masks).segment(scene(), boxes, points, signs)
    assert found.dtype == bool
    assert found.shape == expected.shape
    # The predictor does not round the resized image to whole levels.
    assert (found ^ expected).mean() < 0.005


def test_a_predictor_is_given_an_image_once(model: Any) -> None:
    """Only where it differs from the last one, and again after one that failed."""
    boxes, points, _ = prompts(6)
    stand_in = StandIn(model)
    segmenter = Sam2Predictor(stand_in, chunk=4)
    assert segmenter.segment(scene(), [], []).shape == (0, HEIGHT, WIDTH)
    for image in (0, 0, 1):
        segmenter.segment(scene(image), boxes, points)
    set_image = stand_in.set_image
    stand_in.set_image = lambda image: set_image(image[:, :, None])  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        segmenter.segment(scene(0), boxes, points)
    stand_in.set_image = set_image  # type: ignore[method-assign]
    segmenter.segment(scene(1), boxes, points)
    once = ["set_image", "predict", "predict"]
    assert stand_in.calls == [*once, *once[1:], *once, "set_image", *once]


def test_a_predictor_without_the_methods_is_none() -> None:
    """It is named when the segmenter is made."""
    with pytest.raises(InputError, match="expected a SAM2ImagePredictor, with set_image and"):
        Sam2Predictor(object())


def test_bfloat16_on_a_gpu_and_nowhere_else(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast is on where the device is a GPU, unless a dtype was asked for."""
    boxes, points, _ = prompts(2)
    asked: list[Any] = []
    real = torch.autocast

    def autocast(device: str, dtype: Any, enabled: bool) -> Any:
        asked.append((device, dtype, enabled))
        return real("cpu", dtype=dtype, enabled=False)

    monkeypatch.setattr(torch, "autocast", autocast)
    stand_in = StandIn(model)
    Sam2Predictor(stand_in).segment(scene(), boxes, points)
    stand_in.device = torch.device("cuda", 1)
    Sam2Predictor(stand_in).segment(scene(), boxes, points)
    Sam2(model).segment(scene(), boxes, points)
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    free, fixed = Sam2(model), Sam2(model, dtype="float32")
    free._autocast(), fixed._autocast()
    off, on = ("cpu", torch.bfloat16, False), ("cuda", torch.bfloat16, True)
    assert asked == [off, off, on, on, off, off, on, off]


def score_in_two_threads(
    recipe: str, texts: list[str], truth: list[Mask], model: Any
) -> tuple[Any, int]:
    """What eight rollouts on two images measure, and how often images were encoded."""
    images = [scene(row // 4) for row in range(8)]
    with encodings(model) as seen:
        scorer = rr.Scorer(recipe, segmenter=Sam2(model))
        rows = [slice(0, 8, 2), slice(1, 8, 2)]
        halves = in_threads(
            [
                lambda part=part: scorer.score(
                    texts[part], [{"mask": mask} for mask in truth[part]], images=images[part]
                )
                for part in rows
            ]
        )
    raw = np.zeros(8)
    for part, batch in zip(rows, halves, strict=True):
        assert batch.failures == [None] * 4
        raw[part] = batch.raw["mask"]
    return raw, len(seen)


def slow_unions(model: Any, asked: list[Any], frame: float) -> list[Mask]:
    """The mask of each rollout by the slow path, from boxes and points in the recipe's frame."""
    size = np.array([WIDTH, HEIGHT]) / frame
    unions = []
    for row, (boxes, points, signs) in enumerate(asked):
        corners = (np.reshape(boxes, (-1, 2, 2)) * size).reshape(-1, 4)
        masks = slow(model, scene(row // 4), corners, np.array(points) * size, signs)
        unions.append(masks.any(axis=0))
    return unions


def ious(masks: list[Mask], truth: list[Mask]) -> list[float]:
    return [
        np.count_nonzero(a & b) / np.count_nonzero(a | b) for a, b in zip(masks, truth, strict=True)
    ]


def block() -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[20:70, 30:100] = True
    return mask


def boxes_with_two_points(count: int, rng: Any) -> tuple[Any, Any, Any]:
    """Boxes in a frame of 800, two points inside each, at a third and at a half of it."""
    low = rng.integers(1, 400, (count, 2))
    side = rng.integers(60, 400, (count, 2))
    inside = np.stack([low + side // 3, low + side // 2], axis=1)
    return np.hstack([low, low + side]), inside, np.ones((count, 2), dtype=int)


def test_genseg_r1_g_in_the_loop(model: Any) -> None:
    """Two threads score two groups: each image is encoded once, and each IoU is the slow path's."""
    rng = np.random.default_rng(0)
    asked = [boxes_with_two_points(3, rng) for _ in range(8)]
    texts = []
    for boxes, points, _ in asked:
        entries = [
            {"bbox_2d": box.tolist(), "point_1": first.tolist(), "point_2": second.tolist()}
            for box, (first, second) in zip(boxes, points, strict=True)
        ]
        texts.append(f"<think>It.</think><answer>{json.dumps(entries)}</answer>")
    raw, encoded = score_in_two_threads("genseg_r1_g", texts, [block()] * 8, model)
    assert encoded == 2
    expected = ious(slow_unions(model, asked, 1000), [block()] * 8)
    np.testing.assert_allclose(raw, expected, atol=0.001)
    assert np.ptp(expected) > 0.05


def test_sam_r1_in_the_loop(model: Any) -> None:
    """The tiers of the slow path's IoU, with references that lack a part of its masks."""
    rng = np.random.default_rng(1)
    asked = [boxes_with_two_points(1, rng) for _ in range(8)]
    texts = []
    for (box,), ((first, second),), _ in asked:
        answer = {
            "bbox": box.tolist(),
            "points_1": first.tolist(),
            "points_2": second.tolist(),
        }
        texts.append(f"<think>It.</think><answer>{json.dumps(answer)}</answer>")
    truth = slow_unions(model, asked, 840)
    kept = [1.0, 0.9, 0.75, 0.6, 0.4, 0.85, 0.65, 0.2]
    for mask, share in zip(truth, kept, strict=True):
        places = np.flatnonzero(mask)
        mask.reshape(-1)[places[round(share * len(places)) :]] = False
    raw, encoded = score_in_two_threads("sam_r1", texts, truth, model)
    assert encoded == 2
    assert raw.tolist() == [1.0, 1.0, 0.75, 0.5, 0.0, 1.0, 0.5, 0.0]


def test_seg_r1_in_the_loop(model: Any) -> None:
    """Signed points, two of one box and one of the other, are passed on as on and off it."""
    asked, texts = [], []
    for row in range(8):
        left, right = [10 + row, 20, 300, 400], [400, 100 + row, 700, 700]
        texts.append(
            f"<think>It.</think><bbox>{left}</bbox><bbox>{right}</bbox>"
            "<points>[[50, 60], [200, 300], [600, 600]]</points><labels>[1, 0, 1]</labels>"
        )
        points = [[[50, 60], [200, 300]], [[600, 600], [0, 0]]]
        asked.append(([left, right], points, [[1, 0], [1, -1]]))
    raw, encoded = score_in_two_threads("seg_r1", texts, [block()] * 8, model)
    assert encoded == 2
    np.testing.assert_allclose(raw, ious(slow_unions(model, asked, 768), [block()] * 8), atol=0.001)
    unsigned = [(boxes, points, [[1, 1], [1, -1]]) for boxes, points, _ in asked]
    other = ious(slow_unions(model, unsigned, 768), [block()] * 8)
    assert np.abs(raw - other).max() > 0.01
