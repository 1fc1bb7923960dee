"""From a config to objects: the only place that instantiates."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

import train_smarter.config.resolvers  # noqa: F401 (a config is resolved here)
from train_smarter.data.base import Data
from train_smarter.errors import UserError
from train_smarter.failures import explain_construction
from train_smarter.fit.evaluation_weights import ScheduleFreeWeights, is_schedule_free
from train_smarter.fit.gradient_mean import GradientMean
from train_smarter.fit.module import Model
from train_smarter.fit.stock_callbacks import check_callbacks, check_evaluation_weights, sort_callbacks
from train_smarter.run.checkpoint_file import write_atomically
from train_smarter.speed.step import NoOpProfiler, accelerate
from train_smarter.trust.build_object import build_object

log = logging.getLogger(__name__)


# One log, Hydra's: Lightning's own handler would print each line twice. Its rank-zero notes are advice and adverts.
logging.getLogger("lightning").handlers.clear()
logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
for note in (
    ".*does not have many workers.*",  # batches are one indexed copy: workers would only slow them down
    ".*smaller than the logging interval.*",
    ".*sync_dist=True.*",  # a tally has summed over all processes already
    ".*callbacks used to create the checkpoint need to be provided.*",  # `evaluate` wants the weights alone
    ".*The dirpath has changed from.*",  # `ckpt_path` goes on in a folder of its own
    ".*Checkpoint directory .* exists and is not empty.*",  # a run goes on in its own
    ".*your dataloader is not resumable.*",  # data/loader.py skips the batches that are done
    ".*could not find the monitored key.*",  # no validation yet: `train` tells that no checkpoint was kept
    ".*ReduceLROnPlateau conditioned on metric.*",  # the same for a plateau schedule: it waits for the metric
    ".*isinstance.treespec, LeafSpec.*is deprecated.*",
    ".*`srun` command is available.*",  # a login node of a cluster: the run is one process all the same
):
    warnings.filterwarnings("ignore", note)


@dataclass
class Components:
    """What a run is made of.

    Attributes:
        data: a `Data`, or another LightningDataModule.
        model: a `Model`, or another LightningModule.
    """

    data: Any
    model: Any
    trainer: Trainer


def build(cfg: DictConfig, *extra: Callback) -> Components:
    """Data, model and trainer of a composed config; `extra` callbacks come first."""
    loggers = [logger for _, logger in _instantiate_group(cfg, "logger")]
    named = dict(_instantiate_group(cfg, "callbacks"))
    data, model = build_any_data(cfg), build_any_model(cfg)
    if not isinstance(model, Model):
        named = _without_task_callbacks(named, model)
    elif is_schedule_free(getattr(model.optimizer, "func", None)):
        extra = (*extra, ScheduleFreeWeights())
    callbacks = sort_callbacks([*extra, *named.values()])
    check_evaluation_weights(callbacks)
    if not loggers:  # it refuses to work without one
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    run = Components(data, model, build_trainer(cfg, loggers, callbacks, own_data=isinstance(data, Data)))
    check_callbacks(run.trainer, model)
    _check_manual_optimization(run)
    if model.automatic_optimization and not isinstance(model, Model):
        GradientMean().attach(model, world=run.trainer.world_size)
    if cfg.get("speed", True):
        accelerate(run.trainer, run.model)
    return run


def _without_task_callbacks(named: Mapping[str, Callback], model: LightningModule) -> dict[str, Callback]:
    """The callbacks that a LightningModule without a task can have; the log names the others."""
    unusable = [name for name, callback in named.items() if getattr(callback, "needs_task", False)]
    if unusable:
        log.info(
            "%s is a LightningModule without a task; left out, since they need a train_smarter.Model: callbacks %s; "
            "predict, export-model",
            type(model).__name__,
            ", ".join(unusable),
        )
    return {name: callback for name, callback in named.items() if name not in unusable}


def _check_manual_optimization(run: Components) -> None:
    """Leave out the clipping that conf/trainer sets for every model; Lightning would refuse to train."""
    trainer, name = run.trainer, type(run.model).__name__
    if run.model.automatic_optimization:
        return
    if trainer.accumulate_grad_batches != 1:
        raise UserError(
            f"trainer.accumulate_grad_batches={trainer.accumulate_grad_batches}: {name} optimizes manually, so it "
            "accumulates gradients in its own training_step: type trainer.accumulate_grad_batches=1"
        )
    if trainer.gradient_clip_val and not getattr(run.model, "is_solved", False):
        log.info(
            "trainer.gradient_clip_val=%s is left out: %s optimizes manually; its training_step may call "
            "self.clip_gradients",
            trainer.gradient_clip_val,
            name,
        )
    trainer.gradient_clip_val = None


def build_any_data(cfg: DictConfig) -> LightningDataModule:
    """The data of a config, of whatever class."""
    data = _instantiate_node(cfg, "data")
    if not isinstance(data, LightningDataModule):
        raise UserError(f"data._target_={cfg.data._target_} is not a subclass of lightning.LightningDataModule")
    return data


def build_any_model(cfg: DictConfig) -> LightningModule:
    """The model of a config, of whatever class."""
    model = _instantiate_node(cfg, "model")
    if not isinstance(model, LightningModule):
        raise UserError(f"model._target_={cfg.model._target_} is not a subclass of lightning.LightningModule")
    return model


def build_data(cfg: DictConfig) -> Data:
    """The data, for what needs more than a LightningDataModule."""
    data = build_any_data(cfg)
    if not isinstance(data, Data):
        raise UserError(f"data._target_={cfg.data._target_} is no train_smarter.Data, which this command needs")
    return data


def build_model(cfg: DictConfig) -> Model:
    """The model, for what needs more than a LightningModule."""
    model = build_any_model(cfg)
    if not isinstance(model, Model):
        raise UserError(
            f"model._target_={cfg.model._target_} is no train_smarter.Model with a task, which this command needs"
        )
    return model


def build_trainer(
    cfg: DictConfig, loggers: list[Logger], callbacks: list[Callback], *, own_data: bool = True
) -> Trainer:
    """The trainer alone: `evaluate` brings no callbacks of the training.

    Args:
        own_data: the data are a `Data`, which gives each process its own examples; Lightning does it for others.
    """
    distributed = cfg.trainer.get("use_distributed_sampler")
    wanted = any(isinstance(callback, ProgressBar) for callback in callbacks)
    profiler = {} if cfg.trainer.get("profiler") or not cfg.get("speed", True) else {"profiler": NoOpProfiler()}
    # Without any checkpoint callback Lightning would add its own.
    checkpointing = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer = _instantiate_node(
        cfg,
        "trainer",
        logger=loggers,
        callbacks=callbacks,
        enable_progress_bar=wanted and cfg.trainer.get("enable_progress_bar", True),
        enable_checkpointing=checkpointing,
        use_distributed_sampler=not own_data if distributed is None else distributed,
        # cuDNN's trials would undo `deterministic`.
        benchmark=bool(cfg.trainer.get("benchmark")) and not cfg.trainer.get("deterministic"),
        **profiler,
    )
    assert isinstance(trainer, Trainer)
    write_atomically(trainer.strategy)
    if trainer.strategy.root_device.type == "cpu" and "bf16" in str(trainer.precision) and not cpu_has_native_bf16():
        log.warning("this CPU only emulates bf16, which is slower than 32 bits: trainer.precision=32-true")
    return trainer


def cpu_has_native_bf16() -> bool:
    """Whether the CPU multiplies bf16 itself; the first processors with AVX-512 do not yet."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last one is ARM's


def _instantiate_group(cfg: DictConfig, group: str) -> list[tuple[str, Any]]:
    """The objects of a group of many, by name.

    A null entry is left out, and so are settings of one that is not there: an experiment's patience, under
    `callbacks=none`.
    """
    entries: Mapping[Any, Any] = cfg.get(group) or {}
    return [
        (str(name), _instantiate_node(cfg, f"{group}.{name}"))
        for name, entry in entries.items()
        if entry and "_target_" in entry
    ]


def _instantiate_node(cfg: DictConfig, key: str, **given: Any) -> Any:
    node = cfg
    for name in key.split("."):
        node = node[name]
    # Hydra would copy the whole config of a node for each part, a dozen times a run.
    part = OmegaConf.to_container(node, resolve=True)
    assert isinstance(part, dict)
    # A model gets the plain config of its task, which its checkpoints keep: an object could not be loaded safely.
    plain = {"task": part.pop("task")} if key == "model" and "task" in part else None
    try:
        return build_object(part, key, plain=plain, **given)
    except Exception as error:
        raise explain_construction(error, key, node.get("_target_")) from error
