"""Examples of the task `ranking`: users with the items they have had, or pairs of a user and an item."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train_smarter.data.examples import Examples, SplitName
from train_smarter.data.interaction_splits import InteractionSplit
from train_smarter.data.interactions import UNKNOWN, Interactions
from train_smarter.data.rows import Rows

NEGATIVES = 1  # items that a user has not had, for each one that it has
ROUNDS = 8  # in which a negative that the user has had is drawn again


class ListRows(Rows):
    """N lists of items. A batch is (n, L) int64, L the longest of its lists, padded with -1 on the left.

    Args:
        flat: all lists one after the other.
        offsets: (N + 1,); list i is flat[offsets[i]:offsets[i + 1]].
    """

    def __init__(self, flat: Tensor, offsets: Tensor) -> None:
        lengths = offsets.diff()
        super().__init__((int(lengths.max()) if len(lengths) else 0,), torch.long, torch.arange(len(lengths)))
        self.flat, self.offsets = flat, offsets

    @property
    def nbytes(self) -> int:
        return self.flat.itemsize * int(self.offsets.diff()[self.index].sum())

    def read_at(self, places: Tensor, *, epoch: int) -> Tensor:  # noqa: ARG002 (nothing is random)
        stop, lengths = self.offsets[places + 1], self.offsets.diff()[places]
        longest = int(lengths.max()) if len(lengths) else 0
        position = torch.arange(-longest, 0)  # from the end
        inside = position >= -lengths[:, None]  # (n, L)
        if not len(self.flat):
            return torch.full(inside.shape, UNKNOWN)
        items = self.flat[(stop[:, None] + position).clamp_(min=0)]
        return items.masked_fill_(~inside, UNKNOWN)


class PairRows(Rows):
    """Training pairs. A batch is {"user": (n,), "item": (n, 1 + NEGATIVES)}, int64: an item of the user, and others.

    The others are drawn from all items but those of the user, alike; they depend on the epoch and the pair alone.

    Args:
        users, items: (N,) int64, each pair once.
        num_items: I.
    """

    def __init__(self, users: Tensor, items: Tensor, num_items: int) -> None:
        super().__init__((), torch.long, torch.arange(len(users)))
        self.users, self.items, self.num_items = users, items, num_items
        self._known = (users * num_items + items).sort().values

    @property
    def nbytes(self) -> int:
        return 3 * self.users.itemsize * len(self)

    def read_at(self, places: Tensor, *, epoch: int) -> dict[str, Tensor]:
        users = self.users[places]
        columns = [self.items[places]]
        for number in range(NEGATIVES):
            drawn = self._draw(places, epoch, number)
            for again in range(1, ROUNDS):
                if not (had := self._had(users, drawn)).any():
                    break
                drawn = torch.where(had, self._draw(places, epoch, number + NEGATIVES * again), drawn)
            columns.append(drawn)
        return {"user": users, "item": torch.stack(columns, 1)}

    def _had(self, users: Tensor, items: Tensor) -> Tensor:
        keys = users * self.num_items + items
        place = torch.searchsorted(self._known, keys).clamp_(max=len(self._known) - 1)
        return self._known[place] == keys

    def _draw(self, places: Tensor, epoch: int, number: int) -> Tensor:
        hashed = mix(places.numpy().astype(np.uint64), mix(np.array([epoch], dtype=np.uint64), number))
        return torch.from_numpy((hashed % np.uint64(self.num_items)).astype(np.int64))


def mix(numbers: NDArray[np.uint64], seed: "NDArray[np.uint64] | int") -> NDArray[np.uint64]:
    """A well-spread number for each pair of a number and a seed: Steele, Lea and Flood, SplitMix64, 2014."""
    with np.errstate(over="ignore"):
        mixed: NDArray[np.uint64] = numbers + np.asarray(seed, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
        mixed = (mixed + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def ranking_examples(data: Interactions, parts: InteractionSplit, *, rows: str) -> dict[SplitName, Examples]:
    """Make the examples of each split.

    Inputs of users are {"user": (B,), "history": (B, L)}: known items in time order. In validation and test, targets
    are {"items": (B, M), "val": (B, V)}: the items to find, and those of the history that are of the validation split.
    Users without an item to find are left out. In training there are no targets: the history is to be predicted.

    Args:
        rows: what training has: users, or pairs of user and item, see `PairRows`.
    """
    train = parts.train[~torch.isin(parts.train, parts.val)]  # a refit trains on validation, too
    known = torch.cat([train, parts.seen])
    examples: dict[SplitName, Examples] = {
        "train": train_users(data, parts.train),
        "val": _held_out(data, history=known, items=parts.val, val=parts.val[:0]),
        "test": _held_out(data, history=torch.cat([known, parts.val]), items=parts.test, val=parts.val),
    }
    if rows == "pairs":
        examples["train"] = Examples(PairRows(data.users[parts.train], data.items[parts.train], data.num_items))
    return examples


def train_users(data: Interactions, rows: Tensor) -> Examples:
    """Users with at least one of these rows, and their items."""
    users = data.users[rows].unique()
    return Examples({"user": users, "history": lists_of(data, rows, users)})


def _held_out(data: Interactions, *, history: Tensor, items: Tensor, val: Tensor) -> Examples:
    users = data.users[items].unique()
    targets = {"items": lists_of(data, items, users), "val": lists_of(data, val, users)}
    return Examples({"user": users, "history": lists_of(data, history, users)}, targets)


def lists_of(data: Interactions, rows: Tensor, users: Tensor) -> ListRows:
    """The items of each of the users (U,), ascending, in these rows (n,), by time and by the order of the file."""
    rows = rows[torch.isin(data.users[rows], users)].sort().values
    order = [data.users[rows].numpy()] if data.times is None else [data.times[rows].numpy(), data.users[rows].numpy()]
    ordered = rows[torch.from_numpy(np.lexsort(order))]
    counts = torch.searchsorted(users, data.users[ordered]).bincount(minlength=len(users))
    return ListRows(data.items[ordered], torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]))
