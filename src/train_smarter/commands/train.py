"""`train`: composes a run from conf/train.yaml, trains it and evaluates its best checkpoint."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from train_smarter import paths
from train_smarter.config.check import check
from train_smarter.config.cli import COMMAND_LINE, command
from train_smarter.history import arguments, saved_config
from train_smarter.history.resume import load_resume_state, prepare, schedule_needs_length
from train_smarter.run import files, record, run_dir
from train_smarter.run import results as run_results
from train_smarter.run import trial as run_trial
from train_smarter.run.signals import exit_with_parent, handle_signals
from train_smarter.speed import startup
from train_smarter.terminal import config_tree, diagnosis_lines, echo, results_table

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from train_smarter.config.build import Components
    from train_smarter.search.pruning import Pruning

log = logging.getLogger(__name__)


TRAINING_DONE = (
    "TRAIN_SMARTER_OVER"  # the environment variable by which the first process tells whether training is over
)


def main() -> None:
    """The console script."""
    command("train", run_train, lambda words: arguments.argv_for_train(words, paths.LOGS))


def run_train(cfg: DictConfig) -> Any:
    """Train what a composed config says; return the value or values of `optimized_metric`."""
    exit_with_parent()
    folder = Path(cfg.paths.run)
    back = None
    if cfg.resume:
        back = load_resume_state(cfg, folder, first=run_dir.global_rank() == 0)
        if back.done:
            return _report_already_done(back.cfg, folder)
        # The run's other processes compose after this one has saved its config, and would see no difference to it.
        if run_dir.global_rank() == 0:
            os.environ[TRAINING_DONE] = str(back.training_done)
        back.training_done = os.environ.get(TRAINING_DONE, str(back.training_done)) == "True"
        cfg = back.cfg
    elif cfg.rerun:
        cfg = saved_config.merge_saved_config(cfg, Path(cfg.rerun), "train", "resume", "rerun")
    else:
        cfg = saved_config.merge_pinned_config(cfg, "train")
    check(cfg)
    with handle_signals(), _tracked_run(cfg, folder):
        if back is not None:
            log.info("going on after %d epochs, %d steps", back.epoch, back.step)
            _fit_and_finish(prepare(back, folder), folder, over=back.training_done)
        else:
            if cfg.rerun and run_dir.global_rank() == 0 and (folder / ".hydra").is_dir():
                OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")  # Hydra has kept what conf/ says today
            _fit_and_finish(cfg, folder)
    if cfg.get("report", True) and cfg.test and run_dir.global_rank() == 0 and run_trial.current_trial() is None:
        from train_smarter.report import page  # here: it draws

        page.write_at_end(folder)
    return _objective_value(cfg, folder)


def _objective_value(cfg: DictConfig, folder: Path) -> Any:
    return run_results.read_objective(folder, cfg) if run_dir.global_rank() == 0 else None


def _report_already_done(cfg: DictConfig, folder: Path) -> Any:
    results = files.read_json(folder / "results.json")
    best: float | None = results.get("best_value")
    verb, steps = "rerun" if schedule_needs_length(cfg) else "resume", cfg.trainer.get("max_steps") or -1
    epochs = int(results.get("epochs") or 0)
    more = f"trainer.max_steps={2 * steps}" if steps > 0 else f"trainer.max_epochs={epochs + 10}"
    echo(
        f"{folder.name} is done: {results.get('monitor')} {best} after {epochs} epochs; for more, type",
        f"train {verb}={run_dir.display_name(folder, paths.LOGS)} {more}",
    )
    return _objective_value(cfg, folder)


def _fit_and_finish(cfg: DictConfig, folder: Path, *, over: bool = False) -> None:
    """Builds, trains and concludes; `training_done`: training has ended in an earlier start of this run."""
    from lightning import seed_everything

    from train_smarter.callbacks.epoch_logger import EpochLogger
    from train_smarter.config.build import build

    startup.configure_process(cfg.num_threads, speed=cfg.get("speed", True))
    seed_everything(cfg.seed, verbose=False)
    journal = EpochLogger(folder, training_done=over)
    trial = _trial_callbacks(cfg)
    run = build(cfg, journal, *trial)
    run.data.reuse_across_jobs = _is_multirun()  # read once for all jobs of this process
    chosen = record.hparams(cfg)
    for logger in run.trainer.loggers:
        logger.log_hyperparams(chosen)
    # A search never looks at the test split: it is asked once, of the winner.
    results = train(run, monitor=cfg.monitor, fit=cfg.train, test=cfg.test and not trial, ckpt_path=cfg.ckpt_path)
    results |= {"seconds": journal.elapsed, "train_epoch_seconds_median": journal.seconds_per_epoch}
    if trial and trial[0].pruned is not None:
        results["pruned"] = trial[0].pruned
    if run.trainer.is_global_zero:
        _write_results(run, results, folder, chosen)


def _trial_callbacks(cfg: DictConfig) -> list[Pruning]:
    """What a run that is a trial of a search has beside: it reports to the study, and is quiet."""
    ticket = run_trial.current_trial()
    if ticket is None:
        return []
    from train_smarter.search.pruning import Pruning

    with open_dict(cfg):
        for name in ("progress", "summary"):
            cfg.callbacks.pop(name, None)
    return [Pruning(ticket, monitor=cfg.monitor)]


def train(
    run: Components, *, monitor: str, fit: bool = True, test: bool = True, ckpt_path: str | None = None
) -> dict[str, Any]:
    """Trains, then evaluates the best checkpoint on every split.

    Args:
        monitor: the metric that decides which checkpoint is best.
        fit: False only evaluates what `ckpt_path` holds.
        test: False leaves the evaluation out.
        ckpt_path: a checkpoint to go on from, or to evaluate.

    Returns:
        The metrics by name (`test/accuracy`), their `confusion` counts, and `monitor`, `best_value`, `best_epoch`,
        `epochs`, `checkpoint`; `best_value` is the monitored value of the best checkpoint, not of the last epoch.
    """
    from train_smarter.commands.evaluate import evaluate

    trainer = run.trainer
    if fit:
        trainer.fit(run.model, datamodule=run.data, ckpt_path=ckpt_path, weights_only=True)
        ckpt_path = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
        if ckpt_path is None and test:
            log.info("no checkpoint was kept: the weights of the last step are evaluated")
    results: dict[str, Any] = {
        "monitor": monitor,
        **_best_checkpoint(run, monitor, ckpt_path),
        "epochs": trainer.current_epoch,
    }
    results["parameters"] = sum(weight.numel() for weight in run.model.parameters() if weight.requires_grad)
    if test:
        results |= evaluate(run, ("train", "val", "test"), ckpt_path=ckpt_path)
    return results


def _best_checkpoint(run: Components, monitor: str, ckpt_path: str | None) -> dict[str, Any]:
    import torch

    best = getattr(run.trainer.checkpoint_callback, "best_model_score", None)
    value = run.trainer.callback_metrics.get(monitor) if best is None else best
    epoch = torch.load(ckpt_path, map_location="cpu", mmap=True, weights_only=True)["epoch"] if ckpt_path else None
    return {"best_value": None if value is None else float(value), "best_epoch": epoch, "checkpoint": ckpt_path}


def _write_results(run: Components, results: dict[str, Any], folder: Path, chosen: dict[str, Any]) -> None:
    """results.json, TensorBoard's HParams page, and the end of what the terminal shows."""
    from train_smarter.run import tensorboard
    from train_smarter.run.tensorboard import log_hparams

    files.write_json(folder / "results.json", results)
    shown = {results["monitor"]: results["best_value"]} | {
        name: results.get(name) for name in ("test/accuracy", "test/f1")
    }
    log_hparams(run.trainer, choices=chosen, metrics={name: v for name, v in shown.items() if v is not None})
    if run_trial.current_trial() is not None:
        return
    if "test/accuracy" in results:
        echo(results_table(results, ("train", "val", "test")))
    if (folder / "diagnosis.json").is_file():
        echo(*diagnosis_lines(run_results.read_findings(folder), run_dir.display_name(folder, paths.LOGS)))
    echo(f"run folder:  {folder}")
    if tensorboard.has_tensorboard(run.trainer):
        echo(f"TensorBoard: {_executable('tensorboard')} --logdir {shlex.quote(str(folder))}")


