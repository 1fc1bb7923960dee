"""`evaluate`: the metrics of a past run's checkpoint, on any split, found from its folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from train_smarter import paths
from train_smarter.config.check import check
from train_smarter.config.cli import command
from train_smarter.history import arguments, find, saved_config
from train_smarter.run import files
from train_smarter.speed import startup

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from train_smarter.config.build import Components
    from train_smarter.data.examples import SplitName


def main() -> None:
    """The console script."""
    command("evaluate", run_evaluate, lambda words: arguments.argv_for_reader(words, "evaluate", paths.LOGS))


def run_evaluate(cfg: DictConfig) -> None:
    """Evaluates the run that `run=` names, with its own config and the user's overrides on top."""
    check(cfg)
    folder = Path(cfg.run)
    cfg = saved_config.merge_saved_config(cfg, folder, "evaluate", "run", "splits", "checkpoint")
    checkpoint = find.checkpoint(folder, cfg.checkpoint)
    startup.import_quickly(speed=cfg.get("speed", True))
    from train_smarter.config.build import build
    from train_smarter.history.restore import load_weights
    from train_smarter.run.tensorboard import write_scalars
    from train_smarter.terminal import echo, results_table

    startup.configure_process(cfg.get("num_threads"), speed=cfg.get("speed", True))  # what older runs recorded has none
    run = build(cfg)
    step = load_weights(run.data, run.model, folder, checkpoint)
    metrics, details = evaluate(run, cfg.splits)
    if run.trainer.is_global_zero:
        target = folder / "evaluate" / "results.json"
        files.write_json(target, {"checkpoint": str(checkpoint), **metrics, **details})
        write_scalars(folder / "evaluate", metrics, step=step)
        echo(f"{checkpoint}", results_table(metrics, cfg.splits), f"written to {target}")


def evaluate(
    run: Components, splits: Sequence[SplitName], *, ckpt_path: str | None = None
) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Clean metrics of each split: no augmentation, no dropout.

    Returns:
        `test/accuracy` and the like for each split; and what the task keeps beside numbers, by kind and split, for
        example {"confusion": {"test": [[...], ...]}}.
    """
    run.data.splits = tuple(splits)
    run.trainer.test(run.model, datamodule=run.data, ckpt_path=ckpt_path, weights_only=True, verbose=False)
    metrics: dict[str, float] = {}
    details: dict[str, dict[str, Any]] = {}
    for split, metric in run.model.test_metrics.items():
        metrics |= {f"{split}/{name}": value for name, value in metric.scores().items()}
        for kind, content in metric.details().items():
            details.setdefault(kind, {})[split] = content
    return metrics, details


if __name__ == "__main__":
    main()
