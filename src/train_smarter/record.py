"""What a run leaves behind in its folder. Imports nothing heavy."""

import csv
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from train_smarter.error import UserError

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf", "optuna", "numpy")


# ---- a new run's folder


class NewRun(Callback):
    """Makes a run's folder, exclusively: two runs never share one. With several processes all take rank 0's."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 (Hydra's hook)
        if any(override.lstrip("+").startswith("hydra.run.dir=") for override in config.hydra.overrides.hydra):
            return
        folder = agreed(Path(config.hydra.run.dir))
        with read_write(config), open_dict(config):
            config.hydra.run.dir = str(folder)


def agreed(folder: Path) -> Path:
    """The new folder, made by rank 0, in every process of the run.

    Lightning's own launcher passes it on; under torchrun and SLURM each process composes a time of its own.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _agreed_by_torchrun(folder)
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1 and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return _agreed_by_slurm(folder)
    return exclusive(folder)


def _agreed_by_torchrun(folder: Path) -> Path:
    """Through the store that torchrun itself keeps for its processes."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    key = f"train_smarter/run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    if os.environ["RANK"] == "0":
        store.set(key, str(exclusive(folder)))
    return Path(store.get(key).decode())


def _agreed_by_slurm(folder: Path, patience: float = 60) -> Path:
    """Through a file named after the job's step, on the disk that all its processes share."""
    step = [os.environ.get(f"SLURM_{name}", "0") for name in ("JOB_ID", "STEP_ID", "RESTART_COUNT")]
    note = folder.parent / f".slurm-{'.'.join(step)}"
    if os.environ["SLURM_PROCID"] == "0":
        write_json(note, str(exclusive(folder)))
    end = time.monotonic() + patience
    while not note.exists():
        if time.monotonic() > end:
            raise UserError(
                f"rank 0 has made no run folder within {patience:.0f} s: is {folder.parent} on a shared disk?"
            )
        time.sleep(0.1)
    return Path(read_json(note))


def exclusive(folder: Path) -> Path:
    """Makes `folder`, or the first of folder_2, folder_3, ... that does not exist yet, and returns it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    count, candidate = 1, folder
    while True:
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            count += 1
            candidate = folder.with_name(f"{folder.name}_{count}")


def forget(folder: Path) -> None:
    """Takes what Hydra wrote for a refused run away again, and the folder if that was all; a run that began stays."""
    if (folder / "record.json").exists() or not (folder / ".hydra").is_dir():
        return
    shutil.rmtree(folder / ".hydra")
    (folder / f"{HydraConfig.get().job.name}.log").unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it
        folder.rmdir()


# ---- what a run writes


def write_json(path: Path, content: Any) -> None:
    """Writes whole files only: a reader never sees half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name + ".part")
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # A row of numbers on one line.
    text = re.sub(r"\[\n\s+([\d,\s.e+-]+?)\n\s+\]", lambda row: f"[{' '.join(row[1].split())}]", text)
    half.write_text(text + "\n", encoding="utf8")
    half.replace(path)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise UserError(
            f"{path.parent} holds no {path.name}: is it a run folder, and did the run get that far?"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not readable JSON: {error}") from error


class Record:
    """record.json: how the run was started, on what, and how it ended."""

    def __init__(self, folder: Path, cfg: DictConfig, overrides: Sequence[str]) -> None:
        self.path = folder / "record.json"
        self.content: dict[str, Any] = {
            "status": "running",
            "start": now(),
            "end": None,
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "overrides": list(overrides),
            "seed": cfg.get("seed"),
            "tags": list(cfg.get("tags") or []),
            **commit(),
            "packages": versions(),
            "hardware": hardware(),
            "host": platform.node(),
            "process": os.getpid(),
        }
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
        write_json(self.path, self.content)

    def end(self, status: str) -> None:
        """status: done, failed or interrupted."""
        self.content |= {"status": status, "end": now()}
        write_json(self.path, self.content)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def commit() -> dict[str, Any]:
    """The project's git commit and the changes not committed, or nulls outside a checkout."""

    def git(*words: str) -> str | None:
        try:
            here = Path(__file__).parent
            done = subprocess.run(["git", *words], cwd=here, capture_output=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.decode("utf8", errors="replace")  # a changed file may be in any encoding

    head = git("rev-parse", "HEAD")
    return {"commit": head and head.strip(), "diff": git("diff", "HEAD")}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"system": platform.platform(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": gpus}


def flat_choices(cfg: DictConfig) -> dict[str, Any]:
    """What tells one run from another, flat: {"data": "digits", "data.batch_size": 64, "optimizer.lr": 0.001, ...}."""
    groups = ("data", "model", "optimizer", "scheduler", "trainer", "experiment")
    chosen = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    flat: dict[str, Any] = {group: chosen[group] for group in groups if group in chosen} | {"seed": cfg.seed}
    for group in groups[:4]:
        flat |= _flat(OmegaConf.to_container(cfg[group], resolve=True) if cfg.get(group) else {}, group)
    for key in ("max_epochs", "precision", "gradient_clip_val", "accumulate_grad_batches", "devices"):
        flat[f"trainer.{key}"] = cfg.trainer.get(key)
    return flat


def _flat(node: Any, path: str) -> dict[str, Any]:
    if isinstance(node, dict):
        parts = [_flat(value, f"{path}.{key}") for key, value in node.items() if key not in ("optimizer", "scheduler")]
        return {
            name: value
            for part in parts
            for name, value in part.items()
            if not name.endswith(("_target_", "_partial_"))
        }
    return {path: node if isinstance(node, int | float | str | None) else str(node)}


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a row to a CSV file; the first row decides the columns."""
    new = not path.exists()
    columns = list(row) if new else path.read_text(encoding="utf8").partition("\n")[0].split(",")
    with path.open("a", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
