"""The same inputs, found by a hash."""

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from train_smarter.data.examples import Examples
from train_smarter.data.rows import Rows
from train_smarter.inspection import sampling
from train_smarter.inspection.duplicates import find_duplicates
from train_smarter.inspection.sampling import take_sample

A, B, C, D = (torch.full((3, 2, 2), value, dtype=torch.uint8) for value in range(4))


def test_examples_that_are_in_two_splits_or_twice_in_one_are_counted_with_their_indices() -> None:
    train = Examples(torch.stack([A, B, A, C]), torch.tensor([0, 1, 0, 1]))
    # In another memory layout, as images are.
    val = Examples(torch.stack([D, C, B]).contiguous(memory_format=torch.channels_last), torch.tensor([1, 1, 0]))
    found = find_duplicates({"train": take_sample(train, 1000), "val": take_sample(val, 1000)})
    assert found is not None
    assert [pair["splits"] for pair in found["pairs"]] == [["train", "train"], ["val", "val"], ["train", "val"]]
    assert [(pair["count"], pair["of"]) for pair in found["pairs"]] == [(1, 4), (0, 3), (2, 3)]
    assert [pair["examples"] for pair in found["pairs"]] == [[[0, 2]], [], [[3, 1], [1, 2]]]
    assert found["pairs"][2]["names"] == [["train 3", "val 1"], ["train 1", "val 2"]]
    assert found["conflicts"] == 2  # B is 1 in train and 0 in val; the two A agree, and so do the two C


def test_all_parts_of_an_input_count_and_targets_may_be_missing() -> None:
    same, other = torch.tensor([[1.0], [1.0]]), torch.tensor([[1], [2]])
    found = find_duplicates({"train": take_sample(Examples({"x": same, "y": other}), 1000)})
    assert found is not None
    assert (found["pairs"][0]["count"], found["conflicts"]) == (0, None)
    assert find_duplicates({}) is None


def test_of_a_sample_the_indices_are_those_of_the_split() -> None:
    rows = torch.tensor([[1.0], [9.0], [2.0], [9.0], [1.0], [9.0]])
    found = find_duplicates({"train": take_sample(Examples(rows), 12)})  # every second one
    assert found is not None
    assert (found["pairs"][0]["count"], found["pairs"][0]["of"]) == (1, 3)
    assert found["pairs"][0]["examples"] == [[0, 4]]


class Files(Rows):
    """Tokens of different lengths from files, padded to the longest of what is read."""

    files = ("a.txt", "b.txt", "c.txt", "d.txt")
    texts = ((5, 6), (7,), (5, 6), (5, 6, 0))

    def __init__(self) -> None:
        super().__init__((3,), torch.long, torch.arange(4))

    def read_at(self, places: Tensor, *, epoch: int) -> dict[str, Tensor]:  # noqa: ARG002
        texts = [torch.tensor(self.texts[place]) for place in places.tolist()]
        tokens, mask = (pad_sequence(of, batch_first=True) for of in (texts, [torch.ones_like(text) for text in texts]))
        return {"input_ids": tokens, "attention_mask": mask}


def test_padding_makes_no_difference_and_a_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PIECE_BYTES", 48)  # two texts at a time
    found = find_duplicates({"train": take_sample(Examples(Files()), 1000)})
    assert found is not None
    assert found["pairs"][0]["names"] == [["train 0 (a.txt)", "train 2 (c.txt)"]]
