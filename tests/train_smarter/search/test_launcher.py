"""Jobs here are small programs of their own; the real `train` is launched in test_sweeper.py."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.quoting import quote
from train_smarter.run.files import read_json
from train_smarter.run.record import process_start_time
from train_smarter.run.signals import PARENT_VARIABLE
from train_smarter.search import launcher
from train_smarter.search.launcher import JobFailedError, JobKilledError, ProcessLauncher, visible_gpus, worker_envs

CONFIG = """
x: 0
monitor: val/accuracy
mode: max
trainer: {devices: 1}
resume: null
"""

# What every job begins with: `folder` is its run's, `number` its own; it notes what it was started with.
JOB = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

number = int(sys.argv[-1].removeprefix("hydra.job.num="))
notes = Path(os.environ["NOTES"])
folder = Path(sys.argv[-2].removeprefix("hydra.run.dir=").strip("'"))
names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "TRAIN_SMARTER_LEASH")
environment = {name: os.environ.get(name) for name in names}

def note(name, content=None):
    part = notes / f"{name}_{number}.part"
    part.write_text(json.dumps(content))
    part.rename(notes / f"{name}_{number}.json")

def wait(*names):
    end = time.monotonic() + 10
    while not all((notes / f"{name}.json").exists() for name in names):
        if time.monotonic() > end:
            sys.exit(f"waited too long for {names}")
        time.sleep(0.01)

def result(value):
    (folder / "results.json").write_text(json.dumps({"best_value": value}))

note("begun", {"words": sys.argv[1:], "environment": environment, "at": time.monotonic()})
"""
Launching = Callable[..., ProcessLauncher]


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where jobs note what they do."""
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv("NOTES", str(folder))
    return folder


@pytest.fixture
def launching(tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launching]:
    """A launcher whose jobs run a program, given from its second line on; their folders are in tmp_path/jobs."""
    assert notes.is_dir()
    program, conf = tmp_path / "path" / "stand_in", tmp_path / "conf"
    program.mkdir(parents=True)
    conf.mkdir()
    (conf / "job.yaml").write_text(CONFIG)
    shutil.copytree(paths.CONF / "hydra" / "launcher", conf / "hydra" / "launcher")
    monkeypatch.setenv("PYTHONPATH", f"{program.parent}{os.pathsep}{paths.ENGINE.parent}")
    monkeypatch.setattr(paths, "COMMANDS", program.name)

    def made(
        job: str = "result(0.5)", *words: str, n_jobs: int = 1, folder: Path = tmp_path / "jobs"
    ) -> ProcessLauncher:
        (program / "job.py").write_text(JOB + job)
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(conf), job_name="job"):
            app = GlobalHydra.instance().hydra
            assert app is not None
            sweep = [f"hydra.sweep.dir={quote(folder)}", "hydra.mode=MULTIRUN", "hydra/launcher=process", *words]
            config = app.compose_config("job", sweep, run_mode=RunMode.MULTIRUN)
            context = HydraContext(config_loader=app.config_loader, callbacks=Callbacks())
        jobs = ProcessLauncher(n_jobs=n_jobs)
        jobs.setup(hydra_context=context, task_function=lambda _: None, config=config)
        return jobs

    yield made
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def launched(jobs: ProcessLauncher, *words: str) -> JobReturn:
    (returned,) = jobs.launch([words], 0)
    return returned


def noted(notes: Path, name: str) -> dict[int, Any]:
    """By a job's number."""
    found = {int(path.stem.rpartition("_")[2]): read_json(path) for path in notes.glob(f"{name}_*.json")}
    return dict(sorted(found.items()))


