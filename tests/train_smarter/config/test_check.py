from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from train_smarter.config.check import check
from train_smarter.errors import UserError

Compose = Callable[..., DictConfig]

# What a user may type, and what the answer must hold.
MISTAKES = {
    "data.batch_size=0": ["data.batch_size=0", "at least 1"],
    "optimizer.lr=-1": ["optimizer.lr=-1", "above 0"],
    "optimizer.lr=fast": ["optimizer.lr='fast'"],
    "trainer.max_epochs=abc": ["trainer.max_epochs='abc'"],
    "trainer.max_epochs=0": ["trainer.max_epochs=0", "-1"],
    "trainer.max_steps=0": ["trainer.max_steps=0", "-1"],
    "model.dropout=1.5": ["model.dropout=1.5", "below 1"],
    "model.batch_norm=1": ["model.batch_norm=1", "true or false"],
    "seed=abc": ["seed='abc'"],
    "data.split_seed=-1": ["data.split_seed=-1"],
    "trainer.limit_val_batches=0": ["monitor=val/accuracy is not measured", "monitor=train/accuracy"],
    "data.fold=7": ["data.fold=7", "0 to 4"],
    "monitor=val/acc": ["monitor='val/acc'", "did you mean 'val/accuracy'?"],
    "mode=min": ["mode=min with monitor=val/accuracy", "mode=max"],
    "data=phrases": ["model=cnn does not fit data=phrases", "data.shape"],
    "model=lstm": ["model=lstm does not fit data=digits", "data.vocab_size"],
    "data=images": ["data.dir has no value yet"],
    "train=false": ["ckpt_path", "evaluate run=last"],
    "ckpt_path=/nowhere.ckpt": ["ckpt_path=/nowhere.ckpt: there is no such file"],
    "model.pretrained=/nowhere.ckpt": ["model.pretrained=/nowhere.ckpt: there is no such file"],
    "callbacks.early_stopping.patience=two": ["callbacks.early_stopping.patience='two'"],
}


@pytest.mark.parametrize(("typed", "told"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_answered_with_what_was_given_and_what_is_accepted(
    compose: Compose, typed: str, told: list[str]
) -> None:
    with pytest.raises(UserError) as answer:
        check(compose(typed))
    assert all(part in str(answer.value) for part in told), answer.value
    assert "\n" not in str(answer.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("scheduler.interval=step", "a metric of an epoch, not of a step: type scheduler.interval=epoch"),
        (
            "monitor=train/loss scheduler.monitor=val/loss trainer.limit_val_batches=0",
            "scheduler.monitor=val/loss is not measured with trainer.limit_val_batches=0: type "
            "scheduler.monitor=train/loss",
        ),
    ],
)
def test_a_plateau_schedule_without_values_to_look_at_is_refused(compose: Compose, words: str, told: str) -> None:
    with pytest.raises(UserError) as answer:
        check(compose("scheduler=plateau", *words.split()))
    assert told in str(answer.value)


def test_the_default_has_no_problem(compose: Compose) -> None:
    check(compose())


def test_all_problems_come_in_one_message(compose: Compose) -> None:
    with pytest.raises(UserError) as answer:
        check(compose("data.batch_size=0", "optimizer.lr=0", "model.dropout=2"))
    assert str(answer.value).splitlines()[0] == "3 problems:"
    assert len(str(answer.value).splitlines()) == 4


def test_a_folder_of_images_that_is_not_there_is_named(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a folder"):
        check(compose("data=images", f"data.dir={tmp_path}/nowhere"))


def test_a_logger_that_is_not_installed_is_refused_with_the_command_that_installs_it(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"logger=wandb .* uv pip install -e '\.\[wandb\]'"):
        check(compose("logger=wandb"))


@pytest.mark.parametrize("several", ["trainer=ddp_sim", "trainer=ddp", "trainer.devices=2", "trainer.devices=[0,1]"])
def test_a_multirun_of_several_processes_a_job_is_refused(compose: Compose, several: str) -> None:
    cfg = compose(several)
    check(cfg)  # a single run may
    hydra = HydraConfig.get()
    with read_write(cast(DictConfig, hydra)):
        hydra.mode = RunMode.MULTIRUN
    with pytest.raises(UserError, match="add hydra/launcher=process"):
        check(cfg)
