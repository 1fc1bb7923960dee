"""Batches of examples: their order, and the loader that cuts them."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import SequentialSampler

from train_smarter.data.balanced import BalancedOrder
from train_smarter.data.examples import Batch, Examples, first_tensor, map_tensors
from train_smarter.data.workers import BatchWorkers

AHEAD = 2  # batches that the system reads from a disk before they are requested


class ShardedBatchSampler(SequentialSampler):
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
        balanced: draws each class equally often in a training epoch; None: each example comes once.
        rank, world: this process, and how many there are.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        shuffle_seed: int | None = None,
        reshuffle: bool = True,
        balanced: BalancedOrder | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.length, self.batch_size, self.shuffle_seed, self.reshuffle = length, batch_size, shuffle_seed, reshuffle
        self.rank, self.world, self.epoch, self.balanced = rank, world, 0, balanced

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch if self.reshuffle else 0

    def __len__(self) -> int:
        count, rest = divmod(self.length, self.batch_size * self.world)
        training = self.shuffle_seed is not None
        return count + (rest > 0 and not (training and count and rest < 2 * self.world))

    def total_size(self, number: int) -> int:
        """How many examples all processes together have in a batch, counted from 0."""
        whole = self.batch_size * self.world
        return min(whole, self.length - number * whole)

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        return self.iter_on(torch.device("cpu"))

    def iter_on(self, device: torch.device) -> Iterator[Tensor]:
        """The epoch's batches of indices on a device, brought there in one copy."""
        for batch in self._order().to(device).split(self.batch_size * self.world)[: len(self)]:
            if len(share := batch[self.rank :: self.world]):
                yield share

    def _order(self) -> Tensor:
        if self.shuffle_seed is None:
            return torch.arange(self.length)
        generator = torch.Generator().manual_seed(derive_seed(self.shuffle_seed, self.epoch))
        return self.balanced(generator) if self.balanced else torch.randperm(self.length, generator=generator)


class Loader:
    """An epoch's batches. Lightning takes any iterable, and reads a `sampler` as it does a DataLoader's.

    Where indexing is all that a batch takes, worker processes would only add the way between processes. Rows that are
    slow to read are read by workers. Batches are the same, with any number of them: what is random depends on the seed,
    the epoch and the example.

    Args:
        examples: on the CPU, or on the model's device.
        sampler: which of them, in which order.
        pin: page-lock each batch, so that nobody waits while it is copied to a GPU.
        random: read with random transforms, where the rows have some.
        num_workers: processes that read slow rows; 0: this process reads them.

    Attributes:
        skip: batches that the next epoch leaves out at its beginning; it may be set until the first batch is requested.
            Lightning's `state_dict` protocol is no replacement: where a schedule reads the number of steps
            (`Trainer.estimated_stepping_batches`), Lightning makes the iterator before it has a checkpoint's state and
            never loads that state.
    """

    batch_sampler = None  # Lightning looks for one

    def __init__(
        self,
        examples: Examples,
        sampler: ShardedBatchSampler,
        *,
        pin: bool = False,
        random: bool = False,
        num_workers: int = 0,
    ) -> None:
        self.examples, self.sampler, self.pin, self.random, self.skip = examples, sampler, pin, random, 0
        self._workers = BatchWorkers(examples, num_workers) if num_workers and examples.slow else None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        done, self.skip = self.skip, 0
        device = first_tensor(self.examples.inputs).device
        indices = islice(self.sampler.iter_on(device), done, None)
        epoch = derive_seed(self.sampler.shuffle_seed or 0, self.sampler.epoch) if self.random else 0
        for batch in self._read(indices, epoch):
            yield map_tensors(Tensor.pin_memory, batch) if self.pin else batch

    def _read(self, indices: Iterator[Tensor], epoch: int) -> Iterator[Batch]:
        if self._workers is not None:
            yield from self._workers.read(indices, epoch)
            return
        for index in _look_ahead(indices, self.examples.prefetch) if self.examples.rows else indices:
            yield self.examples.read(index, epoch=epoch)


def _look_ahead(indices: Iterator[Tensor], prefetch: Callable[[Tensor], None]) -> Iterator[Tensor]:
    """The same batches of indices, each announced `AHEAD` batches before it is handed out."""
    coming: deque[Tensor] = deque()
    for index in indices:
        prefetch(index)
        coming.append(index)
        if len(coming) > AHEAD:
            yield coming.popleft()
    yield from coming


def derive_seed(*numbers: int) -> int:
    """One well-spread 63-bit seed from several numbers: (1, 2) and (2, 1) have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
