"""What a run leaves behind in its folder. Imports nothing heavy."""

import csv
import functools
import json
import os
import platform
import re
import shutil
import subprocess
import threading
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
from train_smarter.sanitize import csv_cell

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf", "optuna", "numpy")
HEARTBEAT = 60  # seconds
ENDS = ("done", "pruned", "failed", "interrupted")


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
    wrote = HydraConfig.get().output_subdir is not None  # it writes nothing where a run goes on
    if not wrote or (folder / "record.json").exists() or not (folder / ".hydra").is_dir():
        return
    shutil.rmtree(folder / ".hydra")
    (folder / f"{HydraConfig.get().job.name}.log").unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it
        folder.rmdir()


# ---- what a run writes


def write_json(path: Path, content: Any) -> None:
    """A whole file, as `write_whole`."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # A row of numbers on one line.
    text = re.sub(r"\[\n\s+([\d,\s.e+-]+?)\n\s+\]", lambda row: f"[{' '.join(row[1].split())}]", text)
    write_whole(path, text + "\n")


def write_whole(path: Path, text: str) -> None:
    """A reader never sees half of the file; what lies in its place before, a stranger's link say, is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with part.open("x", encoding="utf8") as file:
        file.write(text)
    part.replace(path)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise UserError(
            f"{path.parent} holds no {path.name}: is it a run folder, and did the run get that far?"
        ) from None
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or without end
        raise UserError(f"{path} is not readable JSON: {error}") from error


class Record:
    """record.json: how the run was started, on what, whether it still runs, and how it ended.

    A run that goes on keeps what it said of its first start; each later one is added to `resumed`.
    """

    def __init__(self, folder: Path, cfg: DictConfig, *, command: str, overrides: Sequence[str]) -> None:
        self.folder, self.path, self._over = folder, folder / "record.json", threading.Event()
        start = {
            "start": now(),
            "command": command,
            "overrides": list(overrides),
            **commit(),
            "packages": versions(),
            "hardware": hardware(),
        }
        first = not self.path.exists()
        self.content: dict[str, Any] = start | {"resumed": []} if first else read_json(self.path)
        if not first:
            self.content.setdefault("resumed", []).append(start)
            self.content.pop("error", None)
        self.content |= {
            "status": "running",
            "end": None,
            "seed": cfg.get("seed"),
            "tags": list(cfg.get("tags") or []),
            "monitor": cfg.get("monitor"),
            "mode": cfg.get("mode"),
            "host": platform.node(),
            "process": os.getpid(),
            "process_start": process_start(os.getpid()),
        }
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
        write_json(self.path, self.content)
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        """Shows other machines that the run lives: the record's time is never older than `HEARTBEAT`."""
        while not self._over.wait(HEARTBEAT):
            with suppress(OSError):
                os.utime(self.path)

    def end(self, status: str, error: BaseException | None = None) -> None:
        """status: one of `ENDS`; error: what it failed with."""
        self._over.set()
        checkpoints = sorted((self.folder / "checkpoints").glob("*.ckpt"))
        best = best_row(self.folder / "metrics.csv", self.content["monitor"], self.content["mode"])
        self.content |= {
            "status": status,
            "end": now(),
            "best": best and float(best[self.content["monitor"]]),
            "best_epoch": best and int(best["epoch"]),
            "checkpoints": {path.stem: str(path.relative_to(self.folder)) for path in checkpoints},
        }
        if error is not None:
            self.content["error"] = f"{type(error).__name__}: {error}"
        write_json(self.path, self.content)


