"""Dropout that does not wait for its random numbers."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`nn.Dropout` whose mask takes 16 random bits a feature, on a CPU in a fraction of its time.

    torch draws a number of 32 bits or more for each feature, one after the other: a seventh of the step of
    `experiment=imdb_lstm`. The share that is dropped is `p` rounded to 1/65536. On other devices, in a compiled
    forward pass and `inplace`, torch's own is taken.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Features of any shape -> the same shape; each one zero or, on average over all masks, itself."""
        ours = self.training and 0 < self.p < 1 and features.device.type == "cpu" and not self.inplace
        if not ours or torch.compiler.is_compiling():
            return super().forward(features)
        dropped = min(max(round(self.p * 2**16), 1), 2**16 - 1)  # of 65536
        words = torch.empty((features.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: features.numel()].view(features.shape)  # -32768 to 32767, evenly
        # Into numbers at once: a mask of truth values would be written and read once more.
        kept = torch.ge(bits, dropped - 2**15, out=features.new_empty(features.shape))
        return features * kept.mul_(2**16 / (2**16 - dropped))
