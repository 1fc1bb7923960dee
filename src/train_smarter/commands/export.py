"""`export-model`: a past run's model as one file that takes raw input and needs none of this package.

The file is read back and held against the checkpoint on real test examples before it gets its name.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from omegaconf import DictConfig

from train_smarter import paths
from train_smarter.config.check import COUNT, NOT_NEGATIVE, check
from train_smarter.config.cli import command
from train_smarter.errors import UserError, nearest
from train_smarter.history import arguments, find, saved_config
from train_smarter.inference.exporter import ONNX, _quiet, compare, described, exported, loaded, raw_examples, whole
from train_smarter.speed import startup

OWN = ("run", "checkpoint", "format", "output", "tolerance", "examples")
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


def main() -> None:
    """The console script."""
    command("export", act, lambda words: arguments.reading(words, "export", paths.LOGS, literal=("output",)))


def act(cfg: DictConfig) -> None:
    """Exports the model of the run that `run=` names; the file exists only if it passes `compare`."""
    check(cfg)
    folder = Path(cfg.run)
    target = _target(cfg, folder)
    cfg = saved_config.as_recorded(cfg, folder, "export", *OWN)
    checkpoint = find.checkpoint(folder, cfg.checkpoint)
    startup.load()
    from train_smarter.config.build import build_data, build_model
    from train_smarter.history.restore import restore
    from train_smarter.terminal import show

    startup.prepare(cfg.get("threads"))
    data, model = build_data(cfg), build_model(cfg)
    restore(data, model, folder, checkpoint)
    data.prepare_data()
    data.setup()
    raw, network = raw_examples(data, cfg.examples), whole(data, model)
    about = {**described(data, raw), "run": folder.name, "checkpoint": checkpoint.name}
    with _quiet():
        content = exported(network, raw, format=cfg.format, about=about)
        with _written(target, content) as part:
            result = compare(loaded(part, format=cfg.format), network, raw.split(data.eval_batch_size))
            if not result.largest <= cfg.tolerance:  # nor where it is not a number
                raise UserError(f"refused, nothing is written: tolerance={cfg.tolerance}, but the {result}")
    show(f"{checkpoint}", f"{result}", f"written to {target}")


# ---- what is asked for


def _target(cfg: DictConfig, folder: Path) -> Path:
    """The file that is asked for.

    Raises:
        UserError: something of the question is not accepted, or a package is not installed.
    """
    problems = [*_refused(cfg)]
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


def _refused(cfg: DictConfig) -> Iterator[str]:
    if cfg.format not in SUFFIXES:
        yield f"format={cfg.format}: give {' or '.join(SUFFIXES)}{nearest(str(cfg.format), [*SUFFIXES])}"
    if not (cfg.examples is None or COUNT[0](cfg.examples)):
        yield f"examples={cfg.examples!r}: give {COUNT[1]}, or null"
    if not NOT_NEGATIVE[0](cfg.tolerance):
        yield f"tolerance={cfg.tolerance!r}: give {NOT_NEGATIVE[1]}"
    missing = [name for name in ONNX if cfg.format == "onnx" and importlib.util.find_spec(name) is None]
    if missing:
        yield (
            f"format=onnx needs packages that are not installed ({', '.join(missing)}): uv pip install -e '.[onnx]'; "
            "format=torch needs none"
        )


@contextmanager
def _written(target: Path, content: bytes) -> Iterator[Path]:
    """A file beside `target`, which takes its name when the block has ended well, and is gone when it has not."""
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        yield part
        part.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror}): give another place, output=...") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
