"""The convolutional network of CIFAR-10's speed records."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train_smarter import Batch, Model, UserError

KERNEL = 2  # pixels; side of the patches that are whitened
BIAS_LR_FACTOR = 8  # a norm's bias counts eightfold, so under SGD it learns 8 * 8 = 64 times as fast


class Speedrun(Model):
    """2x2 whitening, three groups of two 3x3 convolutions, max-pool, linear. Images (B, C, H, W) -> logits (B, K).

    The whitening is a convolution with fixed filters, computed from the first training batch; until then they are
    zeros. On 3x32x32 images and 10 classes, with the widths of the record: 1,972,792 parameters, 288 of them fixed
    filters and 1,152 fixed factors of the norms.
    Source: Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024.

    Args:
        shape: [C, H, W]; at least 9 pixels a side, so that something is left after the pools.
        widths: channels of each group, each of which halves the resolution.
        flip_tta: evaluate the mean of the logits of an image and of its mirror image.
        logit_scale: constant factor on the logits; a small one keeps the network from being sure too early.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        widths: Sequence[int] = (64, 256, 256),
        flip_tta: bool = True,
        logit_scale: float = 0.11,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        channels, height, width = shape
        smallest = 2 ** len(widths) + KERNEL - 1
        if min(height, width) < smallest:
            raise UserError(
                f"model=speedrun needs images of at least {smallest}x{smallest} pixels with "
                f"{len(widths)} widths, not {height}x{width}"
            )
        self.flip_tta = flip_tta
        filters = 2 * channels * KERNEL**2
        self.whiten = nn.Conv2d(channels, filters, KERNEL)  # (B, F, H - 1, W - 1)
        for parameter in self.whiten.parameters():
            nn.init.zeros_(parameter)
        self.whiten.weight.requires_grad_(False)
        groups = [_group(*sizes) for sizes in pairwise([filters, *widths])]
        self.features = nn.Sequential(nn.GELU(), *groups)  # (B, D, H/8, W/8)
        for part in (self.whiten, self.features):
            part.to(memory_format=torch.channels_last)  # the layout in which convolutions are fastest
        self.head = nn.Sequential(
            GlobalMaxPool(),  # (B, D)
            nn.Linear(widths[-1], self.num_outputs, bias=False),  # (B, K)
            Scale(logit_scale),
        )

    def forward(self, images: Tensor) -> Tensor:
        logits = self.logits(images)
        if self.flip_tta and not self.training:
            logits = (logits + self.logits(images.flip(3))) / 2
        return logits

    def logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K), of these images alone."""
        logits: Tensor = self.head(self.features(self.whiten(images)))
        return logits

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        # Later in a run nothing is read back from the device; filters of a given checkpoint are kept.
        if self.trainer.global_step == 0 and not self.whiten.weight.any():
            filters = whitening(batch[0])
            self.whiten.weight.copy_(self.trainer.strategy.broadcast(filters))  # the same in every process


class GlobalMaxPool(nn.Module):
    """Images (B, D, H, W) -> (B, D), the highest pixel of each channel; of several equal ones, one gets the gradient.

    `AdaptiveMaxPool2d(1)` can neither be trained with `trainer.deterministic=true` on a GPU nor written as ONNX by
    torch 2.11.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(2).max(2).values


class Scale(nn.Module):
    """Times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.factor


def whitening(images: Tensor, epsilon: float = 5e-4) -> Tensor:
    """Filters whose outputs are uncorrelated and of equal size on these images, each followed by its negative.

    The principal components of all patches, each divided by the root of its variance; a GELU behind them loses
    nothing, since what it cuts from a filter it keeps from the negative.

    Args:
        images: (B, C, H, W).
        epsilon: added to the variances, so that a component that hardly occurs is not blown up.

    Returns:
        (F, C, 2, 2) with F = 2 * C * 2 * 2, from the largest component to the smallest, then the negatives.
    """
    patches = F.unfold(images.float(), KERNEL).transpose(0, 1).flatten(1)  # (C * 4, N)
    moments = (patches @ patches.T / patches.shape[1]).cpu()  # few numbers, and not every device has `eigh`
    variances, components = torch.linalg.eigh(moments)  # ascending; a component is a column
    filters = (components / (variances + epsilon).sqrt()).T.flip(0).unflatten(1, (images.shape[1], KERNEL, KERNEL))
    return torch.cat([filters, -filters])


def _group(channels: int, out: int) -> nn.Sequential:
    """Images (B, channels, H, W) -> (B, out, H/2, W/2)."""
    return nn.Sequential(
        _convolution(channels, out),
        nn.MaxPool2d(2),
        *_norm(out),
        nn.GELU(),
        _convolution(out, out),
        *_norm(out),
        nn.GELU(),
    )


def _convolution(channels: int, out: int) -> nn.Conv2d:
    """3x3; the first filters begin as the identity, so that the network begins with what it was given."""
    convolution = nn.Conv2d(channels, out, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight[:channels])
    return convolution


def _norm(channels: int) -> list[nn.Module]:
    """Batch norm with a bias that learns fast, without a factor; statistics follow fast, too: runs are short."""
    norm = nn.BatchNorm2d(channels, momentum=0.4)
    nn.init.constant_(norm.weight, 1 / BIAS_LR_FACTOR).requires_grad_(False)
    return [norm, Scale(BIAS_LR_FACTOR)]
