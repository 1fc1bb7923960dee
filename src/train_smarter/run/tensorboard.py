"""Where pictures, histograms and layouts go: TensorBoard, if the run has it."""

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


log = logging.getLogger(__name__)

MAX_LABEL = 120  # characters of a folder's name


def has_tensorboard(trainer: Trainer) -> bool:
    """Whether the run has a TensorBoard logger; the same answer in every process."""
    return any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)


def name_job(cfg: DictConfig, folder: Path, words: Sequence[str]) -> None:
    """Have a multirun's job write its event files to a folder that is named by its overrides: TensorBoard shows that.

    A job that resumes continues in the folder that it has. A logger with a version of its own is left as it is.

    Args:
        cfg: its config, which is changed.
        folder: of the job.
        words: its overrides.
    """
    file = folder.parent / "multirun.yaml"
    loggers = [one for one in (cfg.get("logger") or {}).values() if one and one.get("version") == ""]
    loggers = [one for one in loggers if str(one.get("_target_")).endswith(".TensorBoardLogger")]
    if not loggers or not file.is_file():
        return
    hydra: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)  # it may be a stranger's
    typed = hydra["hydra"]["overrides"]["task"]
    fixed = [_key(word) for word in typed if not OverridesParser.create().parse_override(word).is_sweep_override()]
    label = job_label([word for word in words if _key(word) not in fixed])
    for logger in loggers:
        home = Path(logger.save_dir, logger.name)
        there = sorted(home.iterdir()) if home.is_dir() else []
        logger.version = label if not there else there[0].name if there[0].is_dir() else ""


def job_label(words: Sequence[str]) -> str:
    """Overrides as the name of a folder: `model=cnn,optimizer.lr=0.00123`."""
    parts = []
    for word in words:
        key, value = _key(word), word.partition("=")[2]
        with suppress(ValueError):
            value = f"{float(value):.4g}"
        parts.append(re.sub(r"[^\w.+=-]+", "_", f"{key}={value}"))
    return ",".join(parts)[:MAX_LABEL]


def _key(word: str) -> str:
    return word.lstrip("+").partition("=")[0]


def tensorboard_writers(trainer: Trainer) -> "list[SummaryWriter]":
    """The event files this process writes to: one per TensorBoard logger on rank zero, none on other ranks."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def all_gather(trainer: Trainer, own: Any) -> list[Any]:
    """What each process has, in every process: all have to call it."""
    shares: list[Any] = [own] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(shares, own)
    return shares


def warn_skipped(callback: Callback, why: str) -> None:
    """Log that a callback does not fit the model."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(callback).__name__).lower()
    log.info("callbacks.%s is left out: %s", name, why)


def latest_step(trainer: Trainer) -> int:
    """The optimizer step made last, where Lightning puts the scalars of an epoch's end on TensorBoard's axis."""
    return max(0, trainer.global_step - 1)


def write_scalars(folder: Path, results: Mapping[str, Any], *, step: int) -> None:
    """Leaves metrics, as `test/loss`, in an event file of their own: another run in TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for name, value in results.items():
            if isinstance(value, int | float):
                writer.add_scalar(name, value, step)


def log_hparams(trainer: Trainer, *, choices: Mapping[str, object], metrics: Mapping[str, float]) -> None:
    """Fills TensorBoard's HParams page, where runs are compared: one row a run.

    To be called once, when a run is over. Does nothing without a TensorBoard logger, and on other ranks than zero.

    Args:
        trainer: of the finished run.
        choices: flat, e.g. {"model": "cnn", "optimizer.lr": 1e-3}; true, false and null are shown as YAML spells them,
            a list as Python does.
        metrics: of the best checkpoint, e.g. {"test/accuracy": 0.98}, shown as `best/test/accuracy`: a name of its own,
            since the page reads scalars, and no curve should get a point more.
    """
    from torch.utils.tensorboard.summary import hparams

    for writer in tensorboard_writers(trainer):
        for name, value in metrics.items():
            writer.add_scalar(f"best/{name}", value, trainer.global_step)
        # The first summary describes the columns. TensorBoard would take that of one run for all runs, and hide what
        # only others have; without any, it finds the columns by itself.
        _, start, end = hparams({name: _to_hparam(value) for name, value in choices.items()}, {})
        file = writer._get_file_writer()
        file.add_summary(start)
        file.add_summary(end)
        writer.close()  # this opened it again: Lightning had closed it at the end of the run


def _to_hparam(value: object) -> int | float | str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value if isinstance(value, int | float | str) else str(value)
