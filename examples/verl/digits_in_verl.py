"""What verl needs to see the tiny policy's images on a machine without torchvision.

Goes in: verl's settings ``external_lib`` and ``data.custom_cls``, which name this file. Comes out:
Qwen's processor without its video half, for transformers' `AutoProcessor`, and verl's dataset with
images handed on as they are. The large policies need none of it.
"""

from __future__ import annotations

from typing import Any

from sampler import load_images, load_tokenizer
from transformers import AutoProcessor, Qwen2_5_VLConfig
from transformers import Qwen2_5_VLProcessor as WithVideo
from verl.utils.dataset import RLHFDataset


class Qwen2_5_VLProcessor(WithVideo):  # noqa: N801 - verl goes by the name
    """Qwen's processor of images and text."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    @classmethod
    def from_pretrained(cls, *_: Any, **__: Any) -> Qwen2_5_VLProcessor:
        """The tiny policy's; it has no files of its own to read."""
        tokenizer = load_tokenizer()
        return cls(load_images(), tokenizer, chat_template=tokenizer.chat_template)


AutoProcessor.register(Qwen2_5_VLConfig, Qwen2_5_VLProcessor, exist_ok=True)


class Digits(RLHFDataset):
    """verl's dataset; images need no resizing, which verl leaves to a package with torchvision."""

    @classmethod
    def _process_multi_modal_info(
        cls, messages: list[dict[str, Any]], image_patch_size: int, config: Any
    ) -> tuple[list[Any] | None, None, None]:
        parts = [part for each in messages for part in each["content"] if isinstance(part, dict)]
        return [part["image"] for part in parts if part["type"] == "image"] or None, None, None
