from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from torch import Tensor

from train_smarter.errors import UserError
from train_smarter.task.base import Task
from train_smarter.task.regression import Regression

LOSSES = ("mse", "mae", "huber")


def drawn(num_targets: int = 2, count: int = 50) -> tuple[Tensor, Tensor]:
    """Outputs of a network, and targets (N, D) of very different means and deviations."""
    generator = torch.Generator().manual_seed(num_targets)
    scale, shift = torch.tensor([1000.0, 0.01, 3.0]), torch.tensor([-5000.0, 2.0, 0.0])
    targets = torch.randn(count, num_targets, generator=generator) * scale[:num_targets] + shift[:num_targets]
    targets[0] *= 2  # an outlier, so that mean and median differ
    return torch.randn(count, num_targets, generator=generator), targets


def fitted(targets: Tensor, **options: Any) -> Regression:
    task = Regression(num_targets=targets.shape[1], **options)
    task.fit(targets.split([7, 30, len(targets) - 37]))
    return task


def test_the_scaling_is_learned_on_train() -> None:
    _, targets = drawn()
    task = fitted(targets)
    assert task.mean.tolist() == pytest.approx(targets.double().mean(0).tolist(), rel=1e-6)
    assert task.std.tolist() == pytest.approx(targets.double().std(0, correction=0).tolist(), rel=1e-5)


def test_a_constant_target_is_only_shifted() -> None:
    task = fitted(torch.full((50, 1), 0.1))
    assert float(task.mean) == pytest.approx(0.1)
    assert float(task.std) == 1


def test_a_large_mean_does_not_spoil_the_deviation() -> None:
    task = fitted(1e6 + torch.tensor([0.0, 2.0] * 25)[:, None])
    assert (float(task.mean), float(task.std)) == (1e6 + 1, 1.0)


def test_the_scaling_is_undone_in_predictions() -> None:
    task = fitted(torch.tensor([10.0, 30.0] * 25)[:, None])  # mean 20, deviation 10
    assert task.predict(torch.tensor([[0.0], [1.0], [-2.0]]))["prediction"].tolist() == [[20.0], [30.0], [0.0]]


def test_outputs_without_scaling_are_predictions() -> None:
    outputs, targets = drawn()
    assert torch.equal(fitted(targets, scale_targets=False).predict(outputs)["prediction"], outputs)


@pytest.mark.parametrize("scale_targets", [True, False])
@pytest.mark.parametrize("num_targets", [1, 3])
def test_the_metrics_are_those_of_scikit_learn_on_the_predictions(
    measure: Callable[..., dict[str, float]], num_targets: int, scale_targets: bool
) -> None:
    outputs, targets = drawn(num_targets)
    task = fitted(targets, scale_targets=scale_targets)
    predicted = task.predict(outputs)["prediction"].numpy()
    scores = measure(task, outputs, targets, [20, 1, 29])
    # Means over the targets, each in its own unit.
    squared = mean_squared_error(targets, predicted, multioutput="raw_values")
    assert scores["rmse"] == pytest.approx(np.sqrt(squared).mean(), rel=1e-4)
    assert scores["mae"] == pytest.approx(mean_absolute_error(targets, predicted), rel=1e-4)
    assert scores["r2"] == pytest.approx(r2_score(targets, predicted), rel=1e-4)


def test_the_losses_are_those_of_scaled_targets() -> None:
    outputs, targets = torch.tensor([[1.0], [4.0]]), torch.tensor([[10.0], [30.0]])  # scaled: -1 and 1
    found = {}
    for name in LOSSES:
        task = Regression(num_targets=1, loss=name)
        task.fit([torch.tensor([10.0, 30.0] * 25)])
        found[name] = float(task.loss(outputs, targets))
    # Errors 2 and 3: mean of 4 and 9; of 2 and 3; of 2 - 0.5 and 3 - 0.5.
    assert found == pytest.approx({"mse": 6.5, "mae": 2.5, "huber": 2.0})


def test_the_loss_without_scaling_is_in_the_unit_of_the_targets() -> None:
    task = fitted(torch.tensor([10.0, 30.0] * 25)[:, None], scale_targets=False)
    assert float(task.loss(torch.tensor([[12.0]]), torch.tensor([[10.0]]))) == 4


@pytest.mark.parametrize("loss", LOSSES)
def test_batches_of_uneven_size_score_as_all_at_once(measure: Callable[..., dict[str, float]], loss: str) -> None:
    outputs, targets = drawn()
    task = fitted(targets, loss=loss)
    together = measure(task, outputs, targets)
    assert measure(task, outputs, targets, [17, 1, 32]) == pytest.approx(together, rel=1e-4)


def test_targets_may_lack_the_second_dimension(measure: Callable[..., dict[str, float]]) -> None:
    outputs, targets = drawn(1)
    task = fitted(targets)
    assert measure(task, outputs, targets[:, 0]) == measure(task, outputs, targets)


@pytest.mark.parametrize("scale_targets", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_chance_loss_is_the_least_of_a_constant(loss: str, scale_targets: bool) -> None:
    targets = torch.randn(40, 1, generator=torch.Generator().manual_seed(0)).double().exp() * 3  # skewed
    task = Regression(num_targets=1, loss=loss, scale_targets=scale_targets).double()
    task.fit([targets])
    scaled = (targets - task.mean) / task.std if scale_targets else targets
    grid = torch.linspace(float(scaled.min()), float(scaled.max()), 20001)
    losses = [float(task.loss(constant.expand(40, 1).double(), targets)) for constant in grid]
    assert task.chance_loss(targets) == pytest.approx(min(losses), rel=1e-4)
    assert task.chance_loss(targets) <= min(losses) + 1e-9


def test_the_chance_of_scaled_squares_is_one() -> None:
    _, targets = drawn(3)
    assert fitted(targets).chance_loss(targets) == pytest.approx(1, rel=1e-4)


def test_its_config_and_buffers_make_it_again(rebuilt: Callable[[Task], Task]) -> None:
    outputs, targets = drawn()
    task = fitted(targets, loss="huber")
    again = rebuilt(task)
    assert again.config() == task.config()
    assert torch.equal(again.loss(outputs, targets), task.loss(outputs, targets))
    assert torch.equal(again.predict(outputs)["prediction"], task.predict(outputs)["prediction"])


def test_columns_have_the_names_of_the_targets() -> None:
    prediction = Regression(num_targets=2).predict(torch.tensor([[1.0, 2.0]]))
    assert Regression(num_targets=2).columns(prediction, ["height", "weight"]) == {
        "prediction height": [1.0],
        "prediction weight": [2.0],
    }


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (torch.zeros(4, 3), r"float32 \(4, 3\), but this task needs floats of shape \(N, 2\)"),
        (torch.zeros(4, 2, dtype=torch.long), r"int64 \(4, 2\), but this task needs floats"),
        (torch.tensor([[1.0, torch.nan]]), "1 targets of val are NaN or infinite: leave those examples out"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets: Tensor, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Regression(num_targets=2).check(targets, "val")


def test_an_unknown_loss_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"task.loss=hubert: give one of mse, mae, huber; did you mean 'huber'\?"):
        Regression(loss="hubert")
