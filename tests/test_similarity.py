"""CLIP's cosines against the model's own forward pass, pair by pair; crops against Pillow's."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rankreward.errors import ConfigError, InputError, MissingExtraError
from rankreward.rewards.images import crop
from rankreward.rewards.similarity import ClipSimilarity

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
WORDS = {"re": ("r", "e"), "red</w>": ("re", "d</w>"), "cu": ("c", "u"), "cup</w>": ("cu", "p</w>")}
TEXTS = ["a red cup", "red", "the cup on the left", "", "a red cup", "something else", "x"]


def build(folder: Path) -> None:
    """Save a CLIP of random weights, with a tokenizer that knows the alphabet and two words."""
    names = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *WORDS]
    vocab = {token: i for i, token in enumerate([*names, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = transformers.CLIPTokenizer(
        vocab=vocab, merges=list(WORDS.values()), model_max_length=77
    )
    sides = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = transformers.CLIPConfig(
        text_config={
            **sides,
            "vocab_size": len(vocab),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**sides, "image_size": 32, "patch_size": 8},
        projection_dim=8,
        initializer_factor=10.0,  # else the random features hardly depend on what they are of
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    side = {"height": 32, "width": 32}
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side).save_pretrained(
        folder
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("clip")
    build(found)
    return found


@pytest.fixture(scope="module")
def clip(folder: Path) -> ClipSimilarity:
    return ClipSimilarity(folder, device="cpu")


def pictures(count: int, seed: int = 0) -> list[Any]:
    """Images of many sizes; every second one is Pillow's."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 60, (count, 2))
    arrays = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]
    return [Image.fromarray(array) if i % 2 else array for i, array in enumerate(arrays)]


def slow_twin(folder: Path, images: list[Any], texts: list[str]) -> list[float]:
    """One forward pass a pair, scaled logits and all, by transformers' own processor."""
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPProcessor(
        transformers.CLIPImageProcessorPil.from_pretrained(folder),
        transformers.CLIPTokenizer.from_pretrained(folder),
    )
    values = []
    for image, text in zip(images, texts, strict=True):
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        with torch.no_grad():
            logits = model(**processor(text=[text], images=[picture], return_tensors="pt"))
        values.append(float(logits.logits_per_image / model.logit_scale.detach().exp()))
    return values


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_cosines_are_those_of_the_model(folder: Path, batch_size: int) -> None:
    """Each value is the cosine that the model itself gives for this pair alone."""
    images = pictures(len(TEXTS))
    found = ClipSimilarity(folder, device="cpu", batch_size=batch_size)(images, TEXTS)
    expected = slow_twin(folder, images, TEXTS)
    assert found.dtype == np.float64
    assert np.ptp(found) > 0.1  # random weights, but not blind
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@given(st.randoms(use_true_random=False))
def test_the_rest_of_the_batch_does_not_matter(clip: ClipSimilarity, random: Any) -> None:
    """Any choice of pairs, in any order, has the values of the whole batch."""
    images = pictures(len(TEXTS))
    whole = clip(images, TEXTS)
    chosen = [random.randrange(len(TEXTS)) for _ in range(random.randint(1, 9))]
    found = clip([images[i] for i in chosen], [TEXTS[i] for i in chosen])
    np.testing.assert_allclose(found, whole[chosen], atol=1e-6, rtol=0)


def counting(call: Any, seen: list[int]) -> Any:
    """`call`, which notes how many items it gets."""

    def counted(items: list[Any]) -> Any:
        seen.append(len(items))
        return call(items)

    return counted


