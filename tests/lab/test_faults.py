from pathlib import Path
from typing import Any

import pytest

import faults
from faults import Case, Outcome
from measure import plant
from train_smarter.diagnosis.rules import RULES

NAMES = {rule.__name__ for rule in RULES}


def outcome(
    name: str, finds: str | None, *names: str, problems: tuple[str, ...] = (), also: tuple[str, ...] = ()
) -> Outcome:
    case = Case(name, "test", "", finds=finds, also=also)
    return Outcome(case, frozenset(names), frozenset(problems), ["optimizer.lr=1"] if names else [])


OUTCOMES = [
    outcome("a", "overfitting", "overfitting", "accuracy_noise", also=("accuracy_noise",)),
    outcome("b", "overfitting", "underfitting"),
    outcome("c", "accuracy_noise", "accuracy_noise"),
    outcome("d", None, "overfitting", problems=("overfitting",)),
    outcome("e", None),
]


def test_the_list_has_forty_faults_and_twenty_healthy_runs_and_a_third_of_its_test_half_is_new() -> None:
    cases = faults.cases()
    planted = [case for case in cases if case.finds]
    assert len(planted) >= 40
    assert len(cases) - len(planted) >= 20
    test = [case for case in planted if case.half == "test"]
    assert 3 * sum(case.new is not None for case in test) >= len(test)
    assert {case.finds for case in planted} <= NAMES
    assert {name for case in cases for name in case.also} <= NAMES
    known = {*plant.EXAMPLES, *plant.NETWORK, "pixel", "wait"}
    assert {name for case in cases for name in case.plant or ()} <= known
    seeds = [word for case in cases for word in case.type.split() if word.startswith("seed=")]
    assert len(seeds) == len(set(seeds)) == len(cases)


def test_a_deep_network_is_spelled_short() -> None:
    assert Case("a", "tune", "model.widths=3*64 seed=1").words("x=1") == ["x=1", "model.widths=[64,64,64]", "seed=1"]


def test_a_finding_is_right_if_it_was_planted_or_is_there_as_well() -> None:
    lines = faults.figures(OUTCOMES).splitlines()[2:]
    assert lines == [
        "| `accuracy_noise` | 1 of 1 (1.00) | 2 of 2 (1.00) |",
        "| `overfitting` | 1 of 2 (0.50) | 1 of 2 (0.50) |",
        "| `underfitting` | - | 0 of 1 (0.00) |",
        "| **all** | 2 of 3 (0.67) | 3 of 5 (0.60) |",
    ]


def test_what_was_missed_and_what_was_a_false_alarm_is_named() -> None:
    assert faults.missed(OUTCOMES) == "Missed: `b` (overfitting): underfitting."
    told = faults.healthy(OUTCOMES)
    assert told == "2 healthy runs: 1 with a false problem (`d`: overfitting), 0 with a false warning."


def test_advice_has_helped_if_the_best_value_is_better_or_as_good_at_a_lower_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "RUNS", tmp_path)

    def curve(name: str, *rows: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "metrics.csv").write_text("\n".join(["epoch,val/accuracy,val/loss", *rows]) + "\n")

    curve("a", "0,0.5,1.0", "1,0.6,nan", "2,,")
    case = Case("a", "test", "")
    for rows, better in ((["0,0.7,2.0"], True), (["0,0.6,0.9"], True), (["0,0.6,1.0"], False), (["0,0.5,0.1"], False)):

        def train(_: Case, folder: Path, extra: Any, rows: list[str] = rows) -> None:
            assert extra == ["optimizer.lr=1"]
            curve(folder.name, *rows)

        monkeypatch.setattr(faults, "run", train)
        assert faults.helped(case, "optimizer.lr=1") is better


def test_advice_on_an_error_has_helped_if_the_error_is_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "RUNS", tmp_path)

    def curve(name: str, error: float) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "config.yaml").write_text("monitor: val/rmse\nmode: min\n")
        (tmp_path / name / "metrics.csv").write_text(f"epoch,val/rmse,val/loss\n0,{error},1.0\n1,nan,nan\n")

    curve("a", 3.0)
    for error, better in ((2.0, True), (4.0, False)):
        monkeypatch.setattr(faults, "run", lambda _case, folder, _extra, error=error: curve(folder.name, error))
        assert faults.helped(Case("a", "test", ""), "optimizer.lr=1") is better


def test_the_share_of_advice_that_helped_leaves_out_where_there_was_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "helped", lambda case, _: case.name == "a")
    told = faults.advised([*OUTCOMES, outcome("f", "overfitting")])
    assert told.startswith("The first advice improved validation in 1 of 3 (0.33) (`b` `optimizer.lr=1`; `c`")
    assert told.endswith("in 1 more runs there was none to give.")


def test_a_run_of_the_list_is_trained_judged_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(faults, "RUNS", tmp_path)
    assert faults.main(["missing_class_digits", "--no-advice"]) == 0
    assert "| `class_never_predicted` | 1 of 1 (1.00) |" in capsys.readouterr().out
    assert (tmp_path / "missing_class_digits" / "results.json").is_file()


def test_an_unknown_run_is_refused_and_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert faults.main(["rate_11"]) == 2
    assert "no run rate_11; --list names them all" in capsys.readouterr().err
    assert faults.main(["--list", "--half", "tune"]) == 0
    assert "tune  overfitting              few_examples_digits" in capsys.readouterr().out
