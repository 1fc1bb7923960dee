from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from train_smarter.data.rows import Rows
from train_smarter.diagnosis import probes
from train_smarter.diagnosis.measurements import Evidence, Measurements
from train_smarter.diagnosis.probes import layer_norms, layers_of, locate_nan, measure_shift, record_relu_activity


def test_evidence_is_read_from_a_runs_folder_and_blanks_are_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,train/loss,val/loss\n0,2.0,1.5\n1,1.0,\n")
    (tmp_path / "layers.csv").write_text(
        "epoch,layer,grad_norm,dead_relu_fraction\n0,head,0.5,\n0,relu,,0.25\n1,head,0.1,\n"
    )
    evidence = Evidence.read(tmp_path, Measurements())
    assert evidence.curve("train/loss") == [2.0, 1.0]
    assert evidence.curve("val/loss") == [1.5]
    assert evidence.layers == {
        "head": [{"epoch": 0, "grad_norm": 0.5}, {"epoch": 1, "grad_norm": 0.1}],
        "relu": [{"epoch": 0, "dead_relu_fraction": 0.25}],
    }


def test_a_folder_without_files_is_evidence_of_nothing(tmp_path: Path) -> None:
    evidence = Evidence.read(tmp_path, Measurements())
    assert (evidence.curves, evidence.layers) == ([], {})


def test_layers_are_trained_weights_without_biases_norms_and_embeddings() -> None:
    frozen = nn.Linear(2, 2)
    frozen.weight.requires_grad_(False)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.LSTM(3, 2), frozen)
    found = layers_of(model)
    assert {name: [tuple(p.shape) for p in weights] for name, weights in found.items()} == {
        "1": [(3, 4)],
        "3": [(8, 3), (8, 2)],
    }


def test_a_layers_norm_is_that_of_all_its_tensors_together() -> None:
    layers = {"a": [torch.tensor([[3.0]]), torch.tensor([[0.0, 4.0]])], "b": [torch.full((2, 2), 2.0)]}
    assert layer_norms(layers).tolist() == pytest.approx([5.0, 4.0])  # sqrt(9 + 16), sqrt(4 * 4)


def test_a_relu_notes_the_units_that_let_something_through_in_its_first_calls() -> None:
    model, fired = nn.Sequential(nn.ReLU()), dict[str, Tensor]()
    with record_relu_activity(model, fired):
        model(torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 0.0]]))
        model(torch.tensor([[-1.0, 2.0, -1.0]]))
    model(torch.ones(1, 3))  # nobody looks any more
    assert fired["0"].tolist() == [True, True, False]


def test_a_channel_of_images_fires_if_any_pixel_of_any_image_does() -> None:
    model, fired = nn.Sequential(nn.ReLU()), dict[str, Tensor]()
    images = torch.full((2, 3, 4, 4), -1.0)
    images[1, 2, 3, 3] = 1.0
    with record_relu_activity(model, fired):
        model(images)
    assert fired["0"].tolist() == [False, False, True]


def test_one_relu_behind_layers_of_two_widths_is_two() -> None:
    model, fired = nn.Sequential(nn.ReLU()), dict[str, Tensor]()
    with record_relu_activity(model, fired):
        for _ in range(2):
            model(torch.tensor([[1.0, -1.0]]))
            model(torch.tensor([[1.0, -1.0, 1.0]]))
    assert {name: units.tolist() for name, units in fired.items()} == {
        "0": [True, False],
        "0 of 3": [True, False, True],
    }


def test_after_four_calls_a_relu_is_left_alone() -> None:
    model, fired = nn.Sequential(nn.ReLU()), dict[str, Tensor]()
    with record_relu_activity(model, fired):
        for _ in range(4):
            model(torch.tensor([[-1.0]]))
        model(torch.tensor([[1.0]]))
    assert fired["0"].tolist() == [False]


def test_numbers_end_in_the_inputs_in_a_weight_in_an_output_or_in_the_loss() -> None:
    first, last = nn.Linear(2, 2), nn.Linear(2, 2)
    model = nn.Sequential(first, nn.Softplus(), last)
    sound = torch.ones(3, 2)
    assert locate_nan(model, sound) == "loss"
    broken = sound.clone()
    broken[1, 0] = torch.inf
    assert locate_nan(model, broken) == "inputs of the batch (examples 1)"
    with torch.no_grad():
        first.weight.fill_(1e38)
    assert locate_nan(model, 100 * sound) == "output of 0"
    with torch.no_grad():
        last.bias[0] = torch.nan
    assert locate_nan(model, sound) == "weights of 2.bias"
    assert locate_nan(model, torch.zeros(3, 2, dtype=torch.long)) == "weights of 2.bias"


