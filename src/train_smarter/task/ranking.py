"""Which items a user will choose, out of all of them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from train_smarter.data.interactions import UNKNOWN
from train_smarter.errors import UserError, did_you_mean
from train_smarter.task.base import entropy
from train_smarter.task.ranking_metrics import RankingMetrics, measure_users
from train_smarter.task.recommendation import Recommendation

LOSSES = ("softmax", "bpr")
COMPARED = 64  # items that the BPR loss of validation and test compares with
POPULAR = 0.1  # share of the items that are the popular ones


class Ranking(Recommendation):
    """Outputs are scores of all items (B, I), or in training also (B, T, I), or (B, C) of the items of pairs.

    Validation ranks all items but those that the user has in training; test leaves out those of validation, too.

    Args:
        num_items: I.
        k: items of each user that the metrics look at.
        loss: softmax: cross-entropy over all items, of every item of a user; bpr: the log-likelihood that an item of
            the user has the higher score than one that is not (Rendle et al. 2009).
    """

    METRICS: ClassVar[Mapping[str, str]] = {
        "ndcg": "max",
        "recall": "max",
        "hit_rate": "max",
        "mrr": "max",
        "coverage": "max",
        "popular_share": "min",
        "ndcg_train_mask": "max",
        "recall_train_mask": "max",
    }
    compared: Tensor

    def __init__(self, *, loss: str = "softmax", **recommendation: Any) -> None:
        super().__init__(**recommendation)
        if loss not in LOSSES:
            raise UserError(f"task.loss={loss}: give one of {', '.join(LOSSES)}{did_you_mean(str(loss), LOSSES)}")
        if self.k < 1:
            raise UserError(f"task.k={self.k}: give a whole number of at least 1")
        self.loss_name = loss
        order = torch.randperm(self.num_items, generator=torch.Generator().manual_seed(0))
        self.register_buffer("compared", order[:COMPARED], persistent=False)

    def fit(self, targets: Iterable[Any]) -> None:
        """How often each item occurs in training."""
        self.popularity.zero_()
        for batch in targets:
            items = batch["items"]
            self.popularity += items[items != UNKNOWN].bincount(minlength=self.num_items).to(self.popularity)

    def targets(self, batch: Any) -> dict[str, Tensor]:
        """Items to find, padded with -1, and those that the ranking leaves out: known (test), train (val)."""
        inputs, targets = batch
        if isinstance(targets, Tensor):
            raise UserError("task=ranking learns from users or from pairs, and not from ratings: leave data.rows out")
        if "item" in inputs:
            return {"items": inputs["item"][:, :1], "others": inputs["item"][:, 1:]}
        if targets is None:
            return {"items": inputs["history"]}
        return {**targets, "known": inputs["history"]}

    def weight(self, targets: Mapping[str, Tensor]) -> Tensor:
        return (targets["items"] != UNKNOWN).sum()

    def loss(self, outputs: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        items = targets["items"]
        if "others" in targets:  # the item of the user is the first of those that have scores
            if self.loss_name == "softmax":
                return -outputs.log_softmax(1)[:, 0].mean()
            return -F.logsigmoid(outputs[:, :1] - outputs[:, 1:]).mean()
        count = self.weight(targets).clamp(min=1)
        if outputs.ndim == 3:  # a score for each of the last T items
            last = items[:, items.shape[1] - outputs.shape[1] :].flatten()
            total = F.cross_entropy(outputs.flatten(0, 1), last, ignore_index=UNKNOWN, reduction="sum")
            return total / (last != UNKNOWN).sum().clamp(min=1)
        inside, own = items != UNKNOWN, outputs.gather(1, items.clamp(min=0))  # (B, M)
        if self.loss_name == "bpr":
            margin = own[..., None] - outputs[:, None, self.compared]
            return -(F.logsigmoid(margin).mean(2) * inside).sum() / count
        return ((outputs.logsumexp(1, keepdim=True) - own) * inside).sum() / count

    def metric_inputs(self, outputs: Tensor, targets: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Nothing of the training split, whose items are all known: there is nothing to find among the others."""
        return measure_users(outputs.float(), targets, k=self.k) if "known" in targets else ()

    def make_metrics(self) -> Metric:
        top = self.popularity.argsort(descending=True, stable=True)[: math.ceil(POPULAR * self.num_items)]
        return RankingMetrics(self.metrics, num_items=self.num_items, popular=top)

    def check(self, targets: Any, split: str) -> None:
        largest = int(targets["items"].max()) if targets["items"].numel() else UNKNOWN
        if largest >= self.num_items:
            raise UserError(f"item {largest} is in {split}, but task.num_items={self.num_items}")

    def chance_loss(self, targets: Mapping[str, Tensor]) -> float | None:
        """Of the popularity of the items; of pairs, of equal scores."""
        if self.loss_name == "bpr":
            return math.log(2)
        items = targets["items"]
        return None if "others" in targets else entropy(items[items != UNKNOWN].bincount())
