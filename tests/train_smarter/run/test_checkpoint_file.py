"""A checkpoint is written whole or not at all, and one that is not whole is noticed."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.plugins import AsyncCheckpointIO
from omegaconf import DictConfig

from train_smarter.config.build import build_trainer
from train_smarter.errors import UserError
from train_smarter.run.checkpoint_file import AtomicCheckpointIO, _save, write_atomically
from train_smarter.run.checksums import check_checkpoint, damage_of

Compose = Callable[..., DictConfig]
CONTENT = {"state_dict": {"weight": torch.arange(10_000.0)}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "best.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    return path


def test_every_checkpoint_of_a_run_is_written_this_way(compose: Compose) -> None:
    trainer = build_trainer(compose("trainer=cpu", "logger=none"), [], [])
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)


def test_a_checkpoint_io_that_was_chosen_stays() -> None:
    chosen = AsyncCheckpointIO()
    trainer = Trainer(accelerator="cpu", plugins=[chosen], logger=False)
    write_atomically(trainer.strategy)
    assert trainer.strategy.checkpoint_io is chosen


def test_it_is_written_in_its_own_folder_and_nothing_else_is_left(
    saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))  # as on another disk, or a full one
    AtomicCheckpointIO().save_checkpoint(CONTENT, saved)
    assert [path.name for path in saved.parent.iterdir()] == ["best.ckpt"]
    assert torch.equal(torch.load(saved)["state_dict"]["weight"], torch.arange(10_000.0))


def test_on_a_full_disk_the_old_checkpoint_stays_and_the_message_has_the_space_needed(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        AtomicCheckpointIO().save_checkpoint(CONTENT, saved)
    assert caught.value.filename == str(saved)
    assert caught.value.__notes__ == ["0.0 MB needed"]  # 10,000 numbers of 4 bytes
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["best.ckpt"]


def test_a_full_disk_is_noticed_while_torch_writes() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space left on device"), Path("/dev/full").open("wb", buffering=0) as file:
        _save({"weight": torch.zeros(1_000_000)}, file)


def test_a_run_folder_that_was_deleted_is_not_made_again(tmp_path: Path) -> None:
    writer, path = AtomicCheckpointIO(), tmp_path / "run" / "checkpoints" / "last.ckpt"
    writer.save_checkpoint(CONTENT, path)
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(FileNotFoundError):
        writer.save_checkpoint(CONTENT, path)
    assert not path.parent.exists()


# ---- is it whole?


def test_a_whole_checkpoint_has_no_damage(saved: Path) -> None:
    assert damage_of(saved) == ""


def test_each_flipped_byte_of_the_weights_is_noticed(saved: Path) -> None:
    original = saved.read_bytes()
    start = original.index(torch.arange(1.0, 9.0).numpy().tobytes())  # where the weights are
    for place in (start, start + 777, start + 39_000):
        flipped = bytearray(original)
        flipped[place] ^= 1
        saved.write_bytes(flipped)
        assert damage_of(saved).startswith("it is damaged: the checksum of"), place


@pytest.mark.parametrize(
    ("content", "damage"),
    [(b"", "it is empty"), (b"PK half", "it is cut off"), (b"<html>", "it is cut off, or no checkpoint")],
)
def test_other_damage_is_named(saved: Path, content: bytes, damage: str) -> None:
    saved.write_bytes(content)
    assert damage_of(saved).startswith(damage)


def test_a_cut_off_checkpoint_is_noticed(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-1000])
    assert damage_of(saved).startswith("it is cut off")


def test_a_folder_and_a_missing_file_are_no_checkpoints(tmp_path: Path) -> None:
    assert damage_of(tmp_path) == "Is a directory"
    assert damage_of(tmp_path / "best.ckpt") == "No such file or directory"


def test_the_message_names_an_intact_checkpoint(saved: Path) -> None:
    last = saved.with_name("last.ckpt")
    AtomicCheckpointIO().save_checkpoint(CONTENT, last)
    saved.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        check_checkpoint(saved, key="model.pretrained")
    assert str(caught.value) == f"model.pretrained={saved} cannot be used: it is empty; type model.pretrained={last}"


def test_lightning_reads_no_damaged_checkpoint(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-1000])
    with pytest.raises(UserError, match="cannot be used: it is cut off"):
        AtomicCheckpointIO().load_checkpoint(saved)
