"""Turn `run=last`, `resume=last` and `rerun=last` on a command line into what Hydra composes."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from train_smarter.config.choose_task import task_by_target
from train_smarter.errors import UserError
from train_smarter.history.find import find, find_run, is_run
from train_smarter.history.saved_config import (
    SAVED_VARIABLE,
    key_of,
    load_saved_config,
    load_yaml,
    past_overrides,
    quote_values,
    saved_variable,
)
from train_smarter.quoting import quote
from train_smarter.run.results import read_results
from train_smarter.terminal import echo
from train_smarter.trust import check_folder, choices, keys, name_data, split_overrides

# ---- the words that name it, on a command line


def argv_for_reader(argv: Sequence[str], verb: str, logs: Path, *, literal: Sequence[str] = ()) -> list[str]:
    """The command line of a verb that reads a past run, as Hydra is to see it.

    `run=` is taken literally, whatever it holds, and so are the words of the keys in `literal`. The overrides of that
    run come first, then the user's own; results and log go into <run>/<verb>/.
    """
    given, own = _pop_key(argv, "run")
    if {"-m", "--multirun"} & set(argv):
        raise UserError(f"{verb} reads one run at a time: type it without -m")
    if not given and any(word.startswith("-") for word in argv):
        return own  # --help, --cfg job: nothing is read
    if len(given) == 1 and _unquote(given[0]) != given[0]:
        return list(argv)  # a further process of this command: its words have been here before
    if len(given) != 1 or not given[0]:
        raise UserError(f"{verb} needs one run: type {verb} run=last, or {verb} run=<folder>")
    folder = find_run(given[0], typed_logs(own, logs))
    check_folder(folder)
    places = [f"run={quote(folder)}", f"hydra.run.dir={quote(folder / verb)}", "hydra.output_subdir=null"]
    return [*past_overrides(folder), *places, *quote_values(own, literal)]


def argv_for_train(argv: Sequence[str], logs: Path) -> list[str]:
    """The command line of `train`, as Hydra is to see it: with `resume=`, `rerun=` or `refit=`, a past run's words come
    first.

    All are taken literally. A run goes on in its own folder, where Hydra writes nothing; with -m, a grid multirun.
    """
    if saved_variable().get("process") == os.getpid():  # of an earlier command of this program
        del os.environ[SAVED_VARIABLE]
    resumed, own = _pop_key(argv, "resume")
    rerun, own = _pop_key(own, "rerun")
    refit, own = _pop_key(own, "refit")
    if not resumed and not rerun and not refit:
        return choose_task(argv)
    if len(resumed + rerun + refit) != 1 or not (resumed + rerun + refit)[0]:
        raise UserError(
            "give one run to go on with: train resume=last; or one to do again: train rerun=<folder>, or "
            "train refit=<folder>, on its validation split, too"
        )
    if refit:
        folder = find_run(refit[0], typed_logs(own, logs), key="refit")
        check_folder(folder)
        return [*past_overrides(folder), f"rerun={quote(folder)}", *refit_words(folder), *own]
    if _unquote((resumed + rerun)[0]) != (resumed + rerun)[0]:
        return list(argv)  # a further process of this command: its words have been here before
    if resumed and (dirs := [word for word in own if re.match(r"\+*hydra\.(run|sweep)\.(dir|subdir)=", word)]):
        raise UserError(f"{dirs[0]}: a run goes on in its own folder; leave it out, or type train rerun={resumed[0]}")
    home = typed_logs(own, logs)
    if rerun:
        folder = find_run(rerun[0], home, key="rerun")
        check_folder(folder)
        return [*past_overrides(folder), f"rerun={quote(folder)}", *own]
    if {"-m", "--multirun"} & set(argv):
        return _argv_for_multirun(find(resumed[0], home, key="resume", kinds=("multiruns",)), own)
    folder = find(resumed[0], home, key="resume")
    check_folder(folder)
    if not is_run(folder):
        raise UserError(f"resume={resumed[0]} is a multirun: type train -m resume={folder.name}")
    places = [f"resume={quote(folder)}", f"hydra.run.dir={quote(folder)}", "hydra.output_subdir=null"]
    return [*past_overrides(folder), *places, *own]


def refit_words(folder: Path) -> list[str]:
    """The words that train a past run on its validation split, too, for the epochs of its best checkpoint.

    Raises:
        UserError: validation has not chosen that checkpoint, or the data have no such split.
    """
    results, name = read_results(folder), folder.name
    monitor, epoch = str(results.get("monitor")), results.get("best_epoch")
    if not re.fullmatch(r"val/\w+", monitor) or not isinstance(epoch, int):
        raise UserError(
            f"refit={name}: validation did not choose its best checkpoint (monitor={monitor}); train it with "
            "monitor=val/..."
        )
    data = load_saved_config(folder, required=["data"]).data
    if "val_fraction" not in data:
        raise UserError(f"refit={name}: only a train_smarter.Data can add its validation split to train")
    echo(f"refit: {epoch + 1} epochs on train and val; {name} had its best {monitor} after them")
    return [
        "++data.refit=true",
        "monitor=train/loss",  # nothing is left to choose by; a task may measure no other metric in training
        f"trainer.max_epochs={epoch + 1}",
        "++trainer.max_steps=-1",
        "++trainer.max_time=null",
        "++trainer.limit_val_batches=0",
        "++callbacks.early_stopping=null",
        "++callbacks.checkpoint.monitor=null",  # the last weights: nothing is left to choose by
    ]


def choose_task(words: Sequence[str]) -> list[str]:
    """The words, with a task behind them that a user's own file decides; the screen shows which."""
    if (found := task_by_target(words)) is None:
        return list(words)
    word, reason = found
    echo(f"{reason}: {word}")
    return [*words, word]


