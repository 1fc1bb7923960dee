"""Targets of any kind, counted by split."""

import torch

from train_smarter.data.examples import Examples
from train_smarter.inspection.sampling import Sample, take_sample
from train_smarter.inspection.target_counts import count_targets


def samples(**targets: torch.Tensor) -> dict[str, Sample]:
    return {split: take_sample(Examples(part), 1_000_000) for split, part in targets.items()}


def test_classes_are_counted_by_name_and_a_class_without_an_example_is_there() -> None:
    given = samples(train=torch.tensor([0, 0, 2]), val=torch.tensor([3]))
    [found] = count_targets(given, ["cat", "dog", "owl"])
    assert found["kind"] == "classes"
    assert found["counts"] == {
        "cat": {"train": 2, "val": 0},
        "dog": {"train": 0, "val": 0},
        "owl": {"train": 1, "val": 0},
        "3": {"train": 0, "val": 1},  # a label without a name
    }


def test_labels_are_counted_where_they_are_present() -> None:
    [found] = count_targets(samples(train=torch.tensor([[1.0, 0.0], [1.0, 1.0]])), ["sun", "rain"])
    assert (found["kind"], found["counts"]) == ("labels", {"sun": {"train": 2}, "rain": {"train": 1}})


def test_masks_are_counted_by_pixel() -> None:
    [found] = count_targets(samples(train=torch.tensor([[[0, 1], [1, 255]]], dtype=torch.uint8)), ["sky", "tree"])
    assert (found["kind"], found["counts"]) == (
        "pixels",
        {"sky": {"train": 1}, "tree": {"train": 2}, "255": {"train": 1}},
    )


def test_numbers_have_quantiles_by_column_and_nan_is_left_out() -> None:
    rows = torch.stack([torch.arange(101.0), torch.full((101,), float("nan"))], 1)
    [found] = count_targets(samples(val=rows), ["price", "rent"])
    assert found["kind"] == "numbers"
    assert found["quantiles"]["price"]["val"] == {
        "min": 0,
        "5%": 5,
        "median": 50,
        "95%": 95,
        "max": 100,
        "mean": 50,
        "std": (10200 / 12) ** 0.5,  # of 101 numbers one apart: (n^2 - 1) / 12
    }
    assert set(found["quantiles"]["rent"]["val"].values()) == {None}


def test_tokens_are_one_column_and_each_part_of_a_dict_is_a_table() -> None:
    tokens, weight = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([1.0, 3.0])
    given = {"train": take_sample(Examples({"tokens": tokens, "weight": weight}), 1000)}
    first, second = count_targets(given, [])
    assert (first["part"], first["quantiles"]["0"]["train"]["mean"]) == ("targets.tokens", 3.5)
    assert (second["part"], second["quantiles"]["0"]["train"]["mean"]) == ("targets.weight", 2)
