"""What a run leaves behind in its folder. Imports nothing heavy."""

import os
import platform
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from train_smarter.errors import UserError
from train_smarter.metric_names import task_metrics
from train_smarter.run.environment import commit, hardware, versions
from train_smarter.run.files import atomic_write, naming, read_dict, write_json
from train_smarter.run.results import Results, best_of_epochs

HEARTBEAT = 60  # seconds
FINAL_STATUSES = ("done", "pruned", "failed", "interrupted")
KINDS = {  # of what is read from a record
    **dict.fromkeys(("start", "end", "command", "status", "monitor", "mode", "host", "error", "commit", "diff"), str),
    **dict.fromkeys(("overrides", "tags", "resumed"), list),
    **dict.fromkeys(("metrics", "packages", "hardware"), dict),
    **dict.fromkeys(("pid", "seed"), int),
}


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a run.

    Raises:
        UserError: there is none, or it is damaged.
    """
    return read_dict(folder / "record.json", KINDS)


class Record:
    """record.json: how the run was started, on what, whether it still runs, and how it ended.

    A run that goes on keeps what it said of its first start; each later one is added to `resumed`.
    """

    def __init__(self, folder: Path, cfg: DictConfig, *, command: str, overrides: Sequence[str]) -> None:
        self.folder, self.path, self._stopped = folder, folder / "record.json", threading.Event()
        start = {
            "start": now(),
            "command": command,
            "overrides": list(overrides),
            **commit(),
            "packages": versions(),
            "hardware": hardware(),
        }
        first = not self.path.exists()
        self.content: dict[str, Any] = start | {"resumed": []} if first else read_record(folder)
        if not first:
            self.content["resumed"] = [*(self.content.get("resumed") or []), start]
            self.content.pop("error", None)
        self.content |= {
            "status": "running",
            "end": None,
            "seed": cfg.get("seed"),
            "tags": list(cfg.get("tags") or []),
            "metrics": task_metrics(cfg),
            "monitor": cfg.get("monitor"),
            "mode": cfg.get("mode"),
            "host": platform.node(),
            "pid": os.getpid(),
            "process_start": process_start_time(os.getpid()),
        }
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        write_json(self.path, self.content)
        threading.Thread(target=self._heartbeat, daemon=True).start()

    def _heartbeat(self) -> None:
        """Shows other machines that the run lives: the record's time is never older than `HEARTBEAT`."""
        while not self._stopped.wait(HEARTBEAT):
            with suppress(OSError):
                os.utime(self.path)

    def end(self, status: str, error: BaseException | None = None, *, results: Results | None = None) -> None:
        """status: one of `FINAL_STATUSES`; error: what it failed with; results: of a run that came to its end."""
        self._stopped.set()
        checkpoints = sorted((self.folder / "checkpoints").glob("*.ckpt"))
        if results is None:
            self.content |= best_of_epochs(self.folder, self.content["monitor"], self.content["mode"])
        else:  # of several validations in an epoch, metrics.csv has the last one alone
            self.content |= {"best_value": results.best_value, "best_epoch": results.best_epoch}
        self.content |= {
            "status": status,
            "end": now(),
            "checkpoints": {path.stem: str(path.relative_to(self.folder)) for path in checkpoints},
        }
        if error is not None:
            self.content["error"] = f"{type(error).__name__}: {error}"
        with suppress(OSError) if error is not None else nullcontext():  # the disk is full: that was the error
            write_json(self.path, self.content)


def save_hydra_config(cfg: DictConfig, folder: Path, overrides: Sequence[str]) -> None:
    """Keeps what a start was composed of as Hydra does, in .hydra, or beside an earlier start's in .hydra_2 and so on.

    Whole or not at all: the run's other processes may be reading it.
    """
    number = 1 + len([path for path in folder.glob(".hydra*") if not path.name.endswith(".part")])
    target = folder / (".hydra" if number == 1 else f".hydra_{number}")
    part = target.with_name(f"{target.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    with naming(part):
        OmegaConf.save(cfg, part / "config.yaml")
        OmegaConf.save(OmegaConf.create(list(overrides)), part / "overrides.yaml")
    part.rename(target)


def status(folder: Path) -> str:
    """What became of a run: running, done, pruned, failed, interrupted, killed, or unknown.

    A process that was killed could not note it. On this machine the process itself is looked up, by number and start;
    of another one, a record that has not been touched for long tells nothing.
    """
    try:
        content = read_record(folder)
        noted = str(content["status"])
    except (UserError, KeyError, TypeError):
        return "unknown"
    if noted != "running":
        return noted if noted in FINAL_STATUSES else "unknown"
    if content.get("host") == platform.node() and content.get("process_start"):
        alive = process_start_time(content.get("pid")) == content["process_start"]
        return "running" if alive else "killed"
    age = time.time() - (folder / "record.json").stat().st_mtime
    return "running" if age < 5 * HEARTBEAT else "unknown"


def process_start_time(process: int | None) -> str | None:
    """When a process of this machine began, in whatever words the system has for it; None: there is none."""
    if not isinstance(process, int):  # as a damaged record may say
        return None
    stat = Path(f"/proc/{process}/stat")
    try:
        if Path("/proc/self/stat").exists():
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()  # the name before may hold anything
            return None if fields[0] in "ZX" else fields[19]
        done = subprocess.run(["ps", "-o", "lstart=", "-p", str(process)], capture_output=True, text=True, check=False)
        return done.stdout.strip() or None
    except OSError:
        return None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def hparams(cfg: DictConfig) -> dict[str, Any]:
    """What tells one run from another, flat: {"data": "digits", "data.batch_size": 64, "optimizer.lr": 0.001, ...}."""
    unused = {group for group in ("optimizer", "scheduler") if group not in (cfg.get("model") or {})}
    groups = [one for one in ("data", "model", "optimizer", "scheduler", "trainer", "experiment") if one not in unused]
    chosen = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    flat: dict[str, Any] = {group: chosen[group] for group in groups if group in chosen} | {"seed": cfg.seed}
    for group in groups[:-2]:
        flat |= _flatten_node(OmegaConf.to_container(cfg[group], resolve=True) if cfg.get(group) else {}, group)
    for key in ("max_epochs", "precision", "gradient_clip_val", "accumulate_grad_batches", "devices"):
        flat[f"trainer.{key}"] = cfg.trainer.get(key)
    return flat


def _flatten_node(node: Any, path: str) -> dict[str, Any]:
    if isinstance(node, dict):
        parts = [
            _flatten_node(value, f"{path}.{key}")
            for key, value in node.items()
            if key not in ("optimizer", "scheduler")
        ]
        return {
            name: value
            for part in parts
            for name, value in part.items()
            if not name.endswith(("_target_", "_partial_"))
        }
    return {path: node if isinstance(node, int | float | str | None) else str(node)}
