"""Which examples each task keeps of a test run, and what it shows of them."""

import base64
import io
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from train_smarter.task.base import Task
from train_smarter.task.language_model import LanguageModel
from train_smarter.task.multilabel import Multilabel
from train_smarter.task.reconstruction import Reconstruction
from train_smarter.task.regression import Regression
from train_smarter.task.samples.base import Samples, spread
from train_smarter.task.samples.regression import MAX_POINTS
from train_smarter.task.samples.segmentation import example_iou
from train_smarter.task.samples.views import PALETTE, View, histogram
from train_smarter.task.segmentation import Segmentation

NO_DATA = SimpleNamespace()


def views(task: Task, *batches: tuple[Any, Any, Tensor], count: int = 4, data: Any = NO_DATA) -> list[View]:
    """Of batches of (inputs, targets, outputs)."""
    samples = task.make_samples(count)
    assert samples is not None
    start = 0
    for inputs, targets, outputs in batches:
        samples.add((inputs, targets), outputs, range(start, start + len(outputs)))
        start += len(outputs)
    found: list[View] = samples.content("test", data, None)["views"]
    return found


def unpacked(png: str) -> Any:
    return np.array(Image.open(io.BytesIO(base64.b64decode(png))))


# ---- what is kept


class Largest(Samples):
    def add(self, batch: Any, outputs: Any, indices: Sequence[int]) -> None:  # noqa: ARG002
        self.keep("all", outputs, (outputs,), indices, count=3)


def test_the_largest_scores_of_all_batches_are_kept_and_the_first_of_equal_ones() -> None:
    samples = Largest(None, 3)
    samples.add(None, torch.tensor([1.0, 5.0, torch.nan, 2.0]), range(4))
    samples.add(None, torch.tensor([torch.nan, torch.nan, torch.nan, 9.0]), [70, 71, 72, 73])  # more than are kept
    samples.add(None, torch.tensor([5.0, -torch.inf, 2.0]), range(4, 7))
    assert [(kept.index, kept.score) for kept in samples.groups["all"]] == [(73, 9.0), (1, 5.0), (4, 5.0)]


def test_processes_that_have_few_examples_fill_each_other_up() -> None:
    one, two = Largest(None, 3), Largest(None, 3)
    one.add(None, torch.tensor([1.0, 2.0]), [0, 2])
    two.add(None, torch.tensor([3.0, 1.0]), [1, 3])
    one.merge([one.groups, two.groups])
    assert [kept.index for kept in one.groups["all"]] == [1, 2, 0]


def test_a_random_choice_does_not_depend_on_the_batches() -> None:
    whole = spread(range(100))
    assert torch.equal(torch.cat([spread(range(30)), spread(range(30, 100))]), whole)
    chosen = whole.argsort(descending=True)[:20].sort().values
    assert 30 < chosen.float().mean() < 70  # from everywhere
    assert len(whole.unique()) == 100


# ---- regression


def test_regression_shows_predictions_in_the_unit_of_the_targets() -> None:
    task = Regression()
    task.fit([torch.tensor([10.0, 30.0])])  # mean 20, standard deviation 10
    outputs = torch.tensor([[0.0], [1.0], [-0.5]])  # 20, 30, 15
    scatter, bars, table = views(task, (torch.zeros(3, 1), torch.tensor([21.0, 50.0, 15.0]), outputs), count=2)
    assert sorted(scatter["points"]) == [[15.0, 15.0], [21.0, 20.0], [50.0, 30.0]]
    assert (scatter["title"], scatter["x"], scatter["y"]) == ("predicted against true", "true", "predicted")
    assert sum(bars["counts"]) == 3
    assert (bars["edges"][0], bars["edges"][-1]) == (-20.0, 0.0)
    assert table["columns"] == ["example", "true", "predicted", "predicted - true"]
    assert table["rows"] == [[1, 50.0, 30.0, -20.0], [0, 21.0, 20.0, -1.0]]


def test_the_largest_error_of_several_targets_is_counted_in_their_spread() -> None:
    task = Regression(num_targets=2)
    task.fit([torch.tensor([[0.0, 0.0], [2.0, 200.0]])])  # means 1 and 100, standard deviations 1 and 100
    true = torch.tensor([[1.0, 150.0], [4.0, 100.0]])
    data = SimpleNamespace(names=["height", "weight"])
    *plots, table = views(task, (torch.zeros(2, 1), true, torch.zeros(2, 2)), data=data)
    assert [plot["title"] for plot in plots] == [
        "predicted against true of height",
        "residuals of height",
        "predicted against true of weight",
        "residuals of weight",
    ]
    # 3 / 1 of example 1 is more than 50 / 100 of example 0
    assert table["rows"] == [[1, "height", 4.0, 1.0, -3.0], [0, "weight", 150.0, 100.0, -50.0]]


