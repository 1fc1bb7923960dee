"""`train find=lr` and `train find=batch_size`: measure before a training, and end with the override to type."""

from __future__ import annotations

import gc
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from train_smarter import paths
from train_smarter.config.check import check, choices
from train_smarter.errors import UserError, megabytes
from train_smarter.failures import is_out_of_memory
from train_smarter.history import saved_config
from train_smarter.quoting import quote
from train_smarter.run import files, run_dir
from train_smarter.run.results import Results
from train_smarter.speed import startup
from train_smarter.terminal import echo, format_table

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from train_smarter.config.build import Components
    from train_smarter.fit.batch_size_finder import Measured

Found = dict[str, Any]
ROWS = 10  # of the table of losses, at most


def run_find(cfg: DictConfig, folder: Path, on_end: Callable[[Components, Results], None] | None) -> None:
    """Measure, print and write find.json and find.png into the folder; nothing that is trained here is saved.

    Raises:
        UserError: the config has a problem, or nothing was found.
    """
    _reject_modes(cfg)
    if cfg.rerun:
        cfg = saved_config.merge_saved_config(cfg, Path(cfg.rerun), "train", "resume", "rerun", "find")
    cfg = _without_extras(cfg)
    check(cfg)
    startup.import_quickly(speed=cfg.get("speed", True))
    from train_smarter.config.build import build
    from train_smarter.report.find_plot import write_plot

    startup.configure_process(cfg.num_threads, speed=cfg.get("speed", True))
    with _quiet_data():
        found = {"lr": find_lr, "batch_size": find_batch_size}[cfg.find.quantity](cfg)
    found["command"] = _command(cfg, found["override"])
    files.write_json(folder / "find.json", found)
    write_plot(folder / "find.png", found)
    echo(*_lines(found), f"plot: {folder / 'find.png'}", f"type: {found['command']}")
    if on_end is not None:
        _seed(cfg)
        run = build(cfg)
        parameters = sum(weight.numel() for weight in run.model.parameters())
        results = Results(cfg.monitor, None, None, None, epochs=0, parameters=parameters, details={"find": found})
        on_end(run, results)


@contextmanager
def _quiet_data() -> Iterator[None]:
    """Without the lines of the data, which are the same for each of many trainings."""
    logger = logging.getLogger("train_smarter.data")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _reject_modes(cfg: DictConfig) -> None:
    name = f"find={cfg.find.quantity}"
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError(f"{name} measures one config at a time: type it without -m")
    if cfg.resume:
        raise UserError(
            f"{name} starts from new weights, so there is nothing to resume: to measure the config of that run, type "
            f"train rerun={quote(Path(cfg.resume))} {name}"
        )
    if (debug := choices().get("debug", "none")) != "none":
        raise UserError(f"{name} and debug={debug} exclude each other: leave one of them out")
    if not cfg.train or cfg.ckpt_path:
        given = "train=false" if not cfg.train else f"ckpt_path={cfg.ckpt_path}"
        raise UserError(f"{name} trains a few steps from new weights: leave out {given}")


def _without_extras(cfg: DictConfig) -> DictConfig:
    """The config without what a measurement does not need: callbacks, loggers, a schedule, validations."""
    cfg = cfg.copy()
    with open_dict(cfg):
        cfg.callbacks, cfg.logger, cfg.scheduler = {}, {}, None
        cfg.seed = 0 if cfg.seed is None else cfg.seed
        for key, value in {
            "max_epochs": -1,
            "max_time": None,
            "limit_train_batches": 1.0,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "check_val_every_n_epoch": 1,
            "val_check_interval": 1.0,
        }.items():
            cfg.trainer[key] = value
        cfg.monitor = str(cfg.monitor).replace("val/", "train/", 1)
    return cfg


def _seed(cfg: DictConfig) -> None:
    from lightning import seed_everything

    seed_everything(cfg.seed, verbose=False)


def _fit(cfg: DictConfig, callback: Any, steps: int) -> Components:
    """Train a new model for a few steps with one more callback."""
    from train_smarter.config.build import build
    from train_smarter.data.base import Data
    from train_smarter.fit.module import Model

    cfg = cfg.copy()
    cfg.trainer.max_steps = steps
    _seed(cfg)
    run = build(cfg, callback)
    name = f"find={cfg.find.quantity}"
    if not (isinstance(run.model, Model) and isinstance(run.data, Data)):
        raise UserError(f"{name} needs a train_smarter.Model and a train_smarter.Data, whose settings it can name")
    if run.trainer.world_size > 1:
        raise UserError(f"{name} measures in one process, not in {run.trainer.world_size}: add trainer.devices=1")
    run.data.reuse_across_jobs = True  # the sizes share what is read
    run.trainer.fit(run.model, datamodule=run.data)
    return run


# ---- learning rate


