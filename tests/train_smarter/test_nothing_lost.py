"""A full disk, a deleted folder, a second start and a killed process lose nothing, and end in one message."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from train_smarter import paths
from train_smarter.callbacks.epoch_logger import EpochLogger
from train_smarter.run.checksums import damage_of
from train_smarter.run.files import read_csv

Typed = Callable[..., tuple[int, str]]
Command = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ["model=mlp", "trainer=cpu", "trainer.max_epochs=2", "callbacks.progress=null", "callbacks.diagnosis=null"]


def test_a_full_disk_ends_a_run_in_one_message_and_it_resumes_once_there_is_room(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("train_smarter.callbacks.epoch_logger.append_row", full)
        code, told = typed(*SHORT, f"hydra.run.dir={tmp_path}/run")
    assert code == 2
    assert f"{tmp_path}/run/metrics.csv cannot be written: the disk is full (" in told
    assert f"free some space, then type train resume={tmp_path}/run" in told
    assert "Traceback" not in told
    assert json.loads((tmp_path / "run" / "record.json").read_text())["status"] == "failed"
    code, told = typed(f"resume={tmp_path}/run")
    assert code == 0, told
    assert [row["epoch"] for row in read_csv(tmp_path / "run" / "metrics.csv")] == ["0", "1"]


def test_a_record_that_cannot_be_written_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train_smarter.run.record import Record

    record = object.__new__(Record)
    record.__dict__.update(folder=tmp_path, path=tmp_path / "record.json", content={"monitor": None, "mode": None})
    record._stopped = type("Stopped", (), {"set": lambda _: None})()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("train_smarter.run.record.write_json", full)
    record.end("failed", OSError("the first one"))
    with pytest.raises(OSError, match="No space left"):
        record.end("done")


def test_a_run_folder_that_was_deleted_ends_the_run_in_one_message_and_is_not_made_again(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = EpochLogger._write

    def vanish(self: EpochLogger, *given: Any) -> None:
        if self.seconds:
            shutil.rmtree(tmp_path / "run")
        write(self, *given)

    monkeypatch.setattr(EpochLogger, "_write", vanish)
    code, told = typed(*SHORT, "logger=none", f"hydra.run.dir={tmp_path}/run")
    assert (code, told.splitlines()[-1]) == (
        2,
        f"{tmp_path}/run is gone: it was deleted or moved while the run trained in it; if it was moved, type "
        "train resume=<where it is now>",
    )
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_the_same_folder_is_refused(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_text("{}")
    code, told = typed(*SHORT, f"hydra.run.dir={tmp_path}/run")
    assert code == 2
    assert "holds a run already, which a new one would overwrite" in told
    assert [path.name for path in (tmp_path / "run").iterdir() if path.name != ".lock"] == ["record.json"]


@pytest.mark.slow
def test_of_two_that_resume_a_run_at_once_one_is_refused(command: Command, typed: Typed, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    folder = tmp_path / "run"
    typed(*SHORT, f"hydra.run.dir={folder}")
    for epochs in (3, 4, 5):
        with ThreadPoolExecutor(2) as pool:
            pair = [pool.submit(command, "train", f"resume={folder}", f"trainer.max_epochs={epochs}") for _ in "ab"]
        done = [one.result() for one in pair]
        assert sorted(one.returncode for one in done) in ([0, 2], [0, 0]), [one.stderr for one in done]
        assert all("is in use: process" in one.stderr for one in done if one.returncode)
        assert [row["epoch"] for row in read_csv(folder / "metrics.csv")] == [str(epoch) for epoch in range(epochs)]


WRITER = """
import sys, torch
from pathlib import Path
from train_smarter.run.checkpoint_file import AtomicCheckpointIO
writer, content = AtomicCheckpointIO(), {"weight": torch.zeros(5_000_000)}
for count in range(1000):
    writer.save_checkpoint(content, Path(sys.argv[1]) / "best.ckpt")
    print("written", flush=True)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_writes_a_checkpoint_on_another_disk_loses_none(tmp_path: Path) -> None:
    other_disk = Path("/dev/shm")
    if not os.access(other_disk, os.W_OK):
        pytest.skip("there is no other disk")
    folder = Path(tempfile.mkdtemp(dir=other_disk))
    try:
        for moment in range(5):
            process = subprocess.Popen(
                [sys.executable, "-c", WRITER, str(folder)],
                env={**os.environ, "PYTHONPATH": str(paths.ENGINE.parent), "TMPDIR": str(tmp_path)},
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.02 * moment)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert damage_of(folder / "best.ckpt") == ""
            assert not [path for path in tmp_path.iterdir() if path.is_file()]
    finally:
        shutil.rmtree(folder)
