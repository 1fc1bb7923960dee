"""`train`: composes a run from conf/train.yaml, trains it and evaluates its best checkpoint."""

from __future__ import annotations

import logging
import math
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict
from rich.text import Text

from train_smarter import paths
from train_smarter.commands.find import run_find
from train_smarter.commands.inspect_data import run_inspection
from train_smarter.commands.tracking import is_multirun, tracked_run
from train_smarter.config.check import check
from train_smarter.config.cli import COMMAND_LINE, command
from train_smarter.config.facts import fill_facts
from train_smarter.history import arguments, saved_config
from train_smarter.history.resume import ResumeState, load_resume_state, prepare, schedule_needs_length
from train_smarter.run import files, lock, record, run_dir
from train_smarter.run import results as run_results
from train_smarter.run import trial as run_trial
from train_smarter.run.limits import ended_by, longer_time
from train_smarter.run.results import Results
from train_smarter.run.signals import exit_with_parent, handle_signals
from train_smarter.speed import startup
from train_smarter.terminal import (
    diagnosis_lines,
    echo,
    echo_labelled,
    format_duration,
    format_metric,
    results_tables,
    short_path,
)

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from train_smarter.callbacks.epoch_logger import EpochLogger
    from train_smarter.config.build import Components
    from train_smarter.search.pruning import Pruning

log = logging.getLogger(__name__)


# The environment variable in which the first process says whether training is over.
TRAINING_DONE = "TRAIN_SMARTER_TRAINING_DONE"


def main() -> None:
    """The console script."""
    command("train", run_train, lambda words: arguments.argv_for_train(words, paths.LOGS))


def run_train(
    cfg: DictConfig,
    *,
    command: str = COMMAND_LINE,
    on_end: Callable[[Components, Results], None] | None = None,
) -> Any:
    """Train what a composed config says; return the value or values of `optimized_metric`.

    Args:
        command: as the run's record shows it.
        on_end: called with what was trained, after its results were written.
    """
    exit_with_parent()
    folder = Path(cfg.paths.run)
    if cfg.get("inspect"):  # debug=data
        run_inspection(cfg, folder, on_end)
        return None
    if cfg.get("find"):
        run_find(cfg, folder, on_end)
        return None
    with _own_folder(cfg, folder):
        cfg, back = _resolve_config(cfg, folder)
        if back is not None and back.done:
            return _report_already_done(cfg, folder)
        filled = fill_facts(cfg)
        check(cfg)
        training_done = back is not None and back.training_done
        with handle_signals(), tracked_run(cfg, folder, command) as tracked:
            if back is not None:
                log.info("resuming after %d epochs, %d steps", back.epoch, back.step)
                cfg = prepare(back, folder)
            elif (cfg.rerun or filled) and run_dir.global_rank() == 0 and (folder / ".hydra").is_dir():
                # Hydra has saved what conf/ has today, before the data were read.
                files.atomic_write(folder / ".hydra" / "config.yaml", OmegaConf.to_yaml(cfg))
            run, epoch_logger, trial = _prepare_run(cfg, folder, training_done=training_done)
            hparams = record.hparams(cfg)
            for logger in run.trainer.loggers:
                logger.log_hyperparams(hparams)
            # A search never looks at the test split: only the best trial is evaluated on it, once.
            results = fit(
                run, monitor=cfg.monitor, train=cfg.train, test=cfg.test and not trial, ckpt_path=cfg.ckpt_path
            )
            if cfg.train and results.best_value is None:  # best.ckpt is lost, and training had ended
                results.best_value, results.best_epoch = run_results.last_of_epochs(folder, cfg.monitor)
            results.seconds, results.train_epoch_seconds_median = epoch_logger.elapsed, epoch_logger.seconds_per_epoch
            results.pruned = trial[0].pruned if trial else None
            if run.trainer.is_global_zero:
                lock.check_still_there(folder)
                _write_results(run, results, folder, hparams)
            tracked.results = results
        if on_end is not None:
            on_end(run, results)
        if run_dir.global_rank() != 0:
            return None
        if run_trial.current_trial() is None:
            _conclude(run, results, folder, report=cfg.get("report", True) and cfg.test)
        return results.objective(folder, cfg)


@contextmanager
def _own_folder(cfg: DictConfig, folder: Path) -> Iterator[None]:
    """No other process trains in the run folder until the block ends; rank 0 sees to it."""
    if run_dir.global_rank() != 0:
        yield
        return
    with lock.locked(folder):
        if is_multirun():
            run_dir.claim(folder, fresh=not cfg.resume)
        yield


