"""Who used what, when: the table that recommender systems learn from, as tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

UNKNOWN = -1  # index of a user or an item that training does not know


@dataclass(frozen=True)
class Interactions:
    """N interactions of U users with I items.

    users: (N,) int64, 0 to U - 1.
    items: (N,) int64, 0 to I - 1.
    values: (N,) float32, ratings for example; None: an interaction has no value.
    times: (N,) float64, in any unit; None: unknown.
    user_names, item_names: the ids as they are in the file, by index.
    item_titles: what to show in place of an item's id, by index; None: there are none.
    """

    users: Tensor
    items: Tensor
    values: Tensor | None
    times: Tensor | None
    user_names: Sequence[str]
    item_names: Sequence[str]
    item_titles: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.users)

    @property
    def num_users(self) -> int:
        return len(self.user_names)

    @property
    def num_items(self) -> int:
        return len(self.item_names)

    def take(self, rows: Tensor) -> "Interactions":
        """The interactions at `rows` (n,), in its order; users and items keep their indices."""
        values, times = (None if part is None else part[rows] for part in (self.values, self.times))
        return replace(self, users=self.users[rows], items=self.items[rows], values=values, times=times)

    def deduplicate(self) -> "Interactions":
        """One interaction for each pair of user and item, in the order of the file.

        The latest one stays: by time, and by the order in the file where times are equal or unknown.
        """
        pairs = (self.users * self.num_items + self.items).numpy()
        order = np.arange(len(pairs)) if self.times is None else np.argsort(self.times.numpy(), kind="stable")
        newest_first = order[::-1]
        _, first = np.unique(pairs[newest_first], return_index=True)
        if len(first) == len(pairs):
            return self
        return self.take(torch.from_numpy(np.sort(newest_first[first])))


def is_histories(inputs: Any) -> bool:
    """Whether inputs are a batch of users, each with the items that are known of it, (B, L)."""
    return isinstance(inputs, Mapping) and "history" in inputs


def index_ids(ids: Any) -> tuple[Tensor, list[str]]:
    """Ids of any type, a pyarrow array without nulls -> their indices (N,) int64, in order of appearance, and texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = pc.dictionary_encode(ids)
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    index = torch.from_numpy(encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64))
    return index, encoded.dictionary.cast(pa.string()).to_pylist()
