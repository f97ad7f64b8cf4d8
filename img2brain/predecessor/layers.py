"""The layers that the predecessor read, by network."""

from __future__ import annotations

LAYERS: dict[str, tuple[str, ...]] = {
    "alexnet": (
        *("features.2", "features.5", "features.7", "features.9", "features.12"),
        *("classifier.2", "classifier.5", "classifier.6"),
    ),
    "vgg16": ("features.20", "features.30", "classifier.5", "classifier.6"),
    "resnet50": ("layer1.1.conv1", "layer2.3.conv2", "layer3.5.conv3", "layer4.2.conv3", "avgpool"),
    "inception_v3": (
        *("Conv2d_4a_3x3.conv", "Mixed_5c.branch1x1.conv", "Mixed_6b.branch1x1.conv", "Mixed_6c.branch7x7_2.conv"),
        *("Mixed_7c.branch_pool.conv", "avgpool"),
    ),
}
