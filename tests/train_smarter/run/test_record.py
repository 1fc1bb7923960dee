import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from train_smarter.errors import UserError
from train_smarter.run import files, record, results, run_dir
from train_smarter.run.environment import commit
from train_smarter.run.files import append_row, read_csv, read_json, truncate_csv, write_json
from train_smarter.run.lock import locked
from train_smarter.run.record import Record, save_hydra_config, status
from train_smarter.run.run_dir import make_unique_dir, shared_run_dir
from train_smarter.run.trial import TRIAL_VARIABLE, current_trial

# ---- a new run's folder


def test_a_folder_that_exists_gets_a_neighbour(tmp_path: Path) -> None:
    wanted = tmp_path / "runs" / "a.b"
    assert [make_unique_dir(wanted).name for _ in range(3)] == ["a.b", "a.b_2", "a.b_3"]
    assert sorted(path.name for path in wanted.parent.iterdir()) == ["a.b", "a.b_2", "a.b_3"]


def test_runs_that_start_at_once_never_share_a_folder(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def start(_: int) -> Path:
        barrier.wait()
        return make_unique_dir(tmp_path / "runs" / "now")

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(start, range(8)))
    assert len(set(folders)) == 8
    assert all(folder.is_dir() for folder in folders)


def new_run(*hydra_overrides: str, folder: Path) -> str:
    """The folder that Hydra takes, after the callback."""
    overrides = {"hydra": list(hydra_overrides), "task": []}
    job = {"config_name": "train"}
    config = OmegaConf.create({"hydra": {"run": {"dir": str(folder)}, "overrides": overrides, "job": job}})
    OmegaConf.set_readonly(config, True)
    run_dir.CreateRunDir().on_run_start(config)
    return str(config.hydra.run.dir)


def test_hydra_is_told_the_folder_that_was_made(tmp_path: Path) -> None:
    assert new_run(folder=tmp_path / "a") == str(tmp_path / "a")
    assert new_run(folder=tmp_path / "a") == str(tmp_path / "a_2")


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_a_folder_that_the_user_names_is_taken_as_it_is(tmp_path: Path, prefix: str) -> None:
    with locked(tmp_path):
        assert new_run(f"{prefix}hydra.run.dir={tmp_path}", folder=tmp_path) == str(tmp_path)


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(run_dir.RunRefusedError) as caught:
        new_run(folder=tmp_path / "runs" / "a")
    answer = f"{tmp_path}/runs: a file is where a folder has to be; move it, or give another folder"
    assert (caught.value.code, str(caught.value.error)) == (2, answer)


Processes = Callable[[Mapping[str, str], list[Mapping[str, str]], Callable[[int], Path]], list[Path]]


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    """Lets threads be the processes of a run: each has environment variables of its own. Rank 0 starts last."""
    mine = threading.local()

    class Environment(dict[str, str]):
        def __missing__(self, key: str) -> str:
            found: str = mine.variables[key]
            return found

        def get(self, key: str, default: Any = None) -> Any:
            return mine.variables.get(key, default)

        def __contains__(self, key: object) -> bool:
            return key in mine.variables

    def run(shared: Mapping[str, str], own: list[Mapping[str, str]], act: Callable[[int], Path]) -> list[Path]:
        def start(rank: int) -> Path:
            mine.variables = {**shared, **own[rank]}
            time.sleep(0.2 if rank == 0 else 0)
            return act(rank)

        monkeypatch.setattr(run_dir, "os", SimpleNamespace(environ=Environment(), replace=os.replace))
        with ThreadPoolExecutor(len(own)) as pool:
            return list(pool.map(start, range(len(own))))

    return run


def test_all_processes_of_slurm_take_the_folder_of_rank_0(tmp_path: Path, processes: Processes) -> None:
    shared = {"SLURM_NTASKS": "3", "SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "train"}
    ranks: list[Mapping[str, str]] = [{"SLURM_PROCID": str(rank)} for rank in range(3)]
    folders = processes(shared, ranks, lambda rank: shared_run_dir(tmp_path / "runs" / f"12:00:0{rank}"))
    assert folders == [tmp_path / "runs" / "12:00:00"] * 3
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()] == ["12:00:00"]


def test_a_restarted_job_of_slurm_gets_a_folder_of_its_own(tmp_path: Path, processes: Processes) -> None:
    ranks: list[Mapping[str, str]] = [{"SLURM_PROCID": str(rank)} for rank in range(2)]
    for count in ("0", "1"):
        shared = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_RESTART_COUNT": count}
        folders = processes(shared, ranks, lambda rank, count=count: shared_run_dir(tmp_path / f"{count}{rank}"))  # type: ignore[misc]
        assert folders == [tmp_path / f"{count}0"] * 2


