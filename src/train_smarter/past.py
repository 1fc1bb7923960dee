"""A past run: how a command finds it, and takes its config up again. Imports nothing heavy.

Nothing in a run's folder is trusted: it may come from a stranger.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import train_smarter.resolvers  # noqa: F401 (a config is composed, and resolved, here)
from train_smarter.error import UserError, nearest
from train_smarter.paths import CONF
from train_smarter.record import read_json
from train_smarter.sanitize import printable
from train_smarter.trust import (
    NAMING,
    check_config,
    check_folder,
    choices,
    keys,
    name_data,
    rebased,
    split_overrides,
)
from train_smarter.trust.nodes import put, raw

# The environment variable with the words that a multirun's folder has brought, for its jobs, wherever they run.
SAVED = "TRAIN_SMARTER_SAVED"

# ---- finding it


def find(reference: str, logs: Path, *, key: str = "run", kinds: Sequence[str] = ("runs", "multiruns")) -> Path:
    """The folder of a past run or multirun.

    Args:
        reference: `last` (the newest one, whatever became of it), a folder, or the name of one under `logs`/train.
        key: the word that it was given to, for the message.
        kinds: what `last` may mean, of "runs" and "multiruns".
    """
    homes = [logs / "train" / kind for kind in ("runs", "multiruns")]
    known = {folder: _start(folder) for home in homes for folder in home.glob("*") if is_run(folder) or jobs(folder)}
    if reference == "last":
        meant = [folder for folder in known if folder.parent.name in kinds]
        if not meant:
            where = " or ".join(str(home) for home in homes if home.name in kinds)
            raise UserError(f"{key}=last: there is nothing under {where} yet: type train first")
        return max(meant, key=lambda folder: known[folder])
    for folder in (Path(os.path.expanduser(reference)), *(home / reference for home in homes)):  # noqa: PTH111 (pathlib's fails at ~nobody)
        if is_run(folder) or jobs(folder):
            return folder.resolve()
    names = sorted(folder.name for folder in known)
    newest = f"; the newest is {max(known, key=lambda folder: known[folder]).name}" if known else ""
    hint = nearest(reference, ["last", *names]) or newest
    raise UserError(f"{key}={reference} is no run folder: give `last`, a folder, or a name under {homes[0]}{hint}")


def find_run(reference: str, logs: Path, *, key: str = "run") -> Path:
    """The same, of one run: of a multirun its best trial, which is said."""
    folder = find(reference, logs, key=key)
    if is_run(folder):
        return folder
    check_folder(folder)  # one of its trials may be a link
    return best_job(folder)


def named(folder: Path, logs: Path) -> str:
    """A run or multirun as a command line names it: by its name where it lies under `logs`, else by its folder."""
    usual = logs / "train"
    name = folder.relative_to(usual).parts[1:] if usual in folder.parents else ()
    return shlex.quote("/".join(name) or str(folder))


def is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() or (folder / ".hydra").is_dir()


def jobs(folder: Path) -> list[Path]:
    """The runs of a multirun, in their order; empty where the folder is none."""
    if not (folder / "multirun.yaml").is_file() or is_run(folder):
        return []
    inside = [child for child in folder.iterdir() if is_run(child)]
    return sorted(inside, key=lambda child: (not child.name.isdigit(), child.name.zfill(9)))


def best_job(multirun: Path) -> Path:
    """The job with the best value of the monitored metric."""
    values: dict[Path, float] = {}
    for job in jobs(multirun):
        if (job / "results.json").is_file():
            results = read_json(job / "results.json")
            if isinstance(results.get("best"), int | float) and not results.get("pruned"):
                values[job] = results["best"]
    if not values:
        raise UserError(f"{multirun} is a multirun in which no trial is done: give one of its folders")
    mode = OmegaConf.to_container(recorded(next(iter(values))), resolve=False).get("mode")  # type: ignore[union-attr]
    best = (min if mode == "min" else max)(values, key=lambda job: values[job])
    told = f"{multirun.name} is a multirun; its best trial is {best.name}, with {values[best]:.4f}"
    print(printable(told), file=sys.stderr)  # noqa: T201
    return best


def _start(folder: Path) -> tuple[str, str]:
    """Sorts runs by age, however they are named; a multirun began with its first job."""
    try:
        begun = str(read_json(min(jobs(folder), default=folder) / "record.json")["start"])
    except (UserError, KeyError, TypeError):  # it ended before it had a record
        begun = datetime.fromtimestamp(folder.stat().st_ctime, UTC).isoformat(timespec="seconds")
    return begun, folder.name


# ---- its config


def recorded(folder: Path) -> DictConfig:
    """The config that a run was composed of, when it was last started.

    As Hydra kept it, with its interpolations: so `paths.data=...` moves what hangs on it, and a project may move.
    """
    for path in (*(kept / "config.yaml" for kept in reversed(_kept(folder))), folder / "config.yaml"):
        if path.is_file():
            cfg = loaded(path)
            if not isinstance(cfg, DictConfig):
                raise UserError(f"{path} is no config: it holds a list")
            return cfg
    raise UserError(f"{folder} holds no config: the run ended before it began")


def past_overrides(folder: Path) -> list[str]:
    """The overrides that a past run was last started with, but those that named a run before it.

    Raises:
        UserError: one of them is none, or sets something of Hydra's own: they are put on a command line.
    """
    path, words = _saved_overrides(folder)
    searched = [word for word in words if word.startswith("search=")]
    if searched:  # a trial is to be one run again: what the search had chosen is chosen without it
        words = [*choices_of(folder), *(word for word in words if word not in searched)]
    return split_overrides(words, path).safe


def _saved_overrides(folder: Path) -> tuple[Path, list[str]]:
    """The file that has them, and all that it holds, interpolations as they are written."""
    for kept in reversed(_kept(folder)):
        if (path := kept / "overrides.yaml").exists():
            content: Any = OmegaConf.to_container(loaded(path), resolve=False)
            if not isinstance(content, list):
                raise UserError(f"{path} is not a list of overrides")
            return path, [str(word) for word in content]
    path = folder / "record.json"  # the only one where .hydra is gone
    content = read_json(path) if path.is_file() else {}
    words = content.get("overrides") if isinstance(content, dict) else None
    return path, [str(word) for word in words] if isinstance(words, list) else []


def choices_of(folder: Path) -> list[str]:
    """What was chosen for a run's groups, as overrides; none where Hydra has not kept it."""
    kept = folder / ".hydra" / "hydra.yaml"
    hydra = OmegaConf.to_container(loaded(kept), resolve=False) if kept.is_file() else {}
    chosen: Any = hydra.get("hydra", {}).get("runtime", {}).get("choices", {}) if isinstance(hydra, dict) else {}
    groups = ("experiment", "data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger")
    return [f"{group}={chosen[group]}" for group in groups if isinstance(chosen.get(group), str)]


