"""The order of an epoch in which every class is drawn equally often."""

import torch
from torch import Tensor


class BalancedOrder:
    """Draws N examples an epoch, N / K of each of the K classes that occur, rounded.

    Without replacement as far as a class goes: a rare one is repeated as a whole before an example comes again, and of
    a frequent one, each epoch has another part. What remains of N / K goes to classes drawn at random.

    Args:
        classes: (N,) int64, of each example.
    """

    def __init__(self, classes: Tensor) -> None:
        sizes = classes.unique(return_counts=True)[1]
        self.members = classes.argsort(stable=True).split(sizes.tolist())  # of each class, ascending
        self.length = len(classes)

    def __call__(self, generator: torch.Generator) -> Tensor:
        """One epoch: (N,) indices in a random order."""
        count = len(self.members)
        share, rest = divmod(self.length, count)
        draws = torch.full((count,), share)
        draws[torch.randperm(count, generator=generator)[:rest]] += 1
        pairs = zip(self.members, draws.tolist(), strict=True)
        order = torch.cat([_draw(members, number, generator) for members, number in pairs])
        return order[torch.randperm(len(order), generator=generator)]


def _draw(members: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """`number` of the members (n,): shuffled passes over all of them, the last one cut off."""
    passes = -(-number // len(members))
    shuffled = [members[torch.randperm(len(members), generator=generator)] for _ in range(passes)]
    return torch.cat(shuffled)[:number] if shuffled else members[:0]
