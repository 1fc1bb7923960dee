"""`evaluate`: the metrics of a past run's checkpoint, on any split, found from its folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from train_smarter import record
from train_smarter.check import check
from train_smarter.command import ROOT, command
from train_smarter.error import UserError

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from train_smarter.build import Run
    from train_smarter.data.base import SplitName


def main() -> None:
    """The console script."""
    command("evaluate", act, lambda words: record.reading(words, "evaluate", ROOT / "logs"))


def act(cfg: DictConfig) -> None:
    """Evaluates the run that `run=` names, with its own config and the user's overrides on top."""
    check(cfg)
    folder = Path(cfg.run)
    cfg = _as_recorded(cfg, folder)
    checkpoint = _checkpoint(folder, cfg.checkpoint)
    from train_smarter.build import build
    from train_smarter.process import prepare
    from train_smarter.screen import results_table, show

    # The training's callbacks and loggers stay out; its progress bar may show.
    cfg.logger, cfg.callbacks = {}, {"progress": cfg.get("callbacks", {}).get("progress")}
    prepare(cfg.get("threads"))  # what older runs recorded has none
    run = build(cfg)
    run.data.load_preprocess(record.read_json(folder / "preprocess.json"))
    results = evaluate(run, cfg.split, ckpt_path=str(checkpoint))
    if run.trainer.is_global_zero:
        target = folder / "evaluate" / "results.json"
        record.write_json(target, {"checkpoint": str(checkpoint), **results})
        show(f"{checkpoint}", results_table(results, cfg.split), f"written to {target}")


def evaluate(run: Run, splits: Sequence[SplitName], *, ckpt_path: str | None = None) -> dict[str, Any]:
    """Clean metrics of each split: no augmentation, no dropout.

    Returns:
        `test/accuracy` and the like for each split, and `confusion`: rows of the (K, K) counts by split.
    """
    run.data.splits = tuple(splits)
    run.trainer.test(run.model, datamodule=run.data, ckpt_path=ckpt_path, verbose=False)
    tested = run.model.tested
    metrics = {f"{split}/{name}": value for split, tally in tested.items() for name, value in tally.result().items()}
    return {**metrics, "confusion": {split: tally.total.tolist() for split, tally in tested.items()}}


def _as_recorded(cfg: DictConfig, folder: Path) -> DictConfig:
    places = [override for override in record.overrides() if override.startswith("run=")]
    before = compose("evaluate", [*record.past_overrides(folder), *places])
    parts = [OmegaConf.to_container(config, resolve=False) for config in (record.recorded(folder), before, cfg)]
    own = {key: cfg[key] for key in ("run", "split", "checkpoint")}
    return DictConfig(record.updated(*parts) | own)


def _checkpoint(folder: Path, name: str) -> Path:
    named = folder / "checkpoints" / f"{name}.ckpt"
    path = named if named.is_file() else Path(name).expanduser()
    if not path.is_file():
        there = sorted(file.stem for file in (folder / "checkpoints").glob("*.ckpt"))
        raise UserError(f"checkpoint={name}: {folder} has {', '.join(there) or 'no checkpoint'}; a file is taken, too")
    return path.resolve()


if __name__ == "__main__":
    main()
