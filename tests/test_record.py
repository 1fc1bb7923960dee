import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from train_smarter import record
from train_smarter.error import UserError
from train_smarter.record import (
    Record,
    agreed,
    append_row,
    commit,
    exclusive,
    find_run,
    past_overrides,
    read_json,
    reading,
    recorded,
    updated,
    write_json,
)

# ---- a new run's folder


def test_a_folder_that_exists_gets_a_neighbour(tmp_path: Path) -> None:
    wanted = tmp_path / "runs" / "a.b"
    assert [exclusive(wanted).name for _ in range(3)] == ["a.b", "a.b_2", "a.b_3"]
    assert sorted(path.name for path in wanted.parent.iterdir()) == ["a.b", "a.b_2", "a.b_3"]


def test_runs_that_start_at_once_never_share_a_folder(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def start(_: int) -> Path:
        barrier.wait()
        return exclusive(tmp_path / "runs" / "now")

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(start, range(8)))
    assert len(set(folders)) == 8
    assert all(folder.is_dir() for folder in folders)


def new_run(*hydra_overrides: str, folder: Path) -> str:
    """The folder that Hydra takes, after the callback."""
    overrides = {"hydra": list(hydra_overrides), "task": []}
    config = OmegaConf.create({"hydra": {"run": {"dir": str(folder)}, "overrides": overrides}})
    OmegaConf.set_readonly(config, True)
    record.NewRun().on_run_start(config)
    return str(config.hydra.run.dir)


def test_hydra_is_told_the_folder_that_was_made(tmp_path: Path) -> None:
    assert new_run(folder=tmp_path / "a") == str(tmp_path / "a")
    assert new_run(folder=tmp_path / "a") == str(tmp_path / "a_2")


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_a_folder_that_the_user_names_is_taken_as_it_is(tmp_path: Path, prefix: str) -> None:
    assert new_run(f"{prefix}hydra.run.dir={tmp_path}", folder=tmp_path) == str(tmp_path)


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

        monkeypatch.setattr(record, "os", SimpleNamespace(environ=Environment(), replace=os.replace))
        with ThreadPoolExecutor(len(own)) as pool:
            return list(pool.map(start, range(len(own))))

    return run


def test_all_processes_of_slurm_take_the_folder_of_rank_0(tmp_path: Path, processes: Processes) -> None:
    shared = {"SLURM_NTASKS": "3", "SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "train"}
    ranks: list[Mapping[str, str]] = [{"SLURM_PROCID": str(rank)} for rank in range(3)]
    folders = processes(shared, ranks, lambda rank: agreed(tmp_path / "runs" / f"12:00:0{rank}"))
    assert folders == [tmp_path / "runs" / "12:00:00"] * 3
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()] == ["12:00:00"]


def test_a_restarted_job_of_slurm_gets_a_folder_of_its_own(tmp_path: Path, processes: Processes) -> None:
    ranks: list[Mapping[str, str]] = [{"SLURM_PROCID": str(rank)} for rank in range(2)]
    for count in ("0", "1"):
        shared = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_RESTART_COUNT": count}
        folders = processes(shared, ranks, lambda rank, count=count: agreed(tmp_path / f"{count}{rank}"))  # type: ignore[misc]
        assert folders == [tmp_path / f"{count}0"] * 2


