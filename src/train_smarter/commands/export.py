"""`export-model`: a past run's model as one file that takes raw input and needs none of this package.

The file is read back and held against the checkpoint on real test examples before it gets its name.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from train_smarter import paths
from train_smarter.config.check import check
from train_smarter.config.cli import command
from train_smarter.config.rules import NON_NEGATIVE_NUMBER, POSITIVE_INT
from train_smarter.errors import UserError, did_you_mean, file_error
from train_smarter.history import arguments, find, saved_config
from train_smarter.inference.comparison import compare_export
from train_smarter.inference.exporter import (
    ONNX,
    end_to_end,
    export_network,
    load_export,
    metadata,
    raw_examples,
    silence_export,
)
from train_smarter.inference.predictor import task_of
from train_smarter.run.files import atomic_file
from train_smarter.speed import startup

EXPORT_KEYS = ("run", "checkpoint", "format", "output", "tolerance", "examples")
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


def main() -> None:
    """The console script."""
    command(
        "export", run_export, lambda words: arguments.argv_for_reader(words, "export", paths.LOGS, literal=("output",))
    )


def run_export(cfg: DictConfig) -> None:
    """Exports the model of the run that `run=` names; the file exists only if it passes `compare_export`."""
    folder = Path(cfg.run)
    saved_config.use_recorded_counts(cfg, folder)
    check(cfg)
    target = _output_path(cfg, folder)
    cfg = saved_config.merge_saved_config(cfg, folder, "export", *EXPORT_KEYS)
    checkpoint = find.checkpoint(folder, cfg.checkpoint)
    startup.import_quickly(speed=cfg.get("speed", True))
    from train_smarter.config.build import build_data, build_model
    from train_smarter.data.examples import split_rows
    from train_smarter.history.restore import load_weights
    from train_smarter.terminal import echo

    startup.configure_process(cfg.get("num_threads"), speed=cfg.get("speed", True))
    data, model = build_data(cfg), build_model(cfg)
    load_weights(data, model, folder, checkpoint)
    raw = raw_examples(data, cfg.examples, task_of(model))
    network = end_to_end(data, model, raw)
    about = {**metadata(data, raw, network), "run": folder.name, "checkpoint": checkpoint.name}
    with silence_export():
        content = export_network(network, raw, format=cfg.format, about=about)
        with _write_export(target, content) as part:
            batches = split_rows(raw, getattr(data, "eval_batch_size", 64))
            result = compare_export(load_export(part, format=cfg.format), network, batches)
            if not result.largest <= cfg.tolerance:  # nor where it is not a number
                raise UserError(f"refused, nothing is written: tolerance={cfg.tolerance}, but the {result}")
    echo(f"{checkpoint}", f"{result}", f"written to {target}")


# ---- what is asked for


def _output_path(cfg: DictConfig, folder: Path) -> Path:
    """The file that is asked for.

    Raises:
        UserError: something of the question is not accepted, or a package is not installed.
    """
    problems = [*_reject_bad_values(cfg)]
    if problems:
        raise UserError("\n".join(problems))
    suffix = SUFFIXES[cfg.format]
    if cfg.output is None:
        return folder / "export" / f"model{suffix}"
    target = Path(os.path.expanduser(str(cfg.output)))  # noqa: PTH111 (pathlib's fails at ~nobody)
    if target.suffix != suffix:
        raise UserError(
            f"output={cfg.output}: a file of format={cfg.format} ends in {suffix}; "
            f"type output={target / 'model'}{suffix}"
        )
    return target


def _reject_bad_values(cfg: DictConfig) -> Iterator[str]:
    if cfg.format not in SUFFIXES:
        yield f"format={cfg.format}: give {' or '.join(SUFFIXES)}{did_you_mean(str(cfg.format), [*SUFFIXES])}"
    if not (cfg.examples is None or POSITIVE_INT[0](cfg.examples)):
        yield f"examples={cfg.examples!r}: give {POSITIVE_INT[1]}, or null"
    if not NON_NEGATIVE_NUMBER[0](cfg.tolerance):
        yield f"tolerance={cfg.tolerance!r}: give {NON_NEGATIVE_NUMBER[1]}"
    missing = [name for name in ONNX if cfg.format == "onnx" and importlib.util.find_spec(name) is None]
    if missing:
        yield (
            f"format=onnx needs packages that are not installed ({', '.join(missing)}): uv pip install -e '.[onnx]'; "
            "format=torch needs none"
        )


@contextmanager
def _write_export(target: Path, content: bytes) -> Iterator[Path]:
    """Yield a file with the content, which replaces `target` if the block succeeds."""
    try:
        with atomic_file(target) as part:
            part.write_bytes(content)
            yield part
    except OSError as error:
        raise UserError(f"{file_error(error, path=target)}; output=<file> puts it elsewhere") from error


if __name__ == "__main__":
    main()
