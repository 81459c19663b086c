"""How well texts fit images.

Goes in: images, or crops of them, and one text an image. Comes out: one cosine a pair, by whatever
encoder stands behind `Similarity`. `ClipSimilarity` is the one that captioning rewards use.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import ConfigError, InputError, MissingExtraError, require
from rankreward.rewards.images import Image, as_rgb

Similarity = Callable[[Sequence[Image], Sequence[str]], ArrayLike]
"""f(images, texts): (B,) cosines in [-1, 1], NaN where a text cannot be compared."""


class ClipSimilarity:
    r"""Cosine of an image and a text, as CLIP sees them.

    .. math:: \frac{f(\text{image}) \cdot g(\text{text})}{\|f(\text{image})\| \|g(\text{text})\|}

    Nothing is loaded before the first call. Images are resized by Pillow, as in OpenAI's code.
    Weights are held in float32 whatever they were saved as. Safe under threads, one call at a time.

    Args:
        model: name of a CLIP model on the Hugging Face hub, or a folder that holds one.
        device: where it runs, such as ``"cuda:1"``; a GPU if there is one, unless given.
        batch_size: how many images, and how many texts, are encoded at a time.

    Raises:
        InputError: `batch_size` is no whole number of at least 1.
        MissingExtraError: torch, transformers or Pillow is not installed.

    Source:
        Radford et al., ICML 2021, arXiv 2103.00020; a reward in DPAD, arXiv 2603.04002.
    """

    def __init__(
        self,
        model: str | Path = "openai/clip-vit-base-patch32",
        *,
        device: str | None = None,
        batch_size: int = 64,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(
                f"batch_size: expected a whole number of at least 1, got {batch_size!r}"
            )
        for package in ("torch", "transformers", "PIL"):  # found, not imported: that takes seconds
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(
                    f"this needs the package {package!r}, which is not installed: "
                    "pip install 'rankreward[trl]'"
                )
        self.model, self.device, self.batch_size = str(model), device, batch_size
        self._lock = threading.Lock()
        self._clip: Any = None
        self._tokenizer: Any = None
        self._processor: Any = None

    def __call__(self, images: Sequence[Image], texts: Sequence[str]) -> NDArray[np.float64]:
        """Compare each image with the text at its place.

        Args:
            images: B of them, each a PIL.Image or (H, W, 3) uint8, RGB.
            texts: B of them.

        Returns:
            (B,) float64 in [-1, 1]. NaN for a text that is longer than the encoder reads (77 tokens
            with the two at its ends), for cut off it would be another text; and for one that is no
            valid Unicode. The batch that a pair is in changes its value by rounding only; within
            a batch equal pairs have equal values.

        Raises:
            InputError: the lengths differ, an image is neither of the two, or a text is no str.
            ConfigError: the model cannot be loaded, or gives no finite features.

        Cost:
            One encoding for each distinct image and each distinct text, whichever objects hold
            them; about 1 ms a megabyte to tell images apart.
        """
        pictures, captions = list(images), list(texts)
        keys, distinct = _distinct(pictures, captions)
        values = np.full(len(captions), np.nan)
        if not captions:
            return values
        with self._lock:  # neither the tokenizer nor the device is any use to two calls at once
            self._load()
            tokens = self._tokens(captions)
            image_rows = self._encode(distinct, self._image_features)
            text_rows = self._encode(tokens, self._text_features)
        for i, (key, text) in enumerate(zip(keys, captions, strict=True)):
            if text in text_rows:
                values[i] = image_rows[key] @ text_rows[text]
        return np.asarray(values.clip(-1.0, 1.0))

    def _load(self) -> None:
        """Load model, tokenizer and image processor, once."""
        if self._clip is not None:
            return
        torch: Any = require("torch", extra="trl")
        hub: Any = require("transformers", extra="trl")
        try:
            clip, report = hub.CLIPModel.from_pretrained(
                self.model, dtype=torch.float32, output_loading_info=True
            )
            self._tokenizer = hub.CLIPTokenizer.from_pretrained(self.model)
            # Pillow, with torchvision or without: the two resize differently.
            self._processor = hub.CLIPImageProcessorPil.from_pretrained(self.model)
        except Exception as error:
            raise ConfigError(
                "model: expected the name of a CLIP model on the Hugging Face hub (this needs the "
                "network, or an earlier download) or a folder with its config, weights, tokenizer "
                f"and preprocessor_config.json, got {self.model!r}: {error}. A Scorer takes any "
                "other function as similarity="
            ) from error
        # What a checkpoint lacks transformers makes up: random weights, a tokenizer of two tokens.
        if report["missing_keys"]:
            raise ConfigError(
                f"model: expected all weights of a CLIP model, got {self.model!r}, which lacks "
                f"{len(report['missing_keys'])}, such as {min(report['missing_keys'])}"
            )
        known, size = len(self._tokenizer), clip.config.text_config.vocab_size
        if known != size:
            raise ConfigError(
                f"model: expected a tokenizer of {size} tokens, as its text encoder has, "
                f"got {self.model!r}, whose tokenizer has {known}"
            )
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._clip = clip.to(device).eval()

    def _tokens(self, texts: list[str]) -> dict[str, list[int]]:
        """Token ids of each distinct text that the encoder can read."""
        valid = [text for text in dict.fromkeys(texts) if _is_unicode(text)]
        if not valid:
            return {}
        limit = self._clip.config.text_config.max_position_embeddings
        ids = self._tokenizer(valid, verbose=False)["input_ids"]
        return {text: row for text, row in zip(valid, ids, strict=True) if len(row) <= limit}

    def _encode(
        self, items: dict[Any, Any], features: Callable[[list[Any]], Any]
    ) -> dict[Any, NDArray[np.float64]]:
        """Features of each item, of length 1, a batch at a time; under the keys of the items."""
        torch: Any = require("torch", extra="trl")
        keys, values = list(items), list(items.values())
        rows: dict[Any, NDArray[np.float64]] = {}
        for start in range(0, len(keys), self.batch_size):
            batch = slice(start, start + self.batch_size)
            with torch.inference_mode():
                found = features(values[batch]).pooler_output.double().cpu().numpy()
            norms = np.linalg.norm(found, axis=1, keepdims=True)
            if not (np.isfinite(norms) & (norms > 0)).all():
                raise ConfigError(
                    f"model: expected finite features that are not all 0, got others from "
                    f"{self.model!r}"
                )
            rows.update(zip(keys[batch], found / norms, strict=True))
        return rows

    def _image_features(self, images: list[NDArray[np.uint8]]) -> Any:
        pil: Any = require("PIL.Image", extra="trl")
        # As Pillow's, since of an array of (3, W, 3) the processor would have to guess the axes.
        batch = self._processor([pil.fromarray(image) for image in images], return_tensors="pt")
        return self._clip.get_image_features(pixel_values=batch["pixel_values"].to(self._device))

    def _text_features(self, tokens: list[list[int]]) -> Any:
        torch: Any = require("torch", extra="trl")
        width = max(map(len, tokens))
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in tokens])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in tokens])
        return self._clip.get_text_features(
            input_ids=ids.to(self._device), attention_mask=mask.to(self._device)
        )

    @property
    def _device(self) -> Any:
        return self._clip.device


def _distinct(
    images: list[Image], texts: list[str]
) -> tuple[list[bytes], dict[bytes, NDArray[np.uint8]]]:
    """The key of each image, and each distinct image by its key.

    Pixels decide, not objects: each completion may bring its own crop of the one image, and a crop
    that is the whole image must be exactly as similar as the image.

    Raises:
        InputError: the two do not make pairs of an image and a text.
    """
    if len(images) != len(texts):
        raise InputError(f"texts: expected one an image, {len(images)}, got {len(texts)}")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"texts[{i}]: expected a str, got {type(text).__name__}")
    key_of: dict[int, bytes] = {}  # by id, so that an object given again is not read again
    distinct: dict[bytes, NDArray[np.uint8]] = {}
    for i, image in enumerate(images):
        if id(image) not in key_of:
            pixels = as_rgb(f"images[{i}]", image)
            digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()
            key_of[id(image)] = repr(pixels.shape).encode() + digest
            distinct.setdefault(key_of[id(image)], pixels)
    return [key_of[id(image)] for image in images], distinct


def _is_unicode(text: str) -> bool:
    """Whether a tokenizer can read it: JSON may write half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
