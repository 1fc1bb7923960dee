"""`evaluate`: the metrics of a past run's checkpoint, on any split, found from its folder alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from train_smarter import paths
from train_smarter.config.check import check
from train_smarter.config.cli import command
from train_smarter.errors import UserError
from train_smarter.failures import hint_for, message_of
from train_smarter.history import arguments, find, saved_config
from train_smarter.inference.tta import NOTES, use_tta
from train_smarter.metric_names import epoch_values
from train_smarter.run import files
from train_smarter.speed import startup

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from train_smarter.config.build import Components
    from train_smarter.data.base import Data
    from train_smarter.data.examples import SplitName

log = logging.getLogger(__name__)


def main() -> None:
    """The console script."""
    command("evaluate", run_evaluate, lambda words: arguments.argv_for_reader(words, "evaluate", paths.LOGS))


def run_evaluate(cfg: DictConfig) -> None:
    """Evaluates the run that `run=` names, with its own config and the user's overrides on top."""
    folder = Path(cfg.run)
    saved_config.use_recorded_counts(cfg, folder)
    check(cfg)
    cfg = saved_config.merge_saved_config(cfg, folder, "evaluate", "run", "splits", "checkpoint", "tta")
    checkpoint = find.checkpoint(folder, cfg.checkpoint)
    startup.import_quickly(speed=cfg.get("speed", True))
    from train_smarter.config.build import build
    from train_smarter.fit.module import Model
    from train_smarter.history.restore import load_checkpoint, load_preprocess, load_weights
    from train_smarter.run.tensorboard import write_scalars
    from train_smarter.terminal import echo, results_tables

    startup.configure_process(cfg.get("num_threads"), speed=cfg.get("speed", True))  # what older runs recorded has none
    run = build(cfg)
    if isinstance(run.model, Model):
        step, path = load_weights(run.data, run.model, folder, checkpoint), None
    else:  # Lightning loads it, after the module's own `setup`, which may make layers
        content = load_checkpoint(checkpoint)
        load_preprocess(run.data, folder, content, checkpoint)
        step, path = int(content.get("global_step", 0)), str(checkpoint)
    with use_tta(run.model, run.data, cfg.tta):
        metrics, details = evaluate(run, cfg.splits, ckpt_path=path)
    if run.trainer.is_global_zero:
        # Apart: other commands show what is in evaluate/ as the metrics of the checkpoint.
        target = folder / "evaluate" / (f"tta_{cfg.tta}" if cfg.tta else "") / "results.json"
        about = {"checkpoint": str(checkpoint)} | ({"tta": cfg.tta} if cfg.tta else {})
        files.write_json(target, {**about, **metrics, **details})
        write_scalars(target.parent, metrics, step=step)
        notes = [f"tta={cfg.tta}: {NOTES[cfg.tta]}"] if cfg.tta else []
        echo(f"{checkpoint}", *notes, *results_tables(metrics, cfg.splits), f"written to {target}")


def evaluate(
    run: Components, splits: Sequence[SplitName], *, ckpt_path: str | None = None
) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Clean metrics of each split: no augmentation, no dropout.

    Returns:
        `test/accuracy` and the like for each split; and what the task keeps beside numbers, by kind and split, for
        example {"confusion": {"test": [[...], ...]}}.
    """
    from train_smarter.data.base import Data
    from train_smarter.fit.module import Model

    if not (isinstance(run.model, Model) and isinstance(run.data, Data)):
        return _evaluate_foreign(run, splits, ckpt_path)
    run.data.splits = _measured_splits(run.data, splits)
    with _naming_checkpoint(run, ckpt_path):
        run.trainer.test(run.model, datamodule=run.data, ckpt_path=ckpt_path, weights_only=True, verbose=False)
    metrics: dict[str, float] = {}
    details: dict[str, dict[str, Any]] = {}
    for split, metric in run.model.test_metrics.items():
        metrics |= {f"{split}/{name}": value for name, value in metric.scores().items()}
        for kind, content in metric.details().items():
            details.setdefault(kind, {})[split] = content
    return metrics, details


def _measured_splits(data: Data, splits: Sequence[SplitName]) -> tuple[SplitName, ...]:
    """The splits without validation where the model was trained on it.

    Raises:
        UserError: no other one was given.
    """
    measured = tuple(name for name in splits if not (data.refit and name == "val"))
    if not measured:
        raise UserError(f"splits=[{', '.join(splits)}]: the run was trained on val, too (data.refit=true): give test")
    return measured


def _evaluate_foreign(
    run: Components, splits: Sequence[SplitName], ckpt_path: str | None
) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Validate and test as a LightningModule and a LightningDataModule do by themselves, under the names they log.

    A name that two splits share gets its split in front.
    """
    reasons = {split: why for split in splits if (why := _why_not_evaluated(run, split))}
    if reasons and run.trainer.is_global_zero:
        log.info("not evaluated: %s", "; ".join(f"{split} ({why})" for split, why in reasons.items()))
    logged = {split: _run_loop(run, split, ckpt_path) for split in splits if split not in reasons}
    names = [name for values in logged.values() for name in values]
    metrics = {
        name if names.count(name) == 1 else f"{split}/{name}": value
        for split, values in logged.items()
        for name, value in values.items()
    }
    return metrics, {}


def _why_not_evaluated(run: Components, split: SplitName) -> str:
    from lightning.pytorch.utilities.model_helpers import is_overridden

    if split == "train":
        return "that needs a train_smarter.Model and a train_smarter.Data"
    step = "validation_step" if split == "val" else "test_step"
    if not is_overridden(step, run.model):
        return f"{type(run.model).__name__} has no {step}"
    if not is_overridden(f"{split}_dataloader", run.data):
        return f"{type(run.data).__name__} has no {split}_dataloader"
    return ""


@contextmanager
def _naming_checkpoint(run: Components, ckpt_path: str | None) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            raise
        text = f"{message_of(error)}{hint_for(str(error))}"
        raise UserError(f"{ckpt_path} does not fit {type(run.model).__name__}: {text}") from error


def _run_loop(run: Components, split: SplitName, ckpt_path: str | None) -> dict[str, float]:
    """What is logged in one pass over a split."""
    trainer, loggers = run.trainer, run.trainer.loggers
    if split == "val":
        trainer.loggers = []  # or the curves of the training get one point more
    try:
        loop = trainer.validate if split == "val" else trainer.test
        with _naming_checkpoint(run, ckpt_path):
            loop(run.model, datamodule=run.data, ckpt_path=ckpt_path, weights_only=True, verbose=False)
    finally:
        trainer.loggers = loggers
    return {name: float(value) for name, value in epoch_values(trainer.callback_metrics).items()}


if __name__ == "__main__":
    main()
