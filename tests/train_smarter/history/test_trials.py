from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from train_smarter.history.trials import Trials, from_folders, from_study, load_study

LR, SIZE = FloatDistribution(1e-4, 1e-1, log=True), CategoricalDistribution([16, 32])


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    """In a journal file, as a search leaves it: study.log."""
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))
    made = optuna.create_study(storage=optuna.storages.JournalStorage(backend), direction="maximize", study_name="s")
    made.set_user_attr("search", {"objective": {"val/accuracy": "maximize"}})
    return made


def add(study: optuna.Study, value: float | None, lr: float, size: int = 16, **options: Any) -> None:
    params = {"optimizer.lr": lr, "data.batch_size": size}
    distributions = {"optimizer.lr": LR, "data.batch_size": SIZE}
    study.add_trial(create_trial(value=value, params=params, distributions=distributions, **options))


# ---- of a study


def test_trials_come_the_best_first_and_then_those_that_are_not_complete(study: optuna.Study, tmp_path: Path) -> None:
    add(study, 0.5, 0.01)
    add(study, None, 0.02, state=TrialState.FAIL)
    add(study, 0.75, 0.03)
    add(study, None, 0.04, state=TrialState.PRUNED, intermediate_values={1: 0.9, 2: 0.95})
    found = from_study(study, tmp_path)
    assert [(one.name, one.state, one.values, one.best) for one in found.trials] == [
        ("2", "complete", (0.75,), True),
        ("0", "complete", (0.5,), False),
        ("3", "pruned", (0.95,), False),
        ("1", "failed", (), False),
    ]
    assert (found.objectives, found.log_scaled, found.is_study) == ({"val/accuracy": "max"}, {"optimizer.lr"}, True)
    assert found.trials[0].params == {"optimizer.lr": 0.03, "data.batch_size": 16}
    assert (found.count("complete"), found.count("failed")) == (2, 1)


def test_the_least_is_the_best_where_it_is_minimised(tmp_path: Path) -> None:
    study = optuna.create_study()
    for value in (0.5, 0.25):
        add(study, value, 0.01)
    found = from_study(study, tmp_path)
    assert [one.values for one in found.trials] == [(0.25,), (0.5,)]
    assert found.objectives == {"objective 1": "min"}  # what it is was not noted


def test_a_reason_is_told_for_what_was_pruned_or_failed(study: optuna.Study, tmp_path: Path) -> None:
    add(study, None, 0.1, state=TrialState.PRUNED, intermediate_values={3: 0.25}, user_attrs={"pruned": 3})
    add(study, None, 0.1, state=TrialState.FAIL, user_attrs={"error": "Traceback\n  x\nValueError: no\n"})
    add(study, None, 0.1, state=TrialState.FAIL)
    pruned, failed, silent = from_study(study, tmp_path).trials
    assert pruned.reason == "stopped at validation 3 with 0.2500: others were ahead by then"
    assert (failed.reason, failed.trace) == ("ValueError: no", "Traceback\n  x\nValueError: no\n")
    assert silent.reason == "no reason known"


def test_what_was_cut_off_was_asked_again_and_is_left_out(study: optuna.Study, tmp_path: Path) -> None:
    add(study, None, 0.1, state=TrialState.FAIL, user_attrs={"cut_off": True})
    assert from_study(study, tmp_path).trials == []


def test_epochs_are_counted_in_the_trials_folder(study: optuna.Study, tmp_path: Path) -> None:
    add(study, 0.5, 0.1)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "metrics.csv").write_text("epoch,val/loss\n0,1\n1,1\n")
    assert from_study(study, tmp_path).trials[0].epochs == 2


