import re
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from train_smarter.terminal import config_line, config_tree, diagnosis_lines, echo, format_table, results_table

SCORES = ("loss", "accuracy", "precision", "recall", "f1")


def drawn(thing: Any) -> str:
    """As on a terminal 80 columns wide, without lines and colours."""
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(thing)
    return re.sub(r"[^\S\n]+", " ", re.sub("[─-╿]", " ", capture.get()))


def test_the_config_is_a_tree_with_a_branch_for_each_group() -> None:
    cfg = OmegaConf.create({"model": {"hidden": 8, "widths": [1, 2]}, "seed": 1, "logger": {}, "tags": ["a"]})
    lines = [line.strip() for line in drawn(config_tree(cfg)).splitlines()]
    expected = ["config", "seed: 1", "tags:", "- a", "model", "hidden: 8", "widths:", "- 1", "- 2"]
    assert lines == expected  # plain values first, and no branch for what is empty


def test_the_config_is_shown_with_its_values_filled_in() -> None:
    cfg = OmegaConf.create({"classes": 10, "model": {"outputs": "${classes}", "optimizer": "${optimizer}"}})
    cfg.optimizer = {"lr": 0.1}
    assert "outputs: 10" in drawn(config_tree(cfg))
    assert "lr: 0.1" in drawn(config_tree(cfg))


def test_the_config_is_one_line_of_the_choices_that_matter() -> None:
    choices = {"model": "mlp", "data": "digits", "experiment": "none", "paths": "default", "optimizer": "adam"}
    line = config_line(OmegaConf.create({"seed": 7}), choices)
    assert line == "data=digits model=mlp optimizer=adam seed=7  (print_config=true shows the whole config)"


def test_brackets_in_a_config_are_no_colours() -> None:
    cfg = OmegaConf.create({"data": {"dir": "/my [red] data/[/x]"}, "note": "[bold]"})
    assert "dir: /my [red] data/[/x]" in drawn(config_tree(cfg))
    assert "[bold]" in drawn(config_tree(cfg))


def test_the_table_has_a_row_for_each_score_and_a_column_for_each_split() -> None:
    results = {f"train/{name}": 0.1 + place for place, name in enumerate(SCORES)}
    results |= {f"test/{name}": 0.98765 for name in SCORES}
    lines = [line.split() for line in drawn(results_table(results, ["train", "test"])).splitlines() if line.strip()]
    assert lines == [
        ["metric", "train", "test"],
        ["loss", "0.1000", "0.9877"],
        ["accuracy", "1.1000", "0.9877"],
        ["precision", "2.1000", "0.9877"],
        ["recall", "3.1000", "0.9877"],
        ["f1", "4.1000", "0.9877"],
    ]


@pytest.mark.parametrize("folder", ["/a [red] b", "/runs[/x]", "/:smile:", "/runs/" + "long " * 100])
def test_a_line_is_shown_as_it_is(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"run folder:  {folder}", "second line")
    assert capsys.readouterr().out == f"run folder:  {folder}\nsecond line\n"


def test_a_list_is_aligned_and_never_wraps() -> None:
    rows: list[tuple[object, ...]] = [("a", 1, "x" * 200), ("日本", 22, "")]  # these signs are two columns wide each
    assert format_table(rows, "name", "n", "long").splitlines() == [
        "name  n   long",
        f"a     1   {'x' * 200}",
        "日本  22",
    ]
    assert format_table([("a", "b")]) == "a  b"


def test_a_diagnosis_is_a_line_for_each_finding_and_one_with_what_to_type() -> None:
    found = [
        {
            "severity": "warning",
            "name": "dead_relus",
            "evidence": "95% of them",
            "where": "layer a",
            "advice": ["model.batch_norm=true", "optimizer.lr=0.0001"],
        },
        {"severity": "note", "name": "accuracy_noise", "evidence": "0.9 ± 0.1", "where": "", "advice": []},
    ]
    assert diagnosis_lines(found, "last") == [
        "warning: dead relus: 95% of them (layer a)",
        "  try: train rerun=last model.batch_norm=true   or optimizer.lr=0.0001",
        "note: accuracy noise: 0.9 ± 0.1",
    ]


def test_a_run_without_more_than_notes_is_told_to_be_healthy() -> None:
    assert diagnosis_lines([], "last") == ["diagnosis: healthy: nothing to mend was found"]
    note = {"severity": "note", "name": "accuracy_noise", "evidence": "0.9 ± 0.1", "where": "", "advice": []}
    assert diagnosis_lines([note], "last")[0].startswith("diagnosis: healthy")
