"""The count of the values in masks: made once, read by further processes, and never trusted when it is damaged."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from train_smarter.data import mask_counts, mask_values
from train_smarter.data.image_source import ImageSource
from train_smarter.data.mask_counts import count_masks
from train_smarter.data.mask_values import MaskCount

Pairs = list[tuple[Path, Path]]


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    """Three images of 4x4 pixels; mask 0 is 0, mask 1 half 1, and mask 2 is broken."""
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    made = [(tmp_path / "photos" / f"{number}.png", tmp_path / "masks" / f"{number}.png") for number in range(3)]
    for number, (photo, mask) in enumerate(made):
        Image.new("RGB", (4, 4)).save(photo)
        values = np.zeros((4, 4), np.uint8)
        values[: 2 * number] = number
        Image.fromarray(values).save(mask)
    made[2][1].write_bytes(b"no image")
    return made


@pytest.fixture(autouse=True)
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many masks each count has read."""
    made: list[int] = []

    def count_values(pairs: Pairs) -> MaskCount:
        made.append(len(pairs))
        return original(pairs)

    original = mask_values.count_values
    monkeypatch.setattr(mask_values, "count_values", count_values)
    mask_counts._LAST.clear()
    return made


def as_another_process(pairs: Pairs, folder: Path, *, writable: bool = True) -> MaskCount:
    mask_counts._LAST.clear()
    return count_masks(pairs, folder, writable=writable)


def expected(pairs: Pairs) -> MaskCount:
    return MaskCount({0: 24, 1: 8}, {pairs[2][0]: f"{pairs[2][1]} is broken or no image"})


def test_further_processes_read_the_recorded_count(pairs: Pairs, tmp_path: Path, counts: list[int]) -> None:
    for _ in range(3):
        assert as_another_process(pairs, tmp_path / "cache") == expected(pairs)
    assert count_masks(pairs, None, writable=True) == expected(pairs)  # known to this process
    assert counts == [3]


@pytest.mark.parametrize("side", [0, 1])
def test_a_changed_image_or_mask_is_counted_again(pairs: Pairs, tmp_path: Path, counts: list[int], side: int) -> None:
    as_another_process(pairs, tmp_path / "cache")
    os.utime(pairs[1][side], ns=(1, 5))
    assert count_masks(pairs, tmp_path / "cache", writable=True) == expected(pairs)
    assert counts == [3, 3]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"pixels": [1], "broken": {}}', '{"pixels": {}, "broken": {"9": ""}}']
)
def test_a_damaged_record_is_made_again(pairs: Pairs, tmp_path: Path, counts: list[int], content: str) -> None:
    as_another_process(pairs, tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("*.json")
    file.write_text(content)
    assert as_another_process(pairs, tmp_path / "cache") == expected(pairs)
    assert as_another_process(pairs, tmp_path / "cache") == expected(pairs)
    assert counts == [3, 3]
    assert set(json.loads(file.read_text())["pixels"]) == {"0", "1"}


def test_nothing_is_written_where_a_command_makes_no_cache_file(
    pairs: Pairs, tmp_path: Path, counts: list[int]
) -> None:
    for _ in range(2):
        assert as_another_process(pairs, tmp_path / "cache", writable=False) == expected(pairs)
    assert counts == [3, 3]
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_written_costs_the_record_alone(
    pairs: Pairs, tmp_path: Path, counts: list[int]
) -> None:
    (tmp_path / "cache").write_text("a file")
    assert as_another_process(pairs, tmp_path / "cache") == expected(pairs)
    assert counts == [3]


@pytest.mark.parametrize("keys", [{"download": False}, {"download": None}, {"cache_dir": None}])
def test_only_a_config_that_allows_writing_records_a_count(
    pairs: Pairs, tmp_path: Path, counts: list[int], keys: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {"dir": str(tmp_path / "photos"), "masks": str(tmp_path / "masks"), "download": True}
    settings |= {"cache_dir": str(tmp_path / "cache")}
    assert ImageSource.of(settings | keys).count() == {"num_classes": 2, "num_targets": None}
    assert not list(tmp_path.glob("cache/*"))
    mask_counts._LAST.clear()
    ImageSource.of(settings).list()
    assert len(list(tmp_path.glob("cache/mask_values-*.json"))) == 1
    assert counts == [len(pairs)] * 2
