"""One process at a time trains in a run folder."""

import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from train_smarter.errors import UserError

log = logging.getLogger(__name__)

NAME = ".lock"
_held: dict[Path, int] = {}  # open files; the system releases their locks when the process ends, however it ends


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder in the block; a lock that this process has already is released as well."""
    lock(folder)
    try:
        yield
    finally:
        if (file := _held.pop(folder.resolve(), None)) is not None:
            os.close(file)


def lock(folder: Path) -> None:
    """Make this process the only one that trains in a folder. Of several processes of a run, the first one calls it.

    Raises:
        UserError: another process trains there.
        OSError: the folder cannot be written.
    """
    if folder.resolve() in _held:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        _lock_file(file)
    except (BlockingIOError, PermissionError):
        owner = os.read(file, 200).decode("utf8", errors="replace").strip()
        os.close(file)
        raise UserError(
            f"{folder} is in use: {owner or 'another process'} trains there; wait, or stop it (Ctrl-C saves it)"
        ) from None
    except OSError as error:  # a network's file system, say
        log.warning("%s has no locks (%s): start no second training in it", folder, error.strerror)
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {platform.node()}".encode())
    _held[folder.resolve()] = file


def check_still_there(folder: Path) -> None:
    """Refuse to write in a folder that was deleted while this process had locked it: it would be made again.

    Raises:
        UserError: it is gone.
    """
    if folder.resolve() in _held and not (folder / NAME).exists():
        raise UserError(
            f"{folder} is gone: it was deleted or moved while the run trained in it; if it was moved, type "
            "train resume=<where it is now>"
        )


if sys.platform == "win32":
    import msvcrt

    def _lock_file(file: int) -> None:
        os.lseek(file, 1 << 20, os.SEEK_SET)  # behind the text, which others may read
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock_file(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _close_in_child() -> None:
        """A forked loader's worker would hold the lock for as long as it outlives a killed run."""
        for file in _held.values():
            with suppress(OSError):
                os.close(file)
        _held.clear()

    os.register_at_fork(after_in_child=_close_in_child)
