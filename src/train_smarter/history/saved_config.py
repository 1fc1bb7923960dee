"""A past run: how a command finds it, and takes its config up again. Imports nothing heavy.

Nothing in a run's folder is trusted: it may come from a stranger.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import train_smarter.config.resolvers  # noqa: F401 (a config is composed, and resolved, here)
from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.quoting import quote
from train_smarter.run.files import damaged
from train_smarter.run.record import read_record
from train_smarter.run.run_dir import task_overrides
from train_smarter.trust import RUN_KEYS, check_config, check_folder, choices, keys, rebase_paths, split_overrides
from train_smarter.trust.nodes import put, raw, raw_leaves

# The environment variable with the words that a multirun's folder has brought, for its jobs, wherever they run.
SAVED_VARIABLE = "TRAIN_SMARTER_SAVED"
# Values of data that are counted in a user's files.
COUNTED = re.compile(r"\$\{(count_classes|count_targets|count_interactions|table_shape):")
REQUIRED = ("data", "model", "trainer", "paths")  # groups that every run's config has


# ---- its config


def load_saved_config(folder: Path, *, required: Sequence[str] = ()) -> DictConfig:
    """The config that a run was composed of, when it was last started.

    As Hydra kept it, with its interpolations: so `paths.data=...` moves what hangs on it, and a project may move.

    Args:
        required: groups without which it is refused as damaged.
    """
    for path in (*(kept / "config.yaml" for kept in reversed(_config_snapshots(folder))), folder / "config.yaml"):
        if path.is_file():
            cfg = load_yaml(path)
            if not isinstance(cfg, DictConfig):
                raise damaged(path, "is no config: it holds no names and values")
            if lost := [group for group in required if not isinstance(cfg._get_node(group), DictConfig)]:
                raise damaged(path, f"is cut off, or no run's config: it has no {lost[0]}")
            return cfg
    raise UserError(f"{folder} holds no config: the run ended before it began")


def past_overrides(folder: Path) -> list[str]:
    """The overrides that a past run was last started with, but those that named a run before it.

    Raises:
        UserError: one of them is none, or sets something of Hydra's own: they are put on a command line.
    """
    path, words = _read_overrides(folder)
    searched = [word for word in words if word.startswith("search=")]
    if searched:  # a trial is to be one run again: what the search had chosen is chosen without it
        words = [*choices_of(folder), *(word for word in words if word not in searched)]
    return split_overrides(words, path).safe


def _read_overrides(folder: Path) -> tuple[Path, list[str]]:
    """The file that has them, and all that it holds, interpolations as they are written."""
    for kept in reversed(_config_snapshots(folder)):
        if (path := kept / "overrides.yaml").exists():
            content: Any = OmegaConf.to_container(load_yaml(path), resolve=False)
            if not isinstance(content, list):
                raise damaged(path, "is not a list of overrides")
            return path, [str(word) for word in content]
    path = folder / "record.json"  # the only one where .hydra is gone
    words = read_record(folder).get("overrides") if path.is_file() else None
    return path, [str(word) for word in words or []]


def choices_of(folder: Path) -> list[str]:
    """What was chosen for a run's groups, as overrides; none where Hydra has not kept it."""
    kept = folder / ".hydra" / "hydra.yaml"
    hydra = OmegaConf.to_container(load_yaml(kept), resolve=False) if kept.is_file() else {}
    chosen: Any = hydra
    for key in ("hydra", "runtime", "choices"):
        chosen = chosen.get(key) if isinstance(chosen, dict) else None
    if not isinstance(chosen, dict):
        return []
    groups = ("experiment", "data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger")
    return [f"{group}={chosen[group]}" for group in groups if isinstance(chosen.get(group), str)]


def _config_snapshots(folder: Path) -> list[Path]:
    """What was kept of each start of a run: .hydra, .hydra_2, .hydra_3, ..."""
    return sorted(
        (path for path in folder.glob(".hydra*") if re.fullmatch(r"\.hydra(_\d+)?", path.name)),
        key=lambda path: (len(path.name), path.name),
    )


def load_yaml(path: Path) -> Any:
    """The DictConfig or ListConfig that a YAML file of a run's folder holds."""
    try:
        return OmegaConf.load(path)
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise damaged(path, f"cannot be read: {str(error).splitlines()[0]}") from error
    except Exception as error:  # YAML's own errors have no common base that is not YAML's
        raise damaged(path, f"is not readable YAML: {str(error).splitlines()[0]}") from error


def merge_saved_config(cfg: DictConfig, folder: Path, verb: str, *own: str) -> DictConfig:
    """The run's recorded config with the user's overrides on top, whatever has become of conf/ since.

    Args:
        cfg: what `verb` composed from the run's overrides and the user's.
        own: keys that are the verb's, not the run's.
    """
    then = past_overrides(folder)
    given = _drop_overrides(task_overrides(), then)
    naming = [word for word in given if word.partition("=")[0] in RUN_KEYS]
    typed = _typed_overrides([word for word in given if word not in naming])
    before = compose(verb, [*then, *naming])
    saved = rebase_paths(load_saved_config(folder, required=REQUIRED), folder)
    parts = [OmegaConf.to_container(config, resolve=False) for config in (saved, before, cfg)]
    merged = DictConfig(three_way_merge(*parts) | {key: parts[2][key] for key in own})  # type: ignore[index, call-overload]
    for path in (key.split(".") for key in keys(typed)):  # also where it is what conf/ says, and the run had another
        nothing = object()
        value = raw(cfg, path, default=nothing)
        put(merged, path, value, remove=value is nothing)
    if verb != "train":  # the training's loggers and callbacks have no part in it
        merged.logger, merged.callbacks = {}, _set_progress_bar(merged)
    today = _compose_today(verb, [*choices(then), *naming], typed)
    return check_config(merged, today=today, typed=keys(typed), folder=folder, home=Path(cfg.paths.run))


