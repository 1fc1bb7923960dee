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
Indices = NDArray[np.int64]


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
            if not 0 <= (share := getattr(self, key)) < 1:
                raise UserError(f"data.{key}={share}: give a share from 0 to below 1")
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
    if settings.kind in ("last", "time") and data.times is None:
        raise UserError(f"data.split={settings.kind} needs times: type data.time=<column>, or data.split=random")
    users = data.users.numpy()
    times = None if data.times is None else data.times.numpy()
    split = {"random": _split_random, "last": _split_last, "time": _split_time, "users": _split_users}.get(
        settings.kind, _split_folds
    )
    part, notes = split(users, times, settings)  # (N,) int8: 0 train, 1 validation, 2 test, 3 seen
    rows = [torch.from_numpy(np.flatnonzero(part == number)) for number in range(4)]
    for name, wanted, found in (
        ("train", 1.0, rows[0]),
        ("val", settings.val_fraction, rows[1]),
        ("test", settings.test_fraction, rows[2]),
    ):
        if wanted and not len(found):
            raise UserError(
                f"data.split={settings.kind} leaves the {name} split of {len(users):,} interactions of "
                f"{data.num_users:,} users empty; give another data.split=..., or more data"
            )
    return InteractionSplit(*rows, leak=LEAKS[settings.kind], notes=[*notes, *_count_unknown(data, rows)])


def _count_unknown(data: Interactions, rows: list[Tensor]) -> list[str]:
    """A line on the validation and test rows whose user or item has no training row."""
    held_out = torch.cat([rows[1], rows[2]])
    notes = []
    for noun, index, size in (("user", data.users, data.num_users), ("item", data.items, data.num_items)):
        known = torch.zeros(size, dtype=torch.bool)
        known[index[torch.cat([rows[0], rows[3]])]] = True
        if count := int((~known[index[held_out]]).sum()):
            notes.append(f"{count:,} of {len(held_out):,} validation and test rows have {_a(noun)} that training lacks")
    return notes


def _a(noun: str) -> str:
    return f"an {noun}" if noun == "item" else f"a {noun}"


def _split_random(users: Indices, times: object, settings: SplitSettings) -> tuple[NDArray[np.int8], list[str]]:  # noqa: ARG001
    """Of a user's n rows in random order, int(share * n) each are test and validation, as RecBole does it.

    Where a share is less than one row, it is one row as long as training keeps one.
    """
    place, counts = _places(users, np.random.default_rng(settings.seed).random(len(users)))
    train = counts.copy()
    sizes = []
    for share in (settings.test_fraction, settings.val_fraction):
        wanted = share * counts
        sizes.append(np.floor(wanted + 1e-9).astype(np.int64))
        train -= sizes[-1]
    for number, share in enumerate((settings.test_fraction, settings.val_fraction)):
        more = (train > 1) & (share * counts > 0) & (share * counts < 1 - 1e-9)
        sizes[number] += more
        train -= more
    test, val = sizes
    part = np.where(place < test[users], 2, np.where(place < (test + val)[users], 1, 0))
    return part.astype(np.int8), []


def _split_last(
    users: Indices, times: NDArray[np.float64], settings: SplitSettings
) -> tuple[NDArray[np.int8], list[str]]:
    """The latest row of a user is test, the one before it validation; a seeded draw orders rows of one time."""
    draw = np.random.default_rng(settings.seed).random(len(users))
    place, counts = _places(users, -times, draw)  # 0: the latest
    enough = counts[users] >= 3
    part = np.where(enough & (place == 0), 2, np.where(enough & (place == 1), 1, 0)).astype(np.int8)
    if not settings.val_fraction:
        part[part == 1] = 0
    both = int((counts >= 3).sum())
    latest = np.full(len(counts), np.nan)
    second = latest.copy()
    latest[users[place == 0]], second[users[place == 1]] = times[place == 0], times[place == 1]
    ties = int((latest == second)[counts >= 3].sum())
    notes = [
        f"{ties:,} of {both:,} users ({ties / max(1, both):.0%}) have their last two rows at the same time; a draw by "
        "data.split_seed orders them"
    ]
    if fewer := int(((counts > 0) & (counts < 3)).sum()):
        notes.append(f"{fewer:,} users with fewer than 3 rows are in training only")
    return part, notes


def _split_time(
    users: Indices,  # noqa: ARG001
    times: NDArray[np.float64],
    settings: SplitSettings,
) -> tuple[NDArray[np.int8], list[str]]:
    """The latest rows of all users are test, those before them validation; rows of one time are never divided."""
    part = np.zeros(len(times), dtype=np.int8)
    ordered = np.sort(times)
    for number, share in ((2, settings.test_fraction), (1, settings.val_fraction + settings.test_fraction)):
        if count := round(share * len(times)):
            part[(times >= ordered[len(times) - count]) & (part == 0)] = number
    return part, []


def _split_users(users: Indices, times: object, settings: SplitSettings) -> tuple[NDArray[np.int8], list[str]]:  # noqa: ARG001
    """A share of the users is held out; of their rows, a random share is to be predicted, and the others are seen."""
    generator = np.random.default_rng(settings.seed)
    place, counts = _places(users, generator.random(len(users)))
    able = generator.permutation(np.flatnonzero(counts > 1))  # one row at least is seen, and one predicted
    test, val = (round(share * len(able)) for share in (settings.test_fraction, settings.val_fraction))
    kind = np.zeros(len(counts), dtype=np.int8)
    kind[able[:test]], kind[able[test : test + val]] = 2, 1
    wanted = np.clip(np.floor(settings.target_fraction * counts + 1e-9), 1, np.maximum(1, counts - 1))
    part = np.where(kind[users] == 0, 0, np.where(place < wanted[users], kind[users], 3))
    return part.astype(np.int8), [f"held-out users: {val:,} of validation, {test:,} of test"]


def _split_folds(users: Indices, times: object, settings: SplitSettings) -> tuple[NDArray[np.int8], list[str]]:  # noqa: ARG001
    """Test is a piece of the rows as `RandomState(seed).permutation` orders them; validation is drawn from the rest."""
    pieces = np.array_split(np.random.RandomState(settings.seed).permutation(len(users)), settings.folds)
    test = pieces.pop(settings.fold or 0)
    rest = np.random.RandomState(settings.seed + 1).permutation(np.sort(np.concatenate(pieces)))
    part = np.zeros(len(users), dtype=np.int8)
    part[test] = 2
    part[rest[: int(settings.val_fraction * len(rest))]] = 1
    return part, []


def _places(users: Indices, *keys: NDArray[np.float64]) -> tuple[Indices, Indices]:
    """The place of each row (N,) among those of its user, ordered by `keys`, the first one first; and rows by user."""
    counts = np.bincount(users)
    order = np.lexsort((*reversed(keys), users))
    place = np.empty(len(users), dtype=np.int64)
    place[order] = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place, counts
