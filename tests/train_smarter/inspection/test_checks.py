"""What is said about data, and that sound data have nothing said about them."""

from typing import Any

import pytest

from train_smarter.inspection.checks import check_data


def content(**changes: Any) -> dict[str, Any]:
    """Of a sound data set of images, with some entries replaced."""
    part = {"part": "inputs", "dtype": "float32", "mean": 0.1, "std": 0.9, "nan": 0, "infinite": 0}
    sound: dict[str, Any] = {
        "kind": "images",
        "splits": [{"split": "train"}, {"split": "val"}],
        "batch": [part],
        "columns": {"inputs": [{"name": "channel 0", "mean": 51.0, "std": 25.5, "nan": 0, "infinite": 0}]},
        "normalized_by": [[0.5], [0.5]],
        "targets": [{"kind": "classes", "counts": {"cat": {"train": 9, "val": 2}, "dog": {"train": 5, "val": 1}}}],
        "duplicates": {"pairs": [{"splits": ["train", "val"], "count": 0, "of": 3, "names": []}], "conflicts": 0},
        "words": None,
        "time": {"seconds": 0.05},
        "loss": {"initial": 0.7, "chance": 0.69, "step_seconds": 0.1},
    }
    return sound | changes


def batch(**changes: Any) -> list[dict[str, Any]]:
    return [content()["batch"][0] | changes]


def counts(**of: dict[str, int]) -> list[dict[str, Any]]:
    return [{"kind": "classes", "counts": of}]


def test_sound_data_have_no_finding() -> None:
    assert check_data(content()) == []


@pytest.mark.parametrize(
    ("changes", "name", "severity", "said"),
    [
        ({"batch": batch(nan=2)}, "missing_values", "problem", "2 NaN and 0 infinite values in the inputs"),
        ({"batch": batch(std=0.0, mean=0.5)}, "constant_inputs", "problem", "all inputs of the batch are 0.5"),
        ({"batch": batch(mean=120.0, std=60.0)}, "not_normalized", "warning", "'data.mean=[0.2]' 'data.std=[0.1]'"),
        (
            {"targets": counts(cat={"train": 9}, dog={"train": 5, "val": 1})},
            "missing_class",
            "warning",
            "val has no example of 1 of 2",
        ),
        ({"targets": counts(cat={"val": 1}, dog={"train": 5, "val": 1})}, "missing_class", "problem", "no training"),
        (
            {"targets": counts(cat={"train": 50, "val": 1}, dog={"train": 5, "val": 1})},
            "class_imbalance",
            "warning",
            "5 training examples of one class, 50 of another",
        ),
        (
            {
                "duplicates": {
                    "pairs": [{"splits": ["train", "test"], "count": 3, "of": 30, "names": [["train 7", "test 1"]]}],
                    "conflicts": 0,
                }
            },
            "duplicates",
            "warning",
            "3 of 30 examples of test are in train, too",
        ),
        ({"duplicates": {"pairs": [], "conflicts": 4}}, "conflicting_targets", "warning", "4 examples"),
        ({"words": {"unknown": 0.2, "cut": 0.0}}, "unknown_words", "warning", "20% of the words of val"),
        ({"time": {"seconds": 0.2}}, "slow_batches", "warning", "200 ms, and a step of the model 100 ms"),
        ({"time": {"seconds": 0.3}, "loss": None}, "slow_batches", "warning", "300 ms: training waits"),
        (
            {"loss": {"initial": 9.0, "chance": 0.7, "step_seconds": 1.0}},
            "initial_loss",
            "warning",
            "9 at the initial weights, and 0.7 by chance",
        ),
        ({"loss": {"initial": float("nan"), "chance": 0.7, "step_seconds": 1.0}}, "initial_loss", "problem", "NaN"),
    ],
)
def test_each_fault_is_named_with_its_numbers(changes: dict[str, Any], name: str, severity: str, said: str) -> None:
    [finding] = check_data(content(**changes))
    assert (finding.name, finding.severity) == (name, severity)
    assert said in finding.evidence


def test_a_constant_column_of_a_table_is_named_and_problems_come_first() -> None:
    columns = [{"name": name, "std": std, "nan": 0, "infinite": 0} for name, std in (("age", 3.0), ("year", 0.0))]
    found = check_data(content(kind="rows", columns={"inputs": columns}, batch=batch(nan=1)))
    assert [(one.name, one.where) for one in found] == [("missing_values", ""), ("constant_inputs", "column year")]
