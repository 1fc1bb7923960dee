"""What it takes to go on with a run in its own folder: `train resume=...`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.history import find, saved_config
from train_smarter.quoting import to_cli
from train_smarter.run import files, record, run_dir
from train_smarter.run import results as run_results
from train_smarter.run.checksums import damage_of, intact_checkpoints

# Other settings of these would make a state from what a run has become that no run of one setting could have.
FROZEN = ("seed", "monitor", "mode", "train", "task", "data", "model", "optimizer", "scheduler", "trainer")
# Of those, what changes no weight, or only how long it goes on.
ALLOWED = (
    "data.eval_batch_size",
    "data.on_device",
    "data.dir",
    "data.masks",
    "data.file",
    "data.val_file",
    "data.test_file",
    "data.urls",
    "data.md5",
    "data.download",
    "model.compile",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.profiler",
    "trainer.benchmark",
    "trainer.log_every_n_steps",
    "trainer.limit_test_batches",
    "trainer.enable_progress_bar",
    "trainer.detect_anomaly",
)
TABLES = ("metrics.csv", "layers.csv")  # of a run's folder; a row or more an epoch
# What a finished run can be asked for more by.
EXTENDING = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "callbacks.early_stopping")


@dataclass
class ResumeState:
    """How a run goes on.

    cfg: its config, with the user's overrides; done: nothing is left to do; over: training has ended, evaluation not;
    checkpoint: where training goes on from, or None: at its beginning; epoch, step: how many were done then; logged:
    the first step whose values are still to be logged.
    """

    cfg: DictConfig
    done: bool = False
    training_done: bool = False
    checkpoint: Path | None = None
    epoch: int = 0
    step: int = 0
    first_unlogged_step: int = 0


def load_resume_state(cfg: DictConfig, folder: Path, *, first: bool = True) -> ResumeState:
    """Finds out how the run in `folder` goes on with a config that was composed for it; changes nothing.

    Args:
        first: this is the run's first process: the others find it running.

    Raises:
        UserError: it is still running, or settings were given that do not fit what it has become.
    """
    state = record.status(folder)
    if not find.is_run(folder):  # a job of a multirun, whose turn had not come
        return ResumeState(saved_config.merge_pinned_config(cfg, "train"))
    if state == "running" and first:
        raise UserError(
            f"resume={folder} is still running, in process {record.read_record(folder).get('pid')}: "
            "stop it first (Ctrl-C saves it)"
        )
    cfg = saved_config.merge_saved_config(cfg, folder, "train", "resume", "rerun")
    changed = dict(_changed_keys(saved_config.load_saved_config(folder), cfg))
    longer = any(_is_under(key, EXTENDING) for key in changed)
    _reject_frozen_changes(changed, cfg, folder)
    if cfg.seed is None and (folder / "record.json").exists():
        cfg.seed = record.read_record(folder).get("seed")
    if state in ("done", "pruned") and not longer and _has_results(folder):
        return ResumeState(cfg, done=True)
    for name in TABLES:
        files.read_csv(folder / name)  # while nothing has been changed
    last = folder / "checkpoints" / "last.ckpt"
    if not last.exists():
        _reject_lost_checkpoint(last, folder)
        return ResumeState(cfg)
    from train_smarter.history.restore import load_checkpoint

    if damage := damage_of(last):
        raise UserError(f"resume={folder}: {last} cannot be used: {damage}; {_way_around(last, folder)}")
    content = load_checkpoint(last)
    if not all(isinstance(content.get(key), int) for key in ("epoch", "global_step")):
        raise UserError(f"{last} is not a checkpoint of a training: type train rerun={folder.name} to start again")
    over = bool((content.get("resume") or {}).get("over")) and not longer
    _reject_shorter_run(cfg, int(content["epoch"]))
    epoch, step = int(content["epoch"]), int(content["global_step"])
    # What is logged as an epoch starts has the step of its first batch, before which the checkpoint was taken.
    logged = step + ((content.get("resume") or {}).get("batch") == 0)
    return ResumeState(cfg, training_done=over, checkpoint=last, epoch=epoch, step=step, first_unlogged_step=logged)


def _has_results(folder: Path) -> bool:
    """Whether a run that has ended has its results; without, it is evaluated again."""
    try:
        return bool(run_results.read_results(folder))
    except UserError:
        return False


def _reject_lost_checkpoint(last: Path, folder: Path) -> None:
    """A run begins again where it had not come to its first last.ckpt; later, that would overwrite its best.ckpt."""
    if len(files.read_csv(folder / "metrics.csv")) > 1 and intact_checkpoints(last.parent):
        raise UserError(f"resume={folder}: {last} is gone; {_way_around(last, folder)}")


def _way_around(last: Path, folder: Path) -> str:
    """What to type where a run cannot resume from its last checkpoint."""
    others = intact_checkpoints(last.parent)
    again = f"train rerun={run_dir.display_name(folder, paths.LOGS)}"
    from_best = f"{again} ckpt_path={shlex.quote(str(last.with_name(f'{others[0]}.ckpt')))}" if others else ""
    return f"to start again, type {again}" + (f", or, from its {others[0]} checkpoint, {from_best}" if others else "")


def _changed_keys(before: DictConfig, after: DictConfig) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Keys of the two configs that differ, with both values; a key that only interpolates another one is left out."""
    flats = [saved_config.flatten(OmegaConf.to_container(cfg, resolve=False)) for cfg in (before, after)]
    for key in [*dict.fromkeys([*flats[0], *flats[1]])]:
        if flats[0].get(key) == flats[1].get(key):
            continue
        old, new = (_resolve(cfg, key, flat.get(key)) for cfg, flat in zip((before, after), flats, strict=True))
        if old != new:
            yield key, (old, new)


