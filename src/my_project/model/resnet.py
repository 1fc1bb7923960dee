"""A residual network for small images."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import StochasticDepth

from train_smarter import Model, UserError

STAGES = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # depth -> blocks of each stage


class ResNet(Model):
    """ResNet whose first layers keep the resolution, for images of 28 to 96 pixels. Images (B, C, H, W) -> logits.

    torchvision's blocks behind one 3x3 convolution, without the 7x7 stride and the pool that are made for 224 pixels.
    On 3x32x32 images and 10 classes, depth 18 and width 64: 11,173,962 parameters.
    Source: He et al., Deep Residual Learning for Image Recognition, 2015.

    Args:
        shape: [C, H, W].
        depth: layers with weights: 10, 18 or 34.
        width: channels of the first stage; each of the three others has twice those of the one before. Time and
            parameters grow with its square.
        dropout: share of the last features dropped in training.
        stochastic_depth: share of the training examples for which the last block is skipped; of the blocks before it
            less, in equal steps from 0 (Huang et al., 2016).
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        depth: int = 18,
        width: int = 64,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        if depth not in STAGES:
            raise UserError(f"model.depth={depth}: a ResNet is built with {', '.join(map(str, STAGES))} layers")
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        stages = [
            _stage(channels, out, blocks=blocks, stride=1 if number == 0 else 2)
            for number, ((channels, out), blocks) in enumerate(zip(pairwise(widths), STAGES[depth], strict=True))
        ]
        blocks = [block for stage in stages for block in stage]
        for number, block in enumerate(blocks):
            block.skip = StochasticDepth(stochastic_depth * number / (len(blocks) - 1), mode="row")
        self.features = nn.Sequential(*_convolution(shape[0], width, kernel=3), nn.ReLU(), *stages)  # (B, D, H/8, W/8)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),  # (B, D)
            nn.Dropout(dropout),
            nn.Linear(widths[-1], self.num_outputs),  # (B, K)
        )
        self.apply(_init_weights)
        if width % 8 == 0:  # the layout in which convolutions are fastest; oneDNN's 1x1 ones spoil memory at odd widths
            self.features.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


class Block(BasicBlock):
    """torchvision's block, whose change of its input is skipped for some of the training examples."""

    skip: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        change = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        same = x if self.downsample is None else self.downsample(x)
        sums: Tensor = self.skip(change)
        sums += same
        outputs: Tensor = self.relu(sums)
        return outputs


def _convolution(channels: int, out: int, *, kernel: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out)]


def _stage(channels: int, out: int, *, blocks: int, stride: int) -> nn.Sequential:
    """Residual blocks, the first of which changes size and channels; images (B, C, H, W) -> (B, out, H/s, W/s)."""
    shortcut = nn.Sequential(*_convolution(channels, out, kernel=1, stride=stride)) if stride > 1 else None
    first = Block(channels, out, stride=stride, downsample=shortcut)
    return nn.Sequential(first, *(Block(out, out) for _ in range(blocks - 1)))


def _init_weights(module: nn.Module) -> None:
    """He's initial weights; each block starts as the identity, which trains better (Goyal et al., 2017)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, BasicBlock):
        nn.init.zeros_(module.bn2.weight)
