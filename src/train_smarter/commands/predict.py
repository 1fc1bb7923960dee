"""`predict`: a past run's predictions of a user's images or texts, or of a split."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from train_smarter import paths
from train_smarter.config.check import check
from train_smarter.config.cli import command
from train_smarter.config.rules import POSITIVE_INT
from train_smarter.errors import UserError, did_you_mean
from train_smarter.history import arguments, find, saved_config
from train_smarter.inference.predictor import Predictions, device_of, predict, task_of
from train_smarter.inference.reader import InputReader, empty_input_message, iter_inputs, iter_split
from train_smarter.inference.tta import NOTES, use_tta
from train_smarter.inference.writer import PredictionFolders, open_output, write
from train_smarter.sanitize import escape_controls
from train_smarter.speed import startup

log = logging.getLogger(__name__)


# Words of this verb alone, and what they accept; they are checked here.
ACCEPTED = {
    "split": ("train", "val", "test"),
    "format": ("csv", "jsonl"),
    "device": ("auto", "cpu", "cuda", "mps"),
}


def main() -> None:
    """The console script."""
    command("predict", run_predict, rewrite_argv)


def rewrite_argv(typed: Sequence[str]) -> list[str]:
    """The command line as Hydra is to see it."""
    # A text, a file, or what a shell makes of a glob.
    bare = [word for word in typed if "=" not in word and word[:1] != "~"]
    if bare and not any(word.startswith("-") for word in typed):
        shown = f"{' '.join(bare[:3])}{' ...' if len(bare) > 3 else ''}"
        raise UserError(
            f"{shown}: type input=..., with quotes around a text or a glob, 'input=a good film', 'input=photos/*.png'"
        )
    if len(several := [word for word in typed if word.startswith("input=")]) > 1:
        raise UserError(f"{' '.join(several)}: give one input; a folder or a glob in quotes takes many images")
    return arguments.argv_for_reader(typed, "predict", paths.LOGS, literal=("input", "output"))


def run_predict(cfg: DictConfig) -> None:
    """Predicts what `input=` or `split=` names with the run that `run=` names.

    Raises:
        SystemExit: with 1, if some of it could not be read; the rest is written.
    """
    folder, own = Path(cfg.run), cfg
    reject_bad_values(cfg)
    output, form = output_path(cfg)
    saved_config.use_recorded_counts(cfg, folder)
    check(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in ACCEPTED]))
    cfg = saved_config.merge_saved_config(cfg, folder, "predict")
    checkpoint = find.checkpoint(folder, str(own.checkpoint))
    startup.import_quickly(speed=cfg.get("speed", True))
    from train_smarter.config.build import build_data, build_model
    from train_smarter.history.restore import load_weights

    startup.configure_process(cfg.get("num_threads"), speed=cfg.get("speed", True))
    device = device_of(own.device)
    data = build_data(cfg)
    model = build_model(cfg)
    load_weights(data, model, folder, checkpoint)
    if own.top is not None:
        task_of(model).set_top(own.top)
    sources = None if own.split else iter_inputs(data, own.input)  # which may be chosen by what the run has recorded
    names = list(getattr(data, "names", []))
    names = names if output else [escape_controls(name) for name in names]  # a terminal may read them
    batches = (
        InputReader(data, sources)
        if sources is not None
        else iter_split(data, own.split, task=task_of(model), names=names)
    )
    log.info("%s on %s", checkpoint, device)
    if own.tta:
        log.info("tta=%s: %s", own.tta, NOTES[own.tta])
    began = time.perf_counter()
    predictions = predict(data, model, batches, device=device, names=names, format=form, own_input=sources is not None)
    with use_tta(model, data, own.tta):
        done, left_out = _write(own, output, form, predictions, batches)
    seconds = time.perf_counter() - began
    where, kind = output or "standard output", getattr(data, "kind", "examples")
    log.info("%s: %d in %.1f s, %.0f a second, written to %s", kind, done, seconds, done / seconds, where)
    for column, count in left_out.items():
        log.info("%d %ss are files, which standard output cannot hold: type output=<file> to get them", count, column)
    if isinstance(batches, InputReader) and batches.log_unreadable():
        sys.exit(1)


def _write(
    own: DictConfig, output: Path | None, form: str, predictions: Iterator[Predictions], batches: Any
) -> tuple[int, dict[str, int]]:
    """Write the table and the files beside it.

    Returns:
        How many predictions there were; and files that were left out, by column.
    """
    folders = PredictionFolders(output, prefix=f"{output.stem}_" if own.output and output else "")
    try:
        with open_output(output) as file:
            done = write(file, form, predictions, quiet=output is None, folders=folders)
            if not done:
                raise UserError(empty_input_message(own.input, batches))
            folders.publish()
    finally:
        folders.discard()
    return done, folders.left_out


# ---- what was typed


def reject_bad_values(cfg: DictConfig) -> None:
    """Raises a UserError where this verb's own words do not fit."""
    given = [key for key in ("input", "split") if cfg[key] not in (None, "")]
    if len(given) != 1:
        raise UserError(
            f"predict takes {'input= or split=, not both' if given else 'something to predict'}: type input=..., an "
            "image, a folder or a glob, a text or a file of texts, or - for standard input; or type split=test"
        )
    top = cfg.get("top")
    if not (top is None or POSITIVE_INT[0](top)):
        raise UserError(f"top={top}: give {POSITIVE_INT[1]}, the items of each user")
    for key in ACCEPTED:
        if cfg[key] not in ACCEPTED[key] and (key != "split" or key in given):
            raise UserError(
                f"{key}={cfg[key]}: give {', '.join(ACCEPTED[key])}{did_you_mean(str(cfg[key]), ACCEPTED[key])}"
            )


def output_path(cfg: DictConfig) -> tuple[Path | None, str]:
    """The file to write, None for standard output, and its form, csv or jsonl."""
    if cfg.output == "-":
        return None, cfg.format
    if not cfg.output:
        return Path(cfg.run) / "predict" / f"predictions.{cfg.format}", cfg.format
    path = Path(os.path.abspath(os.path.expanduser(cfg.output)))  # noqa: PTH100, PTH111 (a link stays one; ~nobody, too)
    if path.exists() and not path.is_file():
        raise UserError(f"output={cfg.output} is no file: give the name of one, or - for standard output")
    source = os.path.expanduser(cfg.input or "")  # noqa: PTH111
    if path.exists() and os.path.exists(source) and path.samefile(source):  # noqa: PTH110 (pathlib's fails at a text)
        raise UserError(f"output={cfg.output} is the input, which would be lost: give another name")
    ending = path.suffix.lower().lstrip(".")
    return path, ending if ending in ACCEPTED["format"] else cfg.format


if __name__ == "__main__":
    main()
