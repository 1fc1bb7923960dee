"""From a config to objects: the only place that instantiates."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hydra.errors import InstantiationException
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

import train_smarter.config.resolvers  # noqa: F401 (a config is resolved here)
from train_smarter import paths
from train_smarter.data.base import Data
from train_smarter.errors import UserError, first_paragraph, root_cause
from train_smarter.fit.module import Model
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
    ".*isinstance.treespec, LeafSpec.*is deprecated.*",
    ".*`srun` command is available.*",  # a login node of a cluster: the run is one process all the same
):
    warnings.filterwarnings("ignore", note)


@dataclass
class Components:
    """What a run is made of."""

    data: Data
    model: Model
    trainer: Trainer


def build(cfg: DictConfig, *extra: Callback) -> Components:
    """Data, model and trainer of a composed config; `extra` callbacks come first."""
    loggers = [logger for _, logger in _instantiate_group(cfg, "logger")]
    callbacks = [callback for _, callback in _instantiate_group(cfg, "callbacks")]
    if not loggers:  # it refuses to work without one
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    run = Components(build_data(cfg), build_model(cfg), build_trainer(cfg, loggers, [*extra, *callbacks]))
    if cfg.get("speed", True):
        accelerate(run.trainer, run.model)
    return run


def build_data(cfg: DictConfig) -> Data:
    data = _instantiate_node(cfg, "data")
    if not isinstance(data, Data):
        raise UserError(f"data._target_={cfg.data._target_} is not a subclass of {Data.__module__}.{Data.__qualname__}")
    return data


def build_model(cfg: DictConfig) -> Model:
    model = _instantiate_node(cfg, "model")
    if not isinstance(model, Model):
        kind = f"{Model.__module__}.{Model.__qualname__}"
        raise UserError(f"model._target_={cfg.model._target_} is not a subclass of {kind}")
    return model


def build_trainer(cfg: DictConfig, loggers: list[Logger], callbacks: list[Callback]) -> Trainer:
    """The trainer alone: `evaluate` brings no callbacks of the training."""
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
        # cuDNN's trials would undo `deterministic`.
        benchmark=bool(cfg.trainer.get("benchmark")) and not cfg.trainer.get("deterministic"),
        **profiler,
    )
    assert isinstance(trainer, Trainer)
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
        cause = root_cause(error)
        if isinstance(cause, UserError):
            raise cause from None
        ours = str(node.get("_target_")).partition(".")[0] in paths.OWN
        wrong_argument = isinstance(cause, TypeError) and "argument" in str(cause)
        if ours and not (isinstance(error, InstantiationException) or wrong_argument):
            raise  # a fault in the project's own code deserves its traceback
        hint = "; trainer=auto takes what this machine has" if isinstance(cause, MisconfigurationException) else ""
        raise UserError(f"{key}: {first_paragraph(cause)} (in {node.get('_target_')}){hint}") from error
