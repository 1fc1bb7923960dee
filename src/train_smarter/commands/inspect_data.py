"""`train debug=data`: look at the data before a training, in the terminal and as a page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from train_smarter import paths
from train_smarter.config.check import check
from train_smarter.errors import UserError
from train_smarter.history import saved_config
from train_smarter.run import files, run_dir
from train_smarter.run.results import Results
from train_smarter.speed import startup
from train_smarter.terminal import echo

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from lightning import LightningModule

    from train_smarter.config.build import Components

MODEL_GROUPS = ("model", "optimizer", "scheduler")


def run_inspection(cfg: DictConfig, folder: Path, on_end: Callable[[Components, Results], None] | None) -> None:
    """Write data.json and data.html into the folder, and print them in short; nothing is trained.

    Raises:
        UserError: the config has a problem other than the model, or the data cannot be read.
    """
    _reject_modes(cfg)
    if cfg.rerun:
        cfg = saved_config.merge_saved_config(cfg, Path(cfg.rerun), "train", "resume", "rerun")
    misfit = _drop_misfit(cfg)
    if run_dir.global_rank() != 0:
        return
    startup.import_quickly(speed=cfg.get("speed", True))
    from lightning import seed_everything

    from train_smarter.config.build import Components, build_any_data
    from train_smarter.fit.module import Model
    from train_smarter.inspection.input_path import make_trainer
    from train_smarter.inspection.overview import inspect_data
    from train_smarter.report import data_page
    from train_smarter.task.base import make_task

    startup.configure_process(cfg.num_threads, speed=cfg.get("speed", True))
    if cfg.seed is None:
        cfg.seed = 0
    seed_everything(cfg.seed, verbose=False)
    data = build_any_data(cfg)
    model, misfit = (None, misfit) if misfit else _build_model(cfg)
    own = model if isinstance(model, Model) else None
    plain: Any = OmegaConf.to_container(cfg.task, resolve=True) if cfg.get("task") else None
    task = own.task if own else make_task(plain) if plain else None
    accelerator, precision = (cfg.trainer.get(key) for key in ("accelerator", "precision"))
    trainer = partial(make_trainer, accelerator=accelerator, precision=precision, folder=str(folder))
    found = {**inspect_data(data, task, own, trainer, examples=cfg.inspect.examples), "misfit": misfit}
    files.write_json(folder / "data.json", found)
    echo(*data_page.lines(found), f"page: {data_page.write_page(folder, found)}")
    if on_end is not None:
        parameters = sum(weight.numel() for weight in model.parameters()) if model else 0
        results = Results(cfg.monitor, None, None, None, epochs=0, parameters=parameters, details={"data": found})
        on_end(Components(data, model, data.trainer or trainer()), results)


def _reject_modes(cfg: DictConfig) -> None:
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("debug=data looks at one data set at a time: type it without -m")
    if cfg.resume:
        raise UserError(
            "debug=data trains nothing, so there is nothing to resume: to look at the data of that run, type train "
            f"rerun={run_dir.display_name(Path(cfg.resume), paths.LOGS)} debug=data"
        )


def _drop_misfit(cfg: DictConfig) -> str:
    """Check a config, and leave the model out if it alone is the problem: data can be looked at without; return why."""
    try:
        check(cfg)
    except UserError as error:
        with open_dict(cfg):
            for group in MODEL_GROUPS:
                cfg.pop(group, None)
        try:
            check(cfg)
        except UserError:
            raise error from None
        return str(error)
    return ""


def _build_model(cfg: DictConfig) -> tuple[LightningModule | None, str]:
    """The model, or why it cannot be built."""
    from train_smarter.config.build import build_any_model

    try:
        return build_any_model(cfg), ""
    except UserError as error:
        return None, str(error)
