"""Ranks of items by their scores."""

import torch
from torch import Tensor

from train_smarter.task.top_items import mask_items


def count_ranks(scores: Tensor, known: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How many items are ranked before each target, and as high.

    Args:
        scores: (B, I).
        known: (B, L) items that are left out of the ranking, padded with -1.
        targets: (B, M) items, padded with -1.

    Returns:
        better: (B, M), items with a larger score.
        tied: (B, M), items with the same one, the target among them; at least 1.
    """
    ordered = mask_items(scores, known).sort(1).values  # (B, I)
    own = scores.gather(1, targets.clamp(min=0)).contiguous()
    upto = torch.searchsorted(ordered, own, right=True)
    # Padding, and a target that is known, may be as high as no item.
    return scores.shape[1] - upto, (upto - torch.searchsorted(ordered, own)).clamp(min=1)
