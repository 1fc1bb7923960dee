"""A saved config, before anything is built of it."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from train_smarter.errors import UserError
from train_smarter.run.run_dir import global_rank
from train_smarter.trust.nodes import leaves, put, raw, raw_leaves, resolved
from train_smarter.trust.overrides import RUN_KEYS
from train_smarter.trust.targets import takes_argument
from train_smarter.trust.values import (
    ELSEWHERE,
    LOGGERS,
    STRATEGY,
    WRITING,
    has_interpolation,
    is_hub_name,
    is_outside,
    is_path,
    is_remote,
)

log = logging.getLogger(__name__)


@dataclass
class ConfigCheck:
    """Checks a saved config, in place.

    config: the saved one, with the user's overrides. today: what conf/ and the command line make of the same choices; a
    value that is the same there is trusted. typed: keys that were typed. folder: the run's; home: where this command
    writes.
    """

    config: DictConfig
    today: DictConfig
    typed: Sequence[str]
    folder: Path
    home: Path
    notes: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Raises a UserError where a value is refused; what is only left out, or read elsewhere, is logged."""
        for path, value in list(raw_leaves(self.config)):
            if not isinstance(value, str | int | float | None):  # bytes, for example, pass for no text
                raise UserError(f"{self.folder}: its {'.'.join(path)} is refused: it is {type(value).__name__}")
            if isinstance(value, str) and has_interpolation(value) and not self._is_trusted(path, look=raw):
                raise self._refused(path, value, "reads the environment or another resolver")
            if "_args_" in path and not self._is_trusted(path, look=raw):  # arguments without a name escape the rest
                raise UserError(f"{self.folder}: its {'.'.join(path)}={value} is refused: an argument without a name")
        for group in (*WRITING, "paths", "data"):
            node = self.config._get_node(group)
            if node is not None and (not isinstance(node, DictConfig) or node._is_interpolation()):
                raise self._refused((group,), raw(self.config, (group,)), "is not a group of settings")
        self._set_paths()
        self._fix_texts()
        self._drop_remote_loggers()
        self._restore_network()
        for group in WRITING:
            self._check_writing(group)
        self._check_trainer()
        self._note_reading()
        self._forbid_published_weights()

    def _set_paths(self) -> None:
        """Where runs are, and this one, is never a saved config's to say."""
        for key in ("run", "logs", "root"):
            if key in (self.today.get("paths") or {}):
                OmegaConf.update(self.config, f"paths.{key}", raw(self.today, ("paths", key)), force_add=True)
        root = ("trainer", "default_root_dir")
        known = resolved(self.config, root, default=raw(self.config, root))
        if self.config.get("trainer") and not known:
            # Without it, Lightning writes to the current folder.
            OmegaConf.update(self.config, "trainer.default_root_dir", "${paths.run}", force_add=True)

    def _drop_remote_loggers(self) -> None:
        """A logger that sends data elsewhere is that of conf/, or of the command line, with all that it takes."""
        for name, entry in list((self.config.get("logger") or {}).items()):
            path = ("logger", str(name))
            target = entry.get("_target_") if isinstance(entry, DictConfig) else None
            if target in (None, *LOGGERS):
                continue
            if self._is_trusted((*path, "_target_")):
                self.config.logger[name] = raw(self.today, path, default=entry)
                continue
            self.config.logger.pop(name)
            self.notes.append(f"logger.{name} is left out: it sends data elsewhere; to use it, type logger={name}")

    def _restore_network(self) -> None:
        """Addresses and checksums are those of conf/, or of the command line."""
        for path in dict.fromkeys(self._network_nodes()):
            key = ".".join(path)
            known = raw(self.today, path)
            if not put(self.config, path, known, remove=known is None):
                raise self._refused(path, resolved(self.config, path), "is an address or a checksum")
            instead = "is left out" if known is None else "is as in conf/ today, not as saved"
            self.notes.append(f"{key} {instead}; to use another one, type {key}=...")

    def _forbid_published_weights(self) -> None:
        """Weights that a library publishes are fetched only where that was typed; else those that are here are used."""
        model, path = self.config.get("model"), ("model", "pretrained")
        if not isinstance(model, DictConfig) or resolved(self.config, path) is not True or self._is_trusted(path):
            return
        if "download" in model and put(self.config, ("model", "download"), False):
            self.notes.append(
                "model.pretrained=true uses weights that are on this machine; to download them, type it yourself"
            )

    def _network_nodes(self) -> Iterator[tuple[str, ...]]:
        """Keys to each such value, or to the list that it is in."""
        for path, value in leaves(self.config):
            if path[0] in (*RUN_KEYS, "paths", "tags") or path[-1] == "_target_":
                continue
            if (length := is_remote(path, value)) and not self._is_trusted(path):
                yield tuple(path[:length])

    def _check_writing(self, group: str) -> None:
        for path, text in leaves(self.config, group):
            if not isinstance(text, str) or path[-1] == "_target_" or self._is_trusted(path):
                continue
            if is_outside(path, text, [self.home]):
                raise self._refused(path, text, "leads out of the run's folder")
        for name, entry in (self.config.get("callbacks") or {}).items():
            kind = str(entry.get("_target_")).rpartition(".")[2] if isinstance(entry, DictConfig) else ""
            if kind in ELSEWHERE and not self._is_trusted(("callbacks", str(name))):
                raise self._refused(("callbacks", str(name)), kind, "writes outside of the run's folder")

    def _check_trainer(self) -> None:
        trainer = self.config.get("trainer") or {}
        for key in ("plugins", "model_registry", "callbacks", "logger"):
            if trainer.get(key) and not self._is_trusted(("trainer", key)):
                raise self._refused(("trainer", key), trainer.get(key), "is not a saved config's to set")
        strategy = trainer.get("strategy")
        name = strategy.get("_target_") if isinstance(strategy, DictConfig) else strategy
        known = name is None or STRATEGY.fullmatch(str(name)) or isinstance(strategy, DictConfig)
        if (not known or "DeepSpeed" in str(name)) and not self._is_trusted(("trainer", "strategy")):
            raise self._refused(("trainer", "strategy"), name, "is not a saved config's to set")

    def _note_reading(self) -> None:
        """Files that are only read may be anywhere; there, nothing is downloaded to."""
        others = [group for group in self.config if group not in (*WRITING, *RUN_KEYS, "paths")]
        read = {
            ".".join(path): text
            for group in others
            for path, text in leaves(self.config, str(group))
            if isinstance(text, str) and text and is_path(path, text) and not self._is_trusted(path)
            if path[-1] != "_target_"
        }
        if read:
            self.notes.append(
                f"read from where the run's config says: {', '.join(f'{k}={v}' for k, v in read.items())}"
            )
        self._restrict_download("data", read, can=self._can_download)
        # Any other model would not take the argument; and without it, nothing is fetched.
        self._restrict_download("model", read, can=lambda: "download" in (self.config.get("model") or {}))

    def _restrict_download(self, group: str, read: Iterable[str], *, can: Callable[[], bool]) -> None:
        """Nothing is fetched to a folder, or by a name, that only the saved config has."""
        if not self.config.get(group) or self._is_typed((group, "download")) or not can():
            return
        foreign = any(key.startswith(f"{group}.") for key in read) or any(
            is_hub_name(path) and value is not None and not self._is_trusted(path)
            for path, value in leaves(self.config, group)
        )
        allowed = False if foreign else raw(self.today, (group, "download"))
        put(self.config, (group, "download"), allowed, remove=allowed is None)

    def _can_download(self) -> bool:
        """Whether the data take `download`; a LightningDataModule of another kind may not have the argument."""
        node = self.config.data
        if "download" in node or raw(self.today, ("data", "download")) is not None:
            return True
        return takes_argument(node.get("_target_"), "data", "download")

    def _fix_texts(self) -> None:
        """An interpolation that conf/ has not is replaced by the text that was checked: it could change later."""
        for path, written in list(raw_leaves(self.config)):
            if not isinstance(written, str) or "${" not in written or self._is_trusted(path, look=raw):
                continue
            nothing = object()
            value = resolved(self.config, path, default=nothing)
            if value is nothing:
                raise self._refused(path, written, "leads nowhere")
            if isinstance(value, str):
                put(self.config, path, value.replace("${", "\\${"))

    # ---- whose a value is

    def _is_typed(self, path: Sequence[str]) -> bool:
        here = ".".join(path)
        return any(here == key or here.startswith(f"{key}.") for key in self.typed)

    def _is_trusted(self, path: Sequence[str], *, look: Callable[..., Any] = resolved) -> bool:
        """Whether a value was typed, or is what conf/ says."""
        if self._is_typed(path):
            return True
        nothing = object()
        saved = look(self.config, path, default=nothing)
        return saved is not nothing and bool(saved == look(self.today, path, default=None))

    def _refused(self, path: Sequence[str], value: Any, why: str) -> UserError:
        key = ".".join(path)
        return UserError(
            f"{self.folder}: its {key}={value} {why}, and is not taken over: if you mean it, type {key}=... yourself"
        )


