"""Launches each job of a multirun as a process of its own, started as a single run is."""

import gc
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.quoting import quote
from train_smarter.run.results import read_objective
from train_smarter.run.signals import PARENT_VARIABLE, SIGNALS
from train_smarter.terminal import echo

# Hydra's own words that are about the multirun, not about a job of it.
MULTIRUN_KEYS = ("hydra.run.", "hydra.sweep.", "hydra/launcher", "hydra.launcher.", "hydra.mode")
GRACE_SECONDS = 30  # seconds that jobs have to save and end when the multirun is asked to


class JobFailedError(RuntimeError):
    """A job's process ended with an error; the message is what it printed."""


class JobKilledError(RuntimeError):
    """A job's process was killed from outside."""


class ProcessLauncher(Launcher):
    """So a job can be one of several processes, has its memory freed when it ends, and can die alone.

    What a job prints goes to console.txt in its folder.

    Args:
        n_jobs: at a time. Each has its share of the CPU's threads, and of the GPUs where there are several.
    """

    def __init__(self, *, n_jobs: int = 1) -> None:
        if not isinstance(n_jobs, int) or n_jobs < 1:
            raise UserError(f"hydra.launcher.n_jobs={n_jobs}: give a whole number of at least 1")
        self.n_jobs = n_jobs
        self.stopped = False
        self._running: set[subprocess.Popen[bytes]] = set()
        self._composing, self._starting = threading.Lock(), threading.Lock()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task_function, self.config = hydra_context, task_function, config
        self._free_envs: queue.Queue[dict[str, str]] | None = None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs jobs and waits for them; may be called in several threads. A search calls it for each job."""
        if self._free_envs is None:
            self._free_envs = queue.Queue()
            for place in worker_envs(self.n_jobs, ranks=_rank_count(self.config)):
                self._free_envs.put(place)
        if len(job_overrides) == 1:
            return [self._job(initial_job_idx, job_overrides[0])]
        with ThreadPoolExecutor(self.n_jobs) as pool:
            waiting = [pool.submit(self._run_and_report, *job) for job in enumerate(job_overrides, initial_job_idx)]
            try:
                return [job.result() for job in waiting]
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Ends all jobs, which save what they have first; no other begins."""
        with self._starting:
            self.stopped = True
            running = list(self._running)
        for process in running:
            _send_signal(process, signal.SIGTERM)
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            _send_signal(process, signal.SIGKILL)

    def _run_and_report(self, number: int, overrides: Sequence[str]) -> JobReturn:
        """A job of a grid, with a line at its end."""
        returned = self._job(number, overrides)
        words = " ".join(word for word in overrides if not word.startswith(("resume=", "rerun=")))
        ended = "done" if returned.status == JobStatus.COMPLETED else f"failed, see {returned.working_dir}/console.txt"
        echo(f"job {number}: {words}: {ended}")
        return returned

    def _job(self, number: int, overrides: Sequence[str]) -> JobReturn:
        assert self._free_envs is not None
        config, folder = self._compose(number, overrides)
        hydra = [str(word) for word in self.config.hydra.overrides.hydra if not str(word).startswith(MULTIRUN_KEYS)]
        own = [word for word in overrides if not word.startswith(MULTIRUN_KEYS)]
        words = [*hydra, *own, f"hydra.run.dir={quote(folder)}", f"hydra.job.num={number}"]
        place = self._free_envs.get()
        try:
            code, told = self._process(
                [sys.executable, "-P", "-m", f"{paths.COMMANDS}.{self.config.hydra.job.name}", *words],
                folder / "console.txt",
                place,
            )
        finally:
            self._free_envs.put(place)
        returned = JobReturn(overrides=list(overrides), cfg=config, working_dir=str(folder))
        try:
            returned.return_value = _read_outcome(code, told, folder, config)
            returned.status = JobStatus.COMPLETED
        except Exception as error:
            returned.return_value, returned.status = error, JobStatus.FAILED
        return returned

    def _compose(self, number: int, overrides: Sequence[str]) -> tuple[DictConfig, Path]:
        """A job's config and folder, as Hydra's own launcher finds them."""
        with self._composing:  # Hydra has one config at a time
            config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id, config.hydra.job.num = str(number), number
            before = HydraConfig.instance().cfg
            HydraConfig.instance().set_config(config)
            try:
                folder = Path(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir)).absolute()
            finally:
                HydraConfig.instance().cfg = before
            return config, folder

    def _process(self, command: list[str], output: Path, place: dict[str, str]) -> tuple[int, str]:
        """Runs a process in a session of its own; returns its exit code and what it printed."""
        with self._starting:
            if self.stopped:
                raise JobKilledError("the multirun was stopped before it began")
            output.parent.mkdir(parents=True, exist_ok=True)
            process = _start_process(command, output, place)
            self._running.add(process)
        try:
            code = process.wait()
        except BaseException:
            self.stop()  # before its input is closed, which would ask it a second time: to end at once
            raise
        finally:
            self._running.discard(process)
            _send_signal(process, signal.SIGKILL)  # ranks that outlived the first one
            if process.stdin is not None:
                process.stdin.close()
        told = output.read_text(encoding="utf8", errors="replace").strip()
        if not told:
            output.unlink()
        return code, told