def test_of_several_objectives_the_front_is_best(tmp_path: Path) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.set_user_attr("search", {"objective": {"val/accuracy": "maximize", "parameters": "minimize"}})
    for values in ([0.5, 10.0], [0.75, 20.0], [0.5, 30.0]):  # the third is worse in both than the second
        study.add_trial(create_trial(values=values))
    found = from_study(study, tmp_path)
    assert {one.name: one.best for one in found.trials} == {"1": True, "0": True, "2": False}
    assert found.objectives == {"val/accuracy": "max", "parameters": "min"}


def test_the_most_important_choice_comes_first(study: optuna.Study, tmp_path: Path) -> None:
    for number in range(12):  # the batch size decides alone
        size = (16, 32)[number % 2]
        add(study, size / 64, 10 ** -(1 + number / 4), size)
    found = from_study(study, tmp_path)
    assert found.params == ["data.batch_size", "optimizer.lr"]
    weights = found.importances["val/accuracy"]
    assert weights["data.batch_size"] > 0.9
    assert sum(weights.values()) == pytest.approx(1)


def test_three_trials_tell_no_importance_and_trials_that_are_alike_neither(study: optuna.Study, tmp_path: Path) -> None:
    for number in range(3):
        add(study, number / 4, 10.0 ** -(number + 1))
    assert from_study(study, tmp_path).importances == {}
    for _ in range(3):
        add(study, 0.5, 0.01)
    alike = optuna.create_study()
    for _ in range(5):
        alike.add_trial(create_trial(value=0.5))
    assert from_study(alike, tmp_path).importances == {}


def test_the_study_of_a_folder_is_read_and_not_written(study: optuna.Study, tmp_path: Path) -> None:
    add(study, 0.5, 0.01)
    log = tmp_path / "study.log"
    before = log.read_bytes()
    log.write_bytes(before + b'{"op_code": 5')  # a search that runs is writing
    assert [one.values for one in from_study(load_study(log), tmp_path).trials] == [(0.5,)]
    assert log.read_bytes() == before + b'{"op_code": 5'


# ---- of folders


def run(name: str, status: str, best: float | None, *overrides: str, **more: Any) -> dict[str, Any]:
    known = {"folder": f"/logs/grid/{name}", "status": status, "best": best, "overrides": list(overrides)}
    return {**known, "monitor": "val/loss", "mode": "min", "seconds": 8.0, **more}


def folders(*runs: dict[str, Any]) -> Trials:
    return from_folders({"jobs": runs})


def test_jobs_of_a_grid_are_trials_of_what_was_typed_for_them() -> None:
    found = folders(
        run("0", "done", 0.5, "seed=1", "+optimizer.lr=1e-2", "model=cnn"), run("1", "done", 0.25, "data.dir=a=b")
    )
    assert [(one.name, one.state, one.values, one.best) for one in found.trials] == [
        ("1", "complete", (0.25,), True),
        ("0", "complete", (0.5,), False),
    ]
    assert found.trials[1].params == {"seed": 1, "optimizer.lr": 0.01, "model": "cnn"}
    assert found.trials[0].params == {"data.dir": "a=b"}
    assert (found.objectives, found.importances, found.is_study) == ({"val/loss": "min"}, {}, False)
    assert found.params == ["data.dir", "seed", "optimizer.lr", "model"]


def test_a_job_that_failed_or_was_broken_off_says_so() -> None:
    found = folders(
        run("0", "failed", None, error="ValueError: no"),
        run("1", "killed", 0.5),
        {"folder": "/logs/grid/2", "status": "damaged", "damage": "no JSON", "overrides": []},
        run("3", "running", float("nan"), "optimizer.lr=nan"),
    )
    assert [(one.name, one.state, one.reason) for one in found.trials] == [
        ("1", "failed", "killed"),
        ("0", "failed", "ValueError: no"),
        ("2", "failed", "no JSON"),
        ("3", "running", ""),
    ]
    assert not any(one.best for one in found.trials)
    assert (found.trials[3].values, found.trials[3].params) == ((), {"optimizer.lr": "nan"})


def test_no_job_is_no_trial() -> None:
    assert folders() == Trials({"best": "max"}, [])