def test_each_distinct_thing_is_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images count once by their pixels, texts by what they say, in batches of the size given."""
    clip = ClipSimilarity(folder, device="cpu", batch_size=2)
    images = pictures(3)
    clip(images[:1], ["x"])
    sizes: dict[str, list[int]] = {"image": [], "text": []}
    for kind, seen in sizes.items():
        name = f"_{kind}_features"

        monkeypatch.setattr(clip, name, counting(getattr(clip, name), seen))
    clip([images[i] for i in (0, 1, 0, 2, 2, 0)], ["a", "b", "a", "b", "c", "a"])
    assert sizes == {"image": [2, 1], "text": [2, 1]}
    whole = crop(images[0], [0, 0, 9, 9], 9, 9)  # another object, and an equal image
    reshaped = images[0].reshape(-1, 1, 3)  # the same bytes, and another image
    found = clip([images[0], whole, reshaped, images[1], images[1].copy()], ["a"] * 5)
    assert sizes == {"image": [2, 1, 2, 1], "text": [2, 1, 1]}
    assert found[0] == found[1] != found[2]
    assert found[3] == found[4]


def test_a_text_that_cannot_be_compared_is_nan(
    clip: ClipSimilarity, capfd: pytest.CaptureFixture[str]
) -> None:
    """77 tokens are compared, 78 are NaN, never cut; so is half a surrogate; the rest goes on."""
    image = pictures(1) * 5
    fits, long = " ".join("a" * 75), " ".join("a" * 76)
    found = clip(image, [fits, long, "red", "\ud800", long + " red"])
    assert np.isnan(found).tolist() == [False, True, False, True, True]
    assert np.isnan(clip(image[:2], [long, "\ud800"])).all()
    assert np.isnan(clip(image[:1], ["\ud800"])).all()
    assert "longer than" not in "".join(capfd.readouterr())


def test_modes_of_pillow_are_read_as_rgb(clip: ClipSimilarity) -> None:
    """Gray and transparent images are compared as the RGB that they show."""
    rgb = Image.fromarray(pictures(1)[0])
    gray, clear = rgb.convert("L"), rgb.convert("RGBA")
    found = clip([gray, gray.convert("RGB"), clear, rgb], ["red"] * 4)
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[2] == pytest.approx(found[3], abs=1e-6)


@pytest.mark.parametrize(
    ("images", "texts", "message"),
    [
        (["cup.png"], ["x"], r"images\[0\]: expected a PIL.Image .* got str"),
        ([np.zeros((4, 4, 3))], ["x"], r"images\[0\]: .* got \(4, 4, 3\) float64"),
        ([np.zeros((4, 4), np.uint8)], ["x"], r"images\[0\]: .* got \(4, 4\) uint8"),
        ([np.zeros((0, 4, 3), np.uint8)], ["x"], r"images\[0\]: .* got \(0, 4, 3\) uint8"),
        ([Image.new("F", (4, 4))], ["x"], r"images\[0\]: .* got Image of mode F"),
        ([Image.new("I;16", (4, 4))], ["x"], r"images\[0\]: .* of mode I;16"),
        ([Image.new("L", (4, 4))], [None], r"texts\[0\]: expected a str, got NoneType"),
        ([], ["x"], "texts: expected one an image, 0, got 1"),
    ],
)
def test_wrong_pairs_are_errors(
    clip: ClipSimilarity, images: list[Any], texts: list[Any], message: str
) -> None:
    """What is no image or no text raises and never becomes a value."""
    with pytest.raises(InputError, match=message):
        clip(images, texts)


def test_nothing_is_loaded_before_it_is_needed(tmp_path: Path) -> None:
    """A model that is not there is no matter until a pair is to be compared; then it is one."""
    clip = ClipSimilarity(tmp_path / "nowhere")
    assert clip([], []).shape == (0,)
    for _ in range(2):  # the failure is not remembered as a success
        with pytest.raises(ConfigError, match=r"expected the name of a CLIP .* network") as caught:
            clip(pictures(1), ["x"])
        assert isinstance(caught.value.__cause__, OSError)


def test_the_default_model_needs_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline and without a copy the error names the model and what it needs."""
    monkeypatch.setattr(transformers.CLIPModel, "from_pretrained", offline)
    with pytest.raises(ConfigError, match=r"network.*'openai/clip-vit-base-patch32'"):
        ClipSimilarity()(pictures(1), ["x"])


def offline(name: str, **options: Any) -> None:
    raise OSError("no connection")


def test_what_a_checkpoint_lacks_is_not_made_up(folder: Path, tmp_path: Path) -> None:
    """Missing weights, tokenizer or image settings are errors, where transformers invents some."""
    cases = {
        "expected all weights": "model.safetensors",
        "expected a tokenizer of 58 tokens": "tokenizer.json",
        "preprocessor_config": "preprocessor_config.json",
    }
    for message, missing in cases.items():
        broken = tmp_path / missing
        broken.mkdir()
        for file in folder.iterdir():
            if file.name != missing:
                (broken / file.name).write_bytes(file.read_bytes())
        if missing == "model.safetensors":
            config = transformers.CLIPConfig.from_pretrained(folder)
            transformers.CLIPTextModel(config.text_config).save_pretrained(broken)
            config.save_pretrained(broken)
        with pytest.raises(ConfigError, match=message):
            ClipSimilarity(broken)(pictures(1), ["x"])


def test_weights_that_are_not_finite_are_an_error(folder: Path) -> None:
    """NaN means a text that cannot be compared, so a broken model must not give it."""
    clip = ClipSimilarity(folder, device="cpu")
    clip(pictures(1), ["x"])
    with torch.no_grad():
        clip._clip.visual_projection.weight.fill_(float("nan"))
    with pytest.raises(ConfigError, match="expected finite features"):
        clip(pictures(1), ["x"])


