"""Ranges of numbers, in pieces."""

import math

import pytest
import torch

from train_smarter.data.examples import Examples
from train_smarter.inspection import sampling
from train_smarter.inspection.sampling import take_sample
from train_smarter.inspection.values import ValueRange, describe_batch, describe_columns


def test_the_parts_of_a_batch_have_their_name_type_shape_and_range() -> None:
    batch = ({"image": torch.tensor([[0, 4], [8, 4]], dtype=torch.uint8), "age": torch.tensor([[1.0], [3.0]])}, None)
    image, age = describe_batch(batch)
    assert image == {
        "part": "inputs.image",
        "dtype": "uint8",
        "shape": [2, 2],
        "min": 0,
        "max": 8,
        "mean": 4,
        "std": math.sqrt(8),
        "nan": 0,
        "infinite": 0,
    }
    assert (age["part"], age["dtype"], age["mean"], age["std"]) == ("inputs.age", "float32", 2, 1)


def test_missing_and_infinite_values_are_counted_and_left_out_of_the_range() -> None:
    [part] = describe_batch({"x": torch.tensor([math.nan, 1.0, 3.0, -math.inf])})
    assert {name: part[name] for name in ("min", "max", "mean", "std", "nan", "infinite")} == {
        "min": 1,
        "max": 3,
        "mean": 2,
        "std": 1,
        "nan": 1,
        "infinite": 1,
    }
    [part] = describe_batch({"x": torch.tensor([math.nan])})
    assert (part["min"], part["mean"], part["nan"]) == (None, None, 1)


def test_pieces_give_the_range_of_the_whole_column_though_the_mean_is_far_from_zero() -> None:
    rows = 1e8 + torch.rand(1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    values = ValueRange(per_column=True)
    for piece in rows.split([1, 7, 492, 500]):
        values.add(piece)
    for column, found in zip(rows.T, values.to_rows(), strict=True):
        assert found["mean"] == pytest.approx(float(column.mean()), rel=1e-12)
        assert found["std"] == pytest.approx(float(column.std(correction=0)), rel=1e-6)
        assert (found["min"], found["max"]) == (float(column.min()), float(column.max()))


def test_a_column_of_a_table_and_a_channel_of_images_have_a_range_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PIECE_BYTES", 1)  # an example at a time
    table = torch.tensor([[1.0, 10.0], [3.0, 10.0]])
    images = torch.stack([torch.zeros(2, 2, 2), torch.ones(2, 2, 2)], 1).byte() * 9  # channels 0 and 9
    found = describe_columns(take_sample(Examples((table, images)), 1000))
    assert [(row["mean"], row["std"]) for row in found["inputs[0]"]] == [(2, 1), (10, 0)]
    assert [(row["min"], row["max"]) for row in found["inputs[1]"]] == [(0, 0), (9, 9)]
