from pathlib import Path

import pytest

from measure import search
from measure.process import Measured
from measure.section import Options

POINT = {"lr": 0.001, "batch_size": 64}


def test_each_way_is_held_against_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = {"plain": 19.0, "tight": 9.0}
    monkeypatch.setattr(search, "ours", lambda: (12.0, [POINT]))
    monkeypatch.setattr(search, "call", lambda _, **given: ([inner[given["way"]], 0.9], None))
    monkeypatch.setattr(search, "run", lambda _: Measured(1, 0))
    section = search.search(Options(rounds=2))
    assert [goal.row()[2:] for goal in section.goals] == [["0.60 (0.60 to 0.60)", "yes"]]  # 12 / (19 + 1)
    assert section.tables[0].splitlines()[-1].endswith("| 10.00 (10.00 to 10.00) | 1.20 (1.20 to 1.20) |")
    assert "0.001 and 64" in section.text


def test_a_point_is_read_from_a_jobs_config(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("optimizer: {lr: 1e-3}\ndata: {batch_size: 64}\n")
    assert search.point(tmp_path / "config.yaml") == POINT
