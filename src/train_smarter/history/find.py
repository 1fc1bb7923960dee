"""Find a past run, its jobs and its checkpoints by name, folder or "last"."""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from omegaconf import OmegaConf

from train_smarter import paths
from train_smarter.errors import UserError, did_you_mean
from train_smarter.history.saved_config import load_saved_config
from train_smarter.run.checksums import damage_of, intact_checkpoints
from train_smarter.run.record import read_record
from train_smarter.run.results import ranking_key, read_results
from train_smarter.run.run_dir import display_name
from train_smarter.sanitize import escape_controls
from train_smarter.trust import check_folder

# ---- finding it


def find(reference: str, logs: Path, *, key: str = "run", kinds: Sequence[str] = ("runs", "multiruns")) -> Path:
    """The folder of a past run or multirun.

    Args:
        reference: `last`, a folder, or the name of one under `logs`/train. `last` is the newest one; for `run` and
            `resume`, the newest one with a checkpoint, if any has one, and the runs that are skipped are named.
        key: the word that it was given to, for the message.
        kinds: what `last` may mean, of "runs" and "multiruns".
    """
    homes = [logs / "train" / kind for kind in ("runs", "multiruns")]
    known = {
        folder: _start_time(folder) for home in homes for folder in home.glob("*") if is_run(folder) or jobs(folder)
    }
    if reference == "last":
        meant = [folder for folder in known if folder.parent.name in kinds]
        if not meant:
            where = " or ".join(str(home) for home in homes if home.name in kinds)
            raise UserError(f"{key}=last: there is nothing under {where} yet: type train first")
        newest_first = sorted(meant, key=lambda folder: known[folder], reverse=True)
        return _skip_untrained(newest_first, key) if key in ("run", "resume") and "runs" in kinds else newest_first[0]
    for folder in (Path(os.path.expanduser(reference)), *(home / reference for home in homes)):  # noqa: PTH111 (pathlib's fails at ~nobody)
        if is_run(folder) or jobs(folder):
            return folder.resolve()
    names = sorted(folder.name for folder in known)
    newest = f"; the newest is {max(known, key=lambda folder: known[folder]).name}" if known else ""
    hint = did_you_mean(reference, ["last", *names]) or newest
    raise UserError(f"{key}={reference} is no run folder: give `last`, a folder, or a name under {homes[0]}{hint}")


def _skip_untrained(newest_first: Sequence[Path], key: str) -> Path:
    """The newest run with a checkpoint, or the newest one where none has any."""
    place = next((place for place, folder in enumerate(newest_first) if _has_checkpoint(folder)), 0)
    if place:
        skipped = f"{newest_first[0].name} has" if place == 1 else f"{newest_first[0].name} and {place - 1} more have"
        message = f"{skipped} no checkpoint; {key}=last is {newest_first[place].name}"
        print(escape_controls(message), file=sys.stderr)  # noqa: T201
    return newest_first[place]


def _has_checkpoint(folder: Path) -> bool:
    return any(next((run / "checkpoints").glob("*.ckpt"), None) for run in [folder, *jobs(folder)])


def find_run(reference: str, logs: Path, *, key: str = "run") -> Path:
    """The folder of a past run; of a multirun its best trial, which is printed."""
    folder = find(reference, logs, key=key)
    if is_run(folder):
        return folder
    check_folder(folder)  # one of its trials may be a link
    return best_job(folder)


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
            results = read_results(job)
            if results.get("best_value") is not None and not results.get("pruned"):
                values[job] = results["best_value"]
    if not values:
        raise UserError(f"{multirun} is a multirun in which no trial is done: give one of its folders")
    mode = OmegaConf.to_container(load_saved_config(next(iter(values))), resolve=False).get("mode")  # type: ignore[union-attr]
    best = min(values, key=lambda job: ranking_key(values[job], mode))
    message = f"{multirun.name} is a multirun; its best trial is {best.name}, with {values[best]:.4f}"
    print(escape_controls(message), file=sys.stderr)  # noqa: T201
    return best


def _start_time(folder: Path) -> tuple[str, str]:
    """Sorts runs by age, however they are named; a multirun began with its first job."""
    try:
        begun = str(read_record(min(jobs(folder), default=folder))["start"])
    except (UserError, KeyError, TypeError):  # it ended before it had a record
        begun = datetime.fromtimestamp(folder.stat().st_ctime, UTC).isoformat(timespec="seconds")
    return begun, folder.name


def checkpoint(folder: Path, name: str) -> Path:
    """The file of a run's checkpoint: `best`, `last`, or any file."""
    named = folder / "checkpoints" / f"{name}.ckpt"
    path = named if named.exists() else Path(os.path.expanduser(name))  # noqa: PTH111
    if not path.exists():
        there = intact_checkpoints(folder / "checkpoints")
        way = "type " + " or ".join(f"checkpoint={one}" for one in (*there[:1], "<file>"))
        raise UserError(f"checkpoint={name}: {folder} has {', '.join(there) or 'no checkpoint'}; {way}")
    if damage := damage_of(path):
        there = intact_checkpoints(folder / "checkpoints")
        again = f"train it again: train rerun={display_name(folder, paths.LOGS)}"
        way = f"type checkpoint={there[0]}" if there else again
        raise UserError(f"checkpoint={name}: {path} cannot be used: {damage}; {way}")
    return path.resolve()
