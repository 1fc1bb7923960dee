"""A small U-Net: one output vector a pixel."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from train_smarter import Model, UserError


class UNet(Model):
    """Two halvings down and two doublings up, with the features of the same size handed across.

    Images (B, C, H, W), H and W divisible by 4 -> outputs (B, K, H, W).
    Source: Ronneberger, Fischer and Brox, U-Net, 2015; here with padding, so that the size stays.

    Args:
        shape: [C, H, W].
        width: features of a pixel at full size; each halving doubles them.
        dropout: share of the features of the lowest level dropped in training.
    """

    def __init__(self, *, shape: Sequence[int], width: int = 16, dropout: float = 0.0, **model: Any) -> None:
        super().__init__(**model)
        if len(shape) != 3 or shape[1] % 4 or shape[2] % 4:
            raise UserError(
                f"model=unet needs images, shape [C, H, W], with H and W divisible by 4; these have {list(shape)}"
            )
        self.down1 = _convolutions(shape[0], width)  # (B, D, H, W)
        self.down2 = _convolutions(width, 2 * width)  # (B, 2 D, H/2, W/2)
        self.bottom = _convolutions(2 * width, 4 * width)  # (B, 4 D, H/4, W/4)
        self.pool, self.dropout = nn.MaxPool2d(2), nn.Dropout2d(dropout)
        self.grow2 = nn.ConvTranspose2d(4 * width, 2 * width, kernel_size=2, stride=2)
        self.up2 = _convolutions(4 * width, 2 * width)
        self.grow1 = nn.ConvTranspose2d(2 * width, width, kernel_size=2, stride=2)
        self.up1 = _convolutions(2 * width, width)
        self.head = nn.Conv2d(width, self.num_outputs, kernel_size=1)  # (B, K, H, W)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.down1(images)
        middle = self.down2(self.pool(fine))
        coarse = self.dropout(self.bottom(self.pool(middle)))
        middle = self.up2(torch.cat([middle, self.grow2(coarse)], 1))
        fine = self.up1(torch.cat([fine, self.grow1(middle)], 1))
        outputs: Tensor = self.head(fine)
        return outputs


def _convolutions(channels: int, out: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for given in (channels, out):
        layers += [nn.Conv2d(given, out, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)
