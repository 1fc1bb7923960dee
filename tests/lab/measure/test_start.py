import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from measure import process, start
from measure.process import Measured
from measure.section import Options


def test_starts_are_measured_in_rounds_of_alternating_order(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    took = {"train --cfg": 0.6, "bare --cfg": 0.5, "train step": 7, "imports": 5}

    def run(command: Sequence[str]) -> Measured:
        which = "train" if "train_smarter.commands.train" in command else "bare" if "--cfg" in command else "imports"
        ran.append(which if which == "imports" else f"{which} {'--cfg' if '--cfg' in command else 'step'}")
        return Measured(took[ran[-1]], 0)

    monkeypatch.setattr(start, "run", run)
    section = start.start(Options(rounds=2))
    assert ran[:8] == [*took, *reversed(took)]
    assert len(ran) == 4 * (start.LEAST + 1)
    assert [goal.row()[1:] for goal in section.goals] == [
        ["at most 1.2", "1.20 (1.20 to 1.20)", "yes"],
        ["at most 1.2", "1.40 (1.40 to 1.40)", "**no**"],
    ]
    assert "| run of one step | 7.00" in section.tables[0]


def test_memory_is_counted_above_the_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: Sequence[str]) -> Measured:
        return Measured(1, 1000 + (2 * start.RAW if "-m" in command else 0))

    monkeypatch.setattr(start, "run", run)
    assert [goal.measured.median for goal in start.memory(Options(rounds=1)).goals] == [2.0]


def test_a_second_start_is_held_against_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"ours": [0.3, 0.6], "disk": [0.2, 0.2]}
    monkeypatch.setattr(start, "call", lambda _, **__: (times, None))
    section = start.tokens(Options())
    # 1.5 and 3
    assert [goal.row()[2:] for goal in section.goals] == [["2.25 (1.50 to 3.00)", "**no**"]]


def test_the_bare_program_composes_the_same_config(tmp_path: Path) -> None:
    program = tmp_path / "bare.py"
    program.write_text(start.BARE.format(conf=str(process.ROOT / "conf")))
    process.run([sys.executable, str(program), "--cfg", "job"])


def test_every_module_of_the_bare_imports_is_there() -> None:
    before, _, names = start.IMPORTS.rpartition("; import ")
    assert before.endswith("block_tensorflow(); import_quickly()")  # as a run does
    modules = names.split(", ")
    assert "train_smarter.commands.train" in modules
    assert all(name.replace(".", "").replace("_", "").isalnum() for name in modules)
