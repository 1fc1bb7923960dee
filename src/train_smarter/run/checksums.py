"""Whether a checkpoint file is whole. Imports nothing heavy."""

import functools
import zipfile
from pathlib import Path

from train_smarter.errors import UserError


def damage_of(path: Path) -> str:
    """What is wrong with a checkpoint file, or nothing. Reads it once: 2 seconds a gigabyte.

    torch does not compare the checksums of what it reads.
    """
    try:
        status = path.stat()
    except OSError as error:
        return error.strerror or str(error)
    return _damage_of(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _damage_of(path: Path, size: int, modified: int) -> str:  # noqa: ARG001 (a file that was written since is read again)
    if size == 0:
        return "it is empty"
    try:
        with path.open("rb") as file:
            if file.read(1) == b"\x80":  # torch's format before 1.6 has no checksums
                return ""
            with zipfile.ZipFile(file) as archive:
                wrong = archive.testzip()
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # zipfile raises what the damaged bytes lead to
        return f"it is cut off, or no checkpoint ({error})"
    return "" if wrong is None else f"it is damaged: the checksum of {wrong} is wrong"


def intact_checkpoints(folder: Path) -> list[str]:
    """The names of those in a folder, as `checkpoint=` takes them; best first."""
    return sorted(path.stem for path in folder.glob("*.ckpt") if not damage_of(path))


def check_checkpoint(path: Path, *, key: str = "") -> None:
    """Refuse a damaged checkpoint, and name an intact one next to it.

    Args:
        key: the word that named it, for the message.

    Raises:
        UserError: it is damaged or absent.
    """
    if not (damage := damage_of(path)):
        return
    others = intact_checkpoints(path.parent)
    ways = [f"type {key or 'ckpt_path'}={path.parent / f'{others[0]}.ckpt'}"] if others else []
    raise UserError("; ".join([f"{key and f'{key}='}{path} cannot be used: {damage}", *ways]))