def find_lr(cfg: DictConfig) -> Found:
    from train_smarter.fit.lr_finder import LRSweep, steepest_rate

    find = cfg.find
    if not 0 < find.min_lr < find.max_lr or find.steps < 20:
        raise UserError(
            f"find.min_lr={find.min_lr}, find.max_lr={find.max_lr}, find.steps={find.steps}: give a min_lr above 0 and "
            "below max_lr, and at least 20 steps"
        )
    sweep = LRSweep(low=find.min_lr, high=find.max_lr, steps=find.steps)
    _fit(cfg, sweep, find.steps)
    lr = steepest_rate(sweep.losses)
    if lr is None:
        raise UserError(
            f"the training loss did not fall between find.min_lr={find.min_lr} and find.max_lr={find.max_lr}: give a "
            "wider range, or more steps, find.steps=300"
        )
    return {"quantity": "lr", "value": lr, "override": f"optimizer.lr={lr:g}", "losses": sweep.losses}


# ---- batch size


def find_batch_size(cfg: DictConfig) -> Found:
    import torch

    from train_smarter.fit import batch_size_finder as finder

    find = cfg.find
    if not 2 <= find.min_size <= find.max_size or find.steps < 2:
        raise UserError(
            f"find.min_size={find.min_size}, find.max_size={find.max_size}, find.steps={find.steps}: give a min_size "
            "from 2 to max_size, and at least 2 steps"
        )
    examples, device = _examples(cfg)
    room = (lambda _: True) if device.type == "cuda" else finder.has_room

    def measure(size: int) -> Measured:
        finder.reset_peak(device)
        speed = _speed(cfg, size)
        gc.collect()
        return finder.Measured(size, speed, None if speed is None else finder.peak_memory(device))

    largest = min(find.max_size, examples)
    found = finder.search_sizes(measure, smallest=find.min_size, largest=largest, room=room)
    best = finder.choose_size(found, most=max(find.min_size, examples // find.min_steps))
    if best is None:
        raise UserError(f"not even data.batch_size={found[0].size} fits into memory: give a smaller model")
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    return {
        "quantity": "batch_size",
        "value": best.size,
        "override": f"data.batch_size={best.size}",
        "min_steps": find.min_steps,
        "device": device.type,
        "total_memory": memory,
        "sizes": [[one.size, one.speed, one.memory] for one in found],
    }


def _examples(cfg: DictConfig) -> tuple[int, Any]:
    """How many training examples there are, and the device of the run, after one step of the smallest batch."""
    from train_smarter.fit.batch_size_finder import StepTimer

    run = _fit(_with_size(cfg, cfg.find.min_size), StepTimer(), 1)
    return len(run.data.examples["train"]), run.trainer.strategy.root_device


def _speed(cfg: DictConfig, size: int) -> float | None:
    """Examples per second; None: out of memory."""
    from train_smarter.fit.batch_size_finder import WARM_UP, StepTimer

    timer, steps = StepTimer(), cfg.find.steps + WARM_UP
    try:
        _fit(_with_size(cfg, size), timer, steps)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
    return size / timer.median


def _with_size(cfg: DictConfig, size: int) -> DictConfig:
    cfg = cfg.copy()
    cfg.data.batch_size, cfg.trainer.accumulate_grad_batches = size, 1
    return cfg


# ---- what is shown


def _command(cfg: DictConfig, override: str) -> str:
    """The command that was typed, for a training with what was found."""
    past = saved_config.past_overrides(Path(cfg.rerun)) if cfg.rerun else []
    left = ("find", "rerun=", f"{override.partition('=')[0]}=")
    typed = [word for word in run_dir.task_overrides() if word not in past and not word.lstrip("+").startswith(left)]
    first = [f"rerun={run_dir.display_name(Path(cfg.rerun), paths.LOGS)}"] if cfg.rerun else []
    return " ".join(["train", *first, shlex.join([*typed, override])])


def _lines(found: Found) -> list[str]:
    if found["quantity"] == "lr":
        rows = _thin(found["losses"])
        table = format_table([(f"{rate:.1e}", f"{loss:.4g}") for rate, loss in rows], "lr", "train/loss")
        return [table, f"the smoothed loss falls fastest at {found['value']:g}; higher rates need a warm-up"]
    on_gpu = found["device"] == "cuda"
    rows = [
        (size, "does not fit" if speed is None else f"{speed:.0f}", "-" if memory is None else megabytes(memory))
        for size, speed, memory in found["sizes"]
    ]
    lines = [format_table(rows, "batch size", "examples/s", "memory" if on_gpu else "memory of the process")]
    steps = f"of those with at least find.min_steps={found['min_steps']} steps an epoch"
    lines.append(f"{found['value']} is the smallest size within 5% of the highest speed, {steps}")
    fit = [size for size, speed, _ in found["sizes"] if speed is not None]
    if on_gpu:
        total = megabytes(found["total_memory"])
        lines.append(f"the largest that fits into {total}, of those measured: data.batch_size={max(fit)}")
    else:
        lines.append("a CPU has no limit before the machine swaps: the speed decides, and memory is what was used")
    lines.append("another batch size wants another learning rate: train find=lr with it")
    return lines


def _thin(rows: Sequence[Any]) -> list[Any]:
    every = -(-len(rows) // ROWS)
    return [*rows[::every]]
