"""Train, load and predict from Python: a notebook, a script, a service. `train_smarter` exports these functions."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose as compose_with_hydra
from hydra import initialize_config_dir
from hydra._internal.execution_policy import execution_whitelist
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from train_smarter import paths
from train_smarter.commands.train import run_train
from train_smarter.config import cli
from train_smarter.config.check import check
from train_smarter.config.facts import fill_facts
from train_smarter.errors import UserError
from train_smarter.history import arguments
from train_smarter.run.environment import load_env_file
from train_smarter.run.results import Results
from train_smarter.run.run_dir import RunRefusedError, remove_if_empty

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from train_smarter.config.build import Components
    from train_smarter.data.base import Data
    from train_smarter.fit.module import Model


@dataclass(frozen=True)
class TrainedRun:
    """What a training ends with.

    Attributes:
        results: the best value, the metrics of every split, and more.
        model: with the weights of the best checkpoint, in evaluation mode on the CPU.
        data: with the examples of each split in `data.examples`.
        folder: the run folder, which `run=`, `resume=` and `rerun=` accept.
    """

    results: Results
    model: Model
    data: Data
    folder: Path


def train(overrides: Sequence[str] = ()) -> TrainedRun:
    """Train like the command `train`, with the same numbers, in this process.

    Ctrl-C (in a notebook: the stop button) saves the run and raises; `train(["resume=last"])` continues it. Your
    logging stays as it is: the run's lines go to its train.log.

    Args:
        overrides: the words of the command line, for example ["data=digits", "seed=1"].

    Raises:
        UserError: a word is wrong, or the training cannot run; the message says what to type.
    """
    typed = _check_words(overrides)
    command = shlex.join(["train", *typed])
    ended: list[tuple[Components, Results]] = []
    folders: list[Path] = []
    failed: list[Exception] = []

    def task(cfg: DictConfig) -> None:
        folders.append(Path(cfg.paths.run))
        with _log_file(folders[0] / "train.log"):
            try:
                run_train(cfg, command=command, on_end=lambda run, results: ended.append((run, results)))
            except Exception as error:  # raised below: Hydra would print a line before it
                remove_if_empty(folders[0])
                failed.append(error)

    with _errors(), _separate_hydra(), execution_whitelist(cli.HYDRA_ALLOWED_TARGETS):
        words = [cli.absolutize(word) for word in arguments.argv_for_train(typed, paths.LOGS)]
        hydra = Hydra.create_main_hydra2("train", create_config_search_path(str(paths.CONF)))
        hydra.run("train", task, words, with_log_configuration=False)
        if failed:
            raise failed[0]
    if not ended:
        raise UserError(f"{folders[0].name} is done: load it with train_smarter.load({str(folders[0])!r})")
    run, results = ended[0]
    return TrainedRun(results, load(folders[0])[0] if results.checkpoint else run.model, run.data, folders[0])


def compose(overrides: Sequence[str] = (), *, folder: str | Path | None = None) -> DictConfig:
    """Compose and check the config that `train` would use; nothing is written.

    Args:
        overrides: the words of the command line.
        folder: `paths.run`, for what the config builds that writes files; None: a new name in the folder of runs.

    Raises:
        UserError: the config has a problem; the message has all of them.
    """
    words = [cli.absolutize(word) for word in arguments.choose_task(_check_words(overrides))]
    new = paths.LOGS / "train" / "runs" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    with _errors(), _separate_hydra(), initialize_config_dir(str(paths.CONF)):
        cfg = compose_with_hydra("train", words)
        cfg.paths.run = str(Path(folder or new).absolute())
        fill_facts(cfg)
        check(cfg)
    return cfg


def load(run: str | Path = "last", *, checkpoint: str = "best") -> tuple[Model, Data]:
    """Load a past run's model and data.

    Args:
        run: `last`, a run's folder, its name, or a multirun, of which the best trial is loaded.
        checkpoint: `best`, `last`, or a file.

    Returns:
        The model, with the checkpoint's weights, in evaluation mode on the CPU; and its data, which convert new input
        as for training, and read the run's own examples in `data.setup()`.

    Raises:
        UserError: there is no such run, or it lacks what is needed.
    """
    from train_smarter.config.build import build_data, build_model
    from train_smarter.history import find, saved_config
    from train_smarter.history.restore import load_weights

    folder = find.find_run(str(run), paths.LOGS)
    cfg = saved_config.config_outside_hydra(folder)
    data, model = build_data(cfg), build_model(cfg)
    load_weights(data, model, folder, find.checkpoint(folder, checkpoint))
    return model, data


def predict(
    model: Model,
    data: Data,
    inputs: str | Sequence[str],
    *,
    device: str = "auto",
    tta: str | None = None,
    top: int | None = None,
) -> list[dict[str, Any]]:
    """Predict new input, converted as for training.

    Args:
        model, data: of `load` or `train`.
        inputs: what `predict input=` accepts (a file, a folder, a glob, a text), or several of them.
        device: auto | cpu | cuda | mps.
        tta: "flip": the mean over an image and its mirror image.
        top: of a recommender, items for each user; None: the task's number.

    Returns:
        A dict for each input that can be read: the columns of predictions.csv. The log names the others.

    Raises:
        UserError: there is no such input, or the outputs do not fit the task.
    """
    from train_smarter.inference import predictor, reader
    from train_smarter.inference.tta import use_tta

    if top is not None:
        model.task.set_top(top)
    given = [inputs] if isinstance(inputs, str) else inputs
    sources = chain.from_iterable(reader.iter_inputs(data, one) for one in given)
    batches = reader.InputReader(data, sources)
    rows: list[dict[str, Any]] = []
    with use_tta(model, data, tta):
        for batch in predictor.predict(
            data, model.eval(), batches, device=predictor.device_of(device), names=list(data.names), own_input=True
        ):
            columns = batch.columns.values()
            values = [dict(zip(batch.columns, row, strict=True)) for row in zip(*columns, strict=True)]
            rows += [{**row, **found} for row, found in zip(batch.id_columns, values, strict=True)]
    return rows


def _check_words(overrides: Sequence[str]) -> list[str]:
    """The words of a command line, without options.

    Raises:
        UserError: it is one text, or has an option.
    """
    if isinstance(overrides, str):
        raise UserError(f"give a list of words, {shlex.split(overrides)}, and not one text")
    words = [str(word) for word in overrides]
    if options := [word for word in words if word.startswith("-")]:
        raise UserError(f"{options[0]}: give key=value words; run a sweep in a loop of your own, or by the command")
    cli.reject_bad_group_choices(words)
    return words


@contextmanager
def _errors() -> Iterator[None]:
    """Raises what is no fault in code as a UserError, with the message of the command."""
    load_env_file()
    try:
        yield
    except RunRefusedError as refused:
        raise refused.error from None
    except Exception as error:
        if isinstance(error, UserError) or (mistake := cli.explain(error)) is None:
            raise
        raise mistake from error


@contextmanager
def _separate_hydra() -> Iterator[None]:
    """Hydra without the state of a program that uses it, too, which is restored at the end."""
    shared, config = GlobalHydra.instance(), HydraConfig.instance()
    theirs, their_config = shared.hydra, config.cfg
    shared.hydra = config.cfg = None
    try:
        yield
    finally:
        shared.hydra, config.cfg = theirs, their_config


@contextmanager
def _log_file(file: Path) -> Iterator[None]:
    """Writes this package's log to a file; every other logger and handler stays as it is."""
    logger, handler = logging.getLogger("train_smarter"), logging.FileHandler(file, delay=True, encoding="utf8")
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s] %(message)s"))
    before = logger.level
    logger.setLevel(min(before or logging.INFO, logging.INFO))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.setLevel(before)
