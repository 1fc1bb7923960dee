"""Worker processes that read batches of slow rows."""

import atexit
import signal
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from train_smarter.data.decode_files import usable_cpus
from train_smarter.data.examples import Batch, Examples
from train_smarter.errors import UserError

MOST_WORKERS = 8
GRACE_SECONDS = 30  # that a worker lives after SIGTERM, for the batches that the main process still needs

Key = tuple[NDArray[np.int64], int]  # an array: a tensor would go through shared memory


class BatchWorkers:
    """Processes that read a batch each, in turn; they stay from one epoch to the next.

    A request holds all that a batch depends on, its indices and the epoch's number: so workers keep no state, and the
    batches do not depend on how many there are.
    """

    def __init__(self, examples: Examples, count: int) -> None:
        self._keys = _Keys()
        self._loader = DataLoader(
            _BatchDataset(examples),
            batch_size=None,
            sampler=self._keys,
            collate_fn=_identity,
            num_workers=count,
            persistent_workers=True,
            worker_init_fn=_ignore_signals,
            generator=torch.Generator(),  # else it draws from the global one
        )
        atexit.register(_close, weakref.ref(self))  # before multiprocessing, whose SIGTERM the workers outlive

    def read(self, indices: Iterator[Tensor], epoch: int) -> Iterator[Batch]:
        """The batches at these indices, in order.

        Raises:
            UserError: an example cannot be read, or a worker has ended.
        """
        self._keys.keys = ((index.numpy(), epoch) for index in indices)
        try:
            for batch in self._loader:
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            raise UserError(
                f"a worker process that read examples has ended ({str(error).splitlines()[0]}): it may have had too "
                "little memory or shared memory (/dev/shm); type a smaller data.num_workers, or data.num_workers=0"
            ) from error


def _close(workers: weakref.ref[BatchWorkers]) -> None:
    loader = getattr(workers(), "_loader", None)
    if (iterator := getattr(loader, "_iterator", None)) is not None:
        iterator._shutdown_workers()


class _Keys:
    """The keys of an epoch, as a sampler."""

    keys: Iterator[Key] = iter(())

    def __iter__(self) -> Iterator[Key]:
        return self.keys


class _BatchDataset(Dataset[Any]):
    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __getitem__(self, key: Key) -> Any:
        """A batch, or the UserError: raised in a worker, it would come back with a traceback as its message."""
        index, epoch = key
        try:
            return self.examples.read(torch.from_numpy(index), epoch=epoch)
        except UserError as error:
            return error


def _identity(batch: Any) -> Any:
    return batch


def _ignore_signals(_: int) -> None:
    """Leave Ctrl-C and a cluster's SIGTERM, which every process of a group gets, to the main process.

    It finishes its step and writes a checkpoint, for which it still needs batches, and then ends the workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signal module's call)
    signal.alarm(GRACE_SECONDS)


def choose_workers(given: int | None, *, processes: int) -> int:
    """How many worker processes each training process of this machine has: as given, or a core each.

    Args:
        processes: training processes on this machine.
    """
    return min(MOST_WORKERS, usable_cpus() // processes) if given is None else given