def _kept(folder: Path) -> list[Path]:
    """What was kept of each start of a run: .hydra, .hydra_2, .hydra_3, ..."""
    return sorted(
        (path for path in folder.glob(".hydra*") if re.fullmatch(r"\.hydra(_\d+)?", path.name)),
        key=lambda path: (len(path.name), path.name),
    )


def loaded(path: Path) -> Any:
    """The DictConfig or ListConfig that a YAML file of a run's folder holds."""
    try:
        return OmegaConf.load(path)
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    except Exception as error:  # YAML's own errors have no common base that is not YAML's
        raise UserError(f"{path} is not readable YAML: {str(error).splitlines()[0]}") from error


def as_recorded(cfg: DictConfig, folder: Path, verb: str, *own: str) -> DictConfig:
    """The run's recorded config with the user's overrides on top, whatever has become of conf/ since.

    Args:
        cfg: what `verb` composed from the run's overrides and the user's.
        own: keys that are the verb's, not the run's.
    """
    then = past_overrides(folder)
    given = _without(overrides(), then)
    naming = [word for word in given if word.partition("=")[0] in NAMING]
    typed = _typed([word for word in given if word not in naming])
    before = compose(verb, [*then, *naming])
    saved = rebased(recorded(folder), folder)
    parts = [OmegaConf.to_container(config, resolve=False) for config in (saved, before, cfg)]
    merged = DictConfig(updated(*parts) | {key: parts[2][key] for key in own})  # type: ignore[index, call-overload]
    for path in (key.split(".") for key in keys(typed)):  # also where it is what conf/ says, and the run had another
        nothing = object()
        value = raw(cfg, path, default=nothing)
        put(merged, path, value, remove=value is nothing)
    if verb != "train":  # the training's loggers and callbacks have no part in it
        merged.logger, merged.callbacks = {}, _progress_bar(merged)
    today = _today(verb, [*choices(then), *naming], typed)
    return check_config(merged, today=today, typed=keys(typed), folder=folder, home=Path(cfg.paths.run))


