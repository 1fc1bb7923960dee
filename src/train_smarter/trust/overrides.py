"""Saved overrides, before they return to a command line."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.trust.values import LOGGERS, WRITING, has_interpolation, is_outside, is_path, is_remote

RUN_KEYS = ("run", "resume", "rerun", "refit", "against")  # keys that name a past run; never taken from one


class SplitOverrides(NamedTuple):
    """Saved overrides. safe: may return to a command line. unsafe: may not, with the key of each."""

    safe: list[str]
    unsafe: list[tuple[str, str]]


def split_overrides(words: Sequence[Any], file: Path) -> SplitOverrides:
    """Sort saved overrides by whether they may return to a command line. Those that name a run are dropped.

    Args:
        words: what `file` holds.

    Raises:
        UserError: one is not an override, or sets a key of Hydra's or an argument of a command (`output`).
    """
    parser, safe, unsafe = OverridesParser.create(), list[str](), list[tuple[str, str]]()
    for word in map(str, words):
        try:
            override = parser.parse_override(word)
        except HydraException:
            override = None
        if word.startswith("-") or override is None or not word.isprintable() or _is_hydra_override(override):
            raise UserError(f"{file}: {word!r} is refused: a run's overrides set nothing but its own config")
        key = override.key_or_group
        if key.partition(".")[0] in _command_keys():
            raise UserError(f"{file}: {word!r} is refused: only you may set {key}, on the command line")
        chosen = _is_group(override) and override.type != OverrideType.DEL
        if key in RUN_KEYS or (key.partition(".")[0] == "paths" and key != "paths.data" and not chosen):
            continue  # where runs are is the user's to say
        if _is_safe(override, [*_strings(override)]):
            safe.append(word)
        else:
            unsafe.append((key, word))
    return SplitOverrides(safe, unsafe)


@cache
def _command_keys() -> set[str]:
    """The arguments of the commands that read a run: `output`, for example."""
    train = OmegaConf.load(paths.CONF / "train.yaml")
    files = [OmegaConf.load(paths.CONF / f"{name}.yaml") for name in ("evaluate", "export", "predict", "report")]
    return {str(key) for file in files for key in file} - {str(key) for key in train} - {*RUN_KEYS, "defaults", "hydra"}


def _is_hydra_override(override: Override) -> bool:
    key, package = override.key_or_group, str(override.package or "")
    return re.match(r"_?hydra\b", key) is not None or re.search(r"\b(hydra|paths)\b|_global_", package) is not None


def _is_group(override: Override) -> bool:
    group = (paths.CONF / override.key_or_group).is_dir() and "." not in override.key_or_group
    return group and not isinstance(override._value, dict)  # a dict sets its keys, which Hydra refuses


def _is_safe(override: Override, values: Sequence[tuple[tuple[str, ...], str]]) -> bool:
    if _is_group(override):
        names = [text for _, text in values]
        if override.key_or_group == "logger":
            return all(map(_is_local_logger, names))
        return all(re.fullmatch(r"[\w-]+(/[\w-]+)*", name) for name in names)
    if override.type == OverrideType.DEL:
        return True
    group = override.key_or_group.partition(".")[0]
    if any(has_interpolation(text) for _, text in values):
        return False
    if any(is_remote(path, text) for path, text in values):
        return False
    if group == "logger" and any(path[-1] == "_target_" for path, _ in values):
        return False
    home = Path("/run")  # in place of the run's folder, wherever that is
    return group not in WRITING or not any(
        is_outside(path, re.sub(r"^\$\{paths\.run\}(?=/|$)", str(home), text), [home])
        for path, text in values
        if path[-1] != "_target_"
    )


def _is_local_logger(choice: str) -> bool:
    """Whether a choice of conf/logger keeps everything on this machine."""
    file = paths.CONF / "logger" / f"{choice}.yaml"
    if not re.fullmatch(r"[\w-]+", choice) or not file.is_file():
        return choice == "none"
    entries = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    known = [entry for entry in entries.values() if isinstance(entry, dict)] if isinstance(entries, dict) else [{}]
    return all(entry.get("_target_") in LOGGERS for entry in known)


def _strings(override: Override) -> Iterator[tuple[tuple[str, ...], str]]:
    """Keys to each text in an override's value, and the text."""
    yield from _iter_texts(override._value, tuple(override.key_or_group.split(".")))


def _iter_texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, QuotedString):
        yield path, value.text
    elif isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _iter_texts(part, (*path, str(getattr(key, "text", key))))
            if not isinstance(part, str | dict | list | QuotedString):  # the key alone may be a text to look at
                yield (*path, str(getattr(key, "text", key))), str(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _iter_texts(part, path)
    elif isinstance(value, ChoiceSweep):
        yield from _iter_texts(value.list, path)
    elif value is not None and not isinstance(value, int | float):  # a range, an interval, a glob
        yield from ((path, str(part)) for part in vars(value).values() if isinstance(part, str))


def choices(words: Sequence[str]) -> list[str]:
    """Those of the words that choose a file of conf/."""
    return [word for word, override in _parse_overrides(words) if _is_group(override)]


def keys(words: Sequence[str]) -> list[str]:
    """The keys that words set, a group's choice left out."""
    return [key for _, override in _parse_overrides(words) if not _is_group(override) for key in _keys_in(override)]


def name_data(words: Sequence[str]) -> bool:
    """Whether the words say in which files or folders data are."""
    return any(
        is_path(("data",) if path == ("paths", "data") else path, text)
        for _, override in _parse_overrides(words)
        for path, text in _strings(override)
        if path == ("paths", "data") or (path[0] == "data" and len(path) > 1)
    )


def _parse_overrides(words: Sequence[str]) -> Iterator[tuple[str, Override]]:
    """Words that are overrides; Hydra answers the others."""
    for word in words:
        with suppress(HydraException):
            if "=" in word or word.startswith("~"):
                yield word, OverridesParser.create().parse_override(word)


def _keys_in(override: Override) -> list[str]:
    def inside(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield path
        else:
            for key, part in value.items():
                yield from inside(part, f"{path}.{getattr(key, 'text', key)}")

    return [*inside(override._value, override.key_or_group)]
