"""A run's folder, before anything is written in it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from train_smarter.errors import UserError


def check_folder(folder: Path) -> None:
    """Refuse a folder in which a file is not what it seems, before anything is written in it.

    Raises:
        UserError: a link leads out of the folder; a file is also in another folder (a hard link); a file is a device, a
            pipe or a socket.
    """
    root, shared = folder.resolve(), dict[tuple[int, int], list[Path]]()
    for path, status in _iter_entries(root):
        if stat.S_ISLNK(status.st_mode):
            _check_link(path, root)
        elif stat.S_ISREG(status.st_mode):
            if status.st_nlink > 1:
                shared.setdefault((status.st_dev, status.st_ino), []).append(path)
        elif not stat.S_ISDIR(status.st_mode):
            raise UserError(f"{path} is not a regular file, and the folder is refused: delete it")
    for paths in shared.values():
        if paths[0].lstat().st_nlink > len(paths):
            raise UserError(
                f"{paths[0]} is a hard link to a file outside of {root}, which would be changed with it: copy the "
                "folder (cp -r) and use the copy"
            )


def _iter_entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below the folder, not following links."""
    try:
        with os.scandir(folder) as found:
            for entry in found:
                yield Path(entry.path), os.lstat(entry.path)  # scandir's own has no link count on Windows
                if entry.is_dir(follow_symlinks=False):
                    yield from _iter_entries(Path(entry.path))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def _check_link(path: Path, root: Path) -> None:
    try:
        target = path.resolve()
        inside = target.is_relative_to(root) and not path.parent.is_relative_to(target)  # nor round in a circle
    except (OSError, RuntimeError):  # a loop
        inside = False
    if not inside:
        raise UserError(
            f"{path} is a link that leads out of {root}, or in a circle, and the folder is refused: delete it, or copy "
            "the folder with the files that it leads to (cp -rL) and use the copy"
        )
