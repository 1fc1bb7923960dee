import math
from typing import Any

import pytest
import torch

from train_smarter.errors import UserError
from train_smarter.task.base import make_task
from train_smarter.task.rating import Rating

RATINGS = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]])


def fitted(**settings: Any) -> Rating:
    task = Rating(**settings)
    task.fit([RATINGS[:2], RATINGS[2:]])
    return task


def test_outputs_are_differences_to_the_mean_in_the_unit_of_the_ratings() -> None:
    task = fitted()
    assert task.predict(torch.tensor([[-1.5]]))["prediction"].tolist() == [[1.5]]
    assert float(task.loss(torch.tensor([[1.0]]), torch.tensor([[3.0]]))) == 1.0  # 4 predicted, 3 given


def test_predictions_stay_in_the_range_of_training() -> None:
    outputs = torch.tensor([[-9.0], [9.0], [0.5]])
    assert fitted().predict(outputs)["prediction"].tolist() == [[1.0], [5.0], [3.5]]
    assert fitted(clip=False).predict(outputs)["prediction"].tolist() == [[-6.0], [12.0], [3.5]]


def test_metrics_count_clipped_predictions_and_the_loss_does_not() -> None:
    task = fitted()
    outputs, targets = torch.tensor([[9.0], [0.0]]), torch.tensor([[4.0], [3.0]])
    metric = task.new_metric()
    metric.append(task.loss(outputs, targets), 2, task.metric_inputs(outputs, targets))
    scores = metric.scores()
    assert scores["loss"] == pytest.approx(64 / 2)  # 12 against 4
    assert scores["rmse"] == pytest.approx(math.sqrt(1 / 2))  # 5 against 4
    assert scores["mae"] == pytest.approx(1 / 2)


def test_chance_is_the_mean() -> None:
    assert fitted().chance_loss(RATINGS) == pytest.approx(2.0)  # the variance of 1 to 5


def test_it_is_made_again_from_its_config() -> None:
    task = make_task(fitted(clip=False, loss="mae").config())
    assert isinstance(task, Rating)
    assert (task.clip, task.loss_name, task.num_outputs) == (False, "mae", 1)


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(UserError, match=r"task\.loss=mes: give one of mse, mae, huber; did you mean 'mse'"):
        Rating(loss="mes")
