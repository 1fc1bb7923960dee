import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import env_override
from optuna import Trial
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages.journal import JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from train_smarter.errors import UserError
from train_smarter.history.trials import last_error_line, state_of
from train_smarter.run import record
from train_smarter.run.files import read_json, write_json
from train_smarter.run.trial import TrialRef, current_trial
from train_smarter.search import study
from train_smarter.search.storage import load_trial, open_storage
from train_smarter.search.study import Direction, SharedStudy, fingerprints

SAMPLER: Callable[[int], BaseSampler] = RandomSampler  # its seed is the trial's number


@pytest.fixture(autouse=True)
def _nothing_is_open() -> Iterator[None]:
    """Each test opens its storages itself, as a process of its own would."""
    open_storage.cache_clear()
    yield
    open_storage.cache_clear()


def draw(trial: Trial) -> None:
    trial.suggest_float("x", 0, 1)


def best_of(folder: Path) -> list[float]:
    return [read_json(folder / "results.json")["best_value"]]


def opened(
    folder: Path,
    *,
    name: str = "s",
    url: str | None = None,
    total: int = 5,
    directions: Sequence[Direction] = ("maximize",),
    sampler: Callable[[int], BaseSampler] = SAMPLER,
    suggest: Callable[[Trial], None] = draw,
    values: Callable[[Path], Sequence[float]] = best_of,
) -> SharedStudy:
    """A study as another process would open it."""
    open_storage.cache_clear()
    return SharedStudy(
        name,
        url or f"journal://{folder}/study.log",
        folder,
        directions=directions,
        total=total,
        sampler=sampler,
        pruner=NopPruner(),
        suggest=suggest,
        values=values,
    )


def claimed(mine: SharedStudy) -> Trial:
    trial = mine.claim()
    assert trial is not None
    return trial


def numbered(mine: SharedStudy, number: int) -> FrozenTrial:
    return mine.trials[number]