def _argv_for_multirun(folder: Path, own: Sequence[str]) -> list[str]:
    """The words of a multirun: each job of a grid finds out what is left to do, and of a search its study does."""
    if not (folder / "multirun.yaml").is_file():
        raise UserError(f"resume={folder} is one run, no multirun: type it without -m")
    check_folder(folder)
    file = folder / "multirun.yaml"
    hydra = _saved_hydra_config(file)
    saved = hydra.get("overrides") or {}
    words, unsafe = split_overrides(saved.get("task") or [], file)
    typed = [*keys(own), *(word.partition("=")[0] for word in choices(own))]
    if refused := [word for key, word in unsafe if key not in typed]:
        raise UserError(
            f"{file}: {refused[0]!r} is not taken over: it names a file, a folder, an address or a logger; if you mean "
            "it, type it yourself"
        )
    if name_data(words):
        words.append("++data.download=false")  # a folder that only the file names is read, and not written to
    brought = [word for word in words if not key_of([word]) & key_of(own)]
    os.environ[SAVED_VARIABLE] = json.dumps({"words": brought, "process": os.getpid()})
    about = _is_about_multirun([str(word) for word in saved.get("hydra") or []], file, own)
    places = [f"hydra.sweep.dir={quote(folder)}"]
    if "OptunaSweeper" not in str(hydra.get("sweeper")):  # a study knows which of its trials have ended
        places = [f"resume={quote(folder)}", *places, "hydra.output_subdir=null"]
    return [*words, *about, *places, *own]


def _saved_hydra_config(file: Path) -> dict[str, Any]:
    """Hydra's part of a multirun's config, interpolations as they are written."""
    content: Any = OmegaConf.to_container(load_yaml(file), resolve=False)
    hydra = content.get("hydra") if isinstance(content, dict) else None
    parts = [hydra.get("overrides")] if isinstance(hydra, dict) else [None]
    if not isinstance(hydra, dict) or not isinstance(parts[0], dict):
        raise UserError(f"{file} is not a multirun's config: type the multirun's own command again to go on")
    return hydra


# Of Hydra's own part, what a multirun takes over from its folder, though that may be a stranger's.
RESUMABLE = re.compile(
    r"hydra/launcher=(basic|process)"
    r"|hydra/(sweeper|sweeper/sampler|sweeper/pruner)=\w+"
    r"|hydra\.sweeper\.(study_name=[^$]*|(n_trials|n_jobs|max_failures|max_failure_rate)=[\w.+-]*)"
    r"|hydra\.sweeper\.direction=[\[\]\w, ]*"
    r"|hydra\.sweeper\.(sampler|pruner)\.[a-z]\w*=[\w.+-]+"
    r"|hydra\.launcher\.n_jobs=\d+"
)


def _is_about_multirun(words: Sequence[str], file: Path, typed: Sequence[str]) -> list[str]:
    """How a multirun was to search and to be launched."""
    kept = [word for word in words if not re.match(r"\+*hydra\.(mode|sweep\.dir|output_subdir)=", word)]
    for word in kept:
        if not RESUMABLE.fullmatch(word) and word not in typed:
            raise UserError(f"{file}: {word!r} is not taken over; type the multirun's own command again to go on")
    return [word for word in kept if word not in typed]


def typed_logs(words: Sequence[str], logs: Path) -> Path:
    """Where runs are looked for: `paths.logs`, where the user gave one."""
    typed = [word.removeprefix("paths.logs=") for word in words if word.startswith("paths.logs=")]
    return Path(*typed[-1:]) if typed else logs


def _pop_key(argv: Sequence[str], key: str) -> tuple[list[str], list[str]]:
    """The values that were given to a key, and all other words."""
    given = [word.lstrip("+").removeprefix(f"{key}=") for word in argv if word.lstrip("+").startswith(f"{key}=")]
    return given, [word for word in argv if not word.lstrip("+").startswith(f"{key}=")]


def _unquote(value: str) -> str:
    """Undoes `quote`: the further processes of a run are started with the words that Hydra saw."""
    if value[:1] == "'" and Path(value[1:]).is_absolute():
        return str(OmegaConf.create({"run": OverridesParser.create().parse_override(f"run={value}").value()}).run)
    return value
