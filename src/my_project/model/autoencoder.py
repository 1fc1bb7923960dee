"""A dense autoencoder: inputs through a narrow layer and back."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from train_smarter import Model


class Autoencoder(Model):
    """Dense layers with ReLU down to `code` features, and the same layers back. Inputs (B, ...) -> the same shape.

    Args:
        shape: of an input without B: [C, H, W] of images, [D] of tables.
        widths: features of each layer between input and code.
        code: features of the narrowest layer.
        noise: standard deviation of normal noise added to the inputs in training; above 0 it learns to denoise.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        widths: Sequence[int] = (128,),
        code: int = 16,
        noise: float = 0.0,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        self.noise = noise
        features = [math.prod(shape), *widths, code]
        self.encoder = nn.Sequential(nn.Flatten(), *_dense(features))  # (B, code)
        self.decoder = nn.Sequential(*_dense(features[::-1]), nn.Unflatten(1, list(shape)))  # (B, ...)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.noise and self.training:
            inputs = inputs + self.noise * torch.randn_like(inputs)
        outputs: Tensor = self.decoder(self.encoder(inputs))
        return outputs


def _dense(features: Sequence[int]) -> list[nn.Module]:
    """Dense layers with ReLU between them."""
    layers: list[nn.Module] = []
    for given, out in pairwise(features):
        layers += [nn.Linear(given, out), nn.ReLU()]
    return layers[:-1]