@contextmanager
def dead(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is claimed here was claimed by a process that is gone: another one has its number today."""
    with monkeypatch.context() as patch:
        patch.setattr(study, "_own_start_time", lambda: "long ago")
        yield


# ---- what a job knows of it


@pytest.mark.parametrize(
    "storage",
    [
        "journal:///logs/train/multiruns/s/study.log",
        'journal:///my runs/it\'s "here"/a,b=[c]{d}/study.log',
        "journal:///${oc.env:HOME}/$HOME/\\${x}/\\/study.log",
        "postgresql://me:p%40ss@host:5432/optuna?ssl=1#a",
        "journal:///größe/学/study.log",
    ],
)
def test_a_ticket_comes_through_hydras_grammar_and_the_environment_as_it_was(
    compose: Callable[..., Any], storage: str
) -> None:
    given = TrialRef(storage, "it's mine, ${really}", 17)
    compose(given.override())
    with env_override(HydraConfig.get().job.env_set):
        assert current_trial() == given
    assert current_trial() is None


def test_a_line_that_a_killed_process_left_half_written_is_cut_and_nothing_else_is_lost(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    for value in (0.25, 0.5):
        mine.report_result(claimed(mine), [value])
    journal = tmp_path / "study.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker_id":"a-1","stu')
    again = opened(tmp_path)
    again.report_result(claimed(again), [0.75])
    assert [trial.value for trial in opened(tmp_path).trials] == [0.25, 0.5, 0.75]
    assert journal.read_bytes().startswith(whole)
    assert b'"stu{' not in journal.read_bytes()


def test_a_journal_that_is_whole_is_left_as_it_is(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    mine.report_result(claimed(mine), [0.25])
    before = (tmp_path / "study.log").read_bytes()
    open_storage.cache_clear()
    open_storage(mine.url)
    assert (tmp_path / "study.log").read_bytes() == before


def test_a_line_is_cut_by_one_process_at_a_time_and_never_while_another_writes(tmp_path: Path) -> None:
    """Else the line of a living process is taken for that of a dead one."""
    mine = opened(tmp_path)
    journal = tmp_path / "study.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"wor')  # as a reader sees it when a line is being written
    lock = JournalFileSymlinkLock(str(journal))  # the one that Optuna writes under
    open_storage.cache_clear()
    lock.acquire()
    other = threading.Thread(target=open_storage, args=(mine.url,))
    other.start()
    try:
        other.join(0.3)
        assert other.is_alive()
        assert journal.read_bytes() != whole
    finally:
        lock.release()
        other.join(20)
    assert journal.read_bytes() == whole


@pytest.mark.parametrize("url", ["x", "sqlite:////nowhere/at/all/study.db", "journal:///proc/nowhere/study.log"])
def test_a_storage_that_cannot_be_opened_is_named_with_the_reason(url: str) -> None:
    with pytest.raises(UserError, match=rf"^hydra.sweeper.storage={url} cannot be opened: \S") as caught:
        open_storage(url)
    assert "\n" not in str(caught.value)


def test_a_database_whose_driver_is_missing_is_answered_with_what_installs_it() -> None:
    with pytest.raises(
        UserError, match=r"^hydra\.sweeper\.storage=oracle://me@host/name needs its driver: uv pip install o"
    ):
        open_storage("oracle://me@host/name")


def test_a_database_keeps_a_study_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    mine = opened(tmp_path / "s", url=url)
    mine.report_result(claimed(mine), [0.5])
    assert [trial.value for trial in opened(tmp_path / "s", url=url).trials] == [0.5]


# ---- which trials count


def test_complete_pruned_and_failed_trials_count_and_those_that_were_cut_off_do_not(tmp_path: Path) -> None:
    mine = opened(tmp_path, total=9)
    mine.report_result(claimed(mine), [0.5])
    pruned = claimed(mine)
    pruned.report(0.1, 1)
    pruned.set_user_attr("pruned", 1)
    mine.report_result(pruned, [0.9])
    mine.report_result(claimed(mine), None, error="Traceback (most recent call last):\n  ...\nValueError: no")
    assert mine.requeue(claimed(mine))
    claimed(mine)  # takes the point of the one that was cut off
    assert mine.counts() == {"complete": 1, "pruned": 1, "failed": 1}
    assert [trial.number for trial in mine.ended()] == [0, 1, 2]
    assert [trial.number for trial in mine.running()] == [4]
    assert [state_of(trial) for trial in mine.trials] == ["complete", "pruned", "failed", "failed", "running"]
    assert numbered(mine, 1).value == 0.1  # the last that it reported
    assert numbered(mine, 2).user_attrs["error"].endswith("ValueError: no")


def test_of_a_long_error_its_beginning_and_its_end_are_kept(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    error = "Traceback (most recent call last):\n" + '  File "a/long/path.py", line 1, in f\n' * 2000 + "ValueError: no"
    mine.report_result(claimed(mine), None, error=error)
    kept = numbered(mine, 0).user_attrs["error"]
    assert kept.startswith("Traceback (most recent call last):\n")
    assert kept.endswith("ValueError: no")
    assert len(kept) < 21_000


def test_no_more_are_claimed_than_are_wanted_and_those_that_run_count(tmp_path: Path) -> None:
    mine = opened(tmp_path, total=3)
    trials = [claimed(mine) for _ in range(3)]
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert mine.claim() is None
    assert opened(tmp_path, total=3).claim() is None
    assert mine.requeue(trials[1])
    assert claimed(mine).number == 3
    assert mine.claim() is None
    assert claimed(opened(tmp_path, total=4)).number == 4


def test_a_trial_that_was_asked_for_and_could_not_be_drawn_does_not_stand_for_one_that_runs(tmp_path: Path) -> None:
    def draw_what_is_none(trial: Trial) -> None:
        trial.suggest_float("x", 1, 0)

    mine = opened(tmp_path, total=1, suggest=draw_what_is_none)
    with pytest.raises(ValueError, match="low"):
        mine.claim()
    mine.suggest = draw
    assert claimed(mine).number == 1


# Commands come as lines: "one" claims a trial and tells which, "all" claims and tells the study until none is left.
WORKER = """
import sys
import time
from pathlib import Path
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from train_smarter.search.study import SharedStudy

folder = Path(sys.argv[1])
mine = SharedStudy("s", f"journal://{folder}/study.log", folder, directions=["maximize"], total=int(sys.argv[2]),
             sampler=RandomSampler, pruner=NopPruner(), suggest=lambda trial: trial.suggest_float("x", 0, 1),
             values=lambda folder: [])
print("ready", flush=True)
for line in sys.stdin:
    while (trial := mine.claim()) is not None:
        print(trial.number, trial.params["x"], flush=True)
        if line == "one\\n":
            break
        time.sleep(0.06)  # as if it trained: the others find the lock free
        mine.report_result(trial, [trial.params["x"]])
    else:
        print("none", flush=True)
"""
Worker = Callable[[int], subprocess.Popen[str]]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """Starts a process that shares the study in tmp_path, whose total is given."""
    processes: list[subprocess.Popen[str]] = []

    def start(total: int) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", WORKER, str(tmp_path), str(total)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def ask(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_processes_that_share_a_study_claim_each_trial_once_and_together_exactly_the_total(
    tmp_path: Path, worker: Worker
) -> None:
    processes = [worker(30) for _ in range(3)]
    assert [answer(process) for process in processes] == ["ready"] * 3
    for process in processes:
        ask(process, "all")
    told: list[list[str]] = [[], [], []]
    for lines, process in zip(told, processes, strict=True):
        while (line := answer(process)) not in ("none", ""):
            lines.append(line)
    assert sum(map(bool, told)) > 1, "one of them did it all"
    claims = [line.split() for lines in told for line in lines]
    assert sorted(int(number) for number, _ in claims) == list(range(30))
    assert len({value for _, value in claims}) == 30
    trials = opened(tmp_path, total=30).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 30
    assert {str(trial.value) for trial in trials} == {value for _, value in claims}


# ---- whose trials are whose


def test_a_trial_runs_while_its_process_lives_and_is_asked_again_when_it_was_killed(
    tmp_path: Path, worker: Worker
) -> None:
    other, mine = worker(5), opened(tmp_path)
    assert answer(other) == "ready"
    ask(other, "one")
    number, value = answer(other).split()
    assert (number, mine.close_interrupted()) == ("0", 0)
    assert [trial.number for trial in mine.running()] == [0]
    other.kill()
    other.wait()
    assert mine.close_interrupted() == 1
    assert (mine.running(), mine.ended()) == ([], [])
    again = claimed(mine)
    assert (again.number, str(again.params["x"])) == (1, value)
    assert again.user_attrs["repeats"] == 0


def killed(folder: Path) -> None:
    """A run's record whose process is gone without a word."""
    content = {"status": "running", "host": platform.node(), "pid": os.getpid(), "process_start": "long ago"}
    write_json(folder / "record.json", content)


def test_a_point_is_asked_again_twice_and_then_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, points = opened(tmp_path), []
    for ended in ([], [], [2]):  # after the first, the second, the third death
        with dead(monkeypatch):
            trial = claimed(mine)
        points.append(trial.params)
        killed(tmp_path / str(trial.number))
        assert mine.close_interrupted() == 1
        assert [trial.number for trial in mine.ended()] == ended
    assert points == [points[0]] * 3
    assert mine.counts() == {"complete": 0, "pruned": 0, "failed": 1}
    assert numbered(mine, 2).user_attrs["error"] == "its process died each time"
    assert claimed(mine).params != points[0]


def test_a_trial_that_was_killed_while_it_was_drawn_is_closed_and_its_half_of_a_point_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Trial, "set_user_attr", lambda *_: None)  # no owner
        half = claimed(mine).params
    assert mine.close_interrupted() == 1
    assert (mine.running(), mine.ended()) == ([], [])
    whole = claimed(mine)
    assert "repeats" not in whole.user_attrs
    assert whole.params != half