def _resolve_config(cfg: DictConfig, folder: Path) -> tuple[DictConfig, ResumeState | None]:
    """Return the config to train with: as composed, of the run to repeat, or of the run to resume with its state."""
    if cfg.rerun and not cfg.resume:
        return saved_config.merge_saved_config(cfg, Path(cfg.rerun), "train", "resume", "rerun"), None
    if not cfg.resume:
        return saved_config.merge_pinned_config(cfg, "train"), None
    back = load_resume_state(cfg, folder, first=run_dir.global_rank() == 0)
    if not back.done:
        # The run's other processes compose after rank 0 has saved its config, and would see no difference to it.
        if run_dir.global_rank() == 0:
            os.environ[TRAINING_DONE] = str(back.training_done)
        back.training_done = os.environ.get(TRAINING_DONE, str(back.training_done)) == "True"
    return back.cfg, back


def _report_already_done(cfg: DictConfig, folder: Path) -> Any:
    results = run_results.read_results(folder)
    best: float | None = results.get("best_value")
    epochs = int(results.get("epochs") or 0)
    limit = ended_by(cfg, epochs)
    verb = "rerun" if schedule_needs_length(cfg) and limit in ("max_epochs", "max_steps") else "resume"
    more = {
        "max_epochs": lambda: f"trainer.max_epochs={epochs + 10}",
        "max_steps": lambda: f"trainer.max_steps={2 * cfg.trainer.max_steps}",
        "max_time": lambda: f"trainer.max_time={longer_time(cfg.trainer.max_time, 2)}",
        "early_stopping": lambda: f"callbacks.early_stopping.patience={2 * cfg.callbacks.early_stopping.patience}",
    }[limit]()
    echo(
        f"{folder.name} is done: {results.get('monitor')} {best} after {epochs} epochs; for more, type",
        f"train {verb}={run_dir.display_name(folder, paths.LOGS)} {more}",
    )
    return run_results.read_objective(folder, cfg) if run_dir.global_rank() == 0 else None


def _prepare_run(
    cfg: DictConfig, folder: Path, *, training_done: bool
) -> tuple[Components, EpochLogger, list[Pruning]]:
    """Set the process up and build the run; the callbacks that its results are read from are returned, too."""
    from lightning import seed_everything

    from train_smarter.callbacks.epoch_logger import EpochLogger
    from train_smarter.callbacks.monitor_check import MonitorCheck
    from train_smarter.callbacks.monitor_timing import MonitorTiming
    from train_smarter.config.build import build
    from train_smarter.data.base import Data
    from train_smarter.run.tensorboard import name_job

    if is_multirun() or run_trial.current_trial() is not None:
        name_job(cfg, folder, run_dir.task_overrides())
    startup.configure_process(cfg.num_threads, speed=cfg.get("speed", True))
    seed_everything(cfg.seed, verbose=False)
    epoch_logger, trial = EpochLogger(folder, training_done=training_done), _trial_callbacks(cfg)
    unchecked = [] if cfg.get("task") else [MonitorCheck(cfg.monitor)]
    run = build(cfg, epoch_logger, MonitorTiming(), *trial, *unchecked)
    if run.trainer.world_size == 1 and run_dir.global_rank() != 0:
        raise run_dir.stray_rank()
    if isinstance(run.data, Data):
        run.data.reuse_across_jobs = is_multirun()  # read once for all jobs of this process
    return run, epoch_logger, trial


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