@pytest.mark.parametrize("variables", [{"SLURM_NTASKS": "1"}, {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash"}, {}])
def test_a_process_on_its_own_asks_nobody(tmp_path: Path, processes: Processes, variables: dict[str, str]) -> None:
    assert processes({}, [variables], lambda _: shared_run_dir(tmp_path / "a")) == [tmp_path / "a"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "x"}, "RANK='x' in the environment is not a whole number: type unset RANK"),
        ({"RANK": "1"}, "another one's run, which would record nothing; there is no such run: type unset RANK"),
        ({"LOCAL_RANK": "2", "WORLD_SIZE": "2"}, "there is no such run: type unset LOCAL_RANK"),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "?"}, "SLURM_NTASKS='?' in the environment is not a whole number"),
        ({"TORCHELASTIC_RUN_ID": "a", "MASTER_ADDR": "b"}, "MASTER_PORT is not: type unset TORCHELASTIC_RUN_ID"),
    ],
)
def test_variables_that_were_left_in_the_shell_are_named_before_anything_is_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    message: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(run_dir.RunRefusedError) as caught:
        new_run(folder=tmp_path / "a")
    assert message in str(caught.value.error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"RANK": "0"}, 0),
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}, 3),
        ({"LOCAL_RANK": "1", "MASTER_ADDR": "a"}, 1),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 1),
    ],
)
def test_a_process_knows_its_rank(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], rank: int) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run_dir.global_rank() == rank


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_trial_that_was_left_in_the_shell_is_named(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setenv(TRIAL_VARIABLE, content)
    with pytest.raises(UserError, match="type unset TRAIN_SMARTER_TRIAL"):
        current_trial()


def test_a_rank_0_that_never_comes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(UserError, match=r"no run folder within 0 s: is .* on a shared disk\?"):
        run_dir._shared_by_slurm(tmp_path / "a", patience=0.05)


def test_all_processes_of_torchrun_take_the_folder_of_rank_0(tmp_path: Path, processes: Processes) -> None:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # torchrun itself keeps such a store for its processes
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    ranks: list[Mapping[str, str]] = [{"RANK": str(rank)} for rank in range(3)]
    folders = processes(shared, ranks, lambda rank: shared_run_dir(tmp_path / "runs" / f"12:00:0{rank}"))
    assert folders == [tmp_path / "runs" / "12:00:00"] * 3
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["12:00:00"]


# ---- what a run writes


def test_numbers_stand_on_a_line_and_everything_else_on_lines_of_its_own(tmp_path: Path) -> None:
    content = {
        "confusion": [[1, 20], [3, 4]],
        "rates": [0.5, 1e-05, -2.0],
        "names": ["a", "ü"],
        "empty": [],
        "one": [1],
    }
    write_json(tmp_path / "a.json", content)
    assert (tmp_path / "a.json").read_text(encoding="utf8") == (
        '{\n  "confusion": [\n    [1, 20],\n    [3, 4]\n  ],\n  "rates": [0.5, 1e-05, -2.0],\n'
        '  "names": [\n    "a",\n    "ü"\n  ],\n  "empty": [],\n  "one": [1]\n}\n'
    )


@pytest.mark.parametrize(
    "content",
    [{"a": [1, None, 2.5]}, [[]], "text", {"text": "[\n  1,\n  2\n]"}, [["1"], [True]], {"deep": [{"a": [1, [2]]}]}],
)
def test_what_is_written_is_read_again(tmp_path: Path, content: Any) -> None:
    write_json(tmp_path / "new" / "a.json", content)
    assert read_json(tmp_path / "new" / "a.json") == content


def test_a_reader_never_sees_half_of_a_file(tmp_path: Path) -> None:
    path, end = tmp_path / "a.json", time.monotonic() + 0.3
    write_json(path, 0)

    def write() -> None:
        while time.monotonic() < end:
            for size in (10_000, 1):
                write_json(path, ["x" * size])

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert read_json(path) in (0, ["x"], ["x" * 10_000])
    writer.join()


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read_json(tmp_path / "a.json") == 1


def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no results.json: is it a run folder"):
        read_json(tmp_path / "results.json")
    (tmp_path / "results.json").write_text('{"a": ')
    with pytest.raises(UserError, match=r"results.json is not readable JSON: "):
        read_json(tmp_path / "results.json")


def test_the_first_row_decides_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    append_row(path, {"epoch": 0, "val/loss": 0.5, "note": None})
    append_row(path, {"note": 'a, "b"', "epoch": 1, "new": 7})
    assert path.read_text() == 'epoch,val/loss,note\n0,0.5,\n1,,"a, ""b"""\n'


# ---- record.json


def test_a_run_is_recorded_from_its_start_to_its_end(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"seed": 3, "tags": ["first"], "model": {"seed": "${seed}"}})
    notes = Record(tmp_path / "run", cfg, command="train model=mlp", overrides=["model=mlp"])
    begun = read_json(tmp_path / "run" / "record.json")
    assert begun["command"] == "train model=mlp"
    assert (begun["status"], begun["end"], begun["seed"]) == ("running", None, 3)
    assert (begun["overrides"], begun["tags"], begun["pid"]) == (["model=mlp"], ["first"], os.getpid())
    assert {"python", "torch", "lightning", "hydra-core"} <= set(begun["packages"])
    assert {"system", "cores", "threads", "gpus"} <= set(begun["hardware"])
    notes.end("done")
    ended = read_json(tmp_path / "run" / "record.json")
    assert ended.pop("status") == "done"
    assert ended.pop("end") >= begun["start"]
    assert (ended.pop("best_value"), ended.pop("best_epoch"), ended.pop("checkpoints")) == (None, None, {})
    assert all(begun[key] == value for key, value in ended.items())


