import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from optuna.pruners import BasePruner, MedianPruner, NopPruner, ThresholdPruner
from optuna.trial import FrozenTrial, TrialState

from train_smarter.fit.module import Model
from train_smarter.run.trial import TrialRef
from train_smarter.search.pruning import Pruning
from train_smarter.search.storage import load_trial, open_storage
from train_smarter.task.classification import Classification

MONITOR = "val/accuracy"
BELOW_HALF: BasePruner = ThresholdPruner(lower=0.5)  # a trial that reports less is stopped


@pytest.fixture(autouse=True)
def _nothing_is_open() -> Iterator[None]:
    open_storage.cache_clear()
    yield
    open_storage.cache_clear()


@pytest.fixture
def ticket(tmp_path: Path) -> TrialRef:
    """That of the only trial of a study, which runs."""
    return claimed(tmp_path)


def claimed(folder: Path, directions: Sequence[Any] = ("maximize",)) -> TrialRef:
    url = f"journal://{folder}/study.log"
    optuna.create_study(study_name="s", storage=open_storage(url), directions=list(directions)).ask()
    open_storage.cache_clear()
    return TrialRef(url, "s", 0)


def stored(ticket: TrialRef) -> FrozenTrial:
    """The trial as another process sees it."""
    open_storage.cache_clear()
    return optuna.load_study(study_name="s", storage=open_storage(ticket.storage)).trials[ticket.number]


def callback(ticket: TrialRef, pruner: BasePruner = BELOW_HALF) -> Pruning:
    """With this pruner instead of the config's."""
    made = Pruning(ticket, monitor=MONITOR)
    made.__dict__["trial"] = load_trial(ticket, pruner)
    return made


def fitting(**state: Any) -> Any:
    """What of a trainer is looked at; training for ten epochs in one process, with one metric of validation."""
    logged = SimpleNamespace(meta=SimpleNamespace(name=MONITOR))
    loop = SimpleNamespace(val_loop=SimpleNamespace(_results={MONITOR: logged}))
    usual: dict[str, Any] = {
        "lightning_module": None,
        "fit_loop": SimpleNamespace(epoch_loop=loop),
        "callback_metrics": {},
        "state": SimpleNamespace(fn=TrainerFn.FITTING),
        "sanity_checking": False,
        "is_global_zero": True,
        "world_size": 1,
        "current_epoch": 0,
        "max_epochs": 10,
        "should_stop": False,
    }
    return SimpleNamespace(**usual | state)


def validated(pruning: Pruning, trainer: Any, *values: float, name: str = MONITOR) -> int:
    """Epochs that end with these values of a metric, until the run is stopped; returns how many there were."""
    for count, value in enumerate(values, 1):
        trainer.callback_metrics = {name: torch.tensor(value)}
        pruning.on_validation_end(trainer, None)  # type: ignore[arg-type]
        if trainer.should_stop:
            return count
        trainer.current_epoch += 1
    return len(values)


def test_each_validation_is_reported_under_its_number_from_1_on(ticket: TrialRef) -> None:
    assert validated(callback(ticket, NopPruner()), fitting(), 0.25, 0.75, 0.5) == 3
    assert stored(ticket).intermediate_values == {1: 0.25, 2: 0.75, 3: 0.5}


@pytest.mark.parametrize("module", [None, Model(task=Classification(num_classes=2))])
def test_a_training_metric_is_reported_when_its_epoch_is_over(ticket: TrialRef, module: Any) -> None:
    """With and without a task."""
    pruning = callback(ticket, NopPruner())
    pruning.monitor = "train/accuracy"
    if module is not None:
        module.epoch_metrics["train"] = SimpleNamespace(scores=lambda: {"accuracy": 0.75})
    trainer = fitting(lightning_module=module, callback_metrics={"train/accuracy": torch.tensor(0.5)})
    if module is not None:  # that of the epoch before, as yet
        pruning.on_validation_end(trainer, module)
    pruning.on_train_epoch_end(trainer, module)
    assert stored(ticket).intermediate_values == {1: 0.5 if module is None else 0.75}


def test_a_run_is_stopped_where_the_studys_pruner_says_so_and_it_is_noted(ticket: TrialRef) -> None:
    pruning, trainer = callback(ticket), fitting()
    assert validated(pruning, trainer, 0.75, 0.5, 0.25, 0.75) == 3
    assert (trainer.should_stop, pruning.pruned) == (True, 3)
    trial = stored(ticket)
    assert trial.user_attrs == {"pruned": 3}
    assert trial.intermediate_values == {1: 0.75, 2: 0.5, 3: 0.25}
    assert trial.state == TrialState.RUNNING  # its search closes it


def test_a_run_that_is_good_enough_is_not_stopped_and_nothing_is_noted(ticket: TrialRef) -> None:
    pruning, trainer = callback(ticket), fitting()
    assert validated(pruning, trainer, 0.75, 0.5) == 2
    assert (trainer.should_stop, pruning.pruned, stored(ticket).user_attrs) == (False, None, {})


