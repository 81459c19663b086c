"""SAM2 as a segmenter: one encoding an image, all objects in one call.

Goes in: an image, and a box, points or both for each object. Comes out: one mask an object. `Sam2`
runs on transformers, `Sam2Predictor` on a predictor of Meta's own package. Both are Segmenters, for
the recipes that look at masks and for evaluation.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankreward.errors import ConfigError, InputError, MissingExtraError, require
from rankreward.evaluation.prompts import Prompts, batches, read_prompts
from rankreward.rewards.images import Image, as_rgb

__all__ = ["Choice", "Sam2", "Sam2Predictor"]

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Choice = Literal["best", "single"]
"""Which of SAM2's masks is an object's.

``"best"``: of its three, that with the highest predicted score (VisionReasoner, Seg-Zero, Dr. Seg).
``"single"``: the one that it gives when asked for one (Think2Seg-RS, Seg-R1).
"""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0, 1]


class _Prompted(ABC):
    """What both segmenters share: the checks, the batches, and the lock."""

    def __init__(self, masks: Choice, chunk: int) -> None:
        if masks not in ("best", "single"):
            raise InputError(f"masks: expected 'best' or 'single', got {masks!r}")
        self.masks, self.chunk = masks, _count("chunk", chunk, least=1)
        self._lock = threading.Lock()

    def segment(
        self, image: Image, boxes: ArrayLike, points: ArrayLike, signs: ArrayLike | None = None
    ) -> Mask:
        """Segment K objects of one image.

        Args:
            image: (H, W, 3) uint8, RGB, or a PIL.Image.
            boxes: (K, 4), xyxy, in pixels of the image; a row of NaN for an object without a box.
                What reaches beyond the image is passed on as it is.
            points: (K, P, 2), xy, in pixels of the image; P may be 0.
            signs: (K, P): 1 on the object, 0 off it, -1 for no point; all 1 unless given.

        Returns:
            (K, H, W) bool. An object's mask depends on its own prompt alone, but for rounding.
            With K = 0 nothing is loaded and nothing is run.

        Raises:
            InputError: a shape or type is another one, a place is not finite, or an object has
                neither box nor point.
            ConfigError: the model cannot be loaded, or gives no finite masks.
        """
        pixels = as_rgb("image", image)
        corners, hints, marks = read_prompts(boxes, points, signs)
        found = np.zeros((len(corners), *pixels.shape[:2]), dtype=bool)
        if len(corners):
            key = _key(pixels)
            with self._lock:  # a model and its memory are no use to two calls at once
                seen = self._look(pixels, key)
                for prompts in batches(corners, hints, marks, self.chunk):
                    found[prompts.rows] = self._masks(seen, prompts, pixels.shape[:2])
        return found

    @abstractmethod
    def _look(self, pixels: NDArray[np.uint8], key: bytes) -> Any:
        """Encode an image, unless that was done."""

    @abstractmethod
    def _masks(self, seen: Any, prompts: Prompts, size: tuple[int, ...]) -> Mask:
        """(k, H, W) bool."""


class Sam2(_Prompted):
    """SAM2 as transformers has it, without torchvision. Safe under threads, one call at a time.

    Images, boxes and points are prepared, and masks resized, as transformers' `Sam2Processor` does
    (Meta's code differs in that it does not round the resized image to whole levels of colour).
    Each image is encoded once and its embedding kept, known by its pixels: the group of rollouts on
    one image costs one encoding. An embedding at 1,024 pixels takes 17 MB in float32.

    On a GPU it runs under bfloat16 autocast, as the published evaluations do, unless a `dtype` is
    given.

    Args:
        model: name of a SAM2 or SAM2.1 model on the Hugging Face hub, or a folder that holds one,
            loaded when first used; or a `Sam2Model`, which is used as it stands, but for being put
            into evaluation mode and where `device` and `dtype` say.
        device: where it runs, such as ``"cuda:1"``; for a name a GPU if there is one, unless given.
        dtype: of the weights and of all that is computed, such as ``"float32"``.
        masks: ``"best"`` or ``"single"``, see `Choice`. A single mask that is unstable is replaced
            by the best one, as the model's own configuration has it.
        chunk: how many objects are segmented at a time; a CPU is fastest with about 4.
        cache: how many images' embeddings are kept; those used last stay.

    Raises:
        InputError: an argument is none of these.
        MissingExtraError: torch or transformers is not installed.

    Source:
        Ravi et al., SAM 2, ICLR 2025, arXiv 2408.00714.
    """

    def __init__(
        self,
        model: Any = "facebook/sam2-hiera-large",
        *,
        device: Any = None,
        dtype: Any = None,
        masks: Choice = "best",
        chunk: int = 32,
        cache: int = 8,
    ) -> None:
        super().__init__(masks, chunk)
        for package in ("torch", "transformers"):  # found, not imported: that takes seconds
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(
                    f"this needs the package {package!r}, which is not installed: "
                    "pip install 'rankreward[trl]'"
                )
        self.device, self.dtype, self.cache = device, dtype, _count("cache", cache, least=0)
        self.name = str(model) if isinstance(model, str | Path) else type(model).__name__
        self._model: Any = None
        self._embeddings: OrderedDict[bytes, Any] = OrderedDict()
        if not isinstance(model, str | Path):
            if not isinstance(model, require("transformers", extra="trl").Sam2Model):
                raise InputError(
                    f"model: expected a name, a folder or a transformers.Sam2Model, got {self.name}"
                )
            self._model = model.to(device=device, dtype=self._torch_dtype()).eval()

    def _look(self, pixels: NDArray[np.uint8], key: bytes) -> Any:
        """The image's embeddings at three scales, from the cache if they are there."""
        embeddings = self._embeddings.pop(key, None)
        if embeddings is None:
            self._load()
            torch: Any = require("torch", extra="trl")
            with torch.inference_mode(), self._autocast():
                embeddings = self._model.get_image_embeddings(self._pixel_values(pixels))
        self._embeddings[key] = embeddings
        while len(self._embeddings) > self.cache:
            self._embeddings.popitem(last=False)
        return embeddings

    def _masks(self, seen: Any, prompts: Prompts, size: tuple[int, ...]) -> Mask:
        torch: Any = require("torch", extra="trl")
        scale = torch.tensor([self._side / size[1], self._side / size[0]])
        given: dict[str, Any] = {}  # the batch of one image is the first axis of each
        if prompts.boxes is not None:
            corners = torch.tensor(prompts.boxes, dtype=torch.float32) * scale.repeat(2)
            given["input_boxes"] = corners[None].to(self._model.device)
        if prompts.points is not None:
            places = torch.tensor(prompts.points, dtype=torch.float32) * scale
            given["input_points"] = places[None].to(self._model.device)
            given["input_labels"] = torch.tensor(prompts.labels)[None].to(self._model.device)
        with torch.inference_mode(), self._autocast():
            output = self._model(
                image_embeddings=seen, multimask_output=self.masks == "best", **given
            )
        low, scores = output.pred_masks[0].float(), output.iou_scores[0].float()
        if not (torch.isfinite(scores).all() and torch.isfinite(low).all()):
            raise _not_finite(self.name)
        chosen = _choose(low, scores)[:, None]
        whole = torch.nn.functional.interpolate(chosen, size, mode="bilinear")
        return np.asarray((whole[:, 0] > 0).cpu().numpy())

    def _pixel_values(self, pixels: NDArray[np.uint8]) -> Any:
        """(1, 3, side, side), as the model takes them."""
        torch: Any = require("torch", extra="trl")
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]  # torch may not share it
        # Whole levels of colour on the CPU, wherever the model is: equal images, equal masks.
        image = torch.nn.functional.interpolate(
            image, (self._side, self._side), mode="bilinear", antialias=True
        )
        mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        return ((image - mean) / std).to(device=self._model.device, dtype=self._model.dtype)

    @property
    def _side(self) -> int:
        return int(self._model.config.prompt_encoder_config.image_size)

    def _autocast(self) -> Any:
        return _autocast(None if self.dtype is not None else self._model.device)

    def _torch_dtype(self) -> Any:
        torch: Any = require("torch", extra="trl")
        dtype = getattr(torch, self.dtype, None) if isinstance(self.dtype, str) else self.dtype
        if self.dtype is None or (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            return dtype
        raise InputError(
            f"dtype: expected the name of a torch dtype, such as 'float32', got {self.dtype!r}"
        )

    def _load(self) -> None:
        """Load the model, once."""
        if self._model is not None:
            return
        torch: Any = require("torch", extra="trl")
        hub: Any = require("transformers", extra="trl")
        dtype = self._torch_dtype() or torch.float32
        try:
            model, report = hub.Sam2Model.from_pretrained(
                self.name, dtype=dtype, output_loading_info=True
            )
        except Exception as error:
            raise ConfigError(
                "model: expected the name of a SAM2 model on the Hugging Face hub, such as "
                "'facebook/sam2-hiera-large' (this needs the network, or an earlier "
                "'hf download NAME config.json model.safetensors'), or a folder with these two "
                "files; Meta's own checkpoints go to Sam2Predictor. Got "
                f"{self.name!r}: {error}"
            ) from error
        if report["missing_keys"]:  # transformers would make them up
            raise ConfigError(
                f"model: expected all weights of a SAM2 model, got {self.name!r}, which lacks "
                f"{len(report['missing_keys'])}, such as {min(report['missing_keys'])}"
            )
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(device).eval()


class Sam2Predictor(_Prompted):
    """A predictor of Meta's package ``sam2`` as a segmenter. Safe under threads, as `Sam2` is.

    The predictor keeps the image it was last given; it is this object's alone, and is given an
    image only where that differs, pixel for pixel, from the last one. On a GPU it runs under
    bfloat16 autocast, as the published evaluations do.

    Args:
        predictor: a ``SAM2ImagePredictor``: ``set_image(image)``, and ``predict`` that takes
            ``point_coords`` (k, P, 2), ``point_labels`` (k, P), ``box`` (k, 4) and
            ``multimask_output``, and returns masks, scores and logits.
        masks: ``"best"`` or ``"single"``, see `Choice`.
        chunk: how many objects are segmented at a time.

    Raises:
        InputError: an argument is none of these.

    Source:
        facebookresearch/sam2, ``sam2_image_predictor.py``.
    """

    def __init__(self, predictor: Any, *, masks: Choice = "best", chunk: int = 32) -> None:
        super().__init__(masks, chunk)
        for name in ("set_image", "predict"):
            if not callable(getattr(predictor, name, None)):
                raise InputError(
                    "predictor: expected a SAM2ImagePredictor, with set_image and predict, got "
                    f"{type(predictor).__name__}"
                )
        self.predictor = predictor
        self._key: bytes | None = None

    def _look(self, pixels: NDArray[np.uint8], key: bytes) -> None:
        if key != self._key:
            self._key = None  # if it fails the predictor holds neither image
            with _autocast(getattr(self.predictor, "device", None)):
                self.predictor.set_image(np.array(pixels))  # torch may not share it
            self._key = key

    def _masks(self, seen: None, prompts: Prompts, size: tuple[int, ...]) -> Mask:
        del seen  # the predictor has it
        with _autocast(getattr(self.predictor, "device", None)):
            masks, scores, _ = self.predictor.predict(
                point_coords=prompts.points,
                point_labels=prompts.labels,
                box=prompts.boxes,
                multimask_output=self.masks == "best",
            )
        # Of one object it returns the masks without the objects' axis.
        count = len(prompts.rows)
        masks, scores = np.reshape(masks, (count, -1, *size)), np.reshape(scores, (count, -1))
        if not np.isfinite(scores).all():
            raise _not_finite(type(self.predictor).__name__)
        return np.asarray(_choose(masks, scores) > 0)


def _choose(masks: Any, scores: Any) -> Any:
    """(k, h, w), of (k, m, h, w) that with the highest of the scores (k, m); arrays or tensors."""
    return masks[list(range(len(masks))), scores.argmax(1)]


def _key(pixels: NDArray[np.uint8]) -> bytes:
    """What tells images apart; about 1 ms a megabyte."""
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()
    return repr(pixels.shape).encode() + digest


def _autocast(device: Any) -> Any:
    """bfloat16 on a GPU, nothing elsewhere."""
    torch: Any = require("torch", extra="trl")
    gpu = getattr(device, "type", str(device)).partition(":")[0] == "cuda"
    return torch.autocast("cuda" if gpu else "cpu", dtype=torch.bfloat16, enabled=gpu)


def _count(name: str, value: int, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return value


def _not_finite(name: str) -> ConfigError:
    return ConfigError(f"model: expected finite masks and scores, got NaN or inf from {name!r}")