def check_config(
    config: DictConfig, *, today: DictConfig, typed: Sequence[str], folder: Path, home: Path
) -> DictConfig:
    """Return a saved config in which all that may not come from its folder is left out or replaced: see `ConfigCheck`.

    Raises:
        UserError: a value is refused.
    """
    copy = config.copy()
    OmegaConf.set_struct(copy, False)
    check = ConfigCheck(copy, today, typed, folder, home)
    check.run()
    for note in check.notes if global_rank() == 0 else []:
        log.info("%s", note)
    return copy


def rebase_paths(config: DictConfig, folder: Path) -> DictConfig:
    """A saved config in which files and folders of the run are named relative to `paths.run`.

    Hydra keeps them so; `config.yaml` has them as they were, absolute, and another run would write to them.
    """
    paths = config.get("paths")
    old = [folder.resolve(), folder, *([Path(str(raw(config, ("paths", "run"))))] if paths and "run" in paths else [])]
    copy = config.copy()
    for group in WRITING:
        for path, text in list(raw_leaves(copy, group)):
            for home in old if isinstance(text, str) else []:
                if home.is_absolute() and len(home.parts) > 1 and Path(text).is_relative_to(home):
                    inside = Path(text).relative_to(home).as_posix()
                    put(copy, path, "${paths.run}" if inside == "." else f"${{paths.run}}/{inside}")
                    break
    return copy
