"""Examples that are not in memory behave as tensors do where batches are cut."""

import torch
from torch import Tensor

from train_smarter.data.examples import Examples, count_rows, move, read_rows, split_rows, take_rows
from train_smarter.data.loader import Loader, ShardedBatchSampler
from train_smarter.data.rows import Rows

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
    for (rows, labels), (tensors, true) in zip(of_rows, of_tensor, strict=True):
        assert rows[0].equal(tensors[0])
        assert labels.equal(true)


def test_rows_become_tensors_where_they_are_split_and_moved() -> None:
    assert torch.cat(list(split_rows(Counted(), 3))).equal(STORAGE)
    assert move(Counted(), torch.device("cpu")).equal(STORAGE)
    assert read_rows(Counted(), torch.tensor([1])).equal(STORAGE[1:2])
    assert Examples(Counted(), STORAGE).bytes == 2 * STORAGE.nbytes