def test_a_point_that_was_put_into_the_study_is_not_lost_when_its_trial_is_killed_while_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = opened(tmp_path)
    mine.optuna.enqueue_trial({"x": 0.125})  # as those of a grid are
    with monkeypatch.context() as patch:
        patch.setattr(Trial, "set_user_attr", lambda *_: None)
        claimed(mine)
    assert mine.close_interrupted() == 1
    assert claimed(mine).params == {"x": 0.125}


def test_the_dead_are_looked_for_when_all_that_are_wanted_seem_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = opened(tmp_path, total=2)
    alive = claimed(mine)
    with dead(monkeypatch):
        cut_off = claimed(mine)
    again = claimed(mine)
    assert (again.number, again.params) == (2, cut_off.params)
    assert mine.claim() is None
    assert [trial.number for trial in mine.running()] == [alive.number, again.number]


def heard_of(folder: Path, *, minutes_ago: float) -> None:
    """A run's record of another machine that was touched so long ago."""
    write_json(folder / "record.json", {"status": "running", "host": "elsewhere"})
    then = datetime.now().timestamp() - 60 * minutes_ago
    os.utime(folder / "record.json", (then, then))


@pytest.mark.parametrize(
    ("age", "beat", "cut_off"),
    [
        (1, None, 0),  # young: its run may not have begun to record
        (60, 1, 0),  # its record was touched a minute ago
        (60, 60, 1),
        (60, None, 1),
    ],
)
def test_of_another_machine_a_trial_lives_while_it_is_young_or_its_record_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, beat: float | None, cut_off: int
) -> None:
    mine = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(platform, "node", lambda: "elsewhere")
        patch.setattr(study, "_own_start_time", lambda: "long ago")  # no process of this machine is asked
        claimed(mine)
    if beat is not None:
        heard_of(tmp_path / "0", minutes_ago=beat)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(minutes=age)

    monkeypatch.setattr(study, "datetime", Later)
    assert mine.close_interrupted() == cut_off