def config_outside_hydra(folder: Path) -> DictConfig:
    """The run's recorded config for a program that composes none: a notebook, say."""
    check_folder(folder)
    other = GlobalHydra.instance()  # that of the program, which may use Hydra, too
    theirs, other.hydra = other.hydra, None
    try:
        with initialize_config_dir(str(CONF)):
            today = compose("train", choices(past_overrides(folder)))
    finally:
        GlobalHydra.instance().hydra = theirs
    saved = recorded(folder)
    saved.logger, saved.callbacks = {}, {}
    return check_config(saved, today=today, typed=[], folder=folder, home=folder)


def as_composed(cfg: DictConfig, verb: str) -> DictConfig:
    """The config of a new run, checked where words of a multirun's folder have composed it."""
    if not os.environ.get(SAVED):
        return cfg
    given = [word for word in overrides() if word.partition("=")[0] not in NAMING]
    typed = _typed(given)
    today = _today(verb, choices([word for word in given if word not in typed]), typed)
    home = Path(cfg.paths.run)
    return check_config(cfg, today=today, typed=keys(typed), folder=home, home=home)


def _typed(words: Sequence[str]) -> list[str]:
    """Those of a job's words that the user typed: the others come from the folder of its multirun."""
    saved = _key_of(_saved().get("words", []))
    return [word for word in words if not _key_of([word]) & saved]


def _saved() -> dict[str, Any]:
    return dict(json.loads(os.environ.get(SAVED) or "{}"))


def _key_of(words: Sequence[str]) -> set[str]:
    return {word.lstrip("+~").partition("=")[0].partition("@")[0] for word in words}


def _without(words: Sequence[str], others: Sequence[str]) -> list[str]:
    """The words, each of the others taken away once."""
    rest = list(words)
    for word in others:
        if word in rest:
            rest.remove(word)
    return rest


def _progress_bar(cfg: DictConfig) -> dict[str, Any]:
    node = cfg._get_node("callbacks")
    shown = node._get_node("progress") if isinstance(node, DictConfig) and "progress" in node.keys() else None  # noqa: SIM118
    return {"progress": shown}


def _today(verb: str, chosen: Sequence[str], typed: Sequence[str]) -> DictConfig:
    """What conf/ and the command line make of a run's choices."""
    try:
        return compose(verb, [*chosen, *typed])
    except (HydraException, OmegaConfBaseException):  # they change what only the saved config has
        return compose(verb, [*chosen, *choices(typed)])


def flat(node: Any, path: str = "") -> dict[str, Any]:
    """Nested dicts as one: {"model.dropout": 0.2, ...}."""
    if not isinstance(node, dict) or not node:
        return {path: node}
    return {
        name: leaf for key, value in node.items() for name, leaf in flat(value, f"{path}.{key}".lstrip(".")).items()
    }


def overrides() -> list[str]:
    """The overrides that this run was started with."""
    if not HydraConfig.initialized():
        return []
    return [str(word) for word in OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)]  # type: ignore[union-attr]


def updated(recorded: Any, before: Any, after: Any) -> Any:
    """The recorded config with the difference between two composed ones, as plain containers.

    So a config file edited since the run changes nothing, and the user's own overrides do.
    """
    if before == after:
        return recorded
    if not all(isinstance(part, dict) for part in (recorded, before, after)):
        return after
    kept = {key: value for key, value in recorded.items() if key in after or key not in before}
    given = [key for key in after if key in kept or key not in before or before[key] != after[key]]
    return kept | {key: updated(recorded.get(key), before.get(key), after[key]) for key in given}


