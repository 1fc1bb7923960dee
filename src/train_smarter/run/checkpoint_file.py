"""Checkpoint files: written whole or not at all, and read only if their checksums agree."""

import os
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.strategies import Strategy
from torch.utils import _pytree

from train_smarter.errors import megabytes
from train_smarter.run.checksums import check_checkpoint
from train_smarter.run.files import atomic_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own, but a checkpoint replaces its predecessor in one step, in the same folder.

    Lightning writes to $TMPDIR and moves the file. From another file system that is a copy over the old checkpoint: a
    run killed during the copy has neither. Remote paths (`s3://`) are left to Lightning.
    """

    def __init__(self) -> None:
        self._folders = set[Path]()  # made by this process; not again, so that a deleted run folder is noticed

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        file = Path(path)
        if file.parent not in self._folders:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(file.parent)
        try:
            with atomic_file(file, make_folder=False) as part:
                _write(checkpoint, part)
        except OSError as error:
            error.add_note(f"{megabytes(_size_of(checkpoint))} needed")
            raise

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if "://" not in str(path):
            check_checkpoint(Path(path))
        return super().load_checkpoint(path, *args, **kwargs)


def write_atomically(strategy: Strategy) -> None:
    """Replace the stock way to write checkpoints; another one was chosen, and stays."""
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = AtomicCheckpointIO()


def _write(checkpoint: dict[str, Any], part: Path) -> None:
    with part.open("xb") as file:
        _save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())  # before the new name, or a power failure could leave an empty file under it


def _save(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # torch still writes the end of the archive, which fails in another way
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _size_of(checkpoint: dict[str, Any]) -> int:
    return sum(leaf.nbytes for leaf in _pytree.tree_leaves(checkpoint) if isinstance(leaf, torch.Tensor))