@pytest.mark.parametrize("variables", [{"SLURM_NTASKS": "1"}, {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash"}, {}])
def test_a_process_on_its_own_asks_nobody(tmp_path: Path, processes: Processes, variables: dict[str, str]) -> None:
    assert processes({}, [variables], lambda _: agreed(tmp_path / "a")) == [tmp_path / "a"]


def test_a_rank_0_that_never_comes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(UserError, match=r"no run folder within 0 s: is .* on a shared disk\?"):
        record._agreed_by_slurm(tmp_path / "a", patience=0.05)


def test_all_processes_of_torchrun_take_the_folder_of_rank_0(tmp_path: Path, processes: Processes) -> None:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # torchrun itself keeps such a store for its processes
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    ranks: list[Mapping[str, str]] = [{"RANK": str(rank)} for rank in range(3)]
    folders = processes(shared, ranks, lambda rank: agreed(tmp_path / "runs" / f"12:00:0{rank}"))
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


def test_a_run_is_recorded_from_its_start_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/train", "model=mlp", "data.dir=/a b"])
    cfg = OmegaConf.create({"seed": 3, "tags": ["first"], "model": {"seed": "${seed}"}})
    notes = Record(tmp_path / "run", cfg, ["model=mlp"])
    begun = read_json(tmp_path / "run" / "record.json")
    assert begun["command"] == "train model=mlp 'data.dir=/a b'"
    assert (begun["status"], begun["end"], begun["seed"]) == ("running", None, 3)
    assert (begun["overrides"], begun["tags"], begun["process"]) == (["model=mlp"], ["first"], os.getpid())
    assert {"python", "torch", "lightning", "hydra-core"} <= set(begun["packages"])
    assert {"system", "cores", "threads", "gpus"} <= set(begun["hardware"])
    notes.end("done")
    ended = read_json(tmp_path / "run" / "record.json")
    assert ended.pop("status") == "done"
    assert ended.pop("end") >= begun["start"]
    assert all(begun[key] == value for key, value in ended.items())


def test_the_config_is_kept_with_its_values_filled_in(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"seed": 3, "model": {"seed": "${seed}"}})
    Record(tmp_path, cfg, [])
    assert OmegaConf.to_container(recorded(tmp_path), resolve=False) == {"seed": 3, "model": {"seed": 3}}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
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
    return tmp_path  # type: ignore[return-value]


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


def test_what_tells_runs_apart_is_flat() -> None:
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
    flat = record.flat_choices(cfg)
    assert {name: value for name, value in flat.items() if not name.startswith("trainer")} == {
        "seed": 1,
        "data.shape": "[1, 8, 8]",
        "data.augment.flip.p": 0.5,
        "model.dropout": 0.2,
        "model.pretrained": None,
        "optimizer.lr": 0.1,
    }
    assert (flat["trainer.max_epochs"], flat["trainer.precision"]) == (3, "32-true")


# ---- finding a past run


def made(folder: Path, *overrides: str, start: str = "2026-01-01T00:00:00") -> Path:
    """A run folder, as `train` leaves it."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / ".hydra" / "overrides.yaml")
    (folder / "config.yaml").write_text("seed: 1\n")
    write_json(folder / "record.json", {"start": start})
    return folder


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Three runs; the second is the newest."""
    for name in ("2026-01-01_10_a", "2026-03-01_10_c", "2026-02-01_10_b"):
        made(tmp_path / "logs" / "train" / "runs" / name)
    return tmp_path / "logs"


def test_last_is_the_newest_run(logs: Path) -> None:
    (logs / "train" / "runs" / "3000.note").touch()
    assert find_run("last", logs).name == "2026-03-01_10_c"


@pytest.mark.parametrize(
    ("start", "last"), [("2025-12-31T10:00:00", "2026-03-01_10_c"), ("2026-04-01T10:00:00", "my-baseline")]
)
def test_a_run_named_by_hand_is_the_last_only_while_it_is_the_newest(logs: Path, start: str, last: str) -> None:
    made(logs / "train" / "runs" / "my-baseline", start=start)
    assert find_run("last", logs).name == last


def test_a_run_is_found_by_its_name_or_folder(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = logs / "train" / "runs" / "2026-01-01_10_a"
    assert find_run("2026-01-01_10_a", logs) == folder
    assert find_run(str(folder), logs) == folder
    monkeypatch.chdir(folder.parent)
    assert find_run("./2026-01-01_10_a/", logs) == folder
    monkeypatch.setenv("HOME", str(logs))
    assert find_run("~/train/runs/2026-01-01_10_a", logs) == folder


def test_an_unknown_run_is_answered_with_the_nearest_name(logs: Path) -> None:
    with pytest.raises(
        UserError, match=r"run=2026-01-01_10_b is no run folder: .*; did you mean '2026-0\d-01_10_[ab]'\?"
    ):
        find_run("2026-01-01_10_b", logs)


@pytest.mark.parametrize("reference", ["best", "~nobody", "a\tb"])
def test_a_run_like_no_other_is_answered_with_the_newest(logs: Path, reference: str) -> None:
    with pytest.raises(UserError, match=r"is no run folder: .*; the newest is 2026-03-01_10_c"):
        find_run(reference, logs)


def test_a_folder_that_is_no_run_is_refused(logs: Path) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        find_run(str(logs), logs)


def test_without_any_run_there_is_no_last_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no run under .* yet: type train first"):
        find_run("last", tmp_path)
    with pytest.raises(UserError, match="run=a is no run folder"):
        find_run("a", tmp_path)


def test_a_run_that_ended_before_its_config_was_kept_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config: the run ended before it began"):
        recorded(tmp_path)


# ---- commands that read a past run


def test_a_reading_command_sees_the_past_overrides_first_and_the_users_last(tmp_path: Path) -> None:
    folder = made(tmp_path / "train" / "runs" / "a", "data=mnist", "+model.x=1")
    assert reading(["model.x=2", "run=last", "split=[test]"], "evaluate", tmp_path) == [
        "data=mnist",
        "+model.x=1",
        f"run='{folder}'",
        f"hydra.run.dir='{folder}/evaluate'",
        "hydra.output_subdir=null",
        "model.x=2",
        "split=[test]",
    ]


def test_a_run_without_overrides_has_none() -> None:
    assert past_overrides(Path("nowhere")) == []


def test_the_users_own_logs_are_searched(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine" / "train" / "runs" / "a")
    words = reading(["run=last", f"paths.logs={tmp_path}/mine"], "evaluate", tmp_path / "other")
    assert words[0] == f"run='{folder}'"
    assert words[-1] == f"paths.logs={tmp_path}/mine"


def test_a_question_to_hydra_about_a_run_reads_it(tmp_path: Path) -> None:
    folder = made(tmp_path / "train" / "runs" / "a", "data=mnist")
    words = reading(["run=a", "--cfg", "job"], "evaluate", tmp_path)
    assert words[:2] == ["data=mnist", f"run='{folder}'"]
    assert words[-2:] == ["--cfg", "job"]


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["split=[test]", "--info"]])
def test_a_question_to_hydra_needs_no_run(words: list[str], tmp_path: Path) -> None:
    assert reading(words, "evaluate", tmp_path) == words


@pytest.mark.parametrize("words", [[], ["split=[test]"], ["run="], ["run=a", "run=b"]])
def test_one_run_is_needed(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluate needs one run: type evaluate run=last"):
        reading(words, "evaluate", tmp_path)


ODD = [
    "a b",
    " a ",
    "a,b",
    "a=b",
    "a: b",
    "[a]",
    "{a: b}",
    "(1)",
    "it's",
    "''",
    'say "no"',
    "größer-日本",
    "null",
    "1.0",
    "~a",
    "#a",
    "%s",
    "a$b",
    "${a}",
    "\\${a}",
    "a\\b",
    "a\\\\b",
    "a\\'b",
    "a\\",
]


@pytest.mark.parametrize("name", ODD)
def test_a_folder_of_any_name_is_taken_literally(name: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "train" / "runs" / name)
    parsed = OverridesParser.create().parse_overrides(reading([f"run={name}"], "evaluate", tmp_path))
    cfg = OmegaConf.create({override.key_or_group: override.value() for override in parsed})
    assert cfg["run"] == str(folder)
    assert cfg["hydra.run.dir"] == str(folder / "evaluate")


@pytest.mark.parametrize("name", ODD)
def test_a_further_process_finds_the_folder_in_the_words_of_the_first(name: str, tmp_path: Path) -> None:
    made(tmp_path / "train" / "runs" / name)
    words = reading([f"run={name}"], "evaluate", tmp_path)
    assert set(reading(words, "evaluate", tmp_path / "elsewhere")) == set(words)


def test_hydra_composes_with_a_folder_of_any_name(tmp_path: Path, compose: Any) -> None:
    folder = made(tmp_path / "train" / "runs" / "a, [b]=${c} 'd\\e'")
    cfg = compose(*reading([f"run={folder}"], "evaluate", tmp_path), verb="evaluate")
    assert cfg.run == str(folder)


# ---- the recorded config and the user's own overrides


def test_without_overrides_the_recorded_config_stays() -> None:
    composed = {"model": {"dropout": 0.9, "new": 1}}  # conf/ has been edited since the run
    assert updated({"model": {"dropout": 0.2}}, composed, composed) == {"model": {"dropout": 0.2}}


def test_an_override_changes_the_recorded_config_and_nothing_else_does() -> None:
    past = {"model": {"dropout": 0.2, "hidden": 8}, "seed": 1}
    before = {"model": {"dropout": 0.9, "hidden": 64}, "seed": 5}
    after = {"model": {"dropout": 0.9, "hidden": 32}, "seed": 5}
    assert updated(past, before, after) == {"model": {"dropout": 0.2, "hidden": 32}, "seed": 1}


def test_an_override_that_asks_for_what_conf_says_now_changes_nothing() -> None:
    assert updated({"a": 1}, {"a": 2}, {"a": 2}) == {"a": 1}


def test_an_override_may_add_and_remove_keys() -> None:
    past, before = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 3}}
    assert updated(past, before, {"a": 1, "b": {"c": 2, "e": 4}}) == {"a": 1, "b": {"c": 2, "e": 4}}
    assert updated(past, before, {"b": {"c": 2, "d": 3}}) == {"b": {"c": 2, "d": 3}}


def test_an_override_of_a_key_that_is_newer_than_the_run_is_kept() -> None:
    assert updated({"a": 1}, {"a": 1, "new": 2}, {"a": 1, "new": 3}) == {"a": 1, "new": 3}
    assert updated({"a": 1}, {"a": 1, "new": {"x": 2}}, {"a": 1, "new": {"x": 3}}) == {"a": 1, "new": {"x": 3}}


def test_an_override_may_turn_a_value_into_a_group_and_back() -> None:
    assert updated({"s": None}, {"s": None}, {"s": {"lr": 1}}) == {"s": {"lr": 1}}
    assert updated({"s": {"lr": 1}}, {"s": {"lr": 1}}, {"s": None}) == {"s": None}
    assert updated({"s": [1, 2]}, {"s": [1, 2]}, {"s": [3]}) == {"s": [3]}


def test_another_choice_of_a_group_replaces_what_differs() -> None:
    past = {"optimizer": {"_target_": "Adam", "lr": 0.01, "betas": [0.9, 0.99]}}
    before = {"optimizer": {"_target_": "Adam", "lr": 0.001, "betas": [0.9, 0.99]}}
    after = {"optimizer": {"_target_": "SGD", "lr": 0.1, "momentum": 0.9}}
    assert updated(past, before, after) == after


def test_the_recorded_config_itself_is_left_alone() -> None:
    past = {"a": {"b": 1}}
    updated(past, {"a": {"b": 1}}, {"a": {"b": 2}})
    assert past == json.loads('{"a": {"b": 1}}')
