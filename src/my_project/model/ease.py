"""EASE: which items the items of a user predict, by one linear equation."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from my_project.model.popular import require_history, require_interactions
from train_smarter import Data, Model, UserError, free_memory


class EASE(Model):
    """Scores {"user": (B,), "history": (B, L)} -> (B, I): the sum of the weights from the items of the history.

    The weights (I, I), with a diagonal of 0, are those with the least squared error and L2 in predicting the items of
    each user from its others. It needs no user of training, only a history.

    Source: Steck, Embarrassingly shallow autoencoders for sparse data, 2019.

    Args:
        num_items: I.
        l2: factor of the squared weights, lambda in the paper; the more users, the larger.
    """

    weights: Tensor

    def __init__(self, *, num_items: int, l2: float = 300.0, **model: Any) -> None:
        super().__init__(**model)
        if l2 <= 0:
            raise UserError(f"model.l2={l2}: give a number above 0, or the equation has no unique solution")
        self.num_items, self.l2 = num_items, l2
        self._check_memory()
        self.register_buffer("weights", torch.zeros(num_items, num_items))

    def _check_memory(self) -> None:
        """The equation has 64 bits for each pair of items, twice; the weights have 32."""
        needed, free = self.num_items**2 * (8 + 8 + 4), free_memory()
        if free is not None and needed > free:
            raise UserError(
                f"model=ease: pairs of {self.num_items:,} items take {needed / 1e9:,.1f} GB while it is solved, and "
                f"{free / 1e9:,.1f} GB of memory are free: type model=mf, or leave out rare items"
            )

    def solve(self, data: Data) -> None:
        given = require_interactions(self, data)
        rows = given.parts.train
        users, items = given.interactions.users[rows], given.interactions.items[rows]
        gram = count_pairs(users, items, self.num_items).double()
        gram.diagonal().add_(self.l2)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        del gram
        weights = inverse.div_(-inverse.diagonal().clone())
        weights.fill_diagonal_(0)
        self.weights.copy_(weights)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        history = require_history(self, inputs)
        row = history.new_zeros((history.shape[0], self.num_items + 1), dtype=self.weights.dtype)  # + 1: the padding
        row = row.scatter(1, history.where(history >= 0, self.num_items), 1.0)
        return row[:, :-1] @ self.weights


def count_pairs(users: Tensor, items: Tensor, num_items: int, *, at_once: int = 2**20) -> Tensor:
    """How many users have both items of a pair: (I, I) floats, from pairs (N,) of user and item, each once.

    Users are counted a part at a time, so that no matrix of users and items is made.

    Args:
        at_once: elements of such a part.
    """
    order = users.argsort(stable=True)
    users, items = users[order], items[order]
    total = torch.zeros(num_items, num_items)
    size = max(1, at_once // num_items)
    starts = torch.searchsorted(users, torch.arange(0, int(users.max()) + 1 + size, size)).tolist()
    for number, (start, stop) in enumerate(pairwise(starts)):
        part = torch.zeros(size, num_items)
        part[users[start:stop] - number * size, items[start:stop]] = 1.0
        total.addmm_(part.T, part)
    return total