def test_a_large_split_is_drawn_in_part_and_what_is_not_finite_left_out() -> None:
    true = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    outputs = true[:, None].clone()
    outputs[::2] = torch.nan
    scatter, *_ = views(Regression(), (torch.zeros(1000, 1), true, outputs))
    assert len(scatter["points"]) == MAX_POINTS
    assert all(np.isfinite(point).all() for point in scatter["points"])


# ---- segmentation


def test_the_iou_of_an_example_is_the_mean_over_the_classes_that_it_has() -> None:
    true = torch.tensor([[[0, 0], [1, 1]], [[0, 0], [0, 0]], [[9, 9], [9, 9]]])
    predicted = torch.tensor([[[0, 1], [1, 1]], [[0, 0], [0, 2]], [[0, 0], [0, 0]]])
    # 0: class 0 has 1 of 2, class 1 has 2 of 3. 1: class 0 has 3 of 4, class 2 has 0 of 1. 2: nothing counts.
    found = example_iou(true, predicted, 3, 9)
    assert found[:2].tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2, (3 / 4 + 0) / 2])
    assert found[2].isnan()


def test_segmentation_shows_the_worst_and_the_best_masks_each_once() -> None:
    masks = torch.zeros(4, 2, 2, dtype=torch.uint8)
    masks[:, 0] = 1
    logits = torch.zeros(4, 2, 2, 2)
    logits[:, 0] = 1.0  # background everywhere
    logits[0, 1, 0] = 2.0  # example 0: all right
    logits[2, 1, 0, 0] = 2.0  # example 2: half of the class
    images = torch.zeros(4, 1, 2, 2)
    data = SimpleNamespace(names=["ground", "roof"])
    worst, best = views(Segmentation(num_classes=2), (images, masks, logits), data=data)
    # IoU of 1 and 3: (2 / 4 + 0) / 2; of 2: (2 / 3 + 1 / 2) / 2
    assert [item["caption"] for item in worst["items"]] == ["example 1: IoU 0.250", "example 3: IoU 0.250"]
    assert [item["caption"] for item in best["items"]] == ["example 0: IoU 1.000", "example 2: IoU 0.583"]
    assert worst["title"] == "worst masks: image, true and predicted mask"
    assert worst["legend"] == [["ground", PALETTE[0]], ["roof", PALETTE[1]]]
    _, true, predicted = map(unpacked, best["items"][1]["images"])
    roof, ground = (tuple(int(color[i : i + 2], 16) for i in (1, 3, 5)) for color in (PALETTE[1], PALETTE[0]))
    assert [tuple(pixel) for pixel in true.reshape(4, 3)] == [roof, roof, ground, ground]
    assert [tuple(pixel) for pixel in predicted.reshape(4, 3)] == [roof, ground, ground, ground]


def test_a_small_split_shows_no_mask_twice() -> None:
    masks = torch.tensor([[[0, 1]], [[0, 0]], [[1, 1]]])
    logits = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(3, 2, 1, 2)
    worst, best = views(Segmentation(num_classes=2), (torch.zeros(3, 5), masks, logits), count=4)
    # IoU: (1 / 2 + 0) / 2, 1 and 0
    captions = [item["caption"] for view in (worst, best) for item in view["items"]]
    assert captions == ["example 2: IoU 0.000", "example 0: IoU 0.250", "example 1: IoU 1.000"]


def test_pixels_that_do_not_count_are_named_and_an_input_that_is_no_image_is_left_out() -> None:
    masks = torch.tensor([[[0, 255]]])
    (worst,) = views(Segmentation(num_classes=2), (torch.zeros(1, 5), masks, torch.zeros(1, 2, 1, 2)), count=1)
    assert worst["title"] == "worst masks: true and predicted mask"
    assert worst["legend"][-1] == ["not counted", "#ffffff"]
    assert len(worst["items"][0]["images"]) == 2


# ---- reconstruction