def appears(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"there is no {path.name}"
        time.sleep(0.01)


def gone(process: int) -> bool:
    """Whether a process ends within a time in which it would not by itself."""
    end = time.monotonic() + 10
    while process_start_time(process) is not None:
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            return False
        time.sleep(0.01)
    return True


# ---- how a job ended


def test_a_job_returns_its_objective_from_its_folder(launching: Launching, tmp_path: Path) -> None:
    returned = launched(launching("result(0.75)"), "x=3")
    assert (returned.status, returned.return_value) == (JobStatus.COMPLETED, 0.75)
    assert returned.working_dir == str(tmp_path / "jobs" / "0")
    assert returned.cfg is not None
    assert (returned.cfg.x, returned.overrides) == (3, ["x=3"])
    assert [path.name for path in (tmp_path / "jobs" / "0").iterdir()] == ["results.json"], "it printed nothing"


KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
TRACEBACK = r"print('Traceback (most recent call last):\n  ...\nRuntimeError: out', flush=True)"


@pytest.mark.parametrize(
    ("job", "error", "message"),
    [
        ("sys.exit('model.dropuot: no')", JobFailedError, r"^model.dropuot: no\n\(exit code 1\)$"),
        ("print('model=cn: no', file=sys.stderr); sys.exit(2)", UserError, "^model=cn: no$"),
        ("raise ValueError('a fault')", JobFailedError, r"(?s)^Traceback .*\nValueError: a fault\n\(exit code 1\)$"),
        (KILLED, JobKilledError, r"^its process was killed \(SIGKILL\)$"),
        (f"{TRACEBACK}; {KILLED}", JobFailedError, r"(?s)^Traceback .*\nRuntimeError: out\n\(SIGKILL\)$"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", JobKilledError, r"\(SIGSEGV\)"),
        ("sys.exit(143)", JobKilledError, r"\(exit code 143\)"),
        ("sys.exit(130)", JobKilledError, r"\(exit code 130\)"),
        ("sys.exit(128 + 6)", JobFailedError, r"^\(exit code 134\)$"),
        ("pass", UserError, "holds no results.json"),
    ],
)
def test_a_job_that_comes_to_nothing_says_how(
    launching: Launching, job: str, error: type[Exception], message: str
) -> None:
    returned = launched(launching(job))
    assert returned.status == JobStatus.FAILED
    with pytest.raises(error, match=message) as caught:
        raise returned._return_value
    assert type(caught.value) is error


def test_of_a_long_story_the_end_is_told_and_the_whole_is_kept(launching: Launching, tmp_path: Path) -> None:
    returned = launched(launching("print('first'); print('x' * 9000); sys.exit('last')"))
    told = str(returned._return_value)
    assert len(told) == 4000 + len("\n(exit code 1)")
    assert told.endswith("xxx\nlast\n(exit code 1)")
    (console,) = (tmp_path / "jobs" / "0").iterdir()
    assert console.read_text().startswith("first\nxxx")


def test_in_a_grid_a_failed_job_is_told_and_the_others_run(
    launching: Launching, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = launching("sys.exit('no') if number == 1 else result(number / 4)")
    returned = jobs.launch([["x=1"], ["x=2", "resume=/a"], ["x=3"]], 0)
    assert [job.status for job in returned] == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.COMPLETED]
    assert [job._return_value for job in returned[::2]] == [0, 0.5]
    told = capsys.readouterr().out.replace("\n", "")
    assert "job 0: x=1: done" in told
    assert "job 1: x=2: failed, see" in told


# ---- what it is started with


def test_a_job_gets_the_words_that_are_about_it_and_a_folder_that_may_have_any_name(
    launching: Launching, notes: Path, tmp_path: Path
) -> None:
    folder = tmp_path / 'it\'s {a=b}, $HOME ${x} "c" \\'
    jobs = launching("", "hydra.verbose=false", "x=7", "hydra.launcher.n_jobs=2", folder=folder)
    jobs.launch([["x=3", "hydra.sweep.subdir=sub dir", "++hydra.job.env_set.A='b'", "hydra.run.dir=elsewhere"]], 4)
    words = noted(notes, "begun")[4]["words"]
    assert words[:-2] == ["hydra.verbose=false", "x=3", "++hydra.job.env_set.A='b'"]
    assert words[-1] == "hydra.job.num=4"
    key, _, value = words[-2].partition("=")
    parsed = OverridesParser.create().parse_override(f"folder={value}").value()
    assert (key, OmegaConf.create({"folder": parsed}).folder) == ("hydra.run.dir", str(folder / "sub dir"))
    assert (folder / "sub dir").is_dir()


def test_a_job_without_a_subfolder_of_its_own_has_its_number_and_knows_whom_it_belongs_to(
    launching: Launching, notes: Path, tmp_path: Path
) -> None:
    jobs = launching()
    assert [job.working_dir for job in jobs.launch([["x=1"]], 7)] == [str(tmp_path / "jobs" / "7")]
    assert noted(notes, "begun")[7]["environment"]["TRAIN_SMARTER_LEASH"] == "1"
    assert PARENT_VARIABLE == "TRAIN_SMARTER_LEASH"


def test_the_config_of_the_multirun_is_hydras_own_again_after_a_job(launching: Launching) -> None:
    jobs = launching()
    HydraConfig.instance().set_config(jobs.config)
    launched(jobs, "hydra.job.name=job", "x=1")
    assert HydraConfig.get().mode == RunMode.MULTIRUN
    assert OmegaConf.is_missing(HydraConfig.get().job, "num")


# ---- the machine is shared out


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """A machine of so many cores, and of so many GPUs as its nvidia-smi has lines of numbers."""
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")

    def made(cores: int = 8, smi: str = "exit 9") -> None:
        monkeypatch.setattr(launcher, "_available_cores", lambda: cores)
        program = tmp_path / "bin" / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{smi}\n")
        program.chmod(0o755)

    return made


Machine = Callable[..., None]


def cards(count: int) -> str:
    return "\n".join(f"echo {number}" for number in range(count))


def test_threads_are_shared_among_jobs_and_their_processes(machine: Machine) -> None:
    machine(cores=8)
    assert worker_envs(2) == [{"OMP_NUM_THREADS": "4"}] * 2
    assert worker_envs(3) == [{"OMP_NUM_THREADS": "2"}] * 3  # 8 // 3
    assert worker_envs(2, ranks=2) == [{"OMP_NUM_THREADS": "2"}] * 2  # 8 // (2 * 2)
    assert worker_envs(16) == [{"OMP_NUM_THREADS": "1"}] * 16


def test_threads_that_the_user_has_set_stay(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(cores=8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert worker_envs(2) == [{}, {}]


def test_a_job_that_is_alone_has_the_whole_machine(machine: Machine) -> None:
    machine(cores=8, smi=cards(4))
    assert worker_envs(1) == [{}]
    assert worker_envs(1, ranks=4) == [{}]


@pytest.mark.parametrize(
    ("there", "jobs", "each"),
    [
        (4, 2, ["0,1", "2,3"]),
        (2, 3, ["0", "1", "0"]),
        (2, 2, ["0", "1"]),
        (3, 2, ["0", "1"]),
        (1, 2, [None, None]),  # both on the only one, as they would anyway
        (0, 2, [None, None]),
    ],
)
def test_gpus_are_shared_among_jobs(machine: Machine, there: int, jobs: int, each: list[str | None]) -> None:
    machine(smi=cards(there) or "exit 0")
    assert [place.get("CUDA_VISIBLE_DEVICES") for place in worker_envs(jobs)] == each


def test_only_the_gpus_that_the_user_has_named_are_shared(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(smi=cards(8))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 3,GPU-8f2e,1")
    assert visible_gpus() == ["5", "3", "GPU-8f2e", "1"]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in worker_envs(2)] == ["5,3", "GPU-8f2e,1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


@pytest.mark.parametrize("smi", ["exit 9", "echo 'No devices were found'", "echo 0; exit 1"])
def test_where_nvidia_smi_knows_no_gpu_there_is_none(machine: Machine, smi: str) -> None:
    machine(smi=smi)
    assert visible_gpus() == []


def test_without_nvidia_smi_there_is_no_gpu(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(smi=cards(2))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert visible_gpus() == []


@pytest.mark.parametrize("count", [0, -1, 1.5, "2"])
def test_a_number_of_jobs_that_is_none_is_refused(count: Any) -> None:
    with pytest.raises(UserError, match=rf"^hydra.launcher.n_jobs={count}: give a whole number of at least 1$"):
        ProcessLauncher(n_jobs=count)


# ---- side by side


def test_so_many_jobs_run_at_a_time_and_the_next_takes_a_place_as_soon_as_it_is_free(
    launching: Launching, notes: Path, machine: Machine
) -> None:
    machine(cores=8, smi=cards(2))
    # The first one ends last: all the others have come and gone in the other place meanwhile.
    ends = "'ended_1', 'ended_2', 'ended_3'"
    jobs = launching(f"if number == 0: wait({ends})\nresult(number); note('ended', time.monotonic())", n_jobs=2)
    returned = jobs.launch([[f"x={number}"] for number in range(4)], 0)
    assert [job.return_value for job in returned] == [0, 1, 2, 3]
    begun, ended = noted(notes, "begun"), noted(notes, "ended")
    together = [[other for other in begun if begun[other]["at"] <= ended[job] and begun[job]["at"] <= ended[other]]
                for job in begun]  # fmt: skip
    assert together == [[0, 1, 2, 3], [0, 1], [0, 2], [0, 3]]
    assert {job["environment"]["OMP_NUM_THREADS"] for job in begun.values()} == {"4"}
    first = begun[0]["environment"]["CUDA_VISIBLE_DEVICES"]
    assert {first} | {begun[job]["environment"]["CUDA_VISIBLE_DEVICES"] for job in (1, 2, 3)} == {"0", "1"}
    assert all(begun[job]["environment"]["CUDA_VISIBLE_DEVICES"] != first for job in (1, 2, 3))


def test_a_search_launches_jobs_one_by_one_in_threads_and_they_share_the_places(
    launching: Launching, notes: Path, machine: Machine
) -> None:
    machine(cores=8)
    jobs = launching("wait('begun_0', 'begun_1'); result(0)", n_jobs=2)
    threads = [threading.Thread(target=jobs.launch, args=([["x=1"]], number)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [job["environment"]["OMP_NUM_THREADS"] for job in noted(notes, "begun").values()] == ["4", "4"]


# ---- what becomes of a job's processes

SAVES = """
def saved(*_):
    note("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, saved)
note("waits")
time.sleep(8)
note("ended")
"""


@contextmanager
def interrupting(*files: Path) -> Iterator[None]:
    """Ctrl-C, as soon as all of these are there."""

    def interrupt() -> None:
        for file in files:
            appears(file)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    yield
    thread.join()


def test_a_jobs_further_processes_are_gone_when_it_has_ended(launching: Launching, notes: Path) -> None:
    launched(launching("note('other', subprocess.Popen(['sleep', '60']).pid); result(0)"))
    assert gone(noted(notes, "other")[0])


def test_a_multirun_that_is_interrupted_asks_its_jobs_to_save_and_begins_no_other(
    launching: Launching, notes: Path, tmp_path: Path
) -> None:
    jobs = launching(SAVES, n_jobs=2)
    waits = [notes / f"waits_{number}.json" for number in range(2)]
    with interrupting(*waits), pytest.raises(KeyboardInterrupt):
        jobs.launch([[f"x={number}"] for number in range(4)], 0)
    assert list(noted(notes, "saved")) == [0, 1]
    assert list(noted(notes, "begun")) == [0, 1]
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == ["0", "1"]
    assert not noted(notes, "ended")


# As a run does: the first signal is noted and heeded, a second one ends it at once.
HEEDS = """
from train_smarter.run.signals import handle_signals, exit_with_parent, signals_state
exit_with_parent()
with handle_signals():
    signals_state.deferred = True
    note("waits")
    while not signals_state.received:
        time.sleep(0.01)
    time.sleep(0.5)
    note("saved")
    sys.exit(143)
"""


@pytest.mark.parametrize("count", [1, 2])
def test_a_job_is_asked_once_and_has_the_time_to_save(
    launching: Launching, notes: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    at_once = launcher._send_signal

    def slowly(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        time.sleep(0.2)  # the end of its input, if that came first, would be heeded meanwhile
        at_once(process, number)

    monkeypatch.setattr(launcher, "_send_signal", slowly)
    jobs = launching(HEEDS)
    with interrupting(notes / "waits_0.json"), pytest.raises(KeyboardInterrupt):
        jobs.launch([["x=1"]] * count, 0)
    assert list(noted(notes, "saved")) == [0]


def test_a_job_that_does_not_end_when_asked_is_killed(
    launching: Launching, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.3)
    jobs = launching("signal.signal(signal.SIGTERM, signal.SIG_IGN); note('waits', os.getpid()); time.sleep(8)")
    returned: list[JobReturn] = []
    thread = threading.Thread(target=lambda: returned.append(launched(jobs)))
    thread.start()
    appears(notes / "waits_0.json")
    jobs.stop()
    thread.join()
    assert gone(noted(notes, "waits")[0])
    assert str(returned[0]._return_value) == "its process was killed (SIGKILL)"
    with pytest.raises(JobKilledError, match="stopped before it began"):
        launched(jobs)


def test_a_job_that_is_being_started_while_the_multirun_is_stopped_is_ended_too(
    launching: Launching, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the multirun waits for it to its end."""
    jobs, starts, goes_on = launching(SAVES), threading.Event(), threading.Event()
    popen = subprocess.Popen

    def slow(*words: Any, **options: Any) -> Any:
        starts.set()
        goes_on.wait(0.5)
        return popen(*words, **options)

    monkeypatch.setattr(subprocess, "Popen", slow)
    ended: list[JobReturn] = []
    thread = threading.Thread(target=lambda: ended.append(launched(jobs)))
    thread.start()
    assert starts.wait(10)
    jobs.stop()
    goes_on.set()
    thread.join()
    assert not noted(notes, "ended")
    assert isinstance(ended[0]._return_value, JobKilledError)


def test_a_job_ends_by_itself_when_the_process_that_launched_it_was_killed(tmp_path: Path) -> None:
    own = "import os, time; from train_smarter.run.signals import exit_with_parent; "
    job = own + "exit_with_parent(); print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"""
import sys
from pathlib import Path
from train_smarter.search.launcher import ProcessLauncher
ProcessLauncher()._process([sys.executable, "-c", {job!r}], Path({str(tmp_path / "console")!r}), {{}})
"""
    environment = {**os.environ, "PYTHONPATH": str(paths.ENGINE.parent)}
    with subprocess.Popen([sys.executable, "-c", parent], env=environment) as process:
        appears(tmp_path / "console")
        end = time.monotonic() + 20
        while not (told := (tmp_path / "console").read_text()).endswith("\n"):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert process_start_time(int(told)) is not None
        process.kill()
    assert gone(int(told))