def _executable(program: str) -> str:
    """A program of this environment as it can be typed: by its name, or by its path where that is not found."""
    return program if shutil.which(program) else str(Path(sys.executable).with_name(program))


@contextmanager
def _tracked_run(cfg: DictConfig, folder: Path) -> Iterator[None]:
    """The run's record, from its start to its end; rank 0 writes it alone."""
    if cfg.seed is None:  # a new one each run, the same in each of its processes
        cfg.seed = zlib.crc32(str(folder).encode())
    first, trial = run_dir.global_rank() == 0, run_trial.current_trial() is not None
    if not first:
        _log_only_warnings()
    elif trial:
        _quiet_console()
    else:
        echo(config_tree(cfg))
    startup.import_quickly(speed=cfg.get("speed", True))
    if not first:
        yield
        return
    notes = record.Record(folder, cfg, command=COMMAND_LINE, overrides=run_dir.task_overrides())
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        notes.end("interrupted")
        if not trial:
            echo(f"interrupted; to go on, type: {_resume_command(folder)}")
        raise
    except BaseException as error:
        notes.end("failed", error)
        raise
    notes.end("pruned" if "pruned" in files.read_json(folder / "results.json") else "done")


def _is_multirun() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _resume_command(folder: Path) -> str:
    if _is_multirun():
        return f"train -m resume={run_dir.display_name(folder.parent, paths.LOGS)}"
    return f"train resume={run_dir.display_name(folder, paths.LOGS)}"


def _quiet_console() -> None:
    """A trial is one line of its search, which names what was found; what it logs stands in its file."""
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


if __name__ == "__main__":
    main()
