"""A tiny Qwen2.5-VL for the digit scenes: the real architecture, small enough for two cores.

Goes in: a recipe (the tokenizer is trained on its prompt and its answer format). Comes out: the
tokenizer, the processor and the model, made new or loaded from the folder `start/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from rankreward.datasets.digits import Scene
from rankreward.parsing.prompts import prompt
from rankreward.recipe import Recipe

SIZE = 84  # side of a scene in pixels; 3 x 3 visual tokens after merging
START = Path(__file__).parent / "start"
RECIPE = Recipe.load("dr_seg").resized(SIZE)
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ImageProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
    """The processor of Qwen2.5-VL without its video half, which would need torchvision."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **kwargs)


def answer(scene: Scene, reference: str | None = None) -> str:
    """What a perfect policy says: every digit it looks at, then the targets, or `reference`."""
    seen = ", ".join(str(digit.label) for digit in scene.digits)
    return f"<think><look>{seen}</look></think>\n<answer>{reference or scene.reference}</answer>"


def make_tokenizer(scenes: Sequence[Scene]) -> PreTrainedTokenizerFast:
    """A byte-level BPE in which a number is one token and so is a run of fixed format."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Numbers stand alone, except in names such as bbox_2d, and so do line ends, on which
            # prompt and answer meet. Nothing else is split, so that merges may grow over blanks
            # and swallow the format's fixed parts whole.
            pre_tokenizers.Split(Regex(r"(?<![A-Za-z_0-9])[0-9]+|\n"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    numbers = [f" {n} " for n in range(SIZE + 1)] * 20
    texts = ["user", "assistant"] * len(scenes)
    for scene in scenes:
        texts += [prompt(RECIPE, scene.query), answer(scene)]
    trainer = trainers.BpeTrainer(
        vocab_size=1536,
        min_frequency=20,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(numbers + texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[3:],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )


def make_processor(tokenizer: PreTrainedTokenizerFast) -> ImageProcessor:
    """The processor that pairs the tokenizer with Qwen's own image preprocessing."""
    images = Qwen2VLImageProcessorPil(
        patch_size=14,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 28 * 28, "longest_edge": SIZE * SIZE},
    )
    return ImageProcessor(images, tokenizer, chat_template=CHAT_TEMPLATE)


def make_model(
    tokenizer: PreTrainedTokenizerFast, *, hidden: int = 96, layers: int = 4
) -> Qwen2_5_VLForConditionalGeneration:
    """A randomly initialised model; seed torch before the call."""
    token = tokenizer.convert_tokens_to_ids
    third = hidden // 4 // 2 // 3
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden,
            "intermediate_size": 4 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [hidden // 8 - 2 * third, third, third],
            },
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": 4,
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_heads": 4,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "out_hidden_size": hidden,
            "fullatt_block_indexes": [1, 3],
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
        architectures=["Qwen2_5_VLForConditionalGeneration"],
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def load(
    folder: Path = START, *, weights: Path | None = None
) -> tuple[Qwen2_5_VLForConditionalGeneration, ImageProcessor]:
    """The policy that `warm_start.py` saved, in float32, and its processor.

    `weights` is another folder to take the weights from, such as a trainer's checkpoint.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        weights or folder, dtype=torch.float32
    )
    return model, make_processor(tokenizer)


def text_tokens_only(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The tokens that a policy must not write: all special ones but the end of its turn."""
    kept = {tokenizer.eos_token, tokenizer.pad_token}
    return [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL if token not in kept]


def chat(processor: ImageProcessor, query: str) -> str:
    """The rendered prompt of one scene, up to where the policy begins to write."""
    turn = [{"type": "image"}, {"type": "text", "text": prompt(RECIPE, query)}]
    rendered: str = processor.apply_chat_template(
        [{"role": "user", "content": turn}], tokenize=False, add_generation_prompt=True
    )
    return rendered


@torch.no_grad()
def generate(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: ImageProcessor,
    scenes: Sequence[Scene],
    *,
    sample: bool,
    title: str,
    batch_size: int = 100,
    max_new_tokens: int = 64,
) -> list[str]:
    """The policy's answers, greedy or sampled at temperature 1, with a progress bar."""
    training, texts = model.training, []
    model.eval()
    choice = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {}
    for start in tqdm(range(0, len(scenes), batch_size), title):
        part = scenes[start : start + batch_size]
        inputs = processor(
            text=[chat(processor, scene.query) for scene in part],
            images=[Image.fromarray(scene.image) for scene in part],
            padding=True,
            return_tensors="pt",
        ).to(model.device)
        written = model.generate(
            **inputs,
            do_sample=sample,
            max_new_tokens=max_new_tokens,
            suppress_tokens=text_tokens_only(processor.tokenizer),
            **choice,
        )
        texts += processor.tokenizer.batch_decode(
            written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
    model.train(training)
    return texts