def test_a_run_that_outlived_its_search_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = opened(tmp_path)
    with dead(monkeypatch):
        claimed(mine)
    orphan = subprocess.Popen(["sleep", "0.5"])
    start = record.process_start_time(orphan.pid)
    content = {"status": "running", "host": platform.node(), "pid": orphan.pid, "process_start": start}
    write_json(tmp_path / "0" / "record.json", content)
    assert mine.close_interrupted() == 1
    assert orphan.poll() == 0


def test_a_run_that_does_not_end_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = opened(tmp_path)
    with dead(monkeypatch):
        claimed(mine)
    heard_of(tmp_path / "0", minutes_ago=0)
    monkeypatch.setattr(study, "ORPHAN_SECONDS", 0.3)
    assert mine.close_interrupted() == 1


def test_a_trial_that_another_process_has_closed_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    for _ in range(3):
        claimed(mine)
    other = opened(tmp_path)
    for number in range(3):
        other.optuna.tell(number, state=TrialState.FAIL)
    trials = [Trial(mine.optuna, trial._trial_id) for trial in other.trials]
    mine.report_result(trials[0], [0.5])
    mine.report_result(trials[1], None, error="ValueError: no")
    mine.requeue(trials[2])
    assert [trial.state for trial in opened(tmp_path).trials] == [TrialState.FAIL] * 3  # and none is asked again


def begun(folder: Path, status: str, **results: Any) -> None:
    """What a run leaves behind that ended so after its search had been killed."""
    write_json(folder / "record.json", {"status": status})
    write_json(folder / "results.json", results)


def test_a_run_that_came_to_its_end_after_its_search_was_killed_is_told_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = opened(tmp_path)
    with dead(monkeypatch):
        trials = [claimed(mine) for _ in range(4)]
    trials[1].report(0.25, 1)
    for trial, status in zip(trials, ("done", "pruned", "failed", "interrupted"), strict=True):
        begun(tmp_path / str(trial.number), status, best_value=0.5)
    assert mine.close_interrupted() == 4
    assert mine.counts() == {"complete": 1, "pruned": 1, "failed": 0}
    assert [trial.value for trial in mine.ended()] == [0.5, 0.25]
    assert [claimed(mine).params for _ in range(2)] == [trials[2].params, trials[3].params]


def test_an_orphan_that_came_to_no_value_has_failed_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = opened(tmp_path)
    with dead(monkeypatch):
        claimed(mine)
    begun(tmp_path / "0", "done")
    (tmp_path / "0" / "results.json").unlink()
    assert mine.close_interrupted() == 1
    assert mine.counts()["failed"] == 1
    assert "holds no results.json" in numbered(mine, 0).user_attrs["error"]


@pytest.mark.parametrize("status", ["interrupted", None])  # its run saved and ended, or had not begun
def test_a_search_may_end_any_number_of_times_and_asks_its_point_again_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str | None
) -> None:
    mine, points = opened(tmp_path), []
    for _ in range(3):
        points.append((trial := claimed(mine)).params)
        assert mine.requeue(trial, died=False)
        with dead(monkeypatch):
            points.append((trial := claimed(mine)).params)
        if status:
            begun(tmp_path / str(trial.number), status)
        assert mine.close_interrupted() == 1
    assert points == [points[0]] * 6
    assert mine.ended() == []


