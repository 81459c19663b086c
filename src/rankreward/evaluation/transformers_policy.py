"""A checkpoint as a policy, on transformers: Qwen2.5-VL and Qwen3-VL.

Goes in: the name or folder of a checkpoint, or a model with its processor. Comes out: a policy that
answers in batches. Works with torchvision and without it.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankreward.errors import ConfigError, InputError, require
from rankreward.evaluation.policies import Completion

_BLOCK = 1 << 16


class TransformersPolicy:
    """A vision-language checkpoint that answers in batches, padded on the left.

    What the checkpoint's own generation settings say holds, such as Qwen2.5-VL's repetition
    penalty of 1.05, but for temperature, top-p and top-k, which are those given here.

    Sampled answers take their random numbers from `seed` and the sample's id alone, so that a
    sample draws the same ones in whatever batch it stands, on the same kind of device. Greedy or
    sampled, a text may still depend on its batch where two tokens are as good as tied: padding
    changes how sums are rounded, in bfloat16 more than in float32.

    Args:
        model: name of a checkpoint on the Hugging Face hub, a folder that holds one, or a model.
        processor: the model's processor, where `model` is a model.
        adapter: name or folder of a PEFT adapter to put on the model.
        batch_size: how many prompts are generated at a time.
        max_new_tokens: the longest answer.
        temperature: 0 for greedy answers.
        top_p: share of the probability that is sampled from, in (0, 1].
        seed: of the sampling.
        dtype: of the weights, such as ``"float32"``; unless given bfloat16 on a GPU, float32 on a
            CPU.
        attention: as transformers names it; unless given ``"flash_attention_2"`` on a GPU where
            that is installed, else the model's usual one.
        device: where it runs; a GPU if there is one, unless given. ``"auto"`` spreads a model over
            several GPUs (needs accelerate).
        options: further arguments of ``generate``, such as ``{"suppress_tokens": [...]}``.

    Raises:
        ConfigError: the checkpoint cannot be loaded.
        InputError: an argument is out of its range, or a model comes without a processor.
        MissingExtraError: transformers or torch is not installed, or peft where there is an
            adapter.
    """

    def __init__(
        self,
        model: Any,
        *,
        processor: Any = None,
        adapter: str | Path | None = None,
        batch_size: int = 16,
        max_new_tokens: int = 2048,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        dtype: str | None = None,
        attention: str | None = None,
        device: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if temperature < 0 or not 0 < top_p <= 1 or min(batch_size, max_new_tokens) < 1:
            raise InputError(
                "policy: expected temperature >= 0, top_p in (0, 1], and batch_size and "
                f"max_new_tokens of at least 1, got {temperature}, {top_p}, {batch_size} and "
                f"{max_new_tokens}"
            )
        named = isinstance(model, str | Path)
        if not named and processor is None:
            raise InputError("processor: expected the model's processor, got none")
        self.batch_size, self.options = batch_size, dict(options or {})
        self.settings: dict[str, Any] = {
            "kind": "transformers",
            "model": identity(model) if named else type(model).__name__,
            "adapter": adapter and identity(adapter),
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "options": self.options,
        }
        loaded = load_model(model, dtype, attention, device) if named else model
        self.model = loaded if adapter is None else _adapted(loaded, adapter)
        self.settings["dtype"] = str(self.model.dtype).removeprefix("torch.")
        self.settings["revision"] = getattr(self.model.config, "_commit_hash", None)
        self.processor = load_processor(model) if processor is None else processor

    def complete(self, images: list[Any], prompts: list[str], ids: list[str]) -> list[Completion]:
        """Answer n prompts, `batch_size` at a time.

        Raises:
            Exception: whatever the model raises, such as torch's error for too little memory.
        """
        torch: Any = require("torch", extra="trl")
        training, answers = self.model.training, []
        self.model.eval()
        try:
            with torch.inference_mode():
                for start in range(0, len(prompts), self.batch_size):
                    part = slice(start, start + self.batch_size)
                    answers += self._batch(images[part], prompts[part], ids[part])
        finally:
            self.model.train(training)
        return answers

    def _batch(self, images: list[Any], prompts: list[str], ids: list[str]) -> list[Completion]:
        tokenizer = self.processor.tokenizer
        tokenizer.padding_side = "left"
        inputs = self.processor(
            text=[self._chat(prompt) for prompt in prompts],
            images=images,
            padding=True,
            return_tensors="pt",
        ).to(self.model.device)
        written = self.model.generate(
            **inputs,
            do_sample=False,  # `SeededSampling` makes the largest score a random one
            max_new_tokens=self.settings["max_new_tokens"],
            logits_processor=self._sampling(ids),
            **self.options,
        )
        rows = written[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._completion(row) for row in rows]

    def _chat(self, prompt: str) -> str:
        """The rendered turn, up to where the policy begins to write."""
        turn = [{"type": "image"}, {"type": "text", "text": prompt}]
        return str(
            self.processor.apply_chat_template(
                [{"role": "user", "content": turn}], tokenize=False, add_generation_prompt=True
            )
        )

    def _sampling(self, ids: Sequence[str]) -> list[Any]:
        settings = self.settings
        if settings["temperature"] == 0:
            return []
        return [SeededSampling(settings["seed"], ids, settings["temperature"], settings["top_p"])]

    def _completion(self, row: list[int]) -> Completion:
        """One row of new tokens, which ends with the turn or is cut off."""
        ends = self.options.get("eos_token_id", self.model.generation_config.eos_token_id)
        stops = {ends} if isinstance(ends, int) else set(ends or ())
        last = next((place for place, token in enumerate(row) if token in stops), None)
        kept = row if last is None else row[: last + 1]
        text = self.processor.tokenizer.decode(kept, skip_special_tokens=True)
        return Completion(text, len(kept), "length" if last is None else "stop")


class SeededSampling:
    r"""Sampling whose random numbers belong to a sample, not to its batch.

    Of scores s the token :math:`\arg\max_v (s_v / T + g_v)` is one drawn from their softmax at
    temperature T, if the g are independent standard Gumbel numbers; here each row draws them from a
    generator of its own.

    Args:
        seed: of all.
        ids: the samples of the batch, one a row.
        temperature: above 0.
        top_p: the smallest set of tokens with this probability is drawn from.

    Source:
        Maddison, Tarlow and Minka, A* Sampling, NeurIPS 2014, section 2.
    """

    def __init__(self, seed: int, ids: Sequence[str], temperature: float, top_p: float) -> None:
        self.seeds = [_seed_of(seed, name) for name in ids]
        self.temperature, self.top_p = temperature, top_p
        self._generators: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """(B, V) scores whose largest one, row by row, is the token drawn."""
        torch: Any = require("torch", extra="trl")
        if not self._generators:
            self._generators = [
                torch.Generator(device=scores.device).manual_seed(seed) for seed in self.seeds
            ]
        scores = scores.float() / self.temperature
        if self.top_p < 1:
            hub: Any = require("transformers", extra="trl")
            scores = hub.TopPLogitsWarper(self.top_p)(input_ids, scores)
        noise = torch.empty_like(scores)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores - noise.log()


def load_model(name: str | Path, dtype: str | None, attention: str | None, device: Any) -> Any:
    """The model of a checkpoint, where `TransformersPolicy` says.

    Raises:
        ConfigError: it cannot be loaded, or lacks weights.
    """
    torch: Any = require("torch", extra="trl")
    hub: Any = require("transformers", extra="trl")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device != "cpu"
    if attention is None and on_gpu and importlib.util.find_spec("flash_attn") is not None:
        attention = "flash_attention_2"
    options = {} if attention is None else {"attn_implementation": attention}
    if device == "auto":
        options["device_map"] = "auto"
    try:
        model, report = hub.AutoModelForImageTextToText.from_pretrained(
            name,
            dtype=dtype or ("bfloat16" if on_gpu else "float32"),
            output_loading_info=True,
            **options,
        )
    except Exception as error:
        raise ConfigError(
            "model: expected a Qwen2.5-VL or Qwen3-VL checkpoint, by name or folder, got "
            f"{str(name)!r}: {error}"
        ) from error
    if report["missing_keys"]:  # transformers would make them up
        raise ConfigError(
            f"model: expected all weights in {str(name)!r}, which lacks "
            f"{len(report['missing_keys'])}, such as {min(report['missing_keys'])}"
        )
    return model if device == "auto" else model.to(device)


def load_processor(name: str | Path) -> Any:
    """The processor of a checkpoint; without its video half where torchvision is missing.

    Raises:
        ConfigError: it cannot be loaded.
    """
    hub: Any = require("transformers", extra="trl")
    try:
        if importlib.util.find_spec("torchvision") is not None:
            return hub.AutoProcessor.from_pretrained(name)
        return _image_processor(hub, name)
    except Exception as error:
        raise ConfigError(
            f"processor: expected its files beside the model, in {str(name)!r}: {error}"
        ) from error


def _image_processor(hub: Any, name: str | Path) -> Any:
    """The processor from its parts, all but the one for videos, which needs torchvision."""
    kind = hub.AutoConfig.from_pretrained(name).model_type
    # Named, for transformers' own table of names stands for what AutoProcessor would import.
    classes = {
        "qwen2_vl": hub.Qwen2VLProcessor,
        "qwen2_5_vl": hub.Qwen2_5_VLProcessor,
        "qwen3_vl": hub.Qwen3VLProcessor,
        "qwen3_vl_moe": hub.Qwen3VLProcessor,
    }
    if kind not in classes:
        raise ConfigError(f"expected a model of the kinds {', '.join(classes)}, got {kind!r}")
    base = classes[kind]
    pixels = hub.AutoImageProcessor.from_pretrained(name, backend="pil")
    tokenizer = hub.AutoTokenizer.from_pretrained(name)
    template = base.get_processor_dict(name)[0].get("chat_template") or tokenizer.chat_template
    return _without_video(base)(pixels, tokenizer, chat_template=template)


def _without_video(base: Any) -> Any:
    class ImageProcessor(base):  # type: ignore[misc]
        """A processor of images and texts."""

        # transformers reads from the signature which parts there are.
        def __init__(
            self, image_processor: Any, tokenizer: Any, chat_template: str | None = None
        ) -> None:
            super().__init__(image_processor, tokenizer, None, chat_template=chat_template)

    return ImageProcessor


def _adapted(model: Any, adapter: str | Path) -> Any:
    peft: Any = require("peft", extra="trl")
    try:
        return peft.PeftModel.from_pretrained(model, str(adapter))
    except Exception as error:
        raise ConfigError(
            f"adapter: expected a PEFT adapter of this model, got {str(adapter)!r}: {error}"
        ) from error


def identity(name: str | Path) -> str:
    """A checkpoint's name; for a folder a fingerprint of its files instead.

    The fingerprint covers names, sizes and three blocks of each file, which takes no time however
    large they are, and which no step of training leaves as they were.
    """
    folder = Path(name)
    if not folder.is_dir():
        return str(name)
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in {".safetensors", ".bin", ".json", ".jinja"}:
            size = file.stat().st_size
            digest.update(f"{file.name} {size}\n".encode())
            with file.open("rb") as stream:
                for start in (0, size // 2, max(size - _BLOCK, 0)):
                    stream.seek(start)
                    digest.update(stream.read(_BLOCK))
    return f"sha256:{digest.hexdigest()}"


def _seed_of(seed: int, name: str) -> int:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return int.from_bytes(digest[:7])