def test_settings_of_openais_checkpoints_are_read(folder: Path, tmp_path: Path) -> None:
    """Their preprocessor_config.json is of an older form, with sides as plain numbers."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "preprocessor_config.json").write_text(
        '{"feature_extractor_type": "CLIPFeatureExtractor", "do_resize": true, "size": 32, '
        '"do_center_crop": true, "crop_size": 32, "resample": 3, "do_normalize": true, '
        '"image_mean": [0.48145466, 0.4578275, 0.40821073], '
        '"image_std": [0.26862954, 0.26130258, 0.27577711]}'
    )
    images = pictures(3)
    found = ClipSimilarity(tmp_path, device="cpu")(images, TEXTS[:3])
    np.testing.assert_array_equal(found, ClipSimilarity(folder, device="cpu")(images, TEXTS[:3]))


def test_half_precision_weights_are_widened(folder: Path, tmp_path: Path) -> None:
    """A checkpoint saved in half precision runs in single."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    transformers.CLIPModel.from_pretrained(folder).half().save_pretrained(tmp_path)
    clip = ClipSimilarity(tmp_path, device="cpu")
    clip(pictures(1), ["x"])
    assert {weight.dtype for weight in clip._clip.parameters()} == {torch.float32}
    assert not clip._clip.training


def test_threads_share_one_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls from many threads load once and give what one thread gets."""
    loads = []
    load = transformers.CLIPModel.from_pretrained

    def counted(*args: Any, **options: Any) -> Any:
        loads.append(args)
        return load(*args, **options)

    monkeypatch.setattr(transformers.CLIPModel, "from_pretrained", counted)
    clip = ClipSimilarity(folder, device="cpu")
    images = pictures(len(TEXTS))
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: clip(images, TEXTS), range(16)))
    assert len(loads) == 1
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("package", ["torch", "transformers", "PIL"])
def test_a_missing_package_is_named_at_once(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Without what it needs it cannot be made, and the error names the extra."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*rankreward\[trl\]"):
        ClipSimilarity()


@pytest.mark.parametrize("size", [0, -1, 2.0, None])
def test_the_batch_size_is_a_count(size: Any) -> None:
    """Batches hold at least one."""
    with pytest.raises(InputError, match="batch_size: expected a whole number"):
        ClipSimilarity(batch_size=size)


def test_making_one_imports_nothing_heavy() -> None:
    """Neither the modules nor an encoder that is not called yet import what they need later."""
    code = (
        "import sys; from rankreward.rewards import masks, similarity; similarity.ClipSimilarity();"
        "print([m for m in ('torch', 'transformers', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


sides = st.integers(1, 40)


@given(st.data())
def test_crops_are_pillows(data: st.DataObject) -> None:
    """In a frame of the image's size, whole boxes with area inside crop as Pillow does."""
    height, width = data.draw(sides), data.draw(sides)
    image = Image.fromarray(pictures(1)[0]).resize((width, height))
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = (x1, y1, data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height)))
    expected = np.asarray(image.crop(box))
    np.testing.assert_array_equal(crop(image, box, width, height), expected)
    larger = [7 * place for place in box]
    np.testing.assert_array_equal(crop(np.array(image), larger, 7 * width, 7 * height), expected)


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4),
    sides,
    sides,
    st.floats(0.5, 2000),
)
def test_a_crop_is_never_empty(box: list[float], height: int, width: int, frame: float) -> None:
    """Any box at all leaves a pixel of the image, and no more than the image."""
    image = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    found = crop(image, box, frame, frame)
    assert 1 <= found.shape[0] <= height
    assert 1 <= found.shape[1] <= width


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0, 0, 8, 6], (slice(0, 6), slice(0, 8))),
        ([-5, -5, 50, 50], (slice(0, 6), slice(0, 8))),
        ([2.4, 1.6, 4.6, 3.4], (slice(2, 3), slice(2, 5))),
        ([3, 2, 3, 2], (slice(2, 3), slice(3, 4))),
        ([90, -9, 99, -8], (slice(0, 1), slice(7, 8))),
        ([5, 4, 2, 1], (slice(4, 5), slice(5, 6))),
    ],
)
def test_crops_by_hand(box: list[float], expected: tuple[slice, slice]) -> None:
    """Edges round to pixels, parts outside are cut off, and one pixel stays; it is a copy."""
    image = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)
    found = crop(image, box, 8, 6)
    np.testing.assert_array_equal(found, image[expected])
    assert not np.shares_memory(found, image)


def test_crops_of_pillow_are_rgb() -> None:
    """Gray and transparent images are cropped as RGB; other depths are errors."""
    for mode in ("1", "L", "P", "RGBA"):
        assert crop(Image.new(mode, (4, 4)), [0, 0, 2, 1], 4, 4).shape == (1, 2, 3)
    with pytest.raises(InputError, match="image: expected a PIL"):
        crop(Image.new("I", (4, 4)), [0, 0, 2, 1], 4, 4)


@pytest.mark.parametrize("box", [[0, 0, 1], [[0, 0, 1, 1]], [0, 0, np.nan, 1], "box"])
def test_a_box_is_four_numbers(box: Any) -> None:
    """Anything else is an error."""
    with pytest.raises(InputError, match="box: expected"):
        crop(np.zeros((4, 4, 3), np.uint8), box, 4, 4)
