"""The range test sweeps the rates, ends when the loss diverges, and names the rate of the steepest fall."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from train_smarter.fit.lr_finder import LRSweep, steepest_rate


def sweep_over(losses: list[float], *, groups: list[float], accumulate: int = 1) -> tuple[LRSweep, list[list[float]]]:
    """The callback after training batches of these losses, and the rates of the groups at each of them."""
    optimizer = SimpleNamespace(param_groups=[{"lr": rate} for rate in groups])
    trainer: Any = SimpleNamespace(
        optimizers=[optimizer], accumulate_grad_batches=accumulate, global_step=0, should_stop=False
    )
    module: Any = None
    sweep, rates = LRSweep(low=1e-4, high=1.0, steps=5), []
    sweep.on_train_start(trainer, module)
    for batch, loss in enumerate(losses, start=1):
        sweep.on_train_batch_start(trainer)
        rates.append([group["lr"] for group in optimizer.param_groups])
        trainer.global_step = batch // accumulate
        sweep.on_train_batch_end(trainer, module, {"loss": loss / accumulate})
        if trainer.should_stop:
            break
    return sweep, rates


def test_each_step_has_a_higher_rate_and_the_groups_keep_their_ratio() -> None:
    sweep, rates = sweep_over([1.0] * 5, groups=[0.2, 0.05])
    assert rates == [pytest.approx([rate, rate / 4]) for rate in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)]
    assert [rate for rate, _ in sweep.losses] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_the_loss_of_a_step_is_the_mean_of_its_accumulated_batches() -> None:
    sweep, rates = sweep_over([1.0, 3.0, 5.0, 7.0], groups=[0.1], accumulate=2)
    assert [loss for _, loss in sweep.losses] == pytest.approx([2.0, 6.0])
    assert rates == [pytest.approx([rate]) for rate in (1e-4, 1e-4, 1e-3, 1e-3)]


@pytest.mark.parametrize(("losses", "steps"), [([1.0, 1.0, 100.0, 1.0], 3), ([1.0, math.nan, 1.0], 2)])
def test_the_test_ends_where_the_loss_diverges(losses: list[float], steps: int) -> None:
    sweep, _ = sweep_over(losses, groups=[0.1])
    assert len(sweep.losses) == steps


def test_the_rate_is_that_of_the_steepest_fall_before_the_first_rise() -> None:
    rates = [10 ** (-6 + 0.06 * step) for step in range(100)]
    # Falls by a logistic curve around 1e-3, rises to 3 at 3e-2, and falls even faster after that.
    losses = [2 - 1.5 / (1 + math.exp(-8 * (math.log10(rate) + 3))) for rate in rates]
    losses = [loss if rate < 1e-2 else 3.0 if rate < 1e-1 else 0.1 for rate, loss in zip(rates, losses, strict=True)]
    found = steepest_rate(list(zip(rates, losses, strict=True)))
    assert found == pytest.approx(1e-3, rel=0.15)


@pytest.mark.parametrize("losses", [[2.0] * 50, [1 + 0.01 * step for step in range(50)], [2.0] * 5])
def test_there_is_no_rate_where_the_loss_does_not_fall(losses: list[float]) -> None:
    assert steepest_rate([(10 ** (-5 + 0.1 * step), loss) for step, loss in enumerate(losses)]) is None
