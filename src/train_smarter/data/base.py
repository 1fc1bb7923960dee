"""What every data set shares: the split, the order of the examples, the batches and their way to the device.

A data set's own file only reads (`read`). An example is read once and kept in memory as tensors; a batch is one
indexed copy. Order and random numbers of an epoch depend on (seed, epoch) alone.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from train_smarter.error import UserError

log = logging.getLogger(__name__)

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Examples:
    """Inputs and labels, side by side.

    inputs: uint8 images (N, C, H, W), integer tokens (N, T), or raw texts (a list of N strings) before `encode`.
    labels: int64 (N,), from 0 to K - 1.
    """

    inputs: Any
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Examples":
        """The examples at `index` (n,), in its order."""
        inputs = self.inputs[index] if isinstance(self.inputs, Tensor) else [self.inputs[i] for i in index.tolist()]
        return Examples(inputs, self.labels[index])


@dataclass(frozen=True)
class Source:
    """What a data set's file reads: its official splits (None: none exists, it is cut from train) and class names."""

    names: Sequence[str]
    train: Examples
    val: Examples | None = None
    test: Examples | None = None


def stratified(labels: Tensor, fraction: float, *, seed: int, fold: int = 0) -> tuple[Tensor, Tensor]:
    """Cuts `fraction` of every class off.

    Args:
        labels: (N,) int64.
        fraction: share that is cut off, between 0 and 1.
        seed: fixes the shuffle within each class.
        fold: which piece is cut: fold f of a class starts at the fraction f * `fraction` of its shuffled examples,
            so the folds 0 to 1 / fraction - 1 are disjoint and together cover everything.

    Returns:
        Indices of the rest and of the piece, each ascending.
    """
    generator = np.random.default_rng(seed)
    piece = np.zeros(len(labels), dtype=bool)
    for label in labels.unique().tolist():
        members = generator.permutation(np.flatnonzero(labels.numpy() == label))
        start, stop = (round(len(members) * fraction * f) for f in (fold, fold + 1))
        piece[members[start:stop]] = True
    return torch.from_numpy(np.flatnonzero(~piece)), torch.from_numpy(np.flatnonzero(piece))


class Indexed(Dataset[Batch]):
    """Examples addressed by a whole batch of indices at a time: one copy, no collating."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: Tensor) -> Batch:
        return self.examples.inputs[index], self.examples.labels[index]


class Batches(SequentialSampler):
    """Index batches of one process; in training, the same number in every process.

    An epoch's order is cut into global batches first, and each process takes its stride of them. In training, a last
    global batch with fewer than two examples a process is left out (batch norm cannot train on one example); the order
    changes each epoch, so nothing is left out for good. In evaluation every example is counted exactly once.

    Sequential by name alone: `trainer.overfit_batches` replaces any other sampler by one that knows no batches.

    Args:
        length: N, the number of examples; at least one a process.
        batch_size: examples per step and process.
        shuffle_seed: training, in an order fixed by seed and epoch; None: evaluation, in the order of the examples.
        reshuffle: False keeps the first epoch's order.
        rank, world: this process, and how many there are.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        shuffle_seed: int | None = None,
        reshuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.length, self.batch_size, self.shuffle_seed, self.reshuffle = length, batch_size, shuffle_seed, reshuffle
        self.rank, self.world, self.epoch = rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch if self.reshuffle else 0

    def __len__(self) -> int:
        count, rest = divmod(self.length, self.batch_size * self.world)
        training = self.shuffle_seed is not None
        return count + (rest > 0 and not (training and count and rest < 2 * self.world))

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        for batch in self._order().split(self.batch_size * self.world)[: len(self)]:
            if len(share := batch[self.rank :: self.world]):
                yield share

    def _order(self) -> Tensor:
        if self.shuffle_seed is None:
            return torch.arange(self.length)
        return torch.randperm(self.length, generator=torch.Generator().manual_seed(mix(self.shuffle_seed, self.epoch)))


