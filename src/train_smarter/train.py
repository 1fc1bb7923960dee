"""`train`: composes a run from conf/train.yaml, trains it and evaluates its best checkpoint."""

from __future__ import annotations

import logging
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
from omegaconf import DictConfig, OmegaConf

from train_smarter import past, record
from train_smarter.check import check
from train_smarter.command import LOGS, TYPED, command
from train_smarter.interrupt import heeded
from train_smarter.resume import planned, prepare, returned
from train_smarter.screen import config_tree, results_table, show

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from train_smarter.build import Run

log = logging.getLogger(__name__)


def main() -> None:
    """The console script."""
    command("train", act, lambda words: past.returning(words, LOGS))


def act(cfg: DictConfig) -> float | None:
    """Trains what a composed config says; returns the best value of the monitored metric, for a search."""
    folder = Path(cfg.paths.run)
    back = None
    if cfg.resume:
        back = returned(cfg, folder, first=record.rank() == 0)
        if back.done:
            return _finished(back.cfg, folder)
        cfg = back.cfg
    elif cfg.rerun:
        cfg = past.as_recorded(cfg, Path(cfg.rerun), "train", "resume", "rerun")
    check(cfg)
    with heeded(), _recorded(cfg, folder):
        if back is not None:
            log.info("going on after %d epochs, %d steps", back.epoch, back.step)
            return _trained(prepare(back, folder), folder, over=back.over)
        if cfg.rerun and record.rank() == 0 and (folder / ".hydra").is_dir():
            OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")  # Hydra has kept what conf/ says today
        return _trained(cfg, folder)


def _finished(cfg: DictConfig, folder: Path) -> float | None:
    results = record.read_json(folder / "results.json")
    best: float | None = results.get("best")
    verb = "rerun" if planned(cfg) else "resume"
    show(
        f"{folder.name} is done: {results.get('monitor')} {best} after {results.get('epochs')} epochs; for more, type",
        f"train {verb}={past.named(folder, LOGS)} trainer.max_epochs={int(results.get('epochs') or 0) + 10}",
    )
    return best


def _trained(cfg: DictConfig, folder: Path, *, over: bool = False) -> float | None:
    """Builds, trains and concludes; `over`: training has ended in an earlier start of this run."""
    from lightning import seed_everything

    from train_smarter.build import build
    from train_smarter.callbacks.journal import Journal
    from train_smarter.process import prepare as prepare_process

    prepare_process(cfg.threads)
    seed_everything(cfg.seed, verbose=False)
    journal = Journal(folder, over=over)
    run = build(cfg, journal)
    chosen = record.flat_choices(cfg)
    for logger in run.trainer.loggers:
        logger.log_hyperparams(chosen)
    results = train(run, monitor=cfg.monitor, fit=cfg.train, test=cfg.test, ckpt_path=cfg.ckpt_path)
    results |= {"seconds": journal.elapsed, "seconds_per_epoch": journal.seconds_per_epoch}
    if run.trainer.is_global_zero:
        _conclude(run, results, folder, chosen)
    best: float | None = results["best"]
    return best


def train(
    run: Run, *, monitor: str, fit: bool = True, test: bool = True, ckpt_path: str | None = None
) -> dict[str, Any]:
    """Trains, then evaluates the best checkpoint on every split.

    Args:
        monitor: the metric that decides which checkpoint is best.
        fit: False only evaluates what `ckpt_path` holds.
        test: False leaves the evaluation out.
        ckpt_path: a checkpoint to go on from, or to evaluate.

    Returns:
        The metrics by name (`test/accuracy`), their `confusion` counts, and `monitor`, `best`, `best_epoch`, `epochs`,
        `checkpoint`; `best` is the monitored value of the best checkpoint, not of the last epoch.
    """
    from train_smarter.evaluate import evaluate

    trainer = run.trainer
    if fit:
        trainer.fit(run.model, datamodule=run.data, ckpt_path=ckpt_path, weights_only=True)
        ckpt_path = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
        if ckpt_path is None and test:
            log.info("no checkpoint was kept: the weights of the last step are evaluated")
    results: dict[str, Any] = {"monitor": monitor, **_best(run, monitor, ckpt_path), "epochs": trainer.current_epoch}
    if test:
        results |= evaluate(run, ("train", "val", "test"), ckpt_path=ckpt_path)
    return results


def _best(run: Run, monitor: str, ckpt_path: str | None) -> dict[str, Any]:
    import torch

    best = getattr(run.trainer.checkpoint_callback, "best_model_score", None)
    value = run.trainer.callback_metrics.get(monitor) if best is None else best
    epoch = torch.load(ckpt_path, map_location="cpu", mmap=True, weights_only=True)["epoch"] if ckpt_path else None
    return {"best": None if value is None else float(value), "best_epoch": epoch, "checkpoint": ckpt_path}


def _conclude(run: Run, results: dict[str, Any], folder: Path, chosen: dict[str, Any]) -> None:
    """results.json, TensorBoard's HParams page, and the end of what the terminal shows."""
    from train_smarter.callbacks import board
    from train_smarter.callbacks.charts import log_hparams

    record.write_json(folder / "results.json", results)
    shown = {results["monitor"]: results["best"]} | {name: results.get(name) for name in ("test/accuracy", "test/f1")}
    log_hparams(run.trainer, choices=chosen, metrics={name: v for name, v in shown.items() if v is not None})
    if "test/accuracy" in results:
        show(results_table(results, ("train", "val", "test")))
    show(f"run folder:  {folder}")
    if board.wanted(run.trainer):
        show(f"TensorBoard: {_beside('tensorboard')} --logdir {shlex.quote(str(folder))}")


def _beside(program: str) -> str:
    """A program of this environment as it can be typed: by its name, or by its path where that is not found."""
    return program if shutil.which(program) else str(Path(sys.executable).with_name(program))


@contextmanager
def _recorded(cfg: DictConfig, folder: Path) -> Iterator[None]:
    """The run's record, from its start to its end; rank 0 writes it alone."""
    if cfg.seed is None:  # a new one each run, the same in each of its processes
        cfg.seed = zlib.crc32(str(folder).encode())
    if record.rank() != 0:
        _log_warnings_alone()
        yield
        return
    show(config_tree(cfg))
    notes = record.Record(folder, cfg, command=TYPED, overrides=past.overrides())
    status = "failed"
    try:
        yield
        status = "done"
    except (KeyboardInterrupt, SystemExit):
        status = "interrupted"
        show(f"interrupted; to go on, type: {_going_on(folder)}")
        raise
    finally:
        notes.end(status)


def _going_on(folder: Path) -> str:
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return f"train -m resume={past.named(folder.parent, LOGS)}"
    return f"train resume={past.named(folder, LOGS)}"


def _log_warnings_alone() -> None:
    """One log a run: of the other processes, only warnings reach the screen, and nothing the file."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in [handler for handler in root.handlers if isinstance(handler, logging.FileHandler)]:
        root.removeHandler(handler)


if __name__ == "__main__":
    main()
