"""Which classes a config may build. The place of a `_target_` (its slot) decides which base class it must have."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from train_smarter import paths
from train_smarter.errors import UserError


@dataclass(frozen=True)
class Slot:
    """The dotted name of the base class ("" for any class), and packages that may provide classes.

    The project's own package may always; a package includes its modules.
    """

    base: str
    packages: Sequence[str] = ()


# `*` is any one key. Keep it narrow: torch.utils.collect_env.run runs a shell command.
SLOTS: Mapping[str, Slot] = {
    "data": Slot("lightning.pytorch.LightningDataModule"),
    "data.augment.*": Slot("train_smarter.data.augment.Augmentation"),
    "model": Slot("lightning.pytorch.LightningModule"),
    "task": Slot("train_smarter.task.base.Task"),
    "optimizer": Slot("torch.optim.Optimizer", ["torch.optim", "schedulefree"]),
    "scheduler": Slot("train_smarter.fit.lr_schedule.LRSchedule"),
    "scheduler.torch_scheduler": Slot("torch.optim.lr_scheduler.LRScheduler", ["torch.optim"]),
    "callbacks.*": Slot("lightning.pytorch.Callback", ["lightning.pytorch.callbacks"]),
    "logger.*": Slot("lightning.pytorch.loggers.Logger", ["lightning.pytorch.loggers"]),
    "trainer": Slot("lightning.pytorch.Trainer", ["lightning.pytorch", "lightning.Trainer"]),
    "trainer.strategy": Slot("lightning.pytorch.strategies.Strategy", ["lightning.pytorch.strategies"]),
    "trainer.profiler": Slot("lightning.pytorch.profilers.Profiler", ["lightning.pytorch.profilers"]),
}
# Takes functions, which a config has none of.
EXCLUDED = ("lightning.pytorch.callbacks.lambda_function.LambdaCallback",)
# Hydra's own keys that a config may use.
SPECIAL = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")


def check_targets(node: Any, path: str) -> list[str]:
    """Validate every `_target_` in a resolved config.

    Args:
        node: dicts and lists, without interpolations.
        path: where it is in the config, for example "callbacks.resume_checkpoint".

    Returns:
        The names of the classes, as they are spelled and as they are defined, for Hydra's allowlist.

    Raises:
        UserError: a `_target_` is not in a slot, or is not a public class of the slot's base and packages.
    """
    names: list[str] = []
    for place, target in _targets(node, path):
        found = _resolve_target(target, place)
        names += [target, f"{found.__module__}.{found.__qualname__}"]
    return names


def takes_argument(target: Any, path: str, name: str) -> bool:
    """Whether the class of a `_target_` has an argument, `**` ones included. Imports its module.

    Raises:
        UserError: the `_target_` is refused.
    """
    parameters = inspect.signature(_resolve_target(target, path)).parameters.values()
    return any(one.name == name or one.kind is one.VAR_KEYWORD for one in parameters)


def _targets(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    path = re.sub(r"^model\.(?=(optimizer|scheduler|task)(\.|$))", "", path)  # interpolated there
    if isinstance(node, dict):
        for key in node:
            if re.fullmatch(r"_\w+_", str(key)) and key not in SPECIAL:
                raise UserError(f"{path}.{key} is refused: a config may not set it")
        if "_target_" in node:
            yield path, node["_target_"]
        for key, value in node.items():
            yield from _targets(value, f"{path}.{key}")
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _targets(value, f"{path}.{place}")


def _resolve_target(target: Any, path: str) -> type:
    given = f"{path}._target_={target}"
    slots = [slot for pattern, slot in _slots().items() if _matches(pattern, path)]
    if not slots:
        raise UserError(
            f"{given} is refused: no class is built there, only at {', '.join(SLOTS)}. To allow it, add a line to "
            f"{_allowlist()}:\n  {path}: [{target}]"
        )
    for slot in slots:
        found = _find_public_class(target, slot)
        if found is not None:
            return found
    packages = [*dict.fromkeys([*(name for slot in slots for name in slot.packages), *paths.OWN])]
    refused = f"{given} is refused: give a public subclass of {slots[0].base} from {', '.join(packages)}"
    package = str(target).partition(".")[0]
    if package in [name.partition(".")[0] for name in packages]:
        raise UserError(refused)
    raise UserError(
        f"{refused}; to allow another package there, add a line to {_allowlist()}:\n  {_pattern(path)}: [{package}]"
    )


def _find_public_class(target: Any, slot: Slot) -> type | None:
    """The class, or None. Nothing is imported but modules of the slot's packages."""
    if not isinstance(target, str) or not re.fullmatch(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", target):
        return None
    if not any(target == name or target.startswith(f"{name}.") for name in (*slot.packages, *paths.OWN)):
        return None
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (module == missing or module.startswith(f"{missing}.")):
            return None
        raise UserError(f"{target} cannot be imported: {error}") from error
    if not isinstance(found, type) or f"{found.__module__}.{found.__qualname__}" in EXCLUDED:
        return None
    if not slot.base:
        return found
    home, _, base = slot.base.rpartition(".")
    return found if issubclass(found, getattr(import_module(home), base)) else None


def _slots() -> dict[str, Slot]:
    """SLOTS, and what conf/allowed.yaml adds to them."""
    slots = {
        pattern: Slot(slot.base, [*slot.packages, *_allowed(_allowlist()).get("any", [])])
        for pattern, slot in SLOTS.items()
    }
    for pattern, names in _allowed(_allowlist()).items():
        if pattern != "any":
            known = slots.get(pattern, Slot(""))
            slots[pattern] = Slot(known.base, [*known.packages, *names])
    return slots


def _allowlist() -> Path:
    return paths.CONF / "allowed.yaml"


@cache
def _allowed(file: Path) -> dict[str, list[str]]:
    """Of each slot, the packages and classes that conf/allowed.yaml adds."""
    if not file.is_file():
        return {}
    try:
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except (OSError, OmegaConfBaseException) as error:
        raise UserError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    except Exception as error:  # YAML's own errors have no common base that is not YAML's
        raise UserError(f"{file} is not readable YAML: {str(error).splitlines()[0]}") from error
    allowed: dict[str, list[str]] = {}
    for slot, names in (content or {}).items() if isinstance(content, dict | None) else [("", content)]:
        several = [names] if isinstance(names, str) else names
        if not slot or not isinstance(several, list) or not all(isinstance(name, str) for name in several):
            raise UserError(
                f"{_allowlist()}: {slot!r}: {names!r}: give `slot: [package, ...]`, for example any: [my_lib]"
            )
        allowed |= {str(slot): several}
    return allowed


def _matches(pattern: str, path: str) -> bool:
    parts, keys = pattern.split("."), path.split(".")
    return len(parts) == len(keys) and all(part in ("*", key) for part, key in zip(parts, keys, strict=True))


def _pattern(path: str) -> str:
    return next((pattern for pattern in SLOTS if _matches(pattern, path)), path)
