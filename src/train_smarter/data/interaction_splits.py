"""Train, validation and test of interactions: which rows, and whether training sees the future of the others."""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train_smarter.data.interactions import Interactions
from train_smarter.errors import UserError, did_you_mean

LEAKS = {
    "random": "training contains interactions that are later than those of the test",
    "last": "training contains other users' interactions that are later than those of the test",
    "users": "training contains interactions that are later than those of the test",
    "folds": "training contains interactions that are later than those of the test",
    "time": "",
}
TRAIN, VAL, TEST, SEEN = range(4)
Indices = NDArray[np.int64]
Parts = NDArray[np.int8]  # (N,), TRAIN, VAL, TEST or SEEN for each row


@dataclass(frozen=True)
class InteractionSplit:
    """Rows of `Interactions`, int64, ascending; no row is in two parts.

    seen: rows of held-out users that a model may know when it recommends, but does not train on; empty where every user
        is in training.
    leak: why the test is easier than tomorrow; empty: training precedes it.
    notes: lines for the log.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    seen: Tensor
    leak: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SplitSettings:
    """How interactions are split.

    kind: random: a share of each user's rows; last: the last row of each user is test, the one before validation;
        time: the latest rows are test; users: all rows of some users; folds: test is the `fold`-th of `folds` pieces of
        the rows, validation a share of the others.
    val_fraction, test_fraction: of all rows, or users.
    target_fraction: of a held-out user's rows, those that are to be predicted (kind="users").
    """

    kind: str = "random"
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    target_fraction: float = 0.2
    folds: int = 5
    fold: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in LEAKS:
            kinds = [*LEAKS]
            raise UserError(f"data.split={self.kind}: give one of {', '.join(kinds)}{did_you_mean(self.kind, kinds)}")
        for key in ("val_fraction", "test_fraction", "target_fraction"):
            if not 0 < (share := getattr(self, key)) < 1:
                raise UserError(f"data.{key}={share}: give a number between 0 and 1")
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError(
                f"data.val_fraction={self.val_fraction} and data.test_fraction={self.test_fraction} leave nothing to "
                "train on: their sum has to be below 1"
            )
        if self.kind != "folds" and self.fold is not None:
            raise UserError(f"data.fold={self.fold} needs data.split=folds, and not {self.kind}")
        if self.kind == "folds" and not (self.folds > 1 and 0 <= (self.fold or 0) < self.folds):
            raise UserError(
                f"data.fold={self.fold}: give 0 to {self.folds - 1}, with data.folds={self.folds} of 2 or more"
            )


def split_interactions(data: Interactions, settings: SplitSettings) -> InteractionSplit:
    """Divide deduplicated interactions.

    Raises:
        UserError: the kind of split needs times that the data do not have, or a part is empty.
    """
    split = {"random": _split_random, "last": _split_last, "time": _split_time, "users": _split_users}
    part, notes = split.get(settings.kind, _split_folds)(data, settings)
    train, val, test, seen = (torch.from_numpy(np.flatnonzero(part == number)) for number in (TRAIN, VAL, TEST, SEEN))
    for name, rows in (("train", train), ("val", val), ("test", test)):
        if not len(rows):
            raise UserError(
                f"data.split={settings.kind} leaves the {name} split of {len(data):,} interactions of "
                f"{data.num_users:,} users empty; give another data.split=..., or more data"
            )
    unknown = _count_unknown(data, known=torch.cat([train, seen]), held_out=torch.cat([val, test]))
    leak = LEAKS[settings.kind]
    leaks = [f"data.split={settings.kind}: {leak}; data.split=time has none of them"] if leak else []
    return InteractionSplit(train, val, test, seen, leak, [*leaks, *notes, *unknown])


def _count_unknown(data: Interactions, *, known: Tensor, held_out: Tensor) -> list[str]:
    """A line on the held-out rows whose user or item has no known row."""
    notes = []
    for noun, index, size in (("a user", data.users, data.num_users), ("an item", data.items, data.num_items)):
        there = torch.zeros(size, dtype=torch.bool)
        there[index[known]] = True
        if count := int((~there[index[held_out]]).sum()):
            notes.append(f"{count:,} of {len(held_out):,} validation and test rows have {noun} that training lacks")
    return notes


def _split_random(data: Interactions, settings: SplitSettings) -> tuple[Parts, list[str]]:
    """Of a user's n rows in random order, int(share * n) each are test and validation, as in RecBole.

    A share of less than one row is one row, as long as training keeps one.
    """
    users = data.users.numpy()
    place, counts = _places(users, np.random.default_rng(settings.seed).random(len(users)))
    wanted = [share * counts for share in (settings.test_fraction, settings.val_fraction)]
    sizes = [np.floor(rows + 1e-9).astype(np.int64) for rows in wanted]  # 0.1 * 30 may be a little below 3
    for rows, size in zip(wanted, sizes, strict=True):
        size += (rows < 1) & (size == 0) & (counts - sum(sizes) > 1)
    test, val = sizes
    part = np.where(place < test[users], TEST, np.where(place < (test + val)[users], VAL, TRAIN))
    return part.astype(np.int8), []


def _split_last(data: Interactions, settings: SplitSettings) -> tuple[Parts, list[str]]:
    """The latest row of a user is test, the one before it validation; a seeded draw orders rows of one time."""
    users, times = data.users.numpy(), _times(data, settings)
    place, counts = _places(users, -times, np.random.default_rng(settings.seed).random(len(users)))  # 0: the latest
    enough = counts >= 3
    part = np.where(enough[users] & (place < 2), np.where(place == 0, TEST, VAL), TRAIN).astype(np.int8)
    latest, second = np.zeros(len(counts)), np.ones(len(counts))
    latest[users[place == 0]], second[users[place == 1]] = times[place == 0], times[place == 1]
    ties, divided = int((latest == second)[enough].sum()), int(enough.sum())
    notes = [
        f"{ties:,} of {divided:,} users ({ties / max(1, divided):.0%}) have their last two rows at the same time: "
        "data.split_seed draws which is test"
    ]
    if fewer := int((counts > 0).sum()) - divided:
        notes.append(f"{fewer:,} users with fewer than 3 rows are in training only")
    return part, notes


def _split_time(data: Interactions, settings: SplitSettings) -> tuple[Parts, list[str]]:
    """The latest rows of all users are test, those before them validation; rows of one time are never divided."""
    times = _times(data, settings)
    part = np.zeros(len(times), dtype=np.int8)
    for number, share in ((TEST, settings.test_fraction), (VAL, settings.val_fraction)):
        rest = np.sort(times[part == TRAIN])
        if not len(rest) or rest[0] == rest[-1]:
            raise UserError(f"data.split=time: too few different times to cut a split off, {len(np.unique(times))}")
        wanted = rest[len(rest) - max(1, round(share * len(times)))]
        part[(times >= max(wanted, rest[rest > rest[0]][0])) & (part == TRAIN)] = number
    return part, []


def _split_users(data: Interactions, settings: SplitSettings) -> tuple[Parts, list[str]]:
    """A share of the users is held out; of their rows, a random share is to be predicted, and the others are seen."""
    users, draw = data.users.numpy(), np.random.default_rng(settings.seed)
    place, counts = _places(users, draw.random(len(users)))
    able = draw.permutation(np.flatnonzero(counts > 1))  # one row at least is seen, and one predicted
    test, val = (round(share * len(able)) for share in (settings.test_fraction, settings.val_fraction))
    home = np.full(len(counts), TRAIN)
    home[able[:test]], home[able[test : test + val]] = TEST, VAL
    targets = np.clip(np.floor(settings.target_fraction * counts + 1e-9), 1, counts - 1)
    part = np.where((home[users] == TRAIN) | (place < targets[users]), home[users], SEEN)
    return part.astype(np.int8), [f"held-out users: {val:,} of validation, {test:,} of test"]


def _split_folds(data: Interactions, settings: SplitSettings) -> tuple[Parts, list[str]]:
    """Test is a piece of the rows as `RandomState(seed).permutation` orders them; validation is drawn from the rest."""
    pieces = np.array_split(np.random.RandomState(settings.seed).permutation(len(data)), settings.folds)
    test = pieces.pop(settings.fold or 0)
    rest = np.random.RandomState(settings.seed + 1).permutation(np.sort(np.concatenate(pieces)))
    part = np.zeros(len(data), dtype=np.int8)
    part[test], part[rest[: round(settings.val_fraction * len(rest))]] = TEST, VAL
    return part, []


def _times(data: Interactions, settings: SplitSettings) -> NDArray[np.float64]:
    if data.times is None:
        raise UserError(f"data.split={settings.kind} needs times: type data.time=<column>, or data.split=random")
    times: NDArray[np.float64] = data.times.numpy()
    return times


def _places(users: Indices, *keys: NDArray[np.float64]) -> tuple[Indices, Indices]:
    """The place of each row (N,) among those of its user, ordered by `keys`, the first one first; and rows by user."""
    counts = np.bincount(users)
    order = np.lexsort((*reversed(keys), users))
    place = np.empty(len(users), dtype=np.int64)
    place[order] = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place, counts
