"""Configurations of small networks of transformers."""

from __future__ import annotations

from typing import Any

VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "max_position_embeddings": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
HIERARCHY = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "image_size": 32}
SWIN = {"embed_dim": 16, "depths": [1, 2, 2], "num_heads": [2, 2, 4], "window_size": 2, "image_size": 32}
CONFIGS: dict[str, dict[str, Any]] = {
    "beit": VIT,
    "clip": {"vision_config": VIT, "text_config": TEXT, "projection_dim": 12},
    "convnext": HIERARCHY,
    "dinov2": VIT,
    "dinov2_with_registers": VIT,
    "dinov3_vit": VIT,
    "resnet": {**HIERARCHY, "embedding_size": 8},
    "siglip": {"vision_config": VIT, "text_config": {**TEXT, "hidden_size": 32, "projection_size": 32}},
    "swin": {**SWIN, "patch_size": 2},
    "vit": VIT,
    "vit_mae": VIT,
}
