from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score, log_loss, precision_score, recall_score
from torch import Tensor

from train_smarter.errors import UserError
from train_smarter.task.base import Task
from train_smarter.task.multilabel import Multilabel


def drawn(count: int = 60) -> tuple[Tensor, Tensor]:
    """Logits (N, 4) that are right more often than not, and labels of different frequency, uint8."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(count, 4, generator=generator) < torch.tensor([0.1, 0.3, 0.5, 0.8])
    return torch.randn(count, 4, generator=generator) + targets, targets.to(torch.uint8)


def test_the_loss_is_the_mean_of_scikit_learns_over_the_labels() -> None:
    outputs, targets = drawn()
    losses = [log_loss(targets[:, k], outputs[:, k].double().sigmoid()) for k in range(4)]
    assert float(Multilabel(num_labels=4).loss(outputs, targets)) == pytest.approx(np.mean(losses), rel=1e-6)


def test_pos_weight_is_a_factor_on_the_loss_of_present_labels() -> None:
    outputs, targets = drawn()
    losses = torch.where(targets == 1, torch.tensor([1.0, 2.0, 3.0, 4.0]) * -F.logsigmoid(outputs), F.softplus(outputs))
    task = Multilabel(num_labels=4, pos_weight=[1, 2, 3, 4])
    assert float(task.loss(outputs, targets)) == pytest.approx(float(losses.mean()), rel=1e-6)


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_the_metrics_are_those_of_scikit_learn(measure: Callable[..., dict[str, float]], threshold: float) -> None:
    outputs, targets = drawn()
    chosen = outputs.sigmoid() > threshold
    assert measure(Multilabel(num_labels=4, threshold=threshold), outputs, targets, [25, 1, 34]) == pytest.approx(
        {
            "loss": float(Multilabel(num_labels=4).loss(outputs, targets)),
            "map": average_precision_score(targets, outputs.sigmoid(), average="macro"),
            "f1_micro": f1_score(targets, chosen, average="micro"),
            "f1_macro": f1_score(targets, chosen, average="macro"),
        },
        rel=1e-5,
    )


def test_the_details_are_those_of_scikit_learn_for_each_label() -> None:
    outputs, targets = drawn()
    task = Multilabel(num_labels=4)
    metric = task.new_metric()
    metric.append(task.loss(outputs, targets), 60, task.metric_inputs(outputs, targets))
    metric.scores()
    details, chosen = metric.details()["labels"], outputs > 0
    assert details["precision"] == pytest.approx(precision_score(targets, chosen, average=None))
    assert details["recall"] == pytest.approx(recall_score(targets, chosen, average=None))
    assert details["f1"] == pytest.approx(f1_score(targets, chosen, average=None))
    assert details["average_precision"] == pytest.approx(average_precision_score(targets, outputs, average=None))
    assert details["examples"] == targets.sum(0).tolist()


def test_a_label_without_examples_is_left_out_of_the_mean(measure: Callable[..., dict[str, float]]) -> None:
    outputs, targets = drawn()
    targets[:, 0] = 0
    found = measure(Multilabel(num_labels=4), outputs, targets)["map"]
    assert found == pytest.approx(average_precision_score(targets[:, 1:], outputs[:, 1:], average="macro"))


def test_without_map_no_probability_is_kept() -> None:
    outputs, targets = drawn()
    task = Multilabel(num_labels=4, metrics={"map": None, "f1_micro": "max"})
    metric = task.new_metric()
    metric.append(task.loss(outputs, targets), 60, task.metric_inputs(outputs, targets))
    assert list(metric.scores()) == ["loss", "f1_micro"]
    assert metric.buffered_state()["states"]["metrics/probabilities"] == []


def test_the_chance_loss_is_the_least_of_a_constant(least_constant_loss: Callable[..., float]) -> None:
    _, targets = drawn()
    task = Multilabel(num_labels=4).double()
    least = least_constant_loss(task, torch.zeros(1, 4), lambda constant: constant.expand(60, -1), targets)
    assert task.chance_loss(targets) == pytest.approx(least, abs=1e-6)


def test_predictions_are_the_labels_above_the_threshold_and_all_probabilities() -> None:
    task = Multilabel(num_labels=2, threshold=0.6)
    prediction = task.predict(torch.tensor([[1.0, -1.0], [0.2, 0.2], [3.0, 3.0]]))  # 0.73, 0.27; 0.55 twice; 0.95
    columns = task.columns(prediction, ["red", "blue"])
    assert columns["labels"] == ["red", "", "red blue"]
    assert list(columns) == ["labels", "red", "blue"]
    assert columns["red"] == pytest.approx([0.7311, 0.5498, 0.9526], abs=1e-4)


def test_its_config_builds_it_again(rebuilt: Callable[[Task], Task]) -> None:
    outputs, targets = drawn()
    task = Multilabel(num_labels=4, threshold=0.3, pos_weight=[1, 2, 3, 4])
    again = rebuilt(task)
    assert again.config() == task.config()
    assert torch.equal(again.loss(outputs, targets), task.loss(outputs, targets))


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (torch.zeros(5, dtype=torch.long), r"int64 \(5,\), but this task needs 0 or 1 for each label, \(N, 4\)"),
        (torch.zeros(5, 3), r"float32 \(5, 3\), but this task needs 0 or 1"),
        (torch.full((5, 4), 2), "the targets of test hold numbers other than 0 and 1"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets: Tensor, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Multilabel(num_labels=4).check(targets, "test")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"threshold": 1}, "task.threshold=1: give a number between 0 and 1"),
        ({"pos_weight": [1]}, "task.pos_weight needs 4 numbers, one a label, not 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Multilabel(num_labels=4, **options)


def test_the_loss_of_mixed_examples_is_the_mean_of_those_of_their_parts() -> None:
    outputs, targets = drawn()
    task, others = Multilabel(num_labels=4, pos_weight=[1, 2, 3, 4]), targets.roll(1, 0)
    mixed = 0.3 * targets + 0.7 * others
    wanted = 0.3 * task.loss(outputs, targets) + 0.7 * task.loss(outputs, others)
    assert float(task.loss(outputs, mixed)) == pytest.approx(float(wanted), rel=1e-5)


def test_a_mixed_example_has_the_labels_of_the_larger_share() -> None:
    shares = torch.tensor([[0.3, 0.7, 1.0, 0.0]])
    task = Multilabel(num_labels=4)
    assert task.metric_inputs(torch.zeros(1, 4), shares)[1].tolist() == [[False, True, True, False]]
    assert task.true_columns(shares, "abcd") == {"true": ["b c"]}
    # The entropy of 0.3 is 0.610864, that of 0.7 the same, and those of 0 and 1 are 0.
    assert task.chance_loss(shares.expand(50, 4)) == pytest.approx((2 * 0.610864) / 4, rel=1e-5)


def test_averaged_outputs_have_the_mean_probability() -> None:
    outputs, _ = drawn()
    found = Multilabel(num_labels=4).average_mirrored(outputs * 5, outputs.flip(0))
    wanted = ((outputs * 5).double().sigmoid() + outputs.flip(0).double().sigmoid()) / 2
    torch.testing.assert_close(found.sigmoid().double(), wanted, rtol=0, atol=1e-6)
