"""Searches, as they are typed: in this process where one is enough, else killed and broken from outside."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from train_smarter.paths import ENGINE
from train_smarter.run.files import read_json
from train_smarter.run.record import status
from train_smarter.search import study, sweeper

Command = Callable[..., subprocess.CompletedProcess[str]]
Typed = Callable[..., tuple[int, str]]
FAST = ["model=mlp", "trainer=cpu", "trainer.max_epochs=1", "logger=none", "callbacks=none", "test=false"]
SEARCH = ["-m", "search=default", "hydra.sweeper.study_name=s"]
SPACE = ["optimizer.lr=interval(0.001,0.01)", "data.batch_size=choice(256,512)"]


def trials(logs: Path, name: str = "s") -> list[FrozenTrial]:
    """As Optuna alone reads them."""
    journal = logs / "train" / "multiruns" / name / "study.log"
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(study_name=name, storage=storage).get_trials()


def points(logs: Path, name: str = "s") -> list[dict[str, Any]]:
    return [trial.params for trial in trials(logs, name)]


def folders(logs: Path, name: str = "s") -> list[str]:
    return sorted((path.name for path in (logs / "train" / "multiruns" / name).iterdir() if path.is_dir()), key=int)


# ---- in one process


def test_a_search_goes_on_to_its_total_and_draws_what_it_would_have_drawn_in_one_go(
    typed: Typed, tmp_path: Path
) -> None:
    code, told = typed(*SEARCH, *FAST, *SPACE, "hydra.sweeper.n_trials=2")
    assert code == 0, told
    assert "[2/2] trial 1: val/accuracy" in told
    assert "2 of 2 done: 2 complete" in told
    code, told = typed(*SEARCH, *FAST, *SPACE, "hydra.sweeper.n_trials=2")
    assert (code, "2 of 2 done" in told) == (0, True), told
    assert len(trials(tmp_path)) == 2
    code, told = typed("-m", "resume=last", "hydra.sweeper.n_trials=4")
    assert code == 0, told
    assert "resumed: 2 of 4 trials are done" in told
    assert folders(tmp_path) == ["0", "1", "2", "3"]
    values = [trial.value for trial in trials(tmp_path)]
    assert values == [read_json(tmp_path / f"train/multiruns/s/{n}/results.json")["best_value"] for n in range(4)]
    whole = ["-m", "search=default", "hydra.sweeper.study_name=whole"]
    assert typed(*whole, *FAST, *SPACE, "hydra.sweeper.n_trials=4")[0] == 0
    assert points(tmp_path, "whole") == points(tmp_path)
    assert len({str(point) for point in points(tmp_path)}) == 4, "the sampler repeated itself"


def test_another_search_under_the_same_name_is_refused_with_what_differs(typed: Typed, tmp_path: Path) -> None:
    one = [*SEARCH, *FAST, "hydra.sweeper.n_trials=1"]
    assert typed(*one, *SPACE)[0] == 0
    code, told = typed(*one, "optimizer.lr=interval(0.1,1)", SPACE[1], "trainer.max_epochs=2")
    assert code == 2
    assert "optimizer.lr: FloatDistribution(high=1.0" in told
    assert "trainer.max_epochs: 2 instead of 1" in told
    assert "hydra.sweeper.study_name=s_2" in told
    assert len(trials(tmp_path)) == 1


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["search=digits_cnn"], "type train -m search=digits_cnn"),
        (["-m", "search=default"], "there is nothing to search"),
        (["-m", "search=default", *SPACE, "trainer=ddp_sim"], "add hydra/launcher=process"),
        (["-m", "search=default", *SPACE, "model.dropuot=1"], "did you mean: 'dropout'"),
        (["-m", "search=default", *SPACE, "hydra.sweeper.n_trials=0"], "n_trials=0: give a whole number"),
        (["-m", "search=default", *SPACE, "hydra.sweeper.direction=up"], "give minimize or maximize"),
        (["-m", "search=default", *SPACE, "hydra.sweeper.storage=x"], "hydra.sweeper.storage=x cannot be opened"),
        (["-m", "search=default", *SPACE, "optimized_metric=[val/accuracy,seconds]"], "'hydra.sweeper.direction=[max"),
        (["-m", "search=default", *SPACE, "optimized_metric=val/acuracy"], "did you mean 'val/accuracy'"),
        (["-m", "search=default", *SPACE, "hydra/sweeper/sampler=grid"], "a grid has no intervals"),
        (["-m", "search=default", "optimizer.lr=interval(0.1,0.01)"], "cannot be read"),
        (["-m", "search=default", *SPACE, "model.dropout=7"], "model.dropout=7: give a number from 0"),
    ],
)
def test_a_search_that_cannot_begin_is_answered_and_leaves_nothing(
    typed: Typed, tmp_path: Path, words: list[str], answer: str
) -> None:
    code, told = typed(*words)
    assert code == 2, told
    assert answer.lower() in told.lower()
    assert "Traceback" not in told
    assert not list(tmp_path.glob("train/*/*"))


# ---- a study from a stranger


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("++hydra.job.env_set.PATH", "{outside}"),  # S3: a program of that name would be run
        ("hydra.sweep.dir", "{outside}"),  # S4
        ("paths.run", "{outside}"),
        ("callbacks.resume_checkpoint.dirpath", "{outside}"),
    ],
)
def test_a_waiting_trial_sets_nothing_but_what_is_searched(typed: Typed, tmp_path: Path, key: str, value: str) -> None:
    assert typed(*SEARCH, *FAST, *SPACE, "hydra.sweeper.n_trials=1")[0] == 0
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "git").write_text(f"#!/bin/sh\ntouch {outside}/ran\n")
    (outside / "git").chmod(0o755)
    journal = JournalStorage(JournalFileBackend(str(tmp_path / "train" / "multiruns" / "s" / "study.log")))
    planted = optuna.load_study(study_name="s", storage=journal)
    params = {**trials(tmp_path)[0].params, key: value.format(outside=outside)}
    distributions = {
        **trials(tmp_path)[0].distributions,
        key: optuna.distributions.CategoricalDistribution([params[key]]),
    }
    planted.add_trial(optuna.create_trial(state=TrialState.WAITING, params=params, distributions=distributions))
    code, told = typed("-m", "resume=last", "hydra.sweeper.n_trials=2")
    assert code == 2, told
    assert "study s is refused" in told
    assert [path.name for path in outside.iterdir()] == ["git"]
    assert folders(tmp_path) == ["0"], "a trial was run"


def test_a_point_in_line_outside_of_the_search_space_is_not_run(typed: Typed, tmp_path: Path) -> None:
    assert typed(*SEARCH, *FAST, *SPACE, "hydra.sweeper.n_trials=1")[0] == 0
    journal = JournalStorage(JournalFileBackend(str(tmp_path / "train" / "multiruns" / "s" / "study.log")))
    optuna.load_study(study_name="s", storage=journal).enqueue_trial({"data.batch_size": 10**9})
    code, told = typed("-m", "resume=last", "hydra.sweeper.n_trials=2")
    assert (code, "data.batch_size=1000000000, which is not a value" in told) == (2, True), told


def test_a_failing_trial_is_kept_with_its_traceback_and_the_search_goes_on(typed: Typed, tmp_path: Path) -> None:
    rates = "optimizer.lr=choice(0.001,1e30)"  # the second leaves the numbers
    code, told = typed(*SEARCH, *FAST, rates, "hydra/sweeper/sampler=grid", "data.batch_size=choice(256,512)")
    assert code == 1, told
    assert "4 of 4 done: 2 complete, 2 failed" in told
    assert "failed: FloatingPointError: val/loss is nan at validation 1" in told
    failed = [trial for trial in trials(tmp_path) if trial.state == TrialState.FAIL]
    assert [trial.params["optimizer.lr"] for trial in failed] == [1e30, 1e30]
    assert "Traceback (most recent call last)" in failed[0].user_attrs["error"]
    sweep = tmp_path / "train" / "multiruns" / "s"
    assert status(sweep / str(failed[0].number)) == "failed"
    assert "FloatingPointError" in read_json(sweep / str(failed[0].number) / "record.json")["error"]


def test_a_trial_that_ends_before_its_first_validation_says_so(typed: Typed) -> None:
    code, told = typed(*SEARCH, *FAST, *SPACE, "trainer.max_steps=1", "hydra.sweeper.n_trials=1")
    assert code == 1, told
    assert "failed: ValueError: the objective was never measured: the run ended before its first validation" in told


def test_trials_that_another_launcher_runs_together_fail_each_for_itself_if_it_breaks(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(_: BasicLauncher, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> None:  # noqa: ARG001
        assert len(job_overrides) == 2
        raise OSError("no more")

    monkeypatch.setattr(BasicLauncher, "launch", launch)
    monkeypatch.setattr(sweeper, "default_to_processes", lambda _: None)
    code, told = typed(*SEARCH, *FAST, *SPACE, "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2")
    assert code == 1, told
    assert [trial.user_attrs["error"].splitlines()[-1] for trial in trials(tmp_path)] == 2 * ["OSError: no more"]


def test_a_study_in_a_storage_of_the_users_own_goes_on_by_its_own_command(typed: Typed, tmp_path: Path) -> None:
    words = [*SEARCH, *FAST, *SPACE, f"hydra.sweeper.storage=sqlite:///{tmp_path}/studies.db"]
    code, told = typed(*words, "hydra.sweeper.n_trials=1")
    assert code == 0, told
    assert re.search(r"more trials: +the same command with hydra.sweeper.n_trials=2\n", told)
    code, told = typed("-m", "resume=last")
    assert code == 2
    assert "is not taken over; type the multirun's own command again" in told
    code, told = typed(*words, "hydra.sweeper.n_trials=2")
    assert "2 of 2 done: 2 complete" in told, told


def test_too_many_failures_in_a_row_stop_the_search(typed: Typed, tmp_path: Path) -> None:
    words = ["optimizer.lr=interval(1e30,1e31)", "hydra.sweeper.n_trials=9", "hydra.sweeper.max_failures=2"]
    code, told = typed(*SEARCH, *FAST, *words)
    assert code == 1
    assert "stopped: 2 trials failed in a row" in told
    assert "raise hydra.sweeper.max_failures" in told
    assert "resume:" in told
    assert len(trials(tmp_path)) == 2


def test_pruned_trials_are_told_so_and_keep_their_folder_and_curve(typed: Typed, tmp_path: Path) -> None:
    pruner = ["hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.pruner.n_warmup_steps=0"]
    rates = [
        "optimizer.lr=choice(0.01,1e-9)",
        "trainer.max_epochs=3",
        "hydra/sweeper/sampler=grid",
        "hydra.sweeper.sampler.seed=0",
    ]
    code, told = typed(*SEARCH, *FAST, *pruner, *rates)
    assert code == 0, told
    assert [trial.params["optimizer.lr"] for trial in trials(tmp_path)] == [0.01, 1e-9]
    assert [trial.state for trial in trials(tmp_path)] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert "pruned after 1 epochs" in told
    sweep = tmp_path / "train" / "multiruns" / "s"
    assert status(sweep / "1") == "pruned"
    assert read_json(sweep / "1" / "results.json")["pruned"] == 1
    assert len((sweep / "1" / "metrics.csv").read_text().splitlines()) == 2
    assert "2 of 2 done: 1 complete, 1 pruned" in told


def test_several_objectives_end_in_a_pareto_front(typed: Typed, tmp_path: Path) -> None:
    objective = ["optimized_metric=[val/accuracy,parameters]", "hydra.sweeper.direction=[maximize,minimize]"]
    grid = ["model.widths=choice([8],[64])", "hydra/sweeper/sampler=grid"]
    code, told = typed(*SEARCH, *FAST, *objective, *grid, "report=true")
    assert code == 0, told
    assert "Pareto front:" in told
    # 784 inputs, 10 classes: 784 * 8 + 8 + 8 * 10 + 10 = 6370 weights, and 784 * 64 + 64 + 640 + 10 = 50890.
    assert {trial.values[1] for trial in trials(tmp_path)} == {6370, 50890}
    sweep = tmp_path / "train" / "multiruns" / "s"
    assert "solutions" in (sweep / "optimization_results.yaml").read_text()
    assert f"report:      {sweep / 'report.html'}" in told
    page = (sweep / "report.html").read_text(encoding="utf8")
    assert "Pareto front" in page
    for advice in (told, page):  # both points of the grid are done
        assert "several seeds" in advice
        assert "more trials" not in advice


def test_a_page_that_cannot_be_drawn_costs_the_search_nothing(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("no ink")

    monkeypatch.setattr("train_smarter.report.page.write_page", broken)
    words = [*SEARCH, *FAST, "model.dropout=interval(0,0.5)"]
    code, told = typed(*words, "hydra.sweeper.n_trials=1", "report=true")
    assert code == 0, told
    assert "report.html is not written: no ink" in told
    assert "more trials:" in told
    _, told = typed(*words, "hydra.sweeper.n_trials=2", "report=false")
    assert "report.html" not in told


@pytest.mark.parametrize(
    "sampler", ["random", "cmaes", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qmc", "nsgaii", "gp"))]
)
def test_the_plugins_samplers_are_taken(typed: Typed, tmp_path: Path, sampler: str) -> None:
    words = [f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=3", "debug=fdr"]
    code, told = typed(*SEARCH, *FAST, "optimizer.lr=interval(0.001,0.01)", "model.dropout=interval(0,0.5)", *words)
    assert code == 0, told
    assert len({trial.params["optimizer.lr"] for trial in trials(tmp_path)}) == 3


def test_a_function_of_the_users_own_draws_what_depends_on_other_choices(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "spaces.py").write_text(
        "def draw(cfg, trial):\n"
        "    if trial.params['model.batch_norm']:\n"
        "        trial.suggest_float('optimizer.lr', 0.01, 0.02)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    grid = ["model.batch_norm=choice(true,false)", "hydra/sweeper/sampler=grid"]
    code, told = typed(*SEARCH, *FAST, *grid, "hydra.sweeper.custom_search_space=spaces.draw")
    assert code == 0, told
    drawn = {point["model.batch_norm"]: point.get("optimizer.lr", 0) for point in points(tmp_path)}
    assert 0.01 <= drawn[True] <= 0.02
    assert drawn[False] == 0


def test_a_file_that_changes_while_a_search_runs_is_told(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Path] = []

    def edited(*folders: Path) -> dict[str, int]:
        seen.extend(folders)
        return {"conf/train.yaml": len(seen) > 3}  # after the first look, which is the study's own

    monkeypatch.setattr(study, "fingerprints", edited)
    code, told = typed(*SEARCH, *FAST, *SPACE, "hydra.sweeper.n_trials=2")
    assert code == 0
    assert told.count("since this study began, conf/train.yaml changed") == 1
    assert len(trials(tmp_path)) == 2


@pytest.mark.slow
def test_the_winner_is_trained_again_by_the_command_that_is_told(typed: Typed, tmp_path: Path) -> None:
    words = [word for word in FAST if word not in ("callbacks=none", "test=false")]
    code, told = typed("-m", "search=digits_cnn", *words, "hydra.sweeper.n_trials=2")
    assert code == 0, told
    assert "its checkpoint on the test split, which no trial has seen: test/accuracy" in told
    sweep = tmp_path / "train" / "multiruns" / "digits_cnn_digits"
    assert f"train -m rerun={sweep} seed=1,2,3,4,5" in told
    best = max(trials(tmp_path, "digits_cnn_digits"), key=lambda trial: trial.value or 0)
    assert not any("/" in name for name in read_json(sweep / str(1 - best.number) / "results.json"))
    code, told = typed(
        "-m", f"rerun={sweep}", "seed=1,2", "callbacks.progress=null", "callbacks.prediction_samples=null"
    )
    assert code == 0, told
    again = max((tmp_path / "train" / "multiruns").glob("2*"))
    rerun = read_json(again / "0" / "results.json")
    assert rerun["best_value"] == best.value  # of the same seed
    assert "test/accuracy" in rerun
    assert [read_json(again / job / "record.json")["seed"] for job in "01"] == [1, 2]


# ---- in processes of their own, broken from outside


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `train` with words, logs under tmp_path, output into a file; what is left of it ends with the test."""
    processes = []

    def start(*words: str) -> subprocess.Popen[str]:
        with (tmp_path / "told.txt").open("a") as told:
            process = subprocess.Popen(
                [sys.executable, "-m", "train_smarter.commands.train", *words, f"paths.logs={tmp_path}"],
                env={**os.environ, "PYTHONPATH": str(ENGINE.parent), "OMP_NUM_THREADS": "1"},
                stdout=told,
                stderr=subprocess.STDOUT,
                text=True,
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_trials_of_two_processes_share_folder_study_and_parameters_and_leave_nothing(
    command: Command, tmp_path: Path
) -> None:
    words = [*SEARCH, "hydra/launcher=process", "trainer=ddp_sim", "hydra.sweeper.n_trials=2", "model=mlp"]
    short = ["trainer.max_epochs=1", "test=false", "optimizer.lr=interval(0.001,0.01)", "data.batch_size=32"]
    done = command("train", *words, *short)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 done: 2 complete" in done.stdout
    assert folders(tmp_path) == ["0", "1"]
    sweep = tmp_path / "train" / "multiruns" / "s"
    for trial in trials(tmp_path):
        assert trial.value == read_json(sweep / str(trial.number) / "results.json")["best_value"]
        assert [path.name for path in (sweep / str(trial.number)).glob("*.log")] == ["train.log"]
    assert trials(tmp_path)[0].value != trials(tmp_path)[1].value
    assert not left_behind(tmp_path)


def left_behind(logs: Path) -> list[str]:
    """Processes that still work under `logs`."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(logs) in line and "train_smarter" in line]


@pytest.mark.slow
def test_ctrl_c_ends_a_search_and_its_processes_and_it_goes_on(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    forever = ["trainer.max_epochs=5000", "model=mlp", "test=false", "callbacks.early_stopping=null"]
    search = started(*SEARCH, *SPACE, *forever, "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2")
    wait_for(lambda: len(list(tmp_path.glob("train/multiruns/s/*/metrics.csv"))) == 2)
    search.send_signal(signal.SIGINT)
    assert search.wait(60) == 130
    assert not left_behind(tmp_path)
    told = (tmp_path / "told.txt").read_text()
    assert f"interrupted; to resume, type: train -m resume={tmp_path}/train/multiruns/s" in told
    sweep = tmp_path / "train" / "multiruns" / "s"
    assert [status(sweep / name) for name in "01"] == ["interrupted"] * 2
    assert [trial.user_attrs.get("cut_off") for trial in trials(tmp_path)[:2]] == [True, True]
    assert [trial.state for trial in trials(tmp_path)[2:]] == [TrialState.WAITING] * 2
    assert {t.user_attrs["repeats"]: t.user_attrs["deaths"] for t in trials(tmp_path)[2:]} == {0: 0, 1: 0}


def wait_for(reached: Callable[[], bool], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"not reached in {seconds} s"
        time.sleep(0.05)


def ended(logs: Path) -> list[FrozenTrial]:
    """The trials that count."""
    return [trial for trial in trials(logs) if trial.state.is_finished() and "cut_off" not in trial.user_attrs]


@pytest.mark.slow
def test_a_search_killed_five_times_ends_with_the_trials_it_was_asked_for(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    words = [*SEARCH, *SPACE, "model=mlp", "trainer.max_epochs=6", "test=false", "hydra.sweeper.n_trials=20"]
    words += ["hydra.sweeper.n_jobs=2", "hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=4"]
    dice = random.Random(0)
    victims = ["master", "worker", "both", "master", "both"]
    kept: dict[str, int] = {}
    search = started(*words)
    for victim in victims:
        time.sleep(dice.uniform(8, 25))
        sweep = tmp_path / "train" / "multiruns" / "s"
        workers = [job for job in sweep.glob("*/record.json") if status(job.parent) == "running"]
        if victim != "worker":
            search.kill()
            search.wait()
        if victim != "master" and workers:
            os.kill(read_json(dice.choice(workers))["pid"], signal.SIGKILL)
        for file in sweep.glob("*/results.json"):
            kept.setdefault(file.parent.name, file.stat().st_mtime_ns)
        if victim != "worker":
            search = started(*words)
    assert search.wait(900) == 0, (tmp_path / "told.txt").read_text()
    sweep = tmp_path / "train" / "multiruns" / "s"
    assert len(ended(tmp_path)) == 20
    assert {trial.state for trial in ended(tmp_path)} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert {name: (sweep / name / "results.json").stat().st_mtime_ns for name in kept} == kept, "overwritten"
    again = [trial for trial in trials(tmp_path) if "repeats" in trial.user_attrs]
    first = {trial.number: trial.params for trial in trials(tmp_path)}
    assert again
    assert all(trial.params == first[trial.user_attrs["repeats"]] for trial in again)
    for trial in ended(tmp_path):
        if trial.state == TrialState.COMPLETE:
            assert trial.value == read_json(sweep / str(trial.number) / "results.json")["best_value"]
    assert not left_behind(tmp_path)
    optuna_itself = str(Path(sys.executable).with_name("optuna"))
    cli = [optuna_itself, "trials", "--study-name", "s", "--storage", str(sweep / "study.log")]
    listed = subprocess.run([*cli, "-f", "json"], capture_output=True, text=True, check=False)
    assert listed.stdout.count('"COMPLETE"') == len([t for t in trials(tmp_path) if t.state == TrialState.COMPLETE])


FAULTS = {  # experiments of a user's own, by the way in which they fail
    "sound": "trainer: {max_epochs: 1}",
    "sound_too": "trainer: {max_epochs: 2}",
    "sound_as_well": "trainer: {max_epochs: 3}",
    "sound_again": "trainer: {max_epochs: 4}",
    "slow_but_sound": "trainer: {max_epochs: 5}",
    "good": "optimizer: {lr: 0.002}",
    "fine": "optimizer: {lr: 0.003}",
    "well": "optimizer: {lr: 0.004}",
    "nice": "optimizer: {lr: 0.005}",
    "best": "optimizer: {lr: 0.006}",
    "leaves_the_numbers": "optimizer: {lr: 1e30}",
    "out_of_memory": "model: {widths: [4000000000]}",
    "a_mistake": "model: {dropout: 7}",
    "does_not_compose": "defaults: [override /scheduler: nowhere]",
    "is_killed": "trainer: {max_epochs: 100000}\ncallbacks: {early_stopping: null}",
}
REASONS = {
    "leaves_the_numbers": "loss is nan",
    "out_of_memory": "allocate memory",
    "a_mistake": "model.dropout=7: give a number",
    "does_not_compose": "Could not find 'scheduler/nowhere'",
    "is_killed": "was killed (SIGKILL)",
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "process"])
def test_a_third_of_the_trials_fails_in_five_ways_and_the_others_are_done(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path, launcher: str
) -> None:
    faults = {name: text for name, text in FAULTS.items() if launcher == "process" or name != "is_killed"}
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    for name, text in faults.items():
        (tmp_path / "conf" / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    words = [f"experiment=choice({','.join(faults)})", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=99"]
    more = [f"hydra.searchpath=[file://{tmp_path}/conf]", f"hydra/launcher={launcher}", "hydra.sweeper.max_failures=9"]
    fast = [word for word in FAST if not word.startswith("trainer.max_epochs")]
    search = started(*SEARCH, *fast, *words, *more, "hydra.sweeper.sampler.seed=5", "hydra/sweeper/pruner=none")
    end = time.monotonic() + 600
    while search.poll() is None:
        assert time.monotonic() < end
        for job in (tmp_path / "train" / "multiruns" / "s").glob("*/record.json"):
            text = (job.parent / ".hydra" / "overrides.yaml").read_text()
            if "is_killed" in text and status(job.parent) == "running":
                os.kill(read_json(job)["pid"], signal.SIGKILL)
        time.sleep(0.2)
    told = (tmp_path / "told.txt").read_text()
    assert search.returncode == 1, told
    failed = {t.params["experiment"]: t.user_attrs["error"] for t in ended(tmp_path) if t.state == TrialState.FAIL}
    reasons = {name: reason for name, reason in REASONS.items() if name in faults}
    assert failed.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in failed[name], f"{name}: {failed[name]}"
    assert f"{len(faults)} of {len(faults)} done: 10 complete, {len(reasons)} failed" in told


@pytest.mark.slow
def test_three_searches_on_one_study_do_nothing_twice(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    words = [*SEARCH, *FAST, *SPACE, "hydra.sweeper.n_trials=30"]
    searches = [started(*words) for _ in range(3)]
    assert [search.wait(600) for search in searches] == [0, 0, 0], (tmp_path / "told.txt").read_text()
    assert len(ended(tmp_path)) == len(trials(tmp_path)) == 30
    assert len({str(trial.params) for trial in trials(tmp_path)}) == 30
    owners = {trial.user_attrs["owner"]["pid"] for trial in trials(tmp_path)}
    assert len(owners) == 3, "one of them did nothing"
    assert folders(tmp_path) == [str(number) for number in range(30)]


@pytest.mark.slow
def test_twenty_jobs_of_two_processes_in_a_row(command: Command, tmp_path: Path) -> None:
    words = ["-m", f"seed={','.join(map(str, range(20)))}", "hydra/launcher=process", "trainer=ddp_sim", "model=mlp"]
    done = command("train", *words, "trainer.max_epochs=1", "test=false", timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    (sweep,) = (tmp_path / "train" / "multiruns").iterdir()
    assert sorted(read_json(sweep / str(job) / "record.json")["seed"] for job in range(20)) == list(range(20))
    assert all(status(sweep / str(job)) == "done" for job in range(20))
    assert not left_behind(tmp_path)
