from typing import Any

import pytest

from train_smarter.run.limits import ended_by, longer_time


@pytest.mark.parametrize(
    ("trainer", "epochs", "limit"),
    [
        ({"max_epochs": 5}, 5, "max_epochs"),
        ({"max_epochs": 5, "max_time": "00:00:01:00"}, 4, "max_time"),
        ({"max_epochs": -1, "max_steps": 9}, 4, "max_steps"),
        ({"max_epochs": 5, "max_steps": 9}, 5, "max_epochs"),
        ({"max_epochs": 5, "max_steps": -1}, 3, "early_stopping"),
        ({"max_epochs": None}, 3, "early_stopping"),
    ],
)
def test_the_setting_that_ended_a_training(trainer: dict[str, Any], epochs: int, limit: str) -> None:
    assert ended_by({"trainer": trainer, "callbacks": {"early_stopping": {"patience": 3}}}, epochs) == limit


def test_without_early_stopping_only_epochs_are_left() -> None:
    assert ended_by({"trainer": {"max_epochs": 5}, "callbacks": None}, 3) == "max_epochs"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("00:00:00:40", "00:00:02:00"),
        ("01:12:30:00", "04:13:30:00"),
        ({"hours": 10, "seconds": 0.5}, "01:06:00:02"),  # 1.5 s, rounded to even
        ("soon", None),
        ("1:2", None),
        ({"years": 1}, None),
    ],
)
def test_three_times_a_time(given: Any, wanted: str | None) -> None:
    assert longer_time(given, 3) == wanted
