import pytest
from sklearn.linear_model import LinearRegression

from my_project.data.made_regression import MadeRegression


@pytest.mark.parametrize("num_targets", [1, 3])
def test_the_targets_are_linear_up_to_the_noise(num_targets: int) -> None:
    data = MadeRegression(num_targets=num_targets, shape=[10], rows=1000, noise=20)
    rows, targets = data.read().train.inputs.numpy(), data.read().train.targets.numpy()
    assert targets.shape == (1000, num_targets)
    fitted = LinearRegression().fit(rows, targets)
    deviation = (targets - fitted.predict(rows)).std(0)
    assert deviation == pytest.approx([20] * num_targets, rel=0.1)
