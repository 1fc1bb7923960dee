"""Choose the task of a user's own data by what the target column holds. Imports no torch, but for data=huggingface."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

import train_smarter.config.resolvers  # noqa: F401 (paths are resolved here)
from train_smarter import paths
from train_smarter.config.facts import OPEN
from train_smarter.data.table_source import pop_source
from train_smarter.data.target_columns import TASKS, detect_targets
from train_smarter.trust.nodes import raw

BY_TARGET = "${target_type:}"  # `target_type` of data whose task depends on their targets


def task_by_target(words: Sequence[str]) -> tuple[str, str] | None:
    """The word that chooses the task, and the reason; None: the words or a config file choose it, or no file is named.

    Args:
        words: of a command line.

    Raises:
        UserError: the file or the target column is missing, or cannot be read.
    """
    chosen = {key: value for word in words for key, mark, value in [word.lstrip("+").partition("=")] if mark}
    if any(re.match(r"task(@|$)", key) for key in chosen) or {"-h", "--help", "--hydra-help"} & set(words):
        return None
    if "experiment" in chosen and _load_group("experiment", chosen["experiment"]) is None:
        return None
    data = _load_group("data", chosen.get("data", ""))
    hub = data is not None and data.get("_target_") == OPEN
    if data is None or (raw(data, ["target_type"], default=None) != BY_TARGET and not hub):
        return None
    settings = {str(key): _plain(data, key) for key in data if key != "target_type"}
    settings |= dict(filter(None, map(_parse, words)))
    if hub:
        return _task_of_columns(settings, chosen)
    if settings.get("masks"):
        return "task=segmentation", "data.masks has a class for each pixel"
    if not settings.get("file") or not settings.get("target"):
        return None
    source = pop_source(settings)
    table = source.read([]).table
    kind, reason = detect_targets(table, source.target, na_values=source.na_values, decimal_comma=source.decimal_comma)
    return f"task={TASKS[kind]}", reason


def _task_of_columns(settings: dict[str, Any], typed: Mapping[str, str]) -> tuple[str, str] | None:
    """The task of data that `datasets` loads, by the type of their targets; None: they are not named yet."""
    if not settings.get("path"):
        return None
    from train_smarter.data.huggingface import detect_targets as detect_columns

    found = detect_columns({**settings, "dir": settings.get("dir") or typed.get("paths.data") or _data_folder()})
    return found and (f"task={TASKS[found[0]]}", found[1])


def _data_folder() -> str:
    """`paths.data` of conf/."""
    files = [paths.CONF / group / "default.yaml" for group in ("paths", "local")]
    config = OmegaConf.create({"paths": OmegaConf.load(files[0])})
    if files[1].is_file():
        config = OmegaConf.merge(config, OmegaConf.load(files[1]))  # type: ignore[assignment]
    return str(config.paths.data)


def _load_group(group: str, choice: str) -> DictConfig | None:
    """A file of conf/ on top of those that it names in the same group; None: there is none, or it chooses a task."""
    file = paths.CONF / group / f"{choice}.yaml"
    if not re.fullmatch(r"[\w-]+", choice) or not file.is_file():
        return None
    content = OmegaConf.load(file)
    if not isinstance(content, DictConfig):
        return None
    merged = OmegaConf.create()
    for entry in content.pop("defaults", []):
        if not isinstance(entry, str):
            if any(re.match(r"(override )?/?task\b", str(key)) for key in entry):
                return None
        elif entry != "_self_":
            base = _load_group(group, entry)
            if base is None:
                return None
            merged = OmegaConf.merge(merged, base)  # type: ignore[assignment]
    return OmegaConf.merge(merged, content)  # type: ignore[return-value]


def _plain(config: DictConfig, key: Any) -> Any:
    """A value; None where it is missing, or depends on others."""
    node = config._get_node(key)
    if OmegaConf.is_missing(config, key) or node._is_interpolation():  # type: ignore[union-attr]
        return None
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else config[key]


def _parse(word: str) -> tuple[str, Any] | None:
    """A setting of data that a word gives one value."""
    if not word.lstrip("+").startswith("data."):
        return None
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        return None
    if override.is_delete() or override.is_sweep_override():
        return None
    return override.key_or_group.removeprefix("data."), override.value()
