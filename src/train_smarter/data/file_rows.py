"""Rows that are decoded from their files each time they are read."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from train_smarter.data.decode_files import DecodedFiles, run_in_chunks
from train_smarter.data.decoders import Decoder, reason
from train_smarter.data.rows import StoredRows, empty_batch
from train_smarter.errors import UserError


class PathTable:
    """Paths in one piece of memory: a list of them would take three times as much, again in each worker process."""

    def __init__(self, files: Sequence[Path]) -> None:
        names = [os.fsencode(file) for file in files]
        self.ends = np.cumsum([0, *map(len, names)])
        self.names = b"".join(names)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, place: int) -> Path:
        return Path(os.fsdecode(self.names[self.ends[place] : self.ends[place + 1]]))


class FileRows(StoredRows):
    """Rows of files, decoded when they are read: by worker processes where a loader has some."""

    slow = True

    def __init__(self, files: Sequence[Path], decoder: Decoder) -> None:
        super().__init__((len(files), *decoder.shape))
        self.files, self.decoder = PathTable(files), decoder

    def read_stored(self, places: Tensor) -> Tensor:
        rows = empty_batch((len(places), *self.decoder.shape), torch.uint8)
        array = rows.numpy()
        for number, place in enumerate(places.tolist()):
            try:
                array[number] = self.decoder(self.files[place])
            except Exception as error:  # a broken file fails in many ways
                raise UserError(
                    f"{self.files[place]} is broken: {reason(error)}; repair or delete it, or type data.cache=disk, "
                    "which reads every file before training and leaves broken ones out"
                ) from error
        return rows


def check_files(files: Sequence[Path], decoder: Decoder) -> DecodedFiles:
    """Rows of files of which the headers alone are read now."""
    broken: dict[int, str] = {}
    chunks = run_in_chunks(lambda place: decoder.check(files[place]), range(len(files)), chunk=256, title="headers")
    for _, failed in chunks:
        broken |= failed
    return DecodedFiles(FileRows(files, decoder), broken)
