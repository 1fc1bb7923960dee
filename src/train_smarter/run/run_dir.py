"""A run's folder: made once, by one process, under a unique name."""

import os
import re
import shlex
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from train_smarter.errors import UserError, file_error
from train_smarter.run.files import read_json, write_json
from train_smarter.run.lock import NAME, lock


def display_name(folder: Path, logs: Path) -> str:
    """A run or multirun as a command line names it: by its name where it lies under `logs`, else by its folder."""
    usual = logs / "train"
    name = folder.relative_to(usual).parts[1:] if usual in folder.parents else ()
    return shlex.quote("/".join(name) or str(folder))


def task_overrides() -> list[str]:
    """The overrides that this run was started with."""
    if not HydraConfig.initialized():
        return []
    return [str(word) for word in OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)]  # type: ignore[union-attr]


# ---- a new run's folder


class RunRefusedError(SystemExit):
    """Ends a run before it begins. Hydra turns any Exception of a callback into a warning, and continues.

    Attributes:
        error: the message.
    """

    def __init__(self, error: UserError) -> None:
        super().__init__(2)
        self.error = error


class CreateRunDir(Callback):
    """Makes a run's folder, exclusively: two runs never share one. With several processes all take rank 0's."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 (Hydra's hook)
        try:
            self._make(config)
        except OSError as error:
            raise RunRefusedError(file_error(error)) from error
        except UserError as error:
            raise RunRefusedError(error) from error

    def _make(self, config: DictConfig) -> None:
        rank = global_rank()
        if any(override.lstrip("+").startswith("hydra.run.dir=") for override in config.hydra.overrides.hydra):
            if config.hydra.job.config_name == "train" and rank == 0:
                claim(Path(config.hydra.run.dir), fresh=not config.get("resume"))
            return
        folder = shared_run_dir(Path(config.hydra.run.dir))
        with read_write(config), open_dict(config):
            config.hydra.run.dir = str(folder)


def claim(folder: Path, *, fresh: bool) -> None:
    """Lock a folder that was named for a run, before anything is written in it.

    Args:
        fresh: a new run is to begin there.

    Raises:
        UserError: another process trains there, or a fresh run would overwrite what an earlier one left.
    """
    lock(folder)
    if fresh and (folder / "record.json").exists():
        raise UserError(
            f"{folder} holds a run already, which a new one would overwrite: to continue it, type train "
            f"resume={shlex.quote(str(folder))}; else give another folder"
        )


def shared_run_dir(folder: Path) -> Path:
    """The new folder, made by rank 0, in every process of the run.

    Lightning's own launcher passes it on; under torchrun and SLURM each process composes a time of its own.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _shared_by_torchrun(folder)
    if int_variable("SLURM_NTASKS", 1) > 1 and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return _shared_by_slurm(folder)
    return make_unique_dir(folder)


def _shared_by_torchrun(folder: Path) -> Path:
    """Through the store that torchrun itself keeps for its processes."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT", "RANK") if name not in os.environ]:
        raise UserError(
            f"TORCHELASTIC_RUN_ID is in the environment, as under torchrun, and {missing[0]} is not: type unset "
            "TORCHELASTIC_RUN_ID"
        )
    store = TCPStore(os.environ["MASTER_ADDR"], int_variable("MASTER_PORT"), is_master=False)
    key = f"train_smarter/run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    if os.environ["RANK"] == "0":
        store.set(key, str(make_unique_dir(folder)))
    return Path(store.get(key).decode())


def _shared_by_slurm(folder: Path, patience: float = 60) -> Path:
    """Through a file named after the job's step, on the disk that all its processes share."""
    step = [os.environ.get(f"SLURM_{name}", "0") for name in ("JOB_ID", "STEP_ID", "RESTART_COUNT")]
    note = folder.parent / f".slurm-{'.'.join(step)}"
    if os.environ.get("SLURM_PROCID", "0") == "0":
        write_json(note, str(make_unique_dir(folder)))
    end = time.monotonic() + patience
    while not note.exists():
        if time.monotonic() > end:
            raise UserError(
                f"rank 0 has made no run folder within {patience:.0f} s: is {folder.parent} on a shared disk?"
            )
        time.sleep(0.1)
    return Path(read_json(note))


def make_unique_dir(folder: Path) -> Path:
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


def remove_if_empty(folder: Path) -> None:
    """Takes what Hydra wrote for a refused run away again, and the folder if that was all; a run that began stays."""
    wrote = HydraConfig.get().output_subdir is not None  # it writes nothing where a run goes on
    if not wrote or (folder / "record.json").exists() or not (folder / ".hydra").is_dir():
        return
    shutil.rmtree(folder / ".hydra")
    for name in (f"{HydraConfig.get().job.name}.log", NAME):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # something else is in it
        folder.rmdir()


# ---- which of a run's processes this one is

RANK_VARIABLES = {"RANK": "WORLD_SIZE", "LOCAL_RANK": "WORLD_SIZE", "SLURM_PROCID": "SLURM_NTASKS"}  # and their count


def global_rank() -> int:
    """Which of its run's processes this one is, without the import of Lightning, which looks at the same variables.

    Raises:
        UserError: a variable is no number, or was left in the shell by another program.
    """
    name = next((name for name in RANK_VARIABLES if name in os.environ), None)
    if name is None or (rank := int_variable(name)) == 0:
        return 0
    if rank >= int_variable(RANK_VARIABLES[name], 1) and "MASTER_ADDR" not in os.environ:
        raise stray_rank()
    return rank


def stray_rank() -> UserError:
    """The answer where the environment makes this process one of several, and it is the only one."""
    found = {name: os.environ[name] for name in RANK_VARIABLES if name in os.environ}
    return UserError(
        f"{', '.join(f'{name}={value}' for name, value in found.items())} in the environment makes this the process of "
        f"another one's run, which would record nothing; there is no such run: type unset {' '.join(found)}"
    )


def int_variable(name: str, default: int = 0) -> int:
    """An environment variable that is a whole number."""
    value = os.environ.get(name, str(default))
    if not re.fullmatch(r"\s*\d+\s*", value):
        raise UserError(f"{name}={value!r} in the environment is not a whole number: type unset {name}")
    return int(value)