def fit(
    run: Components, *, monitor: str, train: bool = True, test: bool = True, ckpt_path: str | None = None
) -> Results:
    """Train, then evaluate the best checkpoint on every split.

    Args:
        monitor: the metric that decides which checkpoint is best.
        train: False only evaluates what `ckpt_path` holds.
        test: False leaves the evaluation out.
        ckpt_path: a checkpoint to resume from, or to evaluate.
    """
    import torch

    from train_smarter.commands.evaluate import evaluate
    from train_smarter.fit.out_of_memory import explaining_memory
    from train_smarter.fit.stock_callbacks import evaluated_weights
    from train_smarter.fit.trained_steps import check_trained

    trainer = run.trainer
    _adopt_preprocess(run, ckpt_path)
    if train:
        with explaining_memory(run.data, trainer):
            trainer.fit(run.model, datamodule=run.data, ckpt_path=ckpt_path, weights_only=True)
        check_trained(trainer)
        ckpt_path = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
        if ckpt_path is None and test:
            log.info("no checkpoint was saved: the weights of the last step are evaluated")
    best = getattr(trainer.checkpoint_callback, "best_model_score", None)
    best = trainer.callback_metrics.get(monitor) if best is None else best
    saved = torch.load(ckpt_path, map_location="cpu", mmap=True, weights_only=True) if ckpt_path else {}
    results = Results(
        monitor=monitor,
        best_value=None if best is None else float(best),
        best_epoch=saved.get("epoch"),
        checkpoint=ckpt_path,
        epochs=trainer.current_epoch,
        parameters=sum(weight.numel() for weight in run.model.parameters() if weight.requires_grad),
        train_examples=len(getattr(run.data, "examples", {}).get("train", ())) or None,
    )
    if train:
        results.weights = evaluated_weights(trainer, saved)
    if test:
        results.metrics, results.details = evaluate(run, ("train", "val", "test"), ckpt_path=ckpt_path)
    return results


def _adopt_preprocess(run: Components, ckpt_path: str | None) -> None:
    """Let the data, which are not read yet, convert inputs as the weights know them that the run starts from."""
    from train_smarter.fit.module import Model
    from train_smarter.fit.pretrained import adopt_inputs
    from train_smarter.history.restore import load_checkpoint, load_preprocess

    if ckpt_path is not None:
        content = load_checkpoint(Path(ckpt_path))
        load_preprocess(run.data, None, content, Path(ckpt_path))
        if isinstance(run.model, Model):
            run.model.pretrained = None  # the checkpoint has all weights
            run.model.make_layers_for(content)
    elif isinstance(run.model, Model) and run.model.pretrained:
        adopt_inputs(run.model, run.data, run.model.pretrained)


def _write_results(run: Components, results: Results, folder: Path, hparams: dict[str, Any]) -> None:
    """Write results.json and TensorBoard's HParams page, and print the summary of the run."""
    from train_smarter.run import tensorboard

    files.write_json(folder / "results.json", results.to_json())
    shown = {name: value for name, value in results.metrics.items() if name.startswith("test")}
    metrics = ({} if results.best_value is None else {results.monitor: results.best_value}) | shown
    tensorboard.log_hparams(run.trainer, choices=hparams, metrics=metrics)
    if run_trial.current_trial() is not None:
        return
    echo("", _outcome(results))
    if results.metrics:
        echo(*results_tables(results.metrics, ("train", "val", "test")))
    if (folder / "diagnosis.json").is_file():
        echo("")
        name = run_dir.display_name(folder, paths.LOGS)
        echo_labelled(*diagnosis_lines(run_results.read_findings(folder), name))
    echo("")
    echo_labelled(f"run folder:  {short_path(folder)}")
    if tensorboard.has_tensorboard(run.trainer):
        logdir = shlex.quote(short_path(folder))
        echo_labelled(f"TensorBoard: {_executable('tensorboard')} --logdir {logdir}")


def _conclude(run: Components, results: Results, folder: Path, *, report: bool) -> None:
    """Write the report page, and print what to type to use the model; a multirun has a choice of models."""
    from train_smarter.data.base import Data
    from train_smarter.fit.module import Model

    if report:
        from train_smarter.report import page  # here: it draws

        page.write_at_end(folder)
    if results.checkpoint and isinstance(run.model, Model) and not is_multirun():
        name = run_dir.display_name(folder, paths.LOGS)
        source = "input=..." if isinstance(run.data, Data) else "split=test"
        echo_labelled(f"next:        predict run={name} {source}", f"{'':13}export-model run={name}")


def _outcome(results: Results) -> Text:
    """The best value and where it was reached, how long the run took."""
    words, sound = [], results.best_value is None or math.isfinite(results.best_value)
    if results.best_value is not None:
        where = "" if results.best_epoch is None else f", epoch {results.best_epoch}"
        words.append(f"best {results.monitor} {format_metric(results.best_value)}{where}")
    words.append(f"{results.epochs} epoch{'s' * (results.epochs != 1)} in {format_duration(results.seconds or 0)}")
    return Text("; ".join(words), "bold green" if sound else "bold red")


def _executable(program: str) -> str:
    """A program of this environment as it can be typed: by its name, or by its path where that is not found."""
    return program if shutil.which(program) else str(Path(sys.executable).with_name(program))


if __name__ == "__main__":
    main()
