from functools import partial
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader

from train_smarter.errors import UserError
from train_smarter.fit.lr_schedule import LRSchedule

# "auto" is filled in
COSINE: Any = partial(CosineAnnealingLR, T_max="auto", eta_min=0.0)  # type: ignore[arg-type]
ONECYCLE: Any = partial(OneCycleLR, max_lr=1.0, total_steps="auto", pct_start=0.3)  # type: ignore[arg-type]
PLATEAU: Any = partial(ReduceLROnPlateau, mode="max", factor=0.1, patience=3)


def trainer(*, epochs: int | None = 10, steps: float = 1000) -> Any:
    """What a schedule asks of a trainer: its planned epochs and optimizer steps."""
    return SimpleNamespace(max_epochs=epochs, estimated_stepping_batches=steps, callbacks=[])


def sgd() -> Optimizer:
    return SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)


def rates(schedule: LRSchedule, count: int, **plan: Any) -> list[float]:
    """The learning rate of each of `count` intervals, beginning with 1."""
    config = schedule.build(sgd(), trainer(**plan))
    optimizer, scheduler = config["optimizer"], config["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_a_cosine_falls_over_the_whole_run() -> None:
    found = rates(LRSchedule(torch_scheduler=COSINE, interval="step"), 5, steps=4)
    # (1 + cos(pi k / 4)) / 2 for k = 0 to 4
    assert found == pytest.approx([1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)


def test_a_warm_up_rises_from_a_hundredth_and_the_schedule_takes_what_is_left() -> None:
    found = rates(LRSchedule(torch_scheduler=COSINE, interval="step", warmup=2), 7, steps=6)
    # 0.01, halfway from 0.01 to 1, then the cosine of the 4 steps left
    assert found == pytest.approx([0.01, 0.505, 1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)


def test_an_interval_of_epochs_plans_with_epochs() -> None:
    found = rates(LRSchedule(torch_scheduler=COSINE, interval="epoch"), 3, epochs=2, steps=1000)
    assert found == pytest.approx([1, 0.5, 0], abs=1e-6)


def test_a_warm_up_longer_than_the_run_only_rises() -> None:
    found = rates(LRSchedule(torch_scheduler=COSINE, interval="epoch", warmup=4), 3, epochs=3)
    assert found == pytest.approx([0.01, 0.2575, 0.505])  # 0.01 + 0.99 k / 4


def test_a_warm_up_that_the_run_does_not_finish_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    rates(LRSchedule(torch_scheduler=COSINE, interval="step", warmup=50), 1, steps=30)
    assert caplog.messages == [
        "scheduler.warmup=50, but the run has 30 steps: the learning rate ends at 58% of optimizer.lr; type "  # 0.584
        "scheduler.warmup=3 or less"
    ]
    caplog.clear()
    rates(LRSchedule(torch_scheduler=COSINE, interval="step", warmup=29), 1, steps=30)
    rates(LRSchedule(torch_scheduler=partial(StepLR, step_size=2), warmup=9), 1, epochs=None)
    assert not caplog.messages


@pytest.mark.parametrize(("warmup", "planned"), [(0, 3), (2, 1), (3, 1), (9, 1)])
def test_there_is_always_an_interval_to_plan_for(warmup: int, planned: int) -> None:
    totals: list[int] = []

    def factory(optimizer: Optimizer, *, count: int) -> LRScheduler:
        totals.append(count)
        return StepLR(optimizer, step_size=1)

    LRSchedule(torch_scheduler=partial(factory, count="auto"), warmup=warmup).build(sgd(), trainer(epochs=3))  # type: ignore[arg-type]
    assert totals == [planned]


def test_steps_go_down_by_a_factor() -> None:
    found = rates(LRSchedule(torch_scheduler=partial(StepLR, step_size=2, gamma=0.1)), 5)
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_a_warm_up_comes_before_the_steps() -> None:
    found = rates(LRSchedule(torch_scheduler=partial(StepLR, step_size=2, gamma=0.1), warmup=2), 7)
    assert found == pytest.approx([0.01, 0.505, 1, 1, 0.1, 0.1, 0.01])


def test_one_cycle_rises_and_falls_within_the_steps_of_the_run() -> None:
    found = rates(LRSchedule(torch_scheduler=ONECYCLE, interval="step"), 10, steps=10)
    assert found[0] == pytest.approx(1 / 25)  # torch's div_factor
    assert max(found) == found[2] == pytest.approx(1)  # 0.3 x 10 - 1 steps of rise
    assert found[9] == pytest.approx(1 / 25 / 1e4)  # torch's final_div_factor


def test_one_cycle_counts_the_steps_of_the_run() -> None:
    schedule: Any = LRSchedule(torch_scheduler=ONECYCLE, interval="step").build(sgd(), trainer(steps=123))[
        "lr_scheduler"
    ]
    assert schedule["scheduler"].total_steps == 123


def test_a_plateau_schedule_watches_its_metric() -> None:
    config: Any = LRSchedule(torch_scheduler=PLATEAU, monitor="val/accuracy").build(sgd(), trainer(epochs=None))[
        "lr_scheduler"
    ]
    assert isinstance(config["scheduler"], ReduceLROnPlateau)
    assert (config["monitor"], config["interval"]) == ("val/accuracy", "epoch")


def test_other_schedules_watch_nothing() -> None:
    assert "monitor" not in LRSchedule(torch_scheduler=COSINE).build(sgd(), trainer())["lr_scheduler"]


def test_a_plateau_schedule_with_a_warm_up_is_refused() -> None:
    with pytest.raises(UserError, match=r"scheduler=plateau takes no warm-up: set scheduler.warmup=0"):
        LRSchedule(torch_scheduler=PLATEAU, warmup=1, monitor="val/loss").build(sgd(), trainer())


@pytest.mark.parametrize("epochs", [-1, None])
def test_a_plan_in_epochs_needs_their_number(epochs: int | None) -> None:
    with pytest.raises(UserError, match=r"needs an end to plan for: set trainer.max_epochs"):
        LRSchedule(torch_scheduler=COSINE, interval="epoch").build(sgd(), trainer(epochs=epochs, steps=100))


def test_a_plan_in_steps_needs_an_end() -> None:
    with pytest.raises(UserError, match=r"needs an end to plan for: set trainer.max_epochs"):
        LRSchedule(torch_scheduler=COSINE, interval="step").build(sgd(), trainer(epochs=-1, steps=float("inf")))


def test_a_schedule_without_a_plan_needs_no_end() -> None:
    schedule = LRSchedule(torch_scheduler=partial(StepLR, step_size=2), interval="epoch")
    assert schedule.build(sgd(), trainer(epochs=-1, steps=float("inf")))


BARE: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


class Watcher(lightning.LightningModule):
    """Writes down the learning rate of each batch."""

    def __init__(self, schedule: LRSchedule) -> None:
        super().__init__()
        self.schedule, self.weight, self.rates = schedule, nn.Parameter(torch.zeros(())), list[float]()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:  # noqa: ARG002
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log("loss", loss := self.weight * batch.mean())
        return loss

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.ones(4))  # type: ignore[arg-type]

    def configure_optimizers(self) -> Any:
        return self.schedule.build(SGD(self.parameters(), lr=1.0), self.trainer)


def watched(schedule: LRSchedule, **options: Any) -> list[float]:
    watcher = Watcher(schedule)
    lightning.Trainer(**BARE, **options).fit(watcher)
    return watcher.rates


def test_in_a_training_of_two_epochs_the_cosine_ends_with_the_last_step() -> None:
    # 8 steps: (1 + cos(pi k / 8)) / 2 for k = 0 to 7
    expected = [1, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060]
    found = watched(LRSchedule(torch_scheduler=COSINE, interval="step"), max_epochs=2)
    assert found == pytest.approx(expected, abs=1e-6)


def test_accumulated_batches_are_one_step_of_the_schedule() -> None:
    found = watched(LRSchedule(torch_scheduler=COSINE, interval="step"), max_epochs=2, accumulate_grad_batches=2)
    expected = [1, 1, 0.853553, 0.853553, 0.5, 0.5, 0.146447, 0.146447]  # 4 steps of two batches each
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_scheduled_accumulation_is_planned_for() -> None:
    callbacks = [GradientAccumulationScheduler({1: 3})]
    found = watched(LRSchedule(torch_scheduler=COSINE, interval="step"), max_epochs=2, callbacks=callbacks)
    # 4 steps, then 2 of three batches and of one: (1 + cos(pi k / 6)) / 2 for k = 0 to 5
    expected = [1, 0.933013, 0.75, 0.5, 0.25, 0.25, 0.25, 0.066987]
    assert found == pytest.approx(expected, abs=1e-6)


def test_in_a_training_a_schedule_of_epochs_steps_once_an_epoch() -> None:
    found = watched(LRSchedule(torch_scheduler=partial(StepLR, step_size=1, gamma=0.5)), max_epochs=2)
    assert found == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]


def test_a_training_limited_by_steps_is_planned_by_steps() -> None:
    found = watched(LRSchedule(torch_scheduler=COSINE, interval="step"), max_steps=4, max_epochs=-1)
    assert found == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_in_a_training_a_plateau_lowers_the_rate() -> None:
    flat: Any = partial(ReduceLROnPlateau, mode="max", factor=0.1, patience=0)
    found = watched(LRSchedule(torch_scheduler=flat, monitor="loss"), max_epochs=3)
    assert found == pytest.approx([1] * 8 + [0.1] * 4)  # the loss falls, where more is better: after 2 epochs


def test_factories_may_be_any_callable() -> None:
    def factory(optimizer: Optimizer) -> LRScheduler:
        return StepLR(optimizer, step_size=1)

    assert rates(LRSchedule(torch_scheduler=factory), 2) == pytest.approx([1, 0.1])
