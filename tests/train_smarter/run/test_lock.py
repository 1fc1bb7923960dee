"""One process at a time trains in a run folder."""

import errno
import fcntl
import logging
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.run import lock
from train_smarter.run.run_dir import claim

# Locks the folder that it is given, says so, and waits for the end of its input.
OTHER = "import sys; from pathlib import Path; from train_smarter.run.lock import lock; lock(Path(sys.argv[1])); "
OTHER += "print('locked', flush=True); sys.stdin.read()"


def other_process(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(folder)],
        env={**os.environ, "PYTHONPATH": str(paths.ENGINE.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_process_is_refused_with_who_owns_the_folder_until_the_first_one_is_killed(tmp_path: Path) -> None:
    owner = other_process(tmp_path / "run")
    with pytest.raises(UserError) as caught:
        lock.lock(tmp_path / "run")
    assert str(caught.value) == (
        f"{tmp_path}/run is in use: process {owner.pid} on {platform.node()} trains there; wait, or stop it "
        "(Ctrl-C saves it)"
    )
    owner.kill()
    owner.communicate()
    with lock.locked(tmp_path / "run"):
        pass


def test_a_lock_is_free_when_its_block_ends(tmp_path: Path) -> None:
    with lock.locked(tmp_path):
        lock.lock(tmp_path)  # this process has it already
    other = other_process(tmp_path)
    other.communicate()
    assert other.returncode == 0


def test_a_forked_process_does_not_keep_the_lock_of_a_killed_one(tmp_path: Path) -> None:
    """A loader's worker outlives a run that was killed, for seconds."""
    ready, end = os.pipe(), os.pipe()
    lock.lock(tmp_path)
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"1")
        os.read(end[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    os.close(lock._held.pop(tmp_path.resolve()))  # as the kernel does for a process that is killed
    try:
        with lock.locked(tmp_path):
            pass
    finally:
        os.write(end[1], b"1")
        os.waitpid(child, 0)


def test_a_file_system_without_locks_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with caplog.at_level(logging.WARNING), lock.locked(tmp_path):
        assert "has no locks (Function not implemented)" in caplog.text


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"):
        lock.lock(tmp_path / "run")
    assert precious.read_text() == "precious"


def test_a_fresh_run_does_not_overwrite_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(
        UserError, match="holds a run already, which a new one would overwrite: to continue it, type train resume="
    ):
        claim(tmp_path, fresh=True)
    claim(tmp_path, fresh=False)
    os.close(lock._held.pop(tmp_path.resolve()))
