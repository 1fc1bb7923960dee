"""The record of a run, from its start to its end."""

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from train_smarter import paths
from train_smarter.config.check import choices
from train_smarter.errors import NOT_WRITTEN, file_error
from train_smarter.run import lock, record, run_dir
from train_smarter.run import trial as run_trial
from train_smarter.run.results import Results
from train_smarter.speed import startup
from train_smarter.terminal import config_lines, config_tree, echo


@dataclass
class TrackedRun:
    """What a run that is tracked has come to: set before its record is closed."""

    results: Results | None = None


@contextmanager
def tracked_run(cfg: DictConfig, folder: Path, command: str) -> Iterator[TrackedRun]:
    """Write the run's record from its start to its end; only rank 0 does."""
    if cfg.seed is None:  # a new one each run, the same in each of its processes
        cfg.seed = zlib.crc32(str(folder).encode())
    first, trial = run_dir.global_rank() == 0, run_trial.current_trial() is not None
    if not first:
        _log_only_warnings()
    elif trial:
        _quiet_console()
    else:
        echo(*([config_tree(cfg)] if cfg.get("print_config") else config_lines(cfg, choices())))
    startup.import_quickly(speed=cfg.get("speed", True))
    run = TrackedRun()
    if not first:
        yield run
        return
    notes = record.Record(folder, cfg, command=command, overrides=run_dir.task_overrides())
    try:
        yield run
    except (KeyboardInterrupt, SystemExit):
        notes.end("interrupted")
        if not trial:
            echo(f"interrupted; to resume, type: {_resume_command(folder)}")
        raise
    except BaseException as error:
        lock.check_still_there(folder)
        notes.end("failed", error)
        if isinstance(error, OSError) and error.errno in NOT_WRITTEN:
            path = None if error.filename else folder
            raise file_error(error, path=path, then=_resume_command(folder)) from error
        raise
    lock.check_still_there(folder)
    pruned = run.results is not None and run.results.pruned is not None
    notes.end("pruned" if pruned else "done", results=run.results)


def is_multirun() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _resume_command(folder: Path) -> str:
    if is_multirun():
        return f"train -m resume={run_dir.display_name(folder.parent, paths.LOGS)}"
    return f"train resume={run_dir.display_name(folder, paths.LOGS)}"


def _quiet_console() -> None:
    """A trial is one line of its search, which names what was found; what it logs is in its file."""
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.WARNING)
            handler.addFilter(lambda line: not line.name.endswith(".diagnosis"))


def _log_only_warnings() -> None:
    """One log a run: of the other processes, only warnings reach the screen, and nothing the file."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in [handler for handler in root.handlers if isinstance(handler, logging.FileHandler)]:
        root.removeHandler(handler)