def begun(folder: Path, *, command: str = "train") -> Record:
    cfg = OmegaConf.create({"seed": 1, "monitor": "val/loss", "mode": "min"})
    return Record(folder, cfg, command=command, overrides=[])


def test_the_end_names_the_best_value_and_the_checkpoints(tmp_path: Path) -> None:
    notes = begun(tmp_path)
    for epoch, loss in enumerate((0.5, 0.25, None, 0.25)):
        append_row(tmp_path / "metrics.csv", {"epoch": epoch, "val/loss": loss})
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    notes.end("interrupted")
    ended = read_json(tmp_path / "record.json")
    assert (ended["best_value"], ended["best_epoch"]) == (0.25, 1)
    assert ended["checkpoints"] == {"best": "checkpoints/best.ckpt"}


@pytest.mark.parametrize(("mode", "best"), [("max", "2"), ("min", "1"), (None, "2")])
def test_the_best_epoch_is_the_first_of_the_best_values_and_never_one_with_nan(
    tmp_path: Path, mode: str | None, best: str
) -> None:
    for epoch, value in enumerate((float("nan"), 0.25, 0.5, 0.25, 0.5, float("nan"))):
        append_row(tmp_path / "metrics.csv", {"epoch": epoch, "val/f1": value})
    row = results.best_row(tmp_path / "metrics.csv", "val/f1", mode)
    assert row is not None
    assert row["epoch"] == best


def test_a_run_that_failed_says_with_what_and_one_that_goes_on_and_ends_well_no_longer_does(tmp_path: Path) -> None:
    begun(tmp_path).end("failed", FloatingPointError("val/loss is nan"))
    assert read_json(tmp_path / "record.json")["error"] == "FloatingPointError: val/loss is nan"
    begun(tmp_path).end("done")
    assert "error" not in read_json(tmp_path / "record.json")


def test_a_run_that_goes_on_keeps_its_first_start_and_adds_the_later_ones(tmp_path: Path) -> None:
    begun(tmp_path, command="train").end("interrupted")
    first = read_json(tmp_path / "record.json")
    begun(tmp_path, command="train resume=last").end("done")
    ended = read_json(tmp_path / "record.json")
    assert (ended["command"], ended["start"], ended["status"]) == ("train", first["start"], "done")
    assert [start["command"] for start in ended["resumed"]] == ["train resume=last"]
    assert {"start", "packages", "hardware", "commit"} <= set(ended["resumed"][0])


# ---- what became of it


def test_a_run_is_running_while_its_process_lives_and_then_what_it_noted(tmp_path: Path) -> None:
    notes = begun(tmp_path)
    assert status(tmp_path) == "running"
    for end in ("failed", "interrupted", "pruned", "done"):
        notes.end(end)
        assert status(tmp_path) == end