def checkpoint(folder: Path, name: str) -> Path:
    """The file of a run's checkpoint: `best`, `last`, or any file."""
    named = folder / "checkpoints" / f"{name}.ckpt"
    path = named if named.is_file() else Path(os.path.expanduser(name))  # noqa: PTH111
    if not path.is_file():
        there = sorted(file.stem for file in (folder / "checkpoints").glob("*.ckpt"))
        way = "type " + " or ".join(f"checkpoint={one}" for one in (*there[:1], "<file>"))
        raise UserError(f"checkpoint={name}: {folder} has {', '.join(there) or 'no checkpoint'}; {way}")
    return path.resolve()


# ---- the words that name it, on a command line


def reading(argv: Sequence[str], verb: str, logs: Path, *, literal: Sequence[str] = ()) -> list[str]:
    """The command line of a verb that reads a past run, as Hydra is to see it.

    `run=` is taken literally, whatever it holds, and so are the words of the keys in `literal`. The overrides of that
    run come first, then the user's own; results and log go into <run>/<verb>/.
    """
    given, own = _parted(argv, "run")
    if {"-m", "--multirun"} & set(argv):
        raise UserError(f"{verb} reads one run at a time: type it without -m")
    if not given and any(word.startswith("-") for word in argv):
        return own  # --help, --cfg job: nothing is read
    if len(given) == 1 and _plain(given[0]) != given[0]:
        return list(argv)  # a further process of this command: its words have been here before
    if len(given) != 1 or not given[0]:
        raise UserError(f"{verb} needs one run: type {verb} run=last, or {verb} run=<folder>")
    folder = find_run(given[0], typed_logs(own, logs))
    check_folder(folder)
    places = [f"run={quoted(folder)}", f"hydra.run.dir={quoted(folder / verb)}", "hydra.output_subdir=null"]
    return [*past_overrides(folder), *places, *literally(own, literal)]


def returning(argv: Sequence[str], logs: Path) -> list[str]:
    """The command line of `train`, as Hydra is to see it: with `resume=` or `rerun=`, a past run's words come first.

    Both are taken literally. A run goes on in its own folder, where Hydra writes nothing; with -m, a grid multirun.
    """
    if _saved().get("process") == os.getpid():  # of an earlier command of this program
        del os.environ[SAVED]
    resumed, own = _parted(argv, "resume")
    rerun, own = _parted(own, "rerun")
    if not resumed and not rerun:
        return list(argv)
    if len(resumed) + len(rerun) != 1 or not (resumed + rerun)[0]:
        raise UserError("give one run to go on with: train resume=last; or one to do again: train rerun=<folder>")
    if _plain((resumed + rerun)[0]) != (resumed + rerun)[0]:
        return list(argv)  # a further process of this command: its words have been here before
    if resumed and (dirs := [word for word in own if re.match(r"\+*hydra\.(run|sweep)\.(dir|subdir)=", word)]):
        raise UserError(f"{dirs[0]}: a run goes on in its own folder; leave it out, or type train rerun={resumed[0]}")
    home = typed_logs(own, logs)
    if rerun:
        folder = find_run(rerun[0], home, key="rerun")
        check_folder(folder)
        return [*past_overrides(folder), f"rerun={quoted(folder)}", *own]
    if {"-m", "--multirun"} & set(argv):
        return _multirun_again(find(resumed[0], home, key="resume", kinds=("multiruns",)), own)
    folder = find(resumed[0], home, key="resume")
    check_folder(folder)
    if not is_run(folder):
        raise UserError(f"resume={resumed[0]} is a multirun: type train -m resume={folder.name}")
    places = [f"resume={quoted(folder)}", f"hydra.run.dir={quoted(folder)}", "hydra.output_subdir=null"]
    return [*past_overrides(folder), *places, *own]


