import logging
import re
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from rich.file_proxy import FileProxy

from train_smarter.sanitize import Formatter
from train_smarter.terminal import (
    ScreenHandler,
    config_lines,
    config_tree,
    diagnosis_lines,
    echo,
    echo_error,
    echo_labelled,
    echo_prose,
    format_table,
    results_table,
    short_path,
)

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
    lines = config_lines(OmegaConf.create({"seed": 7}), choices)
    assert [str(line) for line in lines] == [
        "data=digits model=mlp optimizer=adam seed=7",
        "print_config=true shows the whole config",
    ]


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
        "name   n  long",
        f"a      1  {'x' * 200}",
        "日本  22",
    ]
    assert format_table([("a", "b")]) == "a  b"


@pytest.mark.parametrize(
    "cells",
    [("1", "-"), ("0.9610 ± 0.0102", "1.0000 ± 0.1000"), ("18.5 K", "129"), ("8 s", "5 min 01 s"), ("nan", "-1e-05")],
)
def test_numbers_are_aligned_at_the_right(cells: tuple[str, str]) -> None:
    width = max(map(len, cells))
    lines = format_table([(cell, "x") for cell in cells], "n", "name").splitlines()
    assert lines == [f"{'n':>{width}}  name", *(f"{cell:>{width}}  x" for cell in cells)]


@pytest.mark.parametrize("cells", [("1", "a"), ("val/loss 1.0", "2"), ("2026-01-01_10_a", "1")])
def test_text_is_aligned_at_the_left(cells: tuple[str, str]) -> None:
    lines = format_table([(cell, "x") for cell in cells], "n", "name").splitlines()
    assert all(line.startswith(f"{cell} ") for line, cell in zip(lines, ("n", *cells), strict=True))


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
        "  try: train rerun=last model.batch_norm=true",
        "   or: train rerun=last optimizer.lr=0.0001",
        "note: accuracy noise: 0.9 ± 0.1",
    ]


def test_a_run_without_more_than_notes_is_told_to_be_healthy() -> None:
    assert diagnosis_lines([], "last") == ["diagnosis: healthy: nothing to mend was found"]
    note = {"severity": "note", "name": "accuracy_noise", "evidence": "0.9 ± 0.1", "where": "", "advice": []}
    assert diagnosis_lines([note], "last")[0].startswith("diagnosis: healthy")


# ---- on a terminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make standard output and error a terminal 40 columns wide."""

    def make(*, colours: bool = True) -> None:
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        settings = {"COLUMNS": "40", "LINES": "24", "TERM": "xterm-256color"} | ({} if colours else {"NO_COLOR": "1"})
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)

    return make


FINDING = "warning: dead relus: 95% of the units of a layer are dead"  # 56 characters
ESCAPE = "\x1b["


def test_a_terminal_shows_labels_in_colour_and_breaks_a_finding_between_words(
    terminal: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal()
    echo_labelled(FINDING, f"report:      /a/{'long/' * 9}report.html")
    assert capsys.readouterr().out.splitlines() == [
        f"{ESCAPE}33mwarning:{ESCAPE}0m dead relus: 95% of the units of",
        "  a layer are dead",
        f"{ESCAPE}2mreport:{ESCAPE}0m      /a/{'long/' * 9}report.html",  # to be copied: whole
    ]


def test_no_color_turns_the_colours_off(terminal: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    terminal(colours=False)
    echo_labelled(FINDING)
    echo_prose("  best of all the trials that were run here so far", "green")
    echo_error("first\nsecond")
    written = capsys.readouterr()
    assert written.out.splitlines() == [
        "warning: dead relus: 95% of the units of",
        "  a layer are dead",
        "  best of all the trials that were run",
        "  here so far",
    ]
    assert written.err == "first\nsecond\n"


def test_a_pipe_gets_one_plain_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    echo_labelled(FINDING)
    echo_prose(f"[1/2] trial 0: {'word ' * 30}end", "bold green")
    echo_error(f"{'word ' * 30}end")
    written = capsys.readouterr()
    assert written.out == f"{FINDING}\n[1/2] trial 0: {'word ' * 30}end\n"
    assert written.err == f"{'word ' * 30}end\n"


def test_an_error_is_red_in_its_first_line(terminal: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    terminal()
    echo_error("a\x1b[1m[b]: wrong\nThere are: x")
    assert capsys.readouterr().err == f"{ESCAPE}31ma\\x1b[1m[b]: wrong{ESCAPE}0m\nThere are: x\n"


def test_a_control_character_in_a_line_with_a_label_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    echo_labelled("note: \x1b[2J\nrm")
    echo_prose("\x1b[2J\nrm")
    assert capsys.readouterr().out == "note: \\x1b[2J\\nrm\n\\x1b[2J\\nrm\n"


def test_a_path_in_the_current_folder_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert short_path(tmp_path / "logs" / "run") == "logs/run"
    assert short_path(tmp_path.parent / "other") == str(tmp_path.parent / "other")
    assert short_path(tmp_path / "-x") == str(tmp_path / "-x")  # no option of a command that it is typed behind


# ---- the log


def logged(level: int, message: str, name: str = "train_smarter.data", **extra: Any) -> str:
    handler = ScreenHandler(stream := StringIO())
    handler.setFormatter(Formatter("%(message)s"))
    record = logging.LogRecord(name, level, "", 0, message, (), None)
    vars(record).update(extra)
    handler.handle(record)
    return stream.getvalue()


def test_the_log_on_the_screen_is_the_message_and_a_warning_is_marked() -> None:
    assert logged(logging.INFO, "reading the texts") == "reading the texts\n"
    assert logged(logging.WARNING, "no locks") == "warning: no locks\n"
    assert logged(logging.ERROR, "no disk") == "error: no disk\n"
    assert logged(logging.WARNING, "problem: nan loss") == "problem: nan loss\n"  # of the diagnosis: marked already
    assert logged(logging.INFO, "a\x1b[1m\nb") == "a\\x1b[1m\nb\n"


def test_a_record_may_have_a_shorter_message_for_the_screen() -> None:
    assert logged(logging.INFO, "train: {'a': 3}", screen="train: 3\x1b") == "train: 3\\x1b\n"


def test_each_job_of_a_multirun_begins_with_its_overrides() -> None:
    assert logged(logging.INFO, "\t#0 : seed=1", "hydra._internal.core_plugins.basic_launcher") == "\n#0 : seed=1\n"


def test_a_log_line_is_printed_above_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich replaces sys.stdout while it draws, by a file that prints above the bar."""
    stream, above = StringIO(), StringIO()
    handler = ScreenHandler(stream)
    monkeypatch.setattr(sys, "stdout", FileProxy(Console(file=above), stream))
    handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "a line", (), None))
    assert (stream.getvalue(), above.getvalue()) == ("", "a line\n")


def test_a_stream_that_is_closed_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler = ScreenHandler(stream := StringIO())
    stream.close()
    handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "a line", (), None))
