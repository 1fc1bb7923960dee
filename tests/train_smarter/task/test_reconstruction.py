import math
from collections.abc import Callable

import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error
from torch import Tensor

from train_smarter.errors import UserError
from train_smarter.task.base import Task
from train_smarter.task.reconstruction import Reconstruction


def drawn(count: int = 12) -> tuple[Tensor, Tensor]:
    """Outputs and inputs (N, 1, 3, 4); the inputs range from -2 to 3."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 1, 3, 4, generator=generator).clamp(-1.9, 2.9)
    inputs[0, 0, 0, 0], inputs[-1, 0, 0, 0] = -2.0, 3.0
    return inputs + torch.randn(count, 1, 3, 4, generator=generator), inputs


def test_the_inputs_are_the_targets() -> None:
    inputs = torch.rand(2, 3)
    assert Reconstruction().targets((inputs, torch.tensor([0, 1]))) is inputs


@pytest.mark.parametrize(("loss", "wanted"), [("mse", mean_squared_error), ("mae", mean_absolute_error)])
def test_the_losses_are_those_of_scikit_learn(loss: str, wanted: Callable[..., float]) -> None:
    outputs, inputs = drawn()
    found = float(Reconstruction(loss=loss).loss(outputs, inputs))
    assert found == pytest.approx(wanted(inputs.flatten(), outputs.flatten()), rel=1e-5)


def test_rmse_is_over_all_values_and_psnr_of_the_range_of_the_split(measure: Callable[..., dict[str, float]]) -> None:
    outputs, inputs = drawn()
    mse = mean_squared_error(inputs.flatten(), outputs.flatten())
    # The range is 5: no batch holds both ends.
    scores = measure(Reconstruction(loss="mae"), outputs, inputs, [5, 1, 6])
    assert scores["rmse"] == pytest.approx(math.sqrt(mse), rel=1e-5)
    assert scores["psnr"] == pytest.approx(10 * math.log10(5**2 / mse), rel=1e-5)


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_batches_of_uneven_size_score_as_all_at_once(measure: Callable[..., dict[str, float]], loss: str) -> None:
    outputs, inputs = drawn()
    task = Reconstruction(loss=loss)
    assert measure(task, outputs, inputs, [5, 1, 6]) == pytest.approx(measure(task, outputs, inputs), rel=1e-5)


def test_a_prediction_is_the_output() -> None:
    outputs, _ = drawn()
    assert Reconstruction().predict(outputs)["reconstruction"] is outputs


def test_its_config_builds_it_again(rebuilt: Callable[[Task], Task]) -> None:
    task = Reconstruction(loss="mae", metrics={"psnr": "max"})
    again = rebuilt(task)
    assert again.config() == task.config()
    assert again.metrics == {"psnr": "max"}
    assert torch.equal(again.loss(*drawn()), task.loss(*drawn()))


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(UserError, match=r"the network returns \(2, 10\) for inputs of \(2, 1, 8, 8\)"):
        Reconstruction().loss(torch.zeros(2, 10), torch.zeros(2, 1, 8, 8))


def test_an_unknown_loss_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"task.loss=mze: give one of mse, mae; did you mean 'mse'\?"):
        Reconstruction(loss="mze")