def _resolve(cfg: DictConfig, key: str, written: Any) -> Any:
    """A value as it is used, where it is an interpolation: `val/accuracy` for `val/${headline:}`."""
    if not isinstance(written, str) or "${" not in written:
        return written
    try:
        return OmegaConf.select(cfg, key)
    except OmegaConfBaseException:
        return written


def _is_under(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _reject_frozen_changes(changed: dict[str, tuple[Any, Any]], cfg: DictConfig, folder: Path) -> None:
    breaking = {
        key: values for key, values in changed.items() if _is_under(key, FROZEN) and not _is_under(key, ALLOWED)
    }
    fixed = schedule_needs_length(cfg)
    if fixed and any(_is_under(key, EXTENDING[:2]) for key in changed):
        breaking |= {key: values for key, values in changed.items() if _is_under(key, EXTENDING[:2])}
    if breaking:
        listed = "".join(f"\n  {key}: {to_cli(new)} instead of {to_cli(old)}" for key, (old, new) in breaking.items())
        why = "\nIts schedule is laid out over the whole run, whose length stays." if fixed else ""
        raise UserError(
            f"resume={folder} cannot go on with other settings than it began with:{listed}{why}\n"
            f"Leave them out, or start a new run with them: train rerun={folder.name} ..."
        )


def schedule_needs_length(cfg: DictConfig) -> bool:
    """Whether the schedule was laid out over the length of the run."""
    return bool(cfg.get("scheduler")) and "auto" in dict(cfg.scheduler.get("torch_scheduler") or {}).values()


def _reject_shorter_run(cfg: DictConfig, epoch: int) -> None:
    most = cfg.trainer.get("max_epochs")
    if most is not None and 0 <= most < epoch:
        raise UserError(f"trainer.max_epochs={most}, but {epoch} epochs are done: give more, or leave it out")


def prepare(back: ResumeState, folder: Path) -> DictConfig:
    """The config with which training goes on; the folder's curves are cut where they do."""
    if run_dir.global_rank() == 0:
        record.save_hydra_config(back.cfg, folder, run_dir.task_overrides())
        for name in TABLES:
            files.truncate_csv(folder / name, back.epoch)
    cfg = back.cfg.copy()
    with open_dict(cfg):
        if back.checkpoint is not None:
            cfg.ckpt_path = str(back.checkpoint)
            if "pretrained" in cfg.model:  # the checkpoint has its weights already
                cfg.model.pretrained = None
        for logger in (cfg.get("logger") or {}).values():
            kind = str(logger.get("_target_")) if logger else ""
            if kind.endswith(".TensorBoardLogger"):
                logger.purge_step = back.first_unlogged_step
            elif kind.endswith(".CSVLogger"):  # it would empty the file that is there
                logger.version = f"resumed_at_{back.step}"
    return cfg