def _start_process(command: list[str], output: Path, place: dict[str, str]) -> subprocess.Popen[bytes]:
    with output.open("wb") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # it ends when this process does, and so closes its end of the pipe
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **place, PARENT_VARIABLE: "1"},
            start_new_session=True,  # Ctrl-C is for this process, which then asks its jobs to save
        )


def _read_outcome(code: int, told: str, folder: Path, config: DictConfig) -> Any:
    """What a job returned.

    Raises:
        UserError: it was a mistake of the user's; JobKilledError; JobFailedError.
    """
    if code == 0:
        return read_objective(folder, config)
    if code == 2:
        raise UserError(told)
    ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    by_signal = code < 0 or code - 128 in SIGNALS
    if by_signal and "Traceback (most recent call last)" not in told:
        raise JobKilledError(f"its process was killed ({ended})")
    raise JobFailedError(f"{told[-4000:]}\n({ended})".strip())


def _send_signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To a job's process and all that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _rank_count(config: DictConfig) -> int:
    devices = (config.get("trainer") or {}).get("devices", 1)
    return devices if isinstance(devices, int) and devices > 0 else 1


def worker_envs(count: int, *, ranks: int = 1) -> list[dict[str, str]]:
    """The environment of each of `count` jobs that run side by side: their share of the CPU and of the GPUs.

    Args:
        ranks: processes of a job, which share its threads.
    """
    shares: list[dict[str, str]] = [{} for _ in range(count)]
    if count == 1:
        return shares
    cards = visible_gpus()
    size = max(1, len(cards) // count)
    for number, share in enumerate(shares):
        if "OMP_NUM_THREADS" not in os.environ:
            share["OMP_NUM_THREADS"] = str(max(1, _available_cores() // (count * ranks)))
        if len(cards) > 1:
            first = number * size % len(cards)
            share["CUDA_VISIBLE_DEVICES"] = ",".join(cards[first : first + size])
    return shares


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # those that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs that jobs may use, as CUDA_VISIBLE_DEVICES names them; without the import of torch."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [card.strip() for card in visible.split(",") if card.strip()]
    if platform.system() == "Darwin" or not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
        return [line.strip() for line in listed.splitlines() if line.strip().isdigit()]
    return []


def release_memory(returned: JobReturn) -> None:
    """Free the memory of a trial that ran in this process: a traceback holds the model and its gradients."""
    error = returned._return_value
    if isinstance(error, BaseException):
        traceback.clear_frames(error.__traceback__)
    returned._return_value = None
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
