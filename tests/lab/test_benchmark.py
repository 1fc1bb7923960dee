from collections.abc import Sequence
from pathlib import Path

import pytest

import benchmark
from measure import epochs
from measure.section import NotMeasuredError, Options, Section
from measure.table import Goal, spread


def test_an_unknown_section_is_answered_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["cnn", "cmm", "x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("benchmark.py: no section cmm, x; there are: cnn, mlp, lstm,")
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--rounds=-3", "cnn"]])
def test_no_round_is_too_few(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> None:
    assert benchmark.main(words) == 2
    assert "at least 1 round" in capsys.readouterr().err


def test_the_list_names_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--list"]) == 0
    races = ["cnn", "mlp", "lstm", "diagnosis_mlp", "diagnosis_cnn", "compile_cnn"]
    others = ["augment", "profile", "search", "start", "memory", "tokens", "growth"]
    assert capsys.readouterr().out.split() == races + others


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """docs and results in tmp_path, and one section, `fake`, whose rounds are its result."""
    (tmp_path / "results.md").write_text("# P\n<!-- benchmark:begin -->\n<!-- benchmark:end -->\nend\n")
    monkeypatch.setattr(benchmark, "DOCS", tmp_path / "benchmarks.md")
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "results.md")

    def fake(options: Options) -> Section:
        return Section("Fake", "How.", [Goal("speed", 2, spread([options.rounds]))], ["| a |\n| --- |"])

    def dead(options: Options) -> Section:  # noqa: ARG001
        raise NotMeasuredError("our own process died")

    sections = {"fake": fake, "other": lambda _: Section("Other", "That.")}
    monkeypatch.setattr(benchmark, "SECTIONS", sections | {"dead": dead})
    monkeypatch.setattr(epochs, "SECTIONS", {"fake": fake, "dead": dead})
    return tmp_path


def test_a_section_is_written_between_its_marks_and_measured_again_alone(files: Path) -> None:
    assert benchmark.main(["fake", "other"]) == 0
    before = (files / "benchmarks.md").read_text()
    assert "| speed | at most 2 | 5.00 (5.00 to 5.00) | **no** |" in before
    assert benchmark.main(["fake", "--rounds", "1"]) == 0
    after = (files / "benchmarks.md").read_text()
    row = "| speed | at most 2 | 1.00 (1.00 to 1.00) | yes |"
    assert row in after
    assert before.partition("<!-- benchmark:other")[1:] == after.partition("<!-- benchmark:other")[1:]
    head = "| what | goal | measured | met |\n| --- | --- | --- | --- |"
    marks = f"<!-- benchmark:begin -->\n{head}\n{row}\n<!-- benchmark:end -->"
    assert (files / "results.md").read_text() == f"# P\n{marks}\nend\n"


def test_nothing_is_written_if_so_wanted(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["fake", "--no-write"]) == 0
    assert "cores; Python 3" in capsys.readouterr().out
    assert not (files / "benchmarks.md").exists()


def test_what_was_not_measured_leaves_what_was_written(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "benchmarks.md").write_text(before := "<!-- benchmark:dead:begin -->\nold\n<!-- benchmark:dead:end -->\n")
    assert benchmark.main(["dead", "fake"]) == 1
    assert (files / "benchmarks.md").read_text().startswith(before)
    assert "speed" in (files / "results.md").read_text()
    assert "benchmark.py: dead was not measured: our own process died" in capsys.readouterr().err


def test_a_gpu_has_tables_of_its_own_for_races_alone(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["fake"]) == 0
    before = (files / "benchmarks.md").read_text()
    assert benchmark.main(["fake", "--device", "cuda"]) == 0
    after = (files / "benchmarks.md").read_text()
    assert after.startswith(before)
    assert "<!-- benchmark:fake_cuda:begin -->" in after
    assert benchmark.main(["other", "--device", "cuda"]) == 2
    assert "other: on the CPU alone; leave --device out" in capsys.readouterr().err