def test_a_run_whose_process_is_gone_or_another_one_was_killed(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    begun(tmp_path)
    content = read_json(tmp_path / "record.json")
    write_json(tmp_path / "record.json", content | {"pid": gone.pid})
    assert status(tmp_path) == "killed"
    write_json(tmp_path / "record.json", content | {"process_start": "long ago"})  # its number went to a later one
    assert status(tmp_path) == "killed"


def test_a_process_that_nobody_has_waited_for_is_gone_too() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert record.process_start_time(process.pid) is None
    assert record.process_start_time(os.getpid()) is not None


@pytest.mark.parametrize(("minutes", "seen"), [(1, "running"), (60, "unknown")])
def test_a_run_of_another_machine_lives_while_its_record_is_touched(tmp_path: Path, minutes: int, seen: str) -> None:
    begun(tmp_path)
    write_json(tmp_path / "record.json", read_json(tmp_path / "record.json") | {"host": "elsewhere"})
    os.utime(tmp_path / "record.json", (0, time.time() - 60 * minutes))
    assert status(tmp_path) == seen


def test_a_record_is_touched_while_its_run_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "HEARTBEAT", 0.01)
    notes, end = begun(tmp_path), time.monotonic() + 10
    os.utime(tmp_path / "record.json", (0, 0))
    while (tmp_path / "record.json").stat().st_mtime == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
    notes.end("done")


@pytest.mark.parametrize("content", [None, "[]", "{", '{"status": 3}'])
def test_of_a_run_without_a_readable_record_nothing_is_known(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "record.json").write_text(content)
    assert status(tmp_path) == "unknown"


def test_each_start_of_a_run_is_kept_beside_the_others(tmp_path: Path) -> None:
    for number in (1, 2):
        save_hydra_config(OmegaConf.create({"a": number, "b": "${a}"}), tmp_path, [f"a={number}"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hydra", ".hydra_2"]
    assert (tmp_path / ".hydra_2" / "config.yaml").read_text() == "a: 2\nb: ${a}\n"
    assert (tmp_path / ".hydra" / "overrides.yaml").read_text() == "- a=1\n"


# ---- metrics.csv


def test_the_rows_that_are_done_again_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,val/loss\n0,0.5\n1,0.25\n2,0.1\n3,0.")  # killed in the middle of a row
    truncate_csv(path, 2)
    assert path.read_text() == "epoch,val/loss\n0,0.5\n1,0.25\n"
    truncate_csv(path, 0)
    assert not path.exists()
    truncate_csv(path, 0)
    assert list(tmp_path.iterdir()) == []


def test_half_a_row_is_none(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,step,val/loss\n0,17,0.5\n1,3")
    assert [row["epoch"] for row in read_csv(tmp_path / "metrics.csv")] == ["0"]


def test_the_config_is_kept_with_its_values_filled_in(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"seed": 3, "model": {"seed": "${seed}"}})
    Record(tmp_path, cfg, command="train", overrides=[])
    assert (tmp_path / "config.yaml").read_text() == "seed: 3\nmodel:\n  seed: 3\n"


# ---- what a search looks at


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """The folder of a run: accuracy is best in epoch 1 and 2, loss in epoch 2."""
    write_json(tmp_path / "results.json", {"best_value": 0.75, "epochs": 3, "seconds": 12.5, "test/f1": None})
    for epoch, accuracy, loss, train in ((0, 0.5, 0.5, 0.3), (1, 0.75, 0.4, 0.2), (2, 0.75, 0.25, 0.1)):
        row = {"epoch": epoch, "val/accuracy": accuracy, "val/loss": loss, "train/loss": train, "val/f1": None}
        append_row(tmp_path / "metrics.csv", row | {"seconds": 4.0})  # of the epoch; the results' are the run's
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({}, 0.75),
        ({"optimized_metric": "val/accuracy"}, 0.75),
        ({"optimized_metric": "val/loss"}, 0.4),  # where accuracy is best, the first time
        ({"optimized_metric": ["val/accuracy", "seconds"]}, (0.75, 12.5)),
        ({"optimized_metric": ["epochs", "train/loss", "val/accuracy"]}, (3, 0.2, 0.75)),
        ({"optimized_metric": ["seconds"]}, (12.5,)),
        ({"optimized_metric": ["val/loss", "val/accuracy"], "monitor": "val/loss", "mode": "min"}, (0.75, 0.75)),
    ],
)
def test_an_objective_is_a_value_of_the_results_or_of_the_best_epoch(
    ended: Path, settings: dict[str, Any], value: float | tuple[float, ...]
) -> None:
    cfg = OmegaConf.create({"monitor": "val/accuracy", "mode": "max"} | settings)
    assert results.read_objective(ended, cfg) == value


def test_without_a_curve_the_results_are_enough(ended: Path) -> None:
    (ended / "metrics.csv").unlink()
    cfg = OmegaConf.create({"monitor": "val/accuracy", "mode": "max", "optimized_metric": ["val/accuracy", "seconds"]})
    assert results.read_objective(ended, cfg) == (0.75, 12.5)


