"""Matrix factorization of users and items."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train_smarter import Batch, InteractionData, Model


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
        # One table holds embedding and bias, (D + 1): a lookup less. Row 0 is the unknown one, and stays zero.
        self.users = nn.Embedding(num_users + 1, dim + 1, padding_idx=0)
        self.items = nn.Embedding(num_items + 1, dim + 1, padding_idx=0)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=init_std)
            with torch.no_grad():
                table.weight[0], table.weight[:, -1] = 0.0, 0.0
        for name, size in (("user", num_users), ("item", num_items)):
            self.register_buffer(f"{name}_share", torch.ones(size + 1))
            self.register_buffer(f"{name}_rows", torch.ones(size + 1))  # of training
        # Rows of both tables that the latest forward pass looked up; None in place of all items.
        self._used: tuple[Tensor, Tensor | None] | None = None

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
        users = self.users(inputs["user"] + 1)  # (B, D + 1)
        factors = F.dropout(users[:, :-1], self.dropout, self.training) if self.dropout else users[:, :-1]
        if "item" not in inputs:
            self._used = (users, None) if self.training else None
            items = self.items.weight[1:]
            scores: Tensor = factors @ items[:, :-1].T + items[:, -1] + users[:, -1:]  # (B, I)
            return scores
        items = self.items(inputs["item"].view(users.shape[0], -1) + 1)  # (B, C, D + 1)
        self._used = (users, items) if self.training else None
        scores = (factors[:, None] * items[..., :-1]).sum(-1) + items[..., -1] + users[:, -1:]
        return scores  # (B, C)

    def penalty(self, batch: Batch) -> Tensor | None:
        if self._used is None:
            return None
        (users, items), self._used = self._used, None
        inputs = batch[0]
        known = inputs["user"] + 1
        if items is None:
            return self._penalty_of_all_items(users, known)
        shares = self.user_share[known], self.item_share[inputs["item"].view(users.shape[0], -1) + 1]
        total = users.new_zeros(())
        for rows, share in zip((users, items), shares, strict=True):
            total = total + self._weigh(rows, share, 1.0)
        return total / len(users)

    def _penalty_of_all_items(self, users: Tensor, known: Tensor) -> Tensor:
        """The penalty of the users' training rows (B users), as the mean over these rows.

        A user counts as often as it has rows. All items are in each step, so the items of the rows are those of all
        training: what the mean over the rows of a batch is on average.
        """
        rows, items = self.user_rows[known], self.item_rows[1:]
        of_users = self._weigh(users, self.user_share[known] * rows, rows) / rows.sum()
        of_items = self._weigh(self.items.weight[1:], self.item_share[1:] * items, items) / items.sum()
        return of_users + of_items

    def _weigh(self, rows: Tensor, factor: Tensor, bias_factor: Tensor | float) -> Tensor:
        """Squares of embeddings and biases (..., D + 1), weighted and summed."""
        squares = rows.square()
        embedding = (factor * squares[..., :-1].sum(-1)).sum()
        return self.l2 * embedding + self.l2_bias * (bias_factor * squares[..., -1]).sum()
