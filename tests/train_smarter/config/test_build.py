from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.profilers import SimpleProfiler
from omegaconf import DictConfig

from train_smarter.config.build import build
from train_smarter.errors import UserError
from train_smarter.speed.step import BATCH_HOOKS, NoOpProfiler, skip_idle_hooks

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
        ("task.class_weights=[1,2]", "task.class_weights needs 10 numbers"),
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
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.hub.load",
        "torch.utils.collect_env.run",
        "train_smarter.commands.train.run_train",
        "torch.nn.functional.torch.hub.load",  # by way of a module that is on the list
        "train_smarter.data.base.os.system",
        "train_smarter.data.download.fetch",  # on the list, and no class
    ],
)
def test_a_config_can_call_nothing_outside_the_short_list(compose: Compose, target: str, tmp_path: Path) -> None:
    cfg = compose()
    cfg.model = {"_target_": target, "_args_": [f"touch {tmp_path}/owned"]}
    with pytest.raises(
        UserError, match=rf"^model\._target_={target} is refused: give a public subclass of .*LightningModule"
    ):
        build(cfg)
    assert not (tmp_path / "owned").exists()


def test_settings_of_a_callback_that_is_not_there_are_left_out(compose: Compose) -> None:
    assert build(compose("experiment=phrases_lstm", "callbacks=none")).trainer.callbacks == []  # type: ignore[attr-defined]


# ---- what a step is spared


class Listener(Callback):
    """Fills two of the batch hooks."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_train_batch_start(self, *_: object) -> None:
        self.heard.append("start")

    def on_after_backward(self, *_: object) -> None:
        self.heard.append("backward")


def trained(*callbacks: Callback, skip: bool) -> tuple[BoringModel, Trainer]:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        limit_val_batches=1,
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    torch.manual_seed(0)
    model = BoringModel()
    if skip:
        skip_idle_hooks(trainer, model)
    trainer.fit(model)
    return model, trainer


def test_batch_hooks_that_somebody_fills_are_still_called_and_empty_ones_are_gone() -> None:
    listener = Listener()
    trained(listener, skip=True)
    assert listener.heard == ["start", "backward"] * 2
    assert [hook for hook in BATCH_HOOKS if getattr(listener, hook) is not None] == [
        "on_train_batch_start",
        "on_after_backward",
    ]


def test_a_training_without_empty_hooks_ends_with_the_same_weights() -> None:
    (one, _), (other, _) = trained(skip=True), trained(skip=False)
    assert all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_nothing_is_profiled_unless_it_is_asked_for(compose: Compose) -> None:
    assert isinstance(build(compose()).trainer.profiler, NoOpProfiler)  # type: ignore[attr-defined]
    assert isinstance(build(compose("debug=profiler")).trainer.profiler, SimpleProfiler)  # type: ignore[attr-defined]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_optimizers_are_fused_unless_gradients_could_then_not_be_clipped(compose: Compose, optimizer: str) -> None:
    assert compose(f"optimizer={optimizer}").optimizer.fused
    assert not compose(f"optimizer={optimizer}", "trainer.precision=16-mixed").optimizer.fused


@pytest.mark.parametrize(
    ("capability", "warned"), [("avx2", True), ("avx512_f", True), ("avx512_bf16", False), ("bf16", False)]
)
def test_emulated_bf16_is_warned_of(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capability: str, warned: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True, "amx_bf16": False})
    build(compose("trainer=cpu", "trainer.precision=bf16-mixed"))
    assert ("only emulates bf16" in caplog.text) == warned