def _multirun_again(folder: Path, own: Sequence[str]) -> list[str]:
    """The words of a multirun: each job of a grid finds out what is left to do, and of a search its study does."""
    if not (folder / "multirun.yaml").is_file():
        raise UserError(f"resume={folder} is one run, no multirun: type it without -m")
    check_folder(folder)
    file = folder / "multirun.yaml"
    hydra = _hydra_part(file)
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
    brought = [word for word in words if not _key_of([word]) & _key_of(own)]
    os.environ[SAVED] = json.dumps({"words": brought, "process": os.getpid()})
    about = _about_multiruns([str(word) for word in saved.get("hydra") or []], file, own)
    places = [f"hydra.sweep.dir={quoted(folder)}"]
    if "OptunaSweeper" not in str(hydra.get("sweeper")):  # a study knows which of its trials have ended
        places = [f"resume={quoted(folder)}", *places, "hydra.output_subdir=null"]
    return [*words, *about, *places, *own]


def _hydra_part(file: Path) -> dict[str, Any]:
    """Hydra's part of a multirun's config, interpolations as they are written."""
    content: Any = OmegaConf.to_container(loaded(file), resolve=False)
    hydra = content.get("hydra") if isinstance(content, dict) else None
    parts = [hydra.get("overrides")] if isinstance(hydra, dict) else [None]
    if not isinstance(hydra, dict) or not isinstance(parts[0], dict):
        raise UserError(f"{file} is not a multirun's config: type the multirun's own command again to go on")
    return hydra


# Of Hydra's own part, what a multirun takes over from its folder, though that may be a stranger's.
TAKEN_OVER = re.compile(
    r"hydra/launcher=(basic|process)"
    r"|hydra/(sweeper|sweeper/sampler|sweeper/pruner)=\w+"
    r"|hydra\.sweeper\.(study_name=[^$]*|(n_trials|n_jobs|max_failures|max_failure_rate)=[\w.+-]*)"
    r"|hydra\.sweeper\.direction=[\[\]\w, ]*"
    r"|hydra\.sweeper\.(sampler|pruner)\.[a-z]\w*=[\w.+-]+"
    r"|hydra\.launcher\.n_jobs=\d+"
)


def _about_multiruns(words: Sequence[str], file: Path, typed: Sequence[str]) -> list[str]:
    """How a multirun was to search and to be launched."""
    kept = [word for word in words if not re.match(r"\+*hydra\.(mode|sweep\.dir|output_subdir)=", word)]
    for word in kept:
        if not TAKEN_OVER.fullmatch(word) and word not in typed:
            raise UserError(f"{file}: {word!r} is not taken over; type the multirun's own command again to go on")
    return [word for word in kept if word not in typed]


def typed_logs(words: Sequence[str], logs: Path) -> Path:
    """Where runs are looked for: `paths.logs`, where the user gave one."""
    typed = [word.removeprefix("paths.logs=") for word in words if word.startswith("paths.logs=")]
    return Path(*typed[-1:]) if typed else logs


def _parted(argv: Sequence[str], key: str) -> tuple[list[str], list[str]]:
    """The values that were given to a key, and all other words."""
    given = [word.lstrip("+").removeprefix(f"{key}=") for word in argv if word.lstrip("+").startswith(f"{key}=")]
    return given, [word for word in argv if not word.lstrip("+").startswith(f"{key}=")]


def literally(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The words with the values of `keys` quoted: Hydra then takes them as they stand."""
    return [
        f"{key}={quoted(value)}" if mark and key in keys and value not in ("", "null") else word
        for word in words
        for key, mark, value in [word.partition("=")]
    ]


def quoted(value: object) -> str:
    """A value that Hydra's grammar and OmegaConf's interpolation take as it stands.

    To both a backslash is itself, but in front of what it would protect: a quote, the end, or `${`.
    """
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", str(value))
    return "'" + re.sub(r"(\\*)('|\Z)", lambda end: end[1] * 2 + end[2].replace("'", "\\'"), text) + "'"


def _plain(value: str) -> str:
    """Undoes `quoted`: the further processes of a run are started with the words that Hydra saw."""
    if value[:1] == "'" and Path(value[1:]).is_absolute():
        return str(OmegaConf.create({"run": OverridesParser.create().parse_override(f"run={value}").value()}).run)
    return value
