"""A random SAM2 of the real architecture, and a stand-in for Meta's predictor that runs on it."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name that everybody knows
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2Model,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VisionConfig,
)

SIDE = 128
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def parts(side: int) -> dict[str, Any]:
    """The three configurations of a SAM2 with 8 to 64 channels."""
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[side, side],
        blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 4],
        window_size_per_stage=[8, 4, 8, 4],
        global_attention_blocks=[4],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone.to_dict(),
        backbone_channel_list=[64, 32, 16, 8],
        fpn_hidden_size=32,
        backbone_feature_sizes=[[side // 4] * 2, [side // 8] * 2, [side // 16] * 2],
    )
    return {
        "vision_config": vision.to_dict(),
        "prompt_encoder_config": {"hidden_size": 32, "image_size": side, "patch_size": 16},
        "mask_decoder_config": {
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": 32,
        },
    }


def tiny_sam2(seed: int = 0, side: int = SIDE) -> Sam2Model:
    """A random SAM2 whose masks, and the order of their scores, depend on image and prompts.

    At the usual scale of random weights they hardly do, and a test could not tell two apart.
    """
    torch.manual_seed(seed)
    return _awake(Sam2Model(Sam2Config(**parts(side))))


def tiny_video_sam2(seed: int = 0, side: int = SIDE) -> Sam2VideoModel:
    """The same with the memory that films need, as the hub's checkpoints have it."""
    torch.manual_seed(seed)
    memory = {
        "memory_attention_hidden_size": 32,
        "memory_attention_feed_forward_hidden_size": 64,
        "memory_encoder_hidden_size": 32,
        "memory_encoder_output_channels": 16,
        "mask_downsampler_embed_dim": 32,
        "memory_fuser_embed_dim": 32,
        "memory_fuser_intermediate_dim": 64,
        "image_size": side,
    }
    return _awake(Sam2VideoModel(Sam2VideoConfig(**parts(side), **memory)))


def _awake(model: Any) -> Any:
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.mul_(6)
            weights.add_(0.02 * torch.randn_like(weights))
    return model.eval()


class StandIn:
    """`SAM2ImagePredictor` by its signature and its steps, over a model of transformers.

    As in Meta's code the resized image is not rounded, and of one object the masks come without
    the objects' axis.
    """

    device = torch.device("cpu")

    def __init__(self, model: Sam2Model) -> None:
        self.model, self.size = model, None
        self.calls: list[str] = []

    def set_image(self, image: np.ndarray) -> None:
        assert isinstance(image, np.ndarray)
        self.calls.append("set_image")
        self.size = image.shape[:2]
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
        self.embeddings = self.model.get_image_embeddings((pixels - MEAN) / STD)

    @torch.no_grad()
    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        assert self.size is not None, "set an image first"
        self.calls.append("predict")
        height, width = self.size
        share, prompts = torch.tensor([width, height]), {}
        if point_coords is not None:
            assert point_labels is not None
            places = torch.as_tensor(point_coords, dtype=torch.float32) / share * SIDE
            labels = torch.as_tensor(point_labels, dtype=torch.int32)
            if places.ndim == 2:
                places, labels = places[None], labels[None]
            prompts |= {"input_points": places[None], "input_labels": labels[None]}
        if box is not None:
            corners = torch.as_tensor(box, dtype=torch.float32).reshape(-1, 2, 2) / share * SIDE
            prompts |= {"input_boxes": corners.reshape(1, -1, 4)}
        output = self.model(
            image_embeddings=self.embeddings, multimask_output=multimask_output, **prompts
        )
        low, scores = output.pred_masks[0], output.iou_scores[0]
        masks = F.interpolate(low, self.size, mode="bilinear") > 0
        return tuple(each.squeeze(0).float().numpy() for each in (masks, scores, low))
