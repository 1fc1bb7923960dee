"""Matrix factorization of users and items."""

from collections.abc import Mapping
from typing import Any

import torch
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
    """

    user_share: Tensor
    item_share: Tensor

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
        **model: Any,
    ) -> None:
        super().__init__(**model)
        self.l2, self.l2_bias, self.count_power = l2, l2_bias, count_power
        # One table holds embedding and bias, (D + 1): a lookup less. Row 0 is the unknown one, and stays zero.
        self.users = nn.Embedding(num_users + 1, dim + 1, padding_idx=0)
        self.items = nn.Embedding(num_items + 1, dim + 1, padding_idx=0)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=init_std)
            with torch.no_grad():
                table.weight[0], table.weight[:, -1] = 0.0, 0.0
        self.register_buffer("user_share", torch.ones(num_users + 1))
        self.register_buffer("item_share", torch.ones(num_items + 1))
        self._used: tuple[Tensor, Tensor] | None = None  # rows of both tables that the latest forward pass looked up

    def setup(self, stage: str) -> None:
        """The share of each user and item of `l2`, by their number of training rows."""
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, InteractionData):
            for share, counts in zip((self.user_share, self.item_share), data.train_counts(), strict=True):
                wanted = counts.clamp(min=1).double() ** self.count_power
                share[1:] = (wanted / (wanted * counts).sum() * counts.sum()).to(share)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        users = self.users(inputs["user"] + 1)  # (B, D + 1)
        if "item" not in inputs:
            items = self.items.weight[1:]
            scores: Tensor = users[:, :-1] @ items[:, :-1].T + items[:, -1] + users[:, -1:]  # (B, I)
            return scores
        items = self.items(inputs["item"].view(users.shape[0], -1) + 1)  # (B, C, D + 1)
        self._used = (users, items) if self.training else None
        scores = (users[:, None, :-1] * items[..., :-1]).sum(-1) + items[..., -1] + users[:, -1:]
        return scores  # (B, C)

    def penalty(self, batch: Batch) -> Tensor | None:
        if self._used is None:
            return None
        (users, items), self._used = self._used, None
        inputs = batch[0]
        shares = self.user_share[inputs["user"] + 1], self.item_share[inputs["item"].view(users.shape[0], -1) + 1]
        total = users.new_zeros(())
        for rows, share in zip((users, items), shares, strict=True):
            squares = rows.square()
            embedding = (share * squares[..., :-1].sum(-1)).sum()
            total = total + self.l2 * embedding + self.l2_bias * squares[..., -1].sum()
        return total / len(users)