def keep(cfg: DictConfig, folder: Path, overrides: Sequence[str]) -> None:
    """Keeps what a start was composed of as Hydra does, in .hydra, or beside an earlier start's in .hydra_2 and so on.

    Whole or not at all: the run's other processes may be reading it.
    """
    number = 1 + len([path for path in folder.glob(".hydra*") if not path.name.endswith(".part")])
    target = folder / (".hydra" if number == 1 else f".hydra_{number}")
    part = target.with_name(f"{target.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, part / "config.yaml")
    OmegaConf.save(OmegaConf.create(list(overrides)), part / "overrides.yaml")
    part.rename(target)


def status(folder: Path) -> str:
    """What became of a run: running, done, pruned, failed, interrupted, killed, or unknown.

    A process that was killed could not note it. On this machine the process itself is looked up, by number and start;
    of another one, a record that has not been touched for long tells nothing.
    """
    try:
        content = read_json(folder / "record.json")
        noted = str(content["status"])
    except (UserError, KeyError, TypeError):
        return "unknown"
    if noted != "running":
        return noted if noted in ENDS else "unknown"
    if content.get("host") == platform.node() and content.get("process_start"):
        alive = process_start(content.get("process")) == content["process_start"]
        return "running" if alive else "killed"
    age = time.time() - (folder / "record.json").stat().st_mtime
    return "running" if age < 5 * HEARTBEAT else "unknown"


def process_start(process: int | None) -> str | None:
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


def rank() -> int:
    """Which of its run's processes this one is, without the import of Lightning, which looks at the same variables."""
    found = [os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ]
    return int(found[0]) if found else 0


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


@functools.cache
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
    row = {csv_cell(name): csv_cell(value) for name, value in row.items()}
    columns = list(row) if new else path.read_text(encoding="utf8").partition("\n")[0].split(",")
    with path.open("a", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file that are whole; of a run that was killed, the last one may not be."""
    try:
        with path.open(newline="", encoding="utf8") as file:
            return [row for row in csv.DictReader(file) if None not in row.values() and None not in row]
    except FileNotFoundError:
        return []


def cut_rows(path: Path, epoch: int) -> None:
    """Takes the rows of `epoch` and all later ones out of a run's metrics.csv: the run does them again."""
    kept = [row for row in rows(path) if row["epoch"].isdigit() and int(row["epoch"]) < epoch]
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    for row in kept:
        append_row(part, row)
    if kept:
        part.replace(path)
    else:
        path.unlink(missing_ok=True)


def findings(folder: Path) -> list[dict[str, Any]]:
    """What the diagnosis of a run found, the worst first; empty where there was none."""
    found = _diagnosis(folder).get("findings")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def troubles(folder: Path) -> list[str]:
    """The names of what was found, notes left out."""
    return [str(one.get("name")) for one in findings(folder) if one.get("severity") != "note"]


def val_examples(folder: Path) -> int | None:
    """How many examples a run was validated on, where its diagnosis says so."""
    measured = _diagnosis(folder).get("measured")
    count = measured.get("val_examples") if isinstance(measured, dict) else None
    return count if isinstance(count, int) and count > 0 else None


def _diagnosis(folder: Path) -> dict[str, Any]:
    """diagnosis.json; empty where it is missing or damaged."""
    try:
        content = json.loads((folder / "diagnosis.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def objective(folder: Path, cfg: DictConfig) -> float | tuple[float, ...] | None:
    """What a search looks at, from the folder of a run that has ended: a number, or one for each of several names.

    None where the monitored metric was never measured.

    `cfg.objective` names values of results.json, where that of the monitored metric stands as `best`; or of
    metrics.csv, of which the row of the best epoch is taken.
    """
    results = read_json(folder / "results.json")
    if results["best"] is None:
        return None
    row = best_row(folder / "metrics.csv", cfg.monitor, cfg.get("mode")) or {}
    known = row | results | {cfg.monitor: results["best"]}
    wanted = cfg.get("objective", cfg.monitor)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    missing = [name for name in names if known.get(name) in (None, "")]
    if missing:
        raise UserError(f"objective={missing[0]}: the run has no such value")
    values = tuple(float(known[name]) for name in names)
    return values[0] if isinstance(wanted, str) else values


def best_row(path: Path, monitor: str | None, mode: str | None) -> dict[str, str] | None:
    """The row of a run's metrics.csv with the best value of the monitored metric; the earliest of equal ones."""
    found = [row for row in rows(path) if row.get(monitor or "")]
    choose = min if mode == "min" else max
    return choose(found, key=lambda row: float(row[str(monitor)]), default=None)