def test_a_job_that_dies_again_and_again_while_its_search_lives_has_failed(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    assert [mine.requeue(claimed(mine)) for _ in range(3)] == [True, True, False]
    assert [trial.number for trial in mine.running()] == [2]  # which the search tells of as failed


# ---- one study is one search

SEARCH = {
    "drawn": {"optimizer.lr": "0.1 to 1"},
    "fixed": {"model": "mlp", "+tags": "[a]"},
    "objective": {"val/accuracy": "maximize"},
}


def test_what_a_study_searches_is_noted_once_and_the_same_is_accepted(tmp_path: Path) -> None:
    opened(tmp_path).verify_or_record(SEARCH, {"conf/train.yaml": 1})
    again = opened(tmp_path)
    again.verify_or_record(SEARCH, {"conf/train.yaml": 2})
    assert again.optuna.user_attrs == {"search": SEARCH, "files": {"conf/train.yaml": 1}}


@pytest.mark.parametrize(
    ("part", "content", "told"),
    [
        ("drawn", {"optimizer.lr": "1 to 2"}, ["optimizer.lr: 1 to 2 instead of 0.1 to 1"]),
        (
            "drawn",
            {"optimizer.lr": "0.1 to 1", "model.dropout": "0 to 1"},
            ["model.dropout: 0 to 1 instead of nothing"],
        ),
        ("fixed", {"model": "cnn"}, ["model: cnn instead of mlp", "+tags: nothing instead of [a]"]),
        (
            "objective",
            {"val/loss": "minimize"},
            ["val/accuracy: nothing instead of maximize", "val/loss: minimize instead of nothing"],
        ),
    ],
)
def test_another_search_is_refused_with_each_difference_and_a_way_out(
    tmp_path: Path, part: str, content: dict[str, str], told: list[str]
) -> None:
    mine = opened(tmp_path)
    mine.verify_or_record(SEARCH, {})
    mine.report_result(claimed(mine), [0.5])
    with pytest.raises(UserError) as caught:
        opened(tmp_path).verify_or_record({**SEARCH, part: content}, {})
    assert str(caught.value).splitlines() == [
        "study s has 1 trials of another search:",
        *(f"  {line}" for line in told),
        "Type it as it began, or begin a new study: hydra.sweeper.study_name=s_2",
    ]


def test_a_search_that_was_killed_between_its_two_notes_has_no_changed_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    whole = optuna.Study.set_user_attr

    def killed_at_the_second(self: optuna.Study, key: str, value: Any) -> None:
        notes.append(key)
        if len(notes) == 2:
            raise KeyboardInterrupt
        whole(self, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "set_user_attr", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path).verify_or_record(SEARCH, {"a.py": 1})
    again = opened(tmp_path)
    again.verify_or_record(SEARCH, {"a.py": 1})
    assert again.changed_files({"a.py": 1}) == []


def test_files_that_changed_are_named_once(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    mine.verify_or_record(SEARCH, {"a.py": 1, "b.yaml": 1, "c.py": 1})
    assert mine.changed_files({"a.py": 1, "b.yaml": 1, "c.py": 1}) == []
    assert mine.changed_files({"a.py": 2, "b.yaml": 1, "new.py": 1}) == ["a.py", "c.py", "new.py"]
    assert mine.changed_files({"a.py": 3, "b.yaml": 2, "new.py": 1}) == ["b.yaml"]


def test_a_fingerprint_tells_whether_a_python_or_yaml_file_has_changed(tmp_path: Path) -> None:
    for name in ("conf/train.yaml", "conf/model/cnn.yaml", "src/a.py", "src/a.pyc", "src/notes.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    before = fingerprints(tmp_path / "conf", tmp_path / "src")
    assert set(before) == {"conf/train.yaml", "conf/model/cnn.yaml", "src/a.py"}
    (tmp_path / "src" / "a.py").write_text("2")
    after = fingerprints(tmp_path / "conf", tmp_path / "src")
    assert [name for name in before if before[name] != after[name]] == ["src/a.py"]


# ---- what is drawn


def learning(number: int) -> BaseSampler:
    """Draws two at random, then what the earlier ones suggest."""
    return TPESampler(seed=100 + number, n_startup_trials=2)


def run(mine: SharedStudy, count: int) -> list[float]:
    values = []
    for _ in range(count):
        trial = claimed(mine)
        values.append(trial.params["x"])
        mine.report_result(trial, [-((trial.params["x"] - 0.3) ** 2)])
    return values


def test_a_search_that_was_broken_off_draws_what_it_would_have_drawn_in_one_go(tmp_path: Path) -> None:
    whole = run(opened(tmp_path / "whole", sampler=learning), 5)
    assert run(opened(tmp_path / "other", sampler=learning), 5) == whole
    parts = [run(opened(tmp_path / "parts", sampler=learning), count) for count in (1, 3, 1)]
    assert [value for part in parts for value in part] == whole
    assert len(set(whole)) == 5


def test_each_trial_is_drawn_by_the_sampler_of_its_number(tmp_path: Path) -> None:
    made: list[int] = []

    def noted(number: int) -> BaseSampler:
        made.append(number)
        return RandomSampler(number)

    run(opened(tmp_path, sampler=noted), 3)
    assert made == [0, 0, 1, 2]  # the first one for the study itself


# ---- what came of it


def test_the_best_trial_is_a_complete_one(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    assert mine.best() is None
    pruned = claimed(mine)
    pruned.report(0.99, 1)
    pruned.set_user_attr("pruned", 1)
    mine.report_result(pruned, None)
    assert numbered(mine, 0).value == 0.99
    assert mine.best() is None
    assert mine.results() == {"name": "optuna"}
    for value in (0.25, 0.75, 0.5):
        mine.report_result(claimed(mine), [value])
    best = mine.best()
    assert best is not None
    assert (best.number, best.value) == (2, 0.75)
    assert mine.results() == {"name": "optuna", "best_params": best.params, "best_value": 0.75}


def test_less_is_better_where_it_is_said_so(tmp_path: Path) -> None:
    mine = opened(tmp_path, directions=["minimize"])
    for value in (0.5, 0.25, 0.75):
        mine.report_result(claimed(mine), [value])
    best = mine.best()
    assert best is not None
    assert best.number == 1


def test_of_several_objectives_the_results_are_those_that_none_beats(tmp_path: Path) -> None:
    mine = opened(tmp_path, directions=["maximize", "minimize"])
    # (0.8, 9) is beaten by (0.9, 9); neither of the others is by any.
    for values in ([0.9, 9.0], [0.5, 1.0], [0.8, 9.0]):
        mine.report_result(claimed(mine), values)
    assert mine.best() is None
    points = [trial.params for trial in mine.trials]
    solutions = mine.results()["solutions"]
    assert sorted(solutions, key=lambda one: one["values"]) == [
        {"params": points[1], "values": [0.5, 1.0]},
        {"params": points[0], "values": [0.9, 9.0]},
    ]


def test_what_was_begun_is_forgotten_without_a_trace(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    mine = opened(tmp_path / "s", url=url)
    mine.verify_or_record(SEARCH, {})
    claimed(mine)
    (tmp_path / "s" / "0").mkdir()
    opened(tmp_path / "other", name="other", url=url)
    mine.delete()
    assert not (tmp_path / "s").exists()
    assert optuna.get_all_study_names(url) == ["other"]
    assert opened(tmp_path / "s", url=url).trials == []


def test_a_job_finds_its_trial_and_reports_to_it(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    claimed(mine)
    value = claimed(mine).params["x"]
    open_storage.cache_clear()
    pruner = optuna.pruners.ThresholdPruner(lower=0.5)
    trial = load_trial(TrialRef(mine.url, "s", 1), pruner)
    assert (trial.number, trial.params) == (1, {"x": value})
    trial.report(0.25, 1)
    assert trial.should_prune()
    assert [trial.intermediate_values for trial in mine.trials] == [{}, {1: 0.25}]


def test_the_gist_of_a_traceback_is_the_line_that_says_what_happened() -> None:
    assert (
        last_error_line("Traceback\n  there\nlib.CudaError: no memory\n\nSet HYDRA_FULL_ERROR=1\n")
        == "lib.CudaError: no memory"
    )
    assert last_error_line("killed\nby 9 ") == "by 9"
    assert last_error_line(" \n") == "no reason known"
