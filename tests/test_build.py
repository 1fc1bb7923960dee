from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from omegaconf import DictConfig

from train_smarter.build import build
from train_smarter.error import UserError

Compose = Callable[..., DictConfig]


def test_the_default_builds_a_cnn_on_digits(compose: Compose) -> None:
    run = build(compose())
    assert (type(run.data).__name__, type(run.model).__name__) == ("Digits", "CNN")
    assert run.trainer.max_epochs == 20
    assert run.trainer.gradient_clip_val == 1.0


def test_a_null_removes_one_callback_and_leaves_the_others(compose: Compose) -> None:
    kinds = [type(callback) for callback in build(compose("callbacks.early_stopping=null")).trainer.callbacks]  # type: ignore[attr-defined]
    assert EarlyStopping not in kinds
    assert ModelCheckpoint in kinds


def test_several_loggers_stand_side_by_side(compose: Compose) -> None:
    loggers = build(compose("logger=[tensorboard,csv]")).trainer.loggers
    assert [type(logger) for logger in loggers] == [TensorBoardLogger, CSVLogger]


def test_without_a_logger_nothing_watches_the_learning_rate(compose: Compose) -> None:
    trainer = build(compose("logger=none")).trainer
    assert trainer.loggers == []
    assert not any(isinstance(callback, LearningRateMonitor) for callback in trainer.callbacks)  # type: ignore[attr-defined]


def test_without_callbacks_lightning_adds_no_checkpoint_of_its_own(compose: Compose) -> None:
    assert build(compose("callbacks=none", "logger=none")).trainer.checkpoint_callback is None


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("+model.drpout=0.1", "unexpected keyword argument 'drpout'"),
        ("trainer.precision=8", "Precision 8 is invalid"),
        ("model.class_weights=[1,2]", "model.class_weights needs 10 numbers"),
        ("data.mean=[0.5,0.5]", "one per channel"),
        ("data.augment.rotation.degrees=-1", "degrees"),
    ],
)
def test_what_an_object_refuses_is_told_in_one_line(compose: Compose, override: str, told: str) -> None:
    with pytest.raises(UserError) as answer:
        build(compose(override))
    assert told in str(answer.value)
    assert "\n" not in str(answer.value)


def test_a_device_that_is_not_there_is_answered_with_the_choice_that_finds_one(compose: Compose) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(UserError, match="trainer=auto takes what this machine has"):
        build(compose("trainer=mps"))


@pytest.mark.parametrize(
    "target", ["os.system", "torch.hub.load", "torch.utils.collect_env.run", "train_smarter.train.act", "builtins.eval"]
)
def test_a_config_can_call_nothing_outside_the_short_list(compose: Compose, target: str, tmp_path: Path) -> None:
    cfg = compose()
    cfg.model = {"_target_": target, "_args_": [f"touch {tmp_path}/owned"]}
    with pytest.raises(UserError, match="model: "):
        build(cfg)
    assert not (tmp_path / "owned").exists()
