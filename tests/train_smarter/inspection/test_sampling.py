"""A bounded part of a split."""

import torch
from torch import Tensor

from train_smarter.data.examples import Examples
from train_smarter.data.rows import Rows
from train_smarter.inspection.sampling import MAX_SLOW, place_of, take_sample


class Files(Rows):
    """2,000 examples of a byte each, which count how many were read."""

    slow = True
    count = 0

    def __init__(self) -> None:
        super().__init__((1,), torch.uint8, torch.arange(2000))

    def read_at(self, places: Tensor, *, epoch: int) -> Tensor:  # noqa: ARG002
        Files.count += len(places)
        return (places % 256).byte()[:, None]


def test_a_sample_takes_evenly_spaced_examples_within_its_bytes() -> None:
    examples = Examples(torch.arange(10, dtype=torch.uint8)[:, None], torch.arange(10, dtype=torch.uint8))
    whole, half = take_sample(examples, 20), take_sample(examples, 10)
    assert whole.index.tolist() == list(range(10))
    assert half.index.tolist() == [0, 2, 4, 6, 8]
    assert torch.cat([inputs for inputs, _ in half.pieces()]).flatten().tolist() == [0, 2, 4, 6, 8]
    assert len(take_sample(examples, 0).index) == 1


def test_of_examples_that_are_decoded_few_are_read() -> None:
    Files.count = 0
    sample = take_sample(Examples(Files()), 1_000_000)
    assert len(list(sample.pieces())) == 1
    assert Files.count == len(sample.index) == MAX_SLOW
    assert place_of(sample.examples) == "read when needed"