def mix(*numbers: int) -> int:
    """One well-spread 63-bit seed from several numbers: (1, 2) and (2, 1) have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class Data(LightningDataModule):
    """A data set: read, split, batched, on the device. Subclasses implement `read`, and `download` where there is one.

    Args:
        num_classes: K, held against the real labels in `setup`.
        batch_size: examples per step and process.
        eval_batch_size: examples per step and process where no gradients are kept.
        val_fraction: share of train that becomes validation, stratified, where there is no official validation split.
        test_fraction: the same for test, cut before validation; a share of everything.
        folds, fold: with `fold` f set, validation is the f-th of `folds` disjoint stratified pieces of train.
        split_seed: fixes the splits; independent of the training seed.
        seed: fixes order and augmentation, with the epoch.
        plain: training examples come in the same order each epoch, and without augmentation.
    """

    splits: tuple[SplitName, ...] = ("test",)  # what `test_dataloader` serves; `evaluate` asks for more

    def __init__(
        self,
        *,
        num_classes: int,
        batch_size: int = 64,
        eval_batch_size: int = 512,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        folds: int = 5,
        fold: int | None = None,
        split_seed: int = 0,
        seed: int = 0,
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes, self.batch_size, self.eval_batch_size = num_classes, batch_size, eval_batch_size
        self.val_fraction, self.test_fraction, self.folds, self.fold = val_fraction, test_fraction, folds, fold
        self.split_seed, self.seed, self.plain = split_seed, seed, plain
        self.names: list[str] = []
        self.examples: dict[SplitName, Examples] = {}

    # ---- what a data set adds

    def download(self) -> None:
        """Fetches what is missing; runs once per machine."""

    def read(self) -> Source:
        """The raw examples and class names, in a fixed order."""
        raise NotImplementedError

    def encode(self, splits: dict[SplitName, Examples]) -> dict[SplitName, Examples]:
        """Turns read examples into tensors; may learn from `train` only (a vocabulary, say)."""
        return splits

    def preprocess(self) -> dict[str, Any]:
        """All that a later `evaluate` or `predict` needs to treat new input alike, as JSON values."""
        return {"names": self.names}

    def load_preprocess(self, preprocess: dict[str, Any]) -> None:
        """Takes over what a past run's `preprocess` returned, before `setup`."""

    # ---- Lightning's hooks

    def prepare_data(self) -> None:
        self.download()

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002 (one setup serves every stage)
        """Reads, splits and encodes once; later calls find it done."""
        if self.examples:
            return
        self.load()
        self._hold_against_reality()
        self.summarise()

    def load(self) -> None:
        """Fills `names` and `examples`."""
        source = self.read()
        self.names = list(source.names)
        self.examples = self.encode(self.split(source))

    def summarise(self) -> None:
        """Tells the log what there is."""
        for name, examples in self.examples.items():
            counts = examples.labels.bincount(minlength=self.num_classes).tolist()
            log.info("%s: %d examples, per class %s", name, len(examples), dict(zip(self.names, counts, strict=True)))

    def split(self, source: Source) -> dict[SplitName, Examples]:
        """Train, validation and test; official splits are left as they are."""
        train, val, test = source.train, source.val, source.test
        if test is None:
            rest, piece = stratified(train.labels, self.test_fraction, seed=self.split_seed)
            train, test = train.take(rest), train.take(piece)
        if self.fold is not None:
            rest, piece = stratified(train.labels, 1 / self.folds, seed=self.split_seed + 1, fold=self.fold)
            train, val = train.take(rest), train.take(piece)
        elif val is None:
            rest, piece = stratified(train.labels, self.val_fraction, seed=self.split_seed + 1)
            train, val = train.take(rest), train.take(piece)
        return {"train": train, "val": val, "test": test}

    def train_dataloader(self) -> DataLoader:
        return self.loader("train", training=True)

    def val_dataloader(self) -> DataLoader:
        return self.loader("val")

    def test_dataloader(self) -> list[DataLoader]:
        return [self.loader(name) for name in self.splits]

    def loader(self, name: SplitName, *, training: bool = False) -> DataLoader:
        """Batches of a split: shuffled and of training size, or in order and of evaluation size."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        length = len(self.examples[name])
        if length < world:  # one process would wait for the others for ever
            raise UserError(f"{name} has {length} examples, but {world} processes are to share them: use fewer devices")
        sampler = Batches(
            length,
            batch_size=self.batch_size if training else self.eval_batch_size,
            shuffle_seed=self.seed if training else None,
            reshuffle=not (self.plain or getattr(self.trainer, "overfit_batches", False)),
            rank=rank,
            world=world,
        )
        return DataLoader(
            Indexed(self.examples[name]),
            sampler=sampler,
            batch_size=None,
            # A generator of its own: else each new iterator draws from the global random state.
            generator=torch.Generator(),
            # Page-locked, a batch is copied to a GPU while it still computes.
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        )

    def _hold_against_reality(self) -> None:
        kind = type(self).__name__
        if len(self.names) != self.num_classes:
            raise UserError(f"data.num_classes={self.num_classes}, but {kind} has {len(self.names)}: {self.names}")
        for name, examples in self.examples.items():
            if not len(examples):
                raise UserError(f"{kind}: the {name} split is empty; check data.val_fraction, data.fold and the files")
            assert int(examples.labels.max()) < self.num_classes, f"{kind}: a label of {name} is not in 0..K-1"


def data_dir(path: str | os.PathLike[str]) -> Path:
    """The folder as an absolute path, `~` expanded."""
    return Path(path).expanduser().resolve()