def test_it_is_the_pruner_of_the_config_and_the_studys_other_trials_are_what_it_compares_with(
    tmp_path: Path, compose: Callable[..., Any]
) -> None:
    first = claimed(tmp_path)
    earlier = optuna.Trial(study := optuna.load_study(study_name="s", storage=open_storage(first.storage)), 0)
    for number, value in enumerate((0.5, 0.5, 0.5), 1):
        earlier.report(value, number)
    study.tell(earlier, 0.5)
    study.ask()
    compose("search=default", "hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.pruner.n_warmup_steps=2")
    pruning, trainer = Pruning(TrialRef(first.storage, "s", 1), monitor=MONITOR), fitting()
    # Below the median, 0.5, from the first validation on; two are waited for.
    assert validated(pruning, trainer, 0.25, 0.25, 0.25) == 2
    assert type(pruning.trial.study.pruner) is MedianPruner


@pytest.mark.parametrize(("max_epochs", "stopped"), [(1, False), (2, True), (-1, True), (None, True)])
def test_in_its_last_epoch_a_run_is_let_come_to_its_end(
    ticket: TrialRef, max_epochs: int | None, stopped: bool
) -> None:
    pruning, trainer = callback(ticket), fitting(max_epochs=max_epochs)
    validated(pruning, trainer, 0.25)
    assert (trainer.should_stop, pruning.pruned is not None, "pruned" in stored(ticket).user_attrs) == (stopped,) * 3
    assert stored(ticket).intermediate_values == {1: 0.25}


@pytest.mark.parametrize(
    "state",
    [
        {"sanity_checking": True},
        {"state": SimpleNamespace(fn=TrainerFn.VALIDATING)},
        {"state": SimpleNamespace(fn=TrainerFn.TESTING)},
    ],
)
def test_the_first_check_and_an_evaluation_are_not_reported(ticket: TrialRef, state: dict[str, Any]) -> None:
    pruning, trainer = callback(ticket), fitting(**state)
    assert validated(pruning, trainer, 0.25, float("nan")) == 2
    assert validated(pruning, trainer, float("nan"), name="val/loss") == 1
    assert stored(ticket).intermediate_values == {}
    assert validated(pruning, fitting(), 0.75) == 1
    assert stored(ticket).intermediate_values == {1: 0.75}


def test_a_validation_without_the_monitored_metric_is_counted_and_not_reported(ticket: TrialRef) -> None:
    pruning, trainer = callback(ticket), fitting()
    validated(pruning, trainer, 0.25, name="val/loss")
    validated(pruning, trainer, 0.75)
    assert stored(ticket).intermediate_values == {2: 0.75}


class Told:
    """A strategy whose processes hear what rank 0 has said."""

    def __init__(self, *words: bool) -> None:
        self.words, self.said = list(words), []  # type: tuple[list[bool], list[bool]]

    def broadcast(self, word: bool) -> bool:
        self.said.append(word)
        return self.words.pop(0) if self.words else word


def test_the_other_processes_of_a_run_follow_the_first_one_and_report_nothing(ticket: TrialRef) -> None:
    pruning = callback(ticket)
    trainer = fitting(is_global_zero=False, world_size=2, strategy=Told(False, True))
    assert validated(pruning, trainer, 0.25, 0.75, 0.75) == 2
    assert trainer.should_stop
    trial = stored(ticket)
    assert (trial.intermediate_values, trial.user_attrs) == ({}, {})


def test_the_first_process_of_a_run_tells_the_others_each_time(ticket: TrialRef) -> None:
    strategy = Told()
    trainer = fitting(world_size=2, strategy=strategy)
    assert validated(callback(ticket), trainer, 0.75, 0.25) == 2
    assert strategy.said == [False, True]
    assert stored(ticket).user_attrs == {"pruned": 2}


def test_with_several_objectives_nothing_is_reported_and_nothing_stopped(tmp_path: Path) -> None:
    ticket = claimed(tmp_path, ["maximize", "minimize"])
    trainer = fitting()
    assert validated(callback(ticket), trainer, 0.25, 0.25) == 2
    assert stored(ticket).intermediate_values == {}


def test_a_trial_that_was_closed_meanwhile_stops_and_says_so(
    ticket: TrialRef, caplog: pytest.LogCaptureFixture
) -> None:
    pruning, trainer = callback(ticket), fitting()
    assert validated(pruning, trainer, 0.75) == 1
    open_storage.cache_clear()
    optuna.load_study(study_name="s", storage=open_storage(ticket.storage)).tell(0, state=TrialState.FAIL)
    with caplog.at_level(logging.WARNING):
        assert validated(pruning, trainer, 0.75, 0.75) == 1
    assert trainer.should_stop
    assert "trial 0 was closed meanwhile" in caplog.text
    assert stored(ticket).state == TrialState.FAIL


@pytest.mark.parametrize("name", ["train/loss", "val/loss"])
@pytest.mark.parametrize(("value", "told"), [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")])
def test_a_loss_that_is_no_number_fails_the_trial_and_is_named(
    ticket: TrialRef, name: str, value: float, told: str
) -> None:
    pruning, trainer = callback(ticket, NopPruner()), fitting()
    assert validated(pruning, trainer, 1e30, name=name) == 1
    with pytest.raises(FloatingPointError, match=rf"^{name} is {told} at validation 2$"):
        validated(pruning, trainer, value, name=name)
    assert not trainer.should_stop
