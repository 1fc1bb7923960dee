"""Matrix factorization of users and items."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train_smarter import Batch, InteractionData, Model

Looked = tuple[Tensor, Tensor]  # embeddings (..., D) and biases (..., 1)


class MF(Model):
    """Score of a user and an item: bias of the user + bias of the item + product of their embeddings.

    Inputs {"user": (B,)} -> scores of all items (B, I); with "item", (B,) or (B, C), scores of these, (B, 1) or (B, C).
    Index -1 is unknown, and has neither bias nor embedding.

    Source: Koren, Bell and Volinsky, Matrix factorization techniques for recommender systems, 2009.

    Args:
        num_users, num_items: U and I.
        dim: D, numbers of an embedding.
        l2: factor of an example's squared embeddings in its loss: more for those of rare users and items.
        l2_bias: the same for the squared biases.
        count_power: the factor of an embedding is its number of training rows to this power, 1 on average.
        init_std: standard deviation of new embeddings.
        dropout: share of the numbers of a user's embedding that a training step leaves out.
    """

    user_share: Tensor
    item_share: Tensor
    user_rows: Tensor
    item_rows: Tensor

    def __init__(
        self,
        *,
        num_users: int,
        num_items: int,
        dim: int = 64,
        l2: float = 0.14,
        l2_bias: float = 0.02,
        count_power: float = -0.5,
        init_std: float = 0.1,
        dropout: float = 0.0,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        self.l2, self.l2_bias, self.count_power, self.dropout = l2, l2_bias, count_power, dropout
        # Row 0 is the unknown one, and stays zero. Biases in a column of the embeddings would slow a step by a quarter.
        self.users, self.items = (nn.Embedding(size + 1, dim, padding_idx=0) for size in (num_users, num_items))
        self.user_bias, self.item_bias = (nn.Embedding(size + 1, 1, padding_idx=0) for size in (num_users, num_items))
        for table, std in ((self.users, init_std), (self.items, init_std), (self.user_bias, 0), (self.item_bias, 0)):
            with torch.no_grad():
                table.weight.normal_(std=std)
                table.weight[0] = 0.0
        for name, size in (("user", num_users), ("item", num_items)):
            self.register_buffer(f"{name}_share", torch.ones(size + 1))
            self.register_buffer(f"{name}_rows", torch.ones(size + 1))  # of training
        # Rows that the latest forward pass looked up: embeddings and biases of users, and of items or None for all.
        self._used: tuple[Looked, Looked | None] | None = None

    def setup(self, stage: str) -> None:
        """The share of each user and item of `l2`, by their number of training rows."""
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, InteractionData):
            buffers = (self.user_share, self.user_rows), (self.item_share, self.item_rows)
            for (share, rows), counts in zip(buffers, data.train_counts(), strict=True):
                rows[1:] = counts.to(rows)
                wanted = counts.clamp(min=1).double() ** self.count_power
                share[1:] = (wanted / (wanted * counts).sum() * counts.sum()).to(share)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        users, user_bias = self._look_up(self.users, self.user_bias, inputs["user"])  # (B, D), (B, 1)
        factors = F.dropout(users, self.dropout, self.training) if self.dropout else users
        if "item" not in inputs:
            self._used = ((users, user_bias), None) if self.training else None
            scores: Tensor = factors @ self.items.weight[1:].T + self.item_bias.weight[1:, 0] + user_bias  # (B, I)
            return scores
        given = inputs["item"].view(users.shape[0], -1)
        items, item_bias = self._look_up(self.items, self.item_bias, given)  # (B, C, D), (B, C, 1)
        self._used = ((users, user_bias), (items, item_bias)) if self.training else None
        return (factors[:, None] * items).sum(-1) + item_bias[..., 0] + user_bias  # (B, C)

    @staticmethod
    def _look_up(embeddings: nn.Embedding, biases: nn.Embedding, index: Tensor) -> Looked:
        return embeddings(index + 1), biases(index + 1)

    def penalty(self, batch: Batch) -> Tensor | None:
        if self._used is None:
            return None
        (users, items), self._used = self._used, None
        user = batch[0]["user"] + 1
        if items is None:
            return self._penalty_of_all_items(users, user)
        item = batch[0]["item"].view(len(user), -1) + 1
        total = self._weigh(users, self.user_share[user]) + self._weigh(items, self.item_share[item])
        return total / len(user)

    def _penalty_of_all_items(self, users: Looked, user: Tensor) -> Tensor:
        """The penalty of the users' training rows (B users), as the mean over these rows.

        A user counts as often as it has rows. All items are in each step, so the items of the rows are those of all
        training: what the mean over the rows of a batch is on average.
        """
        rows, item_rows = self.user_rows[user], self.item_rows[1:]
        items = self.items.weight[1:], self.item_bias.weight[1:]
        of_users = self._weigh(users, self.user_share[user] * rows, rows) / rows.sum()
        return of_users + self._weigh(items, self.item_share[1:] * item_rows, item_rows) / item_rows.sum()

    def _weigh(self, looked_up: Looked, factor: Tensor, bias_factor: Tensor | float = 1.0) -> Tensor:
        """Squares of embeddings (..., D) and biases (..., 1), weighted and summed."""
        embeddings, biases = looked_up
        of_embeddings = (factor * embeddings.square().sum(-1)).sum()
        return self.l2 * of_embeddings + self.l2_bias * (bias_factor * biases[..., 0].square()).sum()
