"""What the tests of several tasks share."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from train_smarter.task.base import Task, make_task

Scores = dict[str, float]


@pytest.fixture
def measure() -> Callable[..., Scores]:
    """Return the scores of outputs and targets that come in batches of these sizes, as a run computes them."""

    def scores(task: Task, outputs: Tensor, targets: Tensor, sizes: Sequence[int] = ()) -> Scores:
        metric = task.new_metric()
        sizes = list(sizes) or [len(outputs)]
        for given, true in zip(outputs.split(sizes), targets.split(sizes), strict=True):
            metric.append(task.loss(given, true), task.weight(true), task.metric_inputs(given, true))
        return metric.scores()

    return scores


@pytest.fixture
def rebuilt() -> Callable[[Task], Task]:
    """Build a task again, as a checkpoint does: from its plain config, with its buffers."""

    def build(task: Task) -> Task:
        again = make_task(task.config())
        again.load_state_dict(task.state_dict())
        return again

    return build


@pytest.fixture
def least_constant_loss() -> Callable[..., float]:
    """Return the least loss of all outputs that are the same for each target, found by descent."""

    def search(task: Task, constant: Tensor, expand: Callable[[Tensor], Tensor], targets: Tensor) -> float:
        constant = constant.double().requires_grad_()
        optimizer = torch.optim.LBFGS([constant], lr=1, max_iter=200, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = task.loss(expand(constant), targets)
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)
        return float(task.loss(expand(constant.detach()), targets))

    return search
