"""The article's multi-layer perceptron."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from train_smarter import Model


class MLP(Model):
    """Dense layers with ReLU between them. On 28x28 pixels and 10 classes: 784-128-10, 101,770 parameters.

    Images (B, C, H, W) or rows (B, D) -> outputs (B, K).

    Args:
        shape: [C, H, W] of images, flattened to D = C * H * W features; [D] of rows.
        widths: features of each hidden layer; any number of layers.
        dropout: share of each hidden layer's features dropped in training.
        batch_norm: batch normalisation before each ReLU.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        widths: Sequence[int] = (128,),
        dropout: float = 0.0,
        batch_norm: bool = False,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        layers: list[nn.Module] = [nn.Flatten()]  # (B, D)
        for features, width in pairwise([math.prod(shape), *widths]):
            layers += [nn.Linear(features, width)]
            layers += [nn.BatchNorm1d(width)] if batch_norm else []
            layers += [nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(*layers, nn.Linear([math.prod(shape), *widths][-1], self.num_outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layers(inputs)  # (B, K)
        return outputs
