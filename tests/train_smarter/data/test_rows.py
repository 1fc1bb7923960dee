"""Examples that are not in memory behave as tensors do where batches are cut."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from train_smarter.data import rows
from train_smarter.data.examples import Examples, count_rows, move, read_rows, split_rows, take_rows
from train_smarter.data.loader import Loader, ShardedBatchSampler
from train_smarter.data.rows import MemoryRows, Rows

STORAGE = torch.arange(20).view(10, 2)


class Counted(Rows):
    """Rows of STORAGE, which counts how many were read."""

    count = 0

    def __init__(self) -> None:
        super().__init__((2,), STORAGE.dtype, torch.arange(10))

    def read_at(self, places: Tensor, *, epoch: int) -> Tensor:  # noqa: ARG002
        Counted.count += len(places)
        return STORAGE[places]


def test_pieces_of_pieces_read_what_a_tensor_holds_and_nothing_before() -> None:
    Counted.count = 0
    first, second = torch.tensor([9, 3, 5, 7]), torch.tensor([2, 0])
    piece = take_rows({"x": take_rows(Counted(), first)}, second)
    assert Counted.count == 0
    assert (count_rows(piece), piece["x"].shape, piece["x"].nbytes) == (2, (2, 2), 32)
    assert piece["x"].read().equal(STORAGE[first][second])


def test_batches_of_rows_and_of_a_tensor_are_the_same() -> None:
    sampler = ShardedBatchSampler(10, batch_size=4, shuffle_seed=1)
    of_rows, of_tensor = (
        list(Loader(Examples((part, part), torch.arange(10)), sampler)) for part in (Counted(), STORAGE)
    )
    assert len(of_rows) == 3
    for (read, labels), (tensors, true) in zip(of_rows, of_tensor, strict=True):
        assert read[0].equal(tensors[0])
        assert labels.equal(true)


def test_rows_become_tensors_where_they_are_split_and_moved() -> None:
    assert torch.cat(list(split_rows(Counted(), 3))).equal(STORAGE)
    assert move(Counted(), torch.device("cpu")).equal(STORAGE)
    assert read_rows(Counted(), torch.tensor([1])).equal(STORAGE[1:2])
    assert Examples(Counted(), STORAGE).bytes == 2 * STORAGE.nbytes


def test_stored_rows_reach_a_device_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.arange(10 * 2 * 2 * 3).view(10, 2, 2, 3).to(torch.uint8)  # channels last
    piece = MemoryRows(images).take(torch.tensor([7, 1, 4, 4, 0]))
    for size in (2**26, 24):  # all together, and two rows of 12 bytes at a time
        monkeypatch.setattr(rows, "PIECE_BYTES", size)
        moved = Examples(piece).to(torch.device("cpu")).inputs
        assert moved.equal(images[[7, 1, 4, 4, 0]].permute(0, 3, 1, 2))
        assert moved.is_contiguous(memory_format=torch.channels_last)


def test_splits_of_rows_share_one_tensor() -> None:
    stored = MemoryRows(torch.arange(12).view(6, 2))
    train, val = stored.take(torch.tensor([0, 2, 4])), stored.take(torch.tensor([1, 5]))
    assert train.storage is val.storage is stored.storage
    assert val.read().tolist() == [[2, 3], [10, 11]]


class Announced(Counted):
    """Notes what is announced, and what is read."""

    seen: ClassVar[list[str]] = []

    def prefetch(self, index: Tensor) -> None:
        Announced.seen.append(f"announced {index.tolist()}")

    def read_at(self, places: Tensor, *, epoch: int) -> Tensor:
        Announced.seen.append(f"read {places.tolist()}")
        return super().read_at(places, epoch=epoch)


def test_batches_are_announced_before_they_are_read() -> None:
    Announced.seen.clear()
    list(Loader(Examples(Announced()), ShardedBatchSampler(10, batch_size=3)))
    first, second, third, last = [0, 1, 2], [3, 4, 5], [6, 7, 8], [9]
    assert Announced.seen == [
        *(f"announced {index}" for index in (first, second, third)),
        f"read {first}",
        f"announced {last}",
        *(f"read {index}" for index in (second, third, last)),
    ]
