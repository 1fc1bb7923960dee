"""The same inputs, found by a hash."""

import torch

from train_smarter.data.examples import Examples
from train_smarter.inspection.duplicates import find_duplicates
from train_smarter.inspection.sampling import take_sample

A, B, C, D = (torch.full((3, 2, 2), value, dtype=torch.uint8) for value in range(4))


def test_examples_that_are_in_two_splits_or_twice_in_one_are_counted_with_their_indices() -> None:
    train = Examples(torch.stack([A, B, A, C]), torch.tensor([0, 1, 0, 1]))
    # In another memory layout, as images are.
    val = Examples(torch.stack([D, C, B]).contiguous(memory_format=torch.channels_last), torch.tensor([1, 1, 0]))
    found = find_duplicates({"train": take_sample(train, 1000), "val": take_sample(val, 1000)})
    assert found is not None
    assert found["pairs"] == [
        {"splits": ["train", "train"], "count": 1, "of": 4, "examples": [[0, 2]]},
        {"splits": ["val", "val"], "count": 0, "of": 3, "examples": []},
        {"splits": ["train", "val"], "count": 2, "of": 3, "examples": [[3, 1], [1, 2]]},
    ]
    assert found["conflicts"] == 2  # B is 1 in train and 0 in val; the two A agree, and so do the two C


def test_all_parts_of_an_input_count_and_targets_may_be_missing() -> None:
    same, other = torch.tensor([[1.0], [1.0]]), torch.tensor([[1], [2]])
    found = find_duplicates({"train": take_sample(Examples({"x": same, "y": other}), 1000)})
    assert found == {
        "pairs": [{"splits": ["train", "train"], "count": 0, "of": 2, "examples": []}],
        "conflicts": None,
    }
    assert find_duplicates({}) is None


def test_of_a_sample_the_indices_are_those_of_the_split() -> None:
    rows = torch.tensor([[1.0], [9.0], [2.0], [9.0], [1.0], [9.0]])
    found = find_duplicates({"train": take_sample(Examples(rows), 12)})  # every second one
    assert found is not None
    assert found["pairs"] == [{"splits": ["train", "train"], "count": 1, "of": 3, "examples": [[0, 4]]}]