def test_images_of_one_kind_are_close_and_inverted_ones_are_far() -> None:
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(200, 1, 8, 8, generator=generator) * 100).to(torch.uint8)
    assert max(measure_shift(images[:100], images[100:]).values()) < 0.5
    assert measure_shift(images[:100], 255 - images[100:])["mean of channel 0"] > 10


def test_images_are_compared_wherever_they_are_among_the_inputs() -> None:
    images = torch.full((10, 1, 8, 8), 50, dtype=torch.uint8)
    images[0] = 100
    train, val = ({"age": torch.rand(10, 1), "image": pixels} for pixels in (images, 255 - images))
    assert measure_shift(train, val) == measure_shift(images, 255 - images)
    assert measure_shift((images, torch.rand(10, 1)), (255 - images, torch.rand(10, 1)))["mean of channel 0"] > 1


def test_swapped_colours_are_told_by_what_one_channel_has_more_than_the_next() -> None:
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(100, 3, 8, 8, generator=generator) * 100).to(torch.uint8)
    images[:, 0] += 20
    assert measure_shift(images, images.flip(1))["channel 0 less 1"] > 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_are_measured_in_pieces_to_the_same_numbers(
    layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = torch.randint(0, 256, (100, 3, 17, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = drawn.contiguous(memory_format=layout)
    whole = measure_shift(images, images[:30] // 2)
    monkeypatch.setattr(probes, "PIECE_BYTES", 7 * images[0].nbytes)
    assert measure_shift(images, images[:30] // 2) == whole


class PlainRows(Rows):
    """Images of one grey each, its place; notes how many are read together."""

    def __init__(self, count: int, *, side: int, slow: bool) -> None:
        super().__init__((1, side, side), torch.uint8, torch.arange(count))
        self.slow = slow
        self.counts: list[int] = []

    def read_at(self, places: Tensor, *, epoch: int) -> Tensor:  # noqa: ARG002
        self.counts.append(len(places))
        return (places % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, *self.row_shape)


@pytest.mark.parametrize(
    ("side", "slow", "count", "together"),
    [
        (8, False, 2500, 2500),  # every second one: 5000 // 2000
        (8, True, 264, 264),  # every 19th: 5000 // 256
        (256, False, 1250, 64),  # 2**26 bytes hold 1024 of them, so every 4th; 2**22 bytes hold 64
    ],
)
def test_few_rows_are_read_where_they_are_large_or_decoded(side: int, slow: bool, count: int, together: int) -> None:
    rows = PlainRows(5000, side=side, slow=slow)
    shift = measure_shift(rows, rows.take(torch.arange(100)))
    assert shift["mean of channel 0"] > 1  # 50 against 127, of a deviation of 74
    assert max(rows.counts) == together
    assert sum(rows.counts) - 100 == count


@pytest.mark.parametrize(
    "inputs", [torch.rand(3, 4), torch.full((3, 4), 2), torch.rand(3, 2, 4), {"ids": torch.full((3, 4), 2)}, None]
)
def test_of_inputs_that_are_neither_images_nor_words_nothing_is_said(inputs: Any) -> None:
    assert measure_shift(inputs, inputs) == {}


def test_texts_are_held_against_each_other_by_their_words_and_their_lengths() -> None:
    train = torch.tensor([[2, 2, 3, 0], [2, 3, 3, 3]])
    # words of train: 2 three times, 3 four times; of val: 2 and unknown (1) once each
    val = torch.tensor([[2, 1, 0, 0]])
    told = measure_shift(train, val, texts=True)
    # |3/7 - 1/2| + |4/7 - 0| + |0 - 1/2| = 0.0714 + 0.5714 + 0.5, halved
    assert told["shares of words"] == pytest.approx(0.5714, abs=1e-4)
    # lengths 3 and 4 against 2: |3.5 - 2| / 0.7071
    assert told["length"] == pytest.approx(2.1213, abs=1e-4)
