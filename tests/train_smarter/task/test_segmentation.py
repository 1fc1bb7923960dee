from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, log_loss
from torch import Tensor

from train_smarter.errors import UserError
from train_smarter.task.base import Task
from train_smarter.task.segmentation import Segmentation

WEIGHTS = [0.2, 1.0, 3.0]


def drawn(count: int = 12) -> tuple[Tensor, Tensor]:
    """Logits (N, 3, 5, 4), and masks, uint8, in which about a tenth of the pixels is 255."""
    generator = torch.Generator().manual_seed(0)
    masks = (torch.randint(9, (count, 5, 4), generator=generator) // 4).to(torch.uint8)  # shares 4, 4, 1 of 9
    outputs = torch.randn(count, 3, 5, 4, generator=generator)
    outputs.scatter_add_(1, masks[:, None].long(), torch.ones(count, 1, 5, 4))
    masks[torch.rand(count, 5, 4, generator=generator) < 0.1] = 255
    return outputs, masks


def pixels(outputs: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs (P, K) and classes (P,) of the pixels that count."""
    known = masks != 255
    return outputs.movedim(1, -1)[known], masks[known].long()


def test_the_loss_is_that_of_scikit_learn_over_the_pixels_that_count() -> None:
    outputs, masks = drawn()
    logits, classes = pixels(outputs, masks)
    task = Segmentation(num_classes=3)
    assert float(task.loss(outputs, masks)) == pytest.approx(log_loss(classes, logits.double().softmax(1)), rel=1e-5)
    assert float(task.weight(masks)) == len(classes)


def test_class_weights_are_factors_on_the_loss_of_each_true_class() -> None:
    outputs, masks = drawn()
    logits, classes = pixels(outputs, masks)
    factors = torch.tensor(WEIGHTS)[classes]
    task = Segmentation(num_classes=3, class_weights=WEIGHTS)
    wanted = log_loss(classes, logits.double().softmax(1), sample_weight=factors)
    assert float(task.loss(outputs, masks)) == pytest.approx(wanted, rel=1e-5)
    assert float(task.weight(masks)) == pytest.approx(float(factors.sum()), rel=1e-5)


def test_the_dice_loss_is_that_of_a_loop_over_the_classes() -> None:
    outputs, masks = drawn()
    logits, classes = pixels(outputs, masks)
    soft = logits.softmax(1)
    terms = []
    for k in range(3):
        true = (classes == k).float()
        terms.append(1 - 2 * float((soft[:, k] * true).sum()) / float(soft[:, k].sum() + true.sum()))
    entropy_loss = float(Segmentation(num_classes=3).loss(outputs, masks))
    found = Segmentation(num_classes=3, dice_weight=0.25).loss(outputs, masks)
    assert float(found) == pytest.approx(0.75 * entropy_loss + 0.25 * sum(terms) / 3, rel=1e-5)


def test_the_metrics_are_those_of_scikit_learn(measure: Callable[..., dict[str, float]]) -> None:
    outputs, masks = drawn()
    logits, classes = pixels(outputs, masks)
    predicted = logits.argmax(1)
    scores = measure(Segmentation(num_classes=3), outputs, masks, [5, 1, 6])
    assert scores["miou"] == pytest.approx(jaccard_score(classes, predicted, average="macro"))
    assert scores["dice"] == pytest.approx(f1_score(classes, predicted, average="macro"))  # Dice is F1 over pixels
    assert scores["accuracy"] == pytest.approx(accuracy_score(classes, predicted))


def test_iou_and_dice_by_hand() -> None:
    task = Segmentation(num_classes=4)
    masks = torch.tensor([[[0, 0, 1], [1, 1, 255]]])
    predicted = torch.tensor([[[0, 1, 1], [1, 2, 3]]])  # class 3 is predicted where nothing counts: it never occurs
    metric = task.new_metric()
    outputs = torch.nn.functional.one_hot(predicted, 4).movedim(-1, 1).float()
    metric.append(task.loss(outputs, masks), task.weight(masks), task.metric_inputs(outputs, masks))
    # Hits 1, 2, 0; true 2, 3, 0; predicted 1, 3, 1.
    assert metric.scores()["miou"] == pytest.approx((1 / 2 + 2 / 4 + 0) / 3)
    assert metric.scores()["dice"] == pytest.approx((2 / 3 + 4 / 6 + 0) / 3)
    assert metric.scores()["accuracy"] == pytest.approx(3 / 5)
    assert metric.details()["classes"] == {
        "iou": [pytest.approx(1 / 2), pytest.approx(2 / 4), 0, None],
        "dice": [pytest.approx(2 / 3), pytest.approx(4 / 6), 0, None],
        "pixels": [2, 3, 0, None],
    }


@pytest.mark.parametrize("options", [{}, {"class_weights": WEIGHTS}])
def test_batches_of_uneven_size_score_as_all_at_once(
    measure: Callable[..., dict[str, float]], options: dict[str, Any]
) -> None:
    outputs, masks = drawn()
    task = Segmentation(num_classes=3, **options)
    assert measure(task, outputs, masks, [5, 1, 6]) == pytest.approx(measure(task, outputs, masks), rel=1e-5)


def test_pixels_that_do_not_count_change_nothing(measure: Callable[..., dict[str, float]]) -> None:
    outputs, masks = drawn()
    task, before = Segmentation(num_classes=3), measure(Segmentation(num_classes=3), outputs, masks)
    outputs.movedim(1, -1)[masks == 255] = 100.0
    assert measure(task, outputs, masks) == before


def test_a_batch_without_a_pixel_that_counts_has_loss_zero() -> None:
    masks = torch.full((2, 4, 4), 255)
    for options in ({}, {"class_weights": WEIGHTS}, {"dice_weight": 0.5}):
        assert float(Segmentation(num_classes=3, **options).loss(torch.randn(2, 3, 4, 4), masks)) == 0


@pytest.mark.parametrize("options", [{}, {"class_weights": WEIGHTS}])
def test_the_chance_loss_is_the_least_of_a_constant(
    least_constant_loss: Callable[..., float], options: dict[str, Any]
) -> None:
    _, masks = drawn()
    task = Segmentation(num_classes=3, **options).double()
    start = torch.zeros(1, 3, 1, 1)
    least = least_constant_loss(task, start, lambda constant: constant.expand(12, -1, 5, 4), masks)
    assert task.chance_loss(masks) == pytest.approx(least, abs=1e-6)


def test_the_chance_of_a_dice_loss_is_unknown() -> None:
    assert Segmentation(num_classes=3, dice_weight=0.1).chance_loss(drawn()[1]) is None


def test_predictions_are_masks_and_columns_the_share_of_each_class() -> None:
    outputs = torch.zeros(1, 2, 2, 2)
    outputs[0, 1, 0, 0] = 5.0
    prediction = Segmentation(num_classes=2).predict(outputs)
    assert prediction["mask"].tolist() == [[[1, 0], [0, 0]]]
    assert prediction["probabilities"].sum(1).allclose(torch.ones(1, 2, 2))
    columns = Segmentation(num_classes=2).columns(prediction, ["sky", "road"])
    assert columns == {"share sky": [0.75], "share road": [0.25]}


def test_its_config_builds_it_again(rebuilt: Callable[[Task], Task]) -> None:
    outputs, masks = drawn()
    task = Segmentation(num_classes=3, class_weights=WEIGHTS, dice_weight=0.5, ignore_index=7)
    masks[masks == 255] = 7
    again = rebuilt(task)
    assert again.config() == task.config()
    assert torch.equal(again.loss(outputs, masks), task.loss(outputs, masks))


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (torch.zeros(5, dtype=torch.long), r"int64 \(5,\), but this task needs masks of classes"),
        (torch.zeros(5, 4, 4), r"float32 \(5, 4, 4\), but this task needs masks of classes, integers \(N, H, W\)"),
        (torch.full((5, 4, 4), 3), r"a mask of val holds class 3, but task.num_classes=3; .* task.ignore_index=255"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets: Tensor, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Segmentation(num_classes=3).check(targets, "val")


def test_a_dice_weight_outside_of_0_to_1_is_refused() -> None:
    with pytest.raises(UserError, match=r"task.dice_weight=2: give a number from 0 to 1"):
        Segmentation(num_classes=3, dice_weight=2)


def test_balanced_weights_count_the_pixels_that_are_known() -> None:
    task = Segmentation(num_classes=2, class_weights="balanced", ignore_index=9)
    task.fit([torch.tensor([[[0, 0], [0, 9]]]), torch.tensor([[[0, 0], [0, 1]]])])
    assert task.class_weights is not None
    assert torch.allclose(task.class_weights, torch.tensor([7 / 12, 7 / 2]))
