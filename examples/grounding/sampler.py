"""The tiny policy as a server of tokens, in place of vLLM.

Goes in: token ids of prompts, and their images. Comes out: token ids of answers, sampled. It runs
with the transformers of all three trainers (4.57 and 5), which read the tiny policy's files in
different ways; so they are read here piece by piece.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import Any

import torch
from digit_rows import SIZE, START
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

try:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
        Qwen2VLImageProcessorPil as ImageProcessor,
    )
except ImportError:  # transformers 4
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import (
        Qwen2VLImageProcessor as ImageProcessor,
    )

TOKENS = (SIZE // 28) ** 2  # of an image
END, PAD = "<|im_end|>", "<|endoftext|>"  # the special tokens that an answer may hold


def load_tokenizer() -> PreTrainedTokenizerFast:
    """The tiny policy's tokenizer."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(START / "tokenizer.json"),
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        chat_template=(START / "chat_template.jinja").read_text(),
    )


def load_images() -> Any:
    """Qwen's image preprocessing at the tiny policy's size."""
    return ImageProcessor(
        patch_size=14,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 28 * 28, "longest_edge": SIZE * SIZE},
    )


def load_model() -> Qwen2_5_VLForConditionalGeneration:
    """The tiny policy in float32, ready to sample."""
    config = Qwen2_5_VLConfig.from_pretrained(START)
    if getattr(config.text_config, "rope_scaling", None) is None:  # transformers 4's name for it
        saved = json.loads((START / "config.json").read_text())["text_config"]["rope_parameters"]
        config.text_config.rope_scaling = saved
        config.text_config.rope_theta = saved["rope_theta"]
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        START, config=config, dtype=torch.float32
    )
    model.lm_head.weight = model.get_input_embeddings().weight  # transformers 4 misses the tie
    return model.eval()


class TinySampler:
    """Samples answers of the tiny policy.

    Attributes:
        tokenizer: the policy's.
    """

    def __init__(self, seed: int = 0) -> None:
        self.tokenizer, self._images, self._model = load_tokenizer(), load_images(), load_model()
        torch.manual_seed(seed)
        self._image = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        special = {token.content for token in self.tokenizer.added_tokens_decoder.values()}
        self._banned = self.tokenizer.convert_tokens_to_ids(sorted(special - {END, PAD}))

    def prompt(self, text: str) -> list[int]:
        """The tokens of one user turn of an image and a text."""
        turn = [{"type": "image"}, {"type": "text", "text": text}]
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": turn}], tokenize=False, add_generation_prompt=True
        )
        return self.tokenizer(rendered)["input_ids"]

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], images: Sequence[Any], *, sample: bool = True
    ) -> list[list[int]]:
        """Answers to a batch of prompts with one image each, the end of the turn included.

        Args:
            prompts: B lists of token ids; the image's place is one token, or as many as it has.
            images: B images.
            sample: at temperature 1; False takes the likeliest token.
        """
        wide = self.tokenizer.pad({"input_ids": [self._widen(ids) for ids in prompts]})
        ids, mask = torch.tensor(wide["input_ids"]), torch.tensor(wide["attention_mask"])
        inputs = dict(self._images(list(images), return_tensors="pt"))
        if "mm_token_type_ids" in inspect.signature(self._model.forward).parameters:
            inputs["mm_token_type_ids"] = (ids == self._image).int()  # else images have no place
        written = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            **inputs,
            do_sample=sample,
            max_new_tokens=64,
            suppress_tokens=self._banned,
            **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {}),
        )
        return [self._until_end(row) for row in written[:, ids.shape[1] :].tolist()]

    def texts(self, answers: Sequence[Sequence[int]]) -> list[str]:
        """Answers as texts."""
        return self.tokenizer.batch_decode(answers, skip_special_tokens=True)

    def _widen(self, ids: Sequence[int]) -> list[int]:
        """The prompt with as many image tokens as its image has."""
        start = ids.index(self._image)
        rest = [token for token in ids[start:] if token != self._image]
        return [*ids[:start], *[self._image] * TOKENS, *rest]

    def _until_end(self, ids: list[int]) -> list[int]:
        end = self.tokenizer.eos_token_id
        return ids[: ids.index(end) + 1] if end in ids else ids