def test_reconstruction_shows_outputs_beside_inputs_in_their_own_colours() -> None:
    inputs, data = torch.zeros(2, 1, 2, 2), SimpleNamespace(mean=[0.5], std=[0.25])
    outputs = inputs + torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    worst, best = views(Reconstruction(), (inputs, None, outputs), count=2, data=data)
    assert [item["caption"] for item in worst["items"]] == ["example 1: RMSE 2"]
    assert [item["caption"] for item in best["items"]] == ["example 0: RMSE 1"]
    # 0 * 0.25 + 0.5 and 1 * 0.25 + 0.5, times 255
    assert [int(unpacked(image)[0, 0]) for image in best["items"][0]["images"]] == [128, 191]


def test_a_reconstruction_of_numbers_is_a_table() -> None:
    inputs = torch.arange(20.0).view(2, 10)
    worst, best = views(Reconstruction(), (inputs, None, inputs + torch.tensor([[0.0], [3.0]])), count=2)
    assert (worst["kind"], worst["columns"]) == ("table", ["example", "RMSE", "input", "output"])
    assert worst["rows"] == [[1, 3.0, "10 11 12 13 14 15 16 17 …", "13 14 15 16 17 18 19 20 …"]]
    assert best["rows"][0][:2] == [0, 0.0]


# ---- multi-label


def test_multilabel_shows_the_most_wrong_labels_first_and_the_surest_of_equal_ones() -> None:
    true = torch.tensor([[1, 0], [1, 0], [0, 1], [1, 1]])
    logits = torch.tensor([[1.0, -1.0], [-1.0, -1.0], [1.0, -1.0], [-3.0, 1.0]])
    data = SimpleNamespace(names=["cat", "dog"])
    # Wrong labels: none, 1, 2, 1; of examples 1 and 3 the latter is surer.
    (table,) = views(Multilabel(num_labels=2), (torch.zeros(4, 3), true, logits), data=data)
    assert table["columns"] == ["example", "true", "predicted"]
    assert table["rows"] == [[2, "dog", "cat"], [3, "cat, dog", "dog"], [1, "cat", "none"]]


@pytest.mark.parametrize(
    ("inputs", "data", "kind"),
    [
        (torch.zeros(1, 1, 2, 2), NO_DATA, "images"),
        (torch.zeros(1, 3).long(), SimpleNamespace(decode=lambda _: "a b"), "texts"),
    ],
)
def test_multilabel_shows_images_and_texts(inputs: Tensor, data: Any, kind: str) -> None:
    (view,) = views(Multilabel(num_labels=2), (inputs, torch.tensor([[1, 0]]), torch.zeros(1, 2) - 1), data=data)
    assert view["kind"] == kind
    assert view["items"][0]["caption"] == "predicted: none; true: 0"


# ---- language model


class Successor(torch.nn.Module):
    """The next letter of the alphabet of 5 letters; takes at most 6 tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        assert tokens.shape[1] <= 6
        return 1000.0 * torch.nn.functional.one_hot((tokens + 1) % 5, 5).movedim(-1, 1).float()


def test_a_language_model_continues_beginnings_of_the_split() -> None:
    samples = LanguageModel(vocab_size=5, sample_length=8).make_samples(1)
    tokens = torch.tensor([[3, 4, 0, 1, 2, 3]])
    samples.add((tokens, tokens), torch.zeros(1, 5, 6), range(1))
    before = torch.get_rng_state()
    (view,) = samples.views(SimpleNamespace(names=list("abcde")), Successor())
    assert torch.equal(torch.get_rng_state(), before)
    (item,) = view["items"]
    assert item["caption"] == "dea"  # half of the sequence
    assert item["text"] == "bcdeabcd"


@pytest.mark.parametrize(
    ("names", "text"), [([], "3 4 0"), (["a", "b"], "3 4 0"), (["x", "y", "z", "da", "e"], "da e x")]
)
def test_tokens_without_names_are_numbers_and_words_are_separated(names: list[str], text: str) -> None:
    samples = LanguageModel(vocab_size=5).make_samples(1)
    tokens = torch.tensor([[3, 4, 0, 1, 2, 3]])
    samples.add((tokens, tokens), torch.zeros(1, 5, 6), range(1))
    assert samples.views(SimpleNamespace(names=names), Successor())[0]["items"][0]["caption"] == text


# ---- all of them


@pytest.mark.parametrize(
    "task",
    [
        Regression(),
        Segmentation(num_classes=2),
        Reconstruction(),
        Multilabel(num_labels=2),
        LanguageModel(vocab_size=5),
    ],
    ids=lambda task: type(task).__name__,
)
def test_a_split_without_examples_shows_nothing(task: Task) -> None:
    assert views(task) == []


def test_residuals_that_are_all_equal_have_a_histogram() -> None:
    assert sum(histogram("", [0.5, 0.5], x="")["counts"]) == 2
