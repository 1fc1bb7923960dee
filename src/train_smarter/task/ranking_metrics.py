"""How well items are ranked: each user by itself, then the mean over the users."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from train_smarter.data.interactions import UNKNOWN
from train_smarter.task.ranks import count_ranks
from train_smarter.task.top_items import mask_items

OF_USERS = ("ndcg", "recall", "hit_rate", "mrr")  # columns of what `measure_users` returns
OF_TRAIN_MASK = ("ndcg_train_mask", "recall_train_mask")  # the same, if the items of validation are ranked, too


def measure_users(scores: Tensor, targets: Mapping[str, Tensor], *, k: int) -> tuple[Tensor, Tensor]:
    """Measure the ranking of all items for each user.

    Equal scores count by their expectation over the orders of these items: constant scores are at chance level.

    Args:
        scores: (B, I) floats.
        targets: items (B, M) to find; known (B, L), left out of the ranking, of which val (B, V) are ranked in the
            variant that leaves out those of training alone. Padded with -1.
        k: items that count.

    Returns:
        (B, 6): `OF_USERS` and `OF_TRAIN_MASK`; NaN of a user with a NaN score.
        (B, k): the items with the largest scores, -1 where fewer are ranked.
    """
    items, known, val = targets["items"], targets["known"], targets["val"]
    values = measure(*count_ranks(scores, known, items), items != UNKNOWN, k)
    if val.shape[1]:
        in_val = (known[:, :, None] == val[:, None]).any(2)
        by_train = measure(*count_ranks(scores, known.masked_fill(in_val, UNKNOWN), items), items != UNKNOWN, k)
    else:
        by_train = values
    broken = scores.isnan().any(1, keepdim=True)
    top = mask_items(scores, known).topk(min(k, scores.shape[1]))
    best = top.indices.where(top.values > -torch.inf, UNKNOWN)
    return torch.cat([values, by_train[:, :2]], 1).masked_fill(broken, torch.nan), best


def measure(better: Tensor, tied: Tensor, inside: Tensor, k: int) -> Tensor:
    """`OF_USERS` (B, 4) from the ranks of the items to find.

    Args:
        better: (B, M), items with a larger score; tied: (B, M), with the same one, the item among them.
        inside: (B, M) bool, False: padding.
    """
    count = inside.sum(1).clamp(min=1)
    gain = 1 / torch.arange(2, k + 2, device=better.device).log2()
    total = torch.cat([gain.new_zeros(1), gain.cumsum(0)])  # of the first 0 to k places
    found = ((k - better) / tied).clamp(0, 1) * inside
    gained = (total[(better + tied).clamp(max=k)] - total[better.clamp(max=k)]) / tied * inside
    hit, reciprocal = first_found(better, tied, inside, k)
    return torch.stack([gained.sum(1) / total[count.clamp(max=k)], found.sum(1) / count, hit, reciprocal], 1)


def first_found(better: Tensor, tied: Tensor, inside: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Probability that an item is among the first k, and the mean of 1 / rank of the first one, (B,) each.

    The best items of one score are in a random order of g = `tied`, of which t are to be found: of the first j, none is
    one of these with probability (g - t)! (g - j)! / (g! (g - t - j)!).
    """
    far = better.masked_fill(~inside, 2**40)
    start = far.amin(1)
    t = ((far == start[:, None]) & inside).sum(1)
    g = tied.gather(1, far.argmin(1, keepdim=True))[:, 0]
    none = torch.ones(len(better), device=better.device)
    reciprocal = torch.zeros_like(none)
    for j in range(k):
        within = (start + j < k) & (j < g)
        chance = torch.where(within, t / (g - j).clamp(min=1), 0.0).clamp(max=1)
        reciprocal += none * chance / (start + j + 1)
        none = none * (1 - chance)
    return 1 - none, reciprocal


class RankingMetrics(Metric):
    """Means over users, and what is recommended to all of them together. Sums alone are kept.

    Args:
        names: which of `OF_USERS`, `OF_TRAIN_MASK`, coverage (share of the items that are recommended to anyone) and
            popular_share (share of the popular items among the recommended ones).
        num_items: I.
        popular: indices of the popular items.
    """

    full_state_update = False
    sums: Tensor
    users: Tensor
    recommended: Tensor
    popular: Tensor

    def __init__(self, names: Iterable[str], *, num_items: int, popular: Tensor) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("popular", popular.clone())
        columns = len(OF_USERS) + len(OF_TRAIN_MASK)
        self.add_state("sums", torch.zeros(columns), dist_reduce_fx="sum")
        self.add_state("users", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("recommended", torch.zeros(num_items, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, *measured: Tensor) -> None:
        """What `measure_users` returns, of B users; nothing: of training."""
        if not measured:
            return
        values, best = measured
        self.sums += values.sum(0)
        self.users += len(values)
        self.recommended += best[best != UNKNOWN].bincount(minlength=len(self.recommended))

    def compute(self) -> Mapping[str, float | None]:
        """None of each: no user has been counted."""
        users, recommended = int(self.users), self.recommended
        if not users:
            return dict.fromkeys(self.names)
        means = self.sums / users
        scores = dict(zip((*OF_USERS, *OF_TRAIN_MASK), means.tolist(), strict=True))
        total = int(recommended.sum())
        scores["coverage"] = float((recommended > 0).double().mean())
        scores["popular_share"] = int(recommended[self.popular].sum()) / total if total else torch.nan
        return {name: scores[name] for name in self.names}

    def details(self) -> dict[str, Any]:
        return {"users": int(self.users)}