@pytest.mark.parametrize("name", ["val/acuracy", "val/f1", "test/f1"])  # unknown, or known without a value
def test_an_objective_that_the_run_has_no_value_of_is_named(ended: Path, name: str) -> None:
    cfg = OmegaConf.create({"monitor": "val/accuracy", "mode": "max", "optimized_metric": ["val/loss", name]})
    with pytest.raises(UserError, match=f"^optimized_metric={name}: the run has no such value$"):
        results.read_objective(ended, cfg)


# ---- which code it ran


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with one commit, which git takes for the project's."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name, value in {
        "GIT_DIR": tmp_path / ".git",
        "GIT_WORK_TREE": tmp_path,
        "GIT_CONFIG_GLOBAL": os.devnull,
    }.items():
        monkeypatch.setenv(name, str(value))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b.c")
    (tmp_path / "file.txt").write_text("one\ntwo\n\n")
    for words in (["init", "-q"], ["add", "file.txt"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_a_clean_checkout_is_its_commit(repository: Path) -> None:
    found = commit()
    assert re.fullmatch("[0-9a-f]{40}", found["commit"])
    assert not found["diff"]
    assert repository.is_dir()


def test_the_difference_to_the_commit_can_be_applied(repository: Path) -> None:
    (repository / "file.txt").write_text("one\nTWO\n\n")
    difference = commit()["diff"]
    assert "-two\n+TWO\n" in difference
    (repository / "file.txt").write_text("one\ntwo\n\n")
    subprocess.run(["git", "apply", "-"], cwd=repository, input=difference, text=True, check=True)
    assert (repository / "file.txt").read_text() == "one\nTWO\n\n"


def test_a_difference_that_is_no_utf8_stops_no_run(repository: Path) -> None:
    (repository / "file.txt").write_bytes("größer\n".encode("latin1"))
    assert "-two" in commit()["diff"]


def test_outside_of_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert commit() == {"commit": None, "diff": None}


def test_what_tells_runs_apart_is_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    cfg = OmegaConf.create(
        {
            "seed": 1,
            "data": {"_target_": "x.Data", "shape": [1, 8, 8], "augment": {"flip": {"_target_": "x.Flip", "p": 0.5}}},
            "model": {"_target_": "x.Model", "dropout": 0.2, "optimizer": {"lr": 7}, "pretrained": None},
            "optimizer": {"_target_": "x.SGD", "_partial_": True, "lr": 0.1},
            "scheduler": None,
            "trainer": {"_target_": "x.Trainer", "max_epochs": 3, "precision": "32-true"},
        }
    )
    flat = record.hparams(cfg)
    assert {name: value for name, value in flat.items() if not name.startswith("trainer")} == {
        "seed": 1,
        "data.shape": "[1, 8, 8]",
        "data.augment.flip.p": 0.5,
        "model.dropout": 0.2,
        "model.pretrained": None,
        "optimizer.lr": 0.1,
    }
    assert (flat["trainer.max_epochs"], flat["trainer.precision"]) == (3, "32-true")


def test_findings_are_those_of_the_diagnosis_and_none_where_it_is_missing_or_damaged(tmp_path: Path) -> None:
    assert results.read_findings(tmp_path) == []
    (tmp_path / "diagnosis.json").write_text('{"findings": [{"name": "accuracy_noise"}]}')
    assert results.read_findings(tmp_path) == [{"name": "accuracy_noise"}]
    for damaged in ("", "{", "[]", '{"findings": null}'):
        (tmp_path / "diagnosis.json").write_text(damaged)
        assert results.read_findings(tmp_path) == []


def test_troubles_are_findings_above_a_note_and_validation_examples_are_counted(tmp_path: Path) -> None:
    assert (results.problem_names(tmp_path), results.val_examples(tmp_path)) == ([], None)
    findings = [{"name": name, "severity": severity} for name, severity in (("a", "problem"), ("b", "note"))]
    write_json(tmp_path / "diagnosis.json", {"findings": findings, "measured": {"val_examples": 7}})
    assert (results.problem_names(tmp_path), results.val_examples(tmp_path)) == (["a"], 7)
    strange: Any
    for strange in ({}, {"val_examples": 0}, {"val_examples": "many"}, {"val_examples": None}, None):
        write_json(tmp_path / "diagnosis.json", {"findings": [], "measured": strange})
        assert results.val_examples(tmp_path) is None


def test_a_file_is_written_whole_and_never_through_a_strangers_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("page.html", "page.html.part"):
        (tmp_path / name).symlink_to(victim)
    files.atomic_write(tmp_path / "page.html", "theirs")
    assert victim.read_text() == "mine"
    assert (tmp_path / "page.html").read_text() == "theirs"
    assert not (tmp_path / "page.html").is_symlink()