def use_recorded_counts(cfg: DictConfig, folder: Path) -> None:
    """Use what a run has counted in its files (classes, columns), which may be gone or have grown since."""
    counted = [path for path, value in raw_leaves(cfg, "data") if COUNTED.match(str(value))]
    file = folder / "config.yaml"
    recorded = load_yaml(file) if counted and file.is_file() else None
    for path in counted if isinstance(recorded, DictConfig) else []:
        value = raw(recorded, path, default=None)  # a run that is older than the key counted nothing for it
        numbers = value if isinstance(value, list) else [value]
        if all(type(number) in (int, NoneType) for number in numbers):
            put(cfg, path, value)


def config_outside_hydra(folder: Path) -> DictConfig:
    """The run's recorded config for a program that composes none: a notebook, say."""
    check_folder(folder)
    other = GlobalHydra.instance()  # that of the program, which may use Hydra, too
    theirs, other.hydra = other.hydra, None
    try:
        with initialize_config_dir(str(paths.CONF)):
            today = compose("train", choices(past_overrides(folder)))
    finally:
        GlobalHydra.instance().hydra = theirs
    saved = load_saved_config(folder, required=REQUIRED)
    saved.logger, saved.callbacks = {}, {}
    use_recorded_counts(saved, folder)
    return check_config(saved, today=today, typed=[], folder=folder, home=folder)


def merge_pinned_config(cfg: DictConfig, verb: str) -> DictConfig:
    """The config of a new run, checked where words of a multirun's folder have composed it."""
    if not os.environ.get(SAVED_VARIABLE):
        return cfg
    given = [word for word in task_overrides() if word.partition("=")[0] not in RUN_KEYS]
    typed = _typed_overrides(given)
    today = _compose_today(verb, choices([word for word in given if word not in typed]), typed)
    home = Path(cfg.paths.run)
    return check_config(cfg, today=today, typed=keys(typed), folder=home, home=home)


def _typed_overrides(words: Sequence[str]) -> list[str]:
    """Those of a job's words that the user typed: the others come from the folder of its multirun."""
    saved = key_of(saved_variable().get("words", []))
    return [word for word in words if not key_of([word]) & saved]


def saved_variable() -> dict[str, Any]:
    content = os.environ.get(SAVED_VARIABLE) or "{}"
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError) as error:
        raise UserError(f"{SAVED_VARIABLE}={content!r} in the environment: type unset {SAVED_VARIABLE}") from error


def key_of(words: Sequence[str]) -> set[str]:
    return {word.lstrip("+~").partition("=")[0].partition("@")[0] for word in words}


def _drop_overrides(words: Sequence[str], others: Sequence[str]) -> list[str]:
    """The words, each of the others taken away once."""
    rest = list(words)
    for word in others:
        if word in rest:
            rest.remove(word)
    return rest


def _set_progress_bar(cfg: DictConfig) -> dict[str, Any]:
    node = cfg._get_node("callbacks")
    shown = node._get_node("progress") if isinstance(node, DictConfig) and "progress" in node.keys() else None  # noqa: SIM118
    return {"progress": shown}


def _compose_today(verb: str, chosen: Sequence[str], typed: Sequence[str]) -> DictConfig:
    """What conf/ and the command line make of a run's choices."""
    try:
        return compose(verb, [*chosen, *typed])
    except (HydraException, OmegaConfBaseException):  # they change what only the saved config has
        return compose(verb, [*chosen, *choices(typed)])


def flatten(node: Any, path: str = "") -> dict[str, Any]:
    """Nested dicts as one: {"model.dropout": 0.2, ...}."""
    if not isinstance(node, dict) or not node:
        return {path: node}
    return {
        name: leaf for key, value in node.items() for name, leaf in flatten(value, f"{path}.{key}".lstrip(".")).items()
    }


def three_way_merge(recorded: Any, before: Any, after: Any) -> Any:
    """The recorded config with the difference between two composed ones, as plain containers.

    So a config file edited since the run changes nothing, and the user's own overrides do.
    """
    if before == after:
        return recorded
    if not all(isinstance(part, dict) for part in (recorded, before, after)):
        return after
    kept = {key: value for key, value in recorded.items() if key in after or key not in before}
    given = [key for key in after if key in kept or key not in before or before[key] != after[key]]
    return kept | {key: three_way_merge(recorded.get(key), before.get(key), after[key]) for key in given}


def quote_values(words: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The words with the values of `keys` quoted: Hydra then takes them as they stand."""
    return [
        f"{key}={quote(value)}" if mark and key in keys and value not in ("", "null") else word
        for word in words
        for key, mark, value in [word.partition("=")]
    ]
