"""Made ratings, whose best possible RMSE is known."""

from typing import Any

import numpy as np
import torch

from train_smarter import InteractionData, Interactions

SEED = 0  # of the data set itself; `seed` and `split_seed` change nothing about it
DIM = 2  # hidden numbers of a user and an item
MEAN, BIAS, TASTE = 3.0, 0.3, 0.6  # of all ratings; standard deviations of the parts of a rating
POPULARITY = -0.6  # the n-th most popular item is seen in proportion to n ** POPULARITY
PREFERENCE = 1.5  # how much more often a user sees what the user likes


class Ratings(InteractionData):
    """mean + bias of the user + bias of the item + taste + normal noise, neither rounded nor clipped.

    Which items a user has rated depends on popularity and taste, and not on the noise: its standard deviation is the
    RMSE of the best possible model.

    Args:
        per_user: ratings of a user, on average.
        noise: standard deviation.
    """

    def __init__(
        self, *, num_users: int = 1000, num_items: int = 300, per_user: int = 60, noise: float = 0.3, **data: Any
    ) -> None:
        super().__init__(num_users=num_users, num_items=num_items, **data)
        self.shape, self.per_user, self.noise = (num_users, num_items), per_user, noise

    def read_interactions(self) -> Interactions:
        draw, (users, items) = np.random.default_rng(SEED), self.shape
        factors = draw.normal(size=(users, DIM)), draw.normal(size=(items, DIM))
        taste = factors[0] @ factors[1].T / DIM**0.5  # (U, I)
        biases = draw.normal(scale=BIAS, size=(users, 1)) + draw.normal(scale=BIAS, size=items)
        ratings = MEAN + biases + TASTE * taste + draw.normal(scale=self.noise, size=(users, items))
        popularity = POPULARITY * np.log(draw.permutation(items) + 1)
        # The largest of scores with Gumbel noise are a draw without replacement.
        scores = popularity + PREFERENCE * taste + draw.gumbel(size=(users, items))
        counts = draw.poisson(self.per_user, size=users).clip(1, items)
        place = (-scores).argsort(1).argsort(1)
        user, item = (place < counts[:, None]).nonzero()
        return Interactions(
            users=torch.from_numpy(user),
            items=torch.from_numpy(item),
            values=torch.from_numpy(ratings[user, item]).float(),
            times=torch.from_numpy(draw.permutation(len(user)).astype(np.float64)),
            user_names=[f"user {number}" for number in range(users)],
            item_names=[f"item {number}" for number in range(items)],
        )
