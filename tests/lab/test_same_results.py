import json
from pathlib import Path

import pytest

import same_results


def run(folder: Path, results: dict[str, object], metrics: str = "epoch,val/accuracy\n0,0.5\n") -> Path:
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "results.json").write_text(json.dumps(results))
    (folder / "a" / "metrics.csv").write_text(metrics)
    return folder


def test_renamed_values_and_other_times_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = run(tmp_path / "old", {"best": 0.5, "seconds": 1})
    after = run(tmp_path / "new", {"best_value": 0.5, "seconds": 2})
    assert same_results.main([str(before), str(after)]) == 0
    assert capsys.readouterr().out == "a: no value differs\n"


def test_each_value_that_differs_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = run(tmp_path / "old", {"epochs": 1})
    after = run(tmp_path / "new", {"epochs": 2}, metrics="epoch,val/accuracy\n0,0.25\n")
    assert same_results.main([str(before), str(after)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "a/results.json 0 epochs: 1 before, 2 after",
        "a/metrics.csv 0 val/accuracy: 0.5 before, 0.25 after",
    ]


def test_a_folder_without_runs_is_answered(tmp_path: Path) -> None:
    assert same_results.main([str(tmp_path), str(tmp_path)]) == 2
