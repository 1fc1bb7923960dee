from pathlib import Path
from types import SimpleNamespace

import pytest

from measure import growth
from measure.process import Measured
from measure.section import Options


def test_every_size_is_a_row_beside_the_smallest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def call(_: str, *, examples: int, overrides: list[str], **__: str) -> tuple[dict[str, float], Measured]:
        parameters = 795 * int(overrides[0].partition("[")[2][:-1]) + 10 if overrides else 315_722
        return {"seconds": examples / 1000, "parameters": parameters}, Measured(1, 100 * 2**20)

    monkeypatch.setattr(growth, "call", call)
    monkeypatch.setattr(growth, "PLOT", tmp_path / "growth.png")
    rows = growth.growth(Options()).tables[0].splitlines()[2:]
    assert rows[3] == "| 8x: 50,000 images | 50.00 s | 8.00 | 100 MiB |"
    assert rows[-1] == "| 8.0 million parameters | 16.00 s | 1.00 | 100 MiB |"
    assert 1000 < (tmp_path / "growth.png").stat().st_size < 100_000


def test_a_data_set_reads_the_noise_that_it_is_fed() -> None:
    data = SimpleNamespace(shape=(1, 4, 4), num_classes=3)
    growth.feed(data, 7)
    source = data.read()
    assert source.train.inputs.shape == (7, 1, 4, 4)
    assert (source.names, len(source.val), len(source.test)) == (["0", "1", "2"], 500, 500)
