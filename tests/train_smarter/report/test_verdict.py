from pathlib import Path
from typing import Any

import pytest

from train_smarter.report.verdict import verdict
from train_smarter.run.files import write_json

RUN: dict[str, Any] = {
    "metrics": {"loss": "min", "accuracy": "max"},
    "results": {"test/loss": 0.5, "test/accuracy": 0.75},
    "monitor": "val/accuracy",
    "best": 0.875,
    "best_epoch": 1,
    "found": [],
}
RIGHT_3_OF_4 = {"confusion": {"test": [[1, 1], [0, 2]]}}


def test_the_headline_is_shown_with_the_standard_error_of_a_share(tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", RIGHT_3_OF_4)
    # sqrt(0.75 * 0.25 / 4) = 0.2165
    assert verdict(RUN, tmp_path) == ("On the test split, accuracy is 0.7500 ± 0.2165 (standard error, 4 examples).")


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        {"confusion": {"test": [[2, 1], [0, 1]]} | {"val": [[1, 1], [0, 2]]}} | {"test/accuracy": 0.5},
        {"confusion": {"test": [[0, 0], [0, 0]]}},
        {"confusion": {"test": "damaged"}},
        {"confusion": {"val": [[1]]}},
    ],
)
def test_a_headline_that_is_no_share_has_no_standard_error(tmp_path: Path, content: Any) -> None:
    run = RUN | {"results": {"test/accuracy": 0.25}}
    if content is not None:
        write_json(tmp_path / "results.json", content)
    assert verdict(run, tmp_path) == "On the test split, accuracy is 0.2500."


def test_an_error_says_that_lower_is_better(tmp_path: Path) -> None:
    run = RUN | {"metrics": {"loss": "min", "rmse": "min"}, "results": {"test/rmse": 61.0}}
    assert verdict(run, tmp_path) == "On the test split, rmse is 61.0000 (lower is better)."


def test_a_run_without_a_test_shows_its_best_value(tmp_path: Path) -> None:
    run = RUN | {"results": {}}
    assert verdict(run, tmp_path) == "The best val/accuracy is 0.8750, in epoch 1."
    assert verdict(run | {"best_epoch": None}, tmp_path) == "The best val/accuracy is 0.8750."
    assert verdict(run | {"best": None}, tmp_path) == ""


def test_the_diagnosis_is_named_where_there_is_one(tmp_path: Path) -> None:
    run = RUN | {"results": {}, "best": None}
    found = run | {"found": ["training_too_short", "overfitting"]}
    assert verdict(found, tmp_path) == "The diagnosis found: training too short, overfitting."
    write_json(tmp_path / "diagnosis.json", {"findings": []})
    assert verdict(run, tmp_path) == "The diagnosis found nothing to mend."
