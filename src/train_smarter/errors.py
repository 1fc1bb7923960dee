"""A mistake that ends with one clear message instead of a traceback."""

import errno
import os
import shutil
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path


class UserError(Exception):
    """A user's mistake, or a fault in the world: one message, exit code 2, no traceback.

    The message says what was given, what is accepted and what to type next.
    """


def did_you_mean(given: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    close = get_close_matches(given, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def first_paragraph(error: BaseException) -> str:
    """The first paragraph of a message, on one line."""
    paragraph = str(error).partition("full_key:")[0].strip().split("\n\n")[0]
    return " ".join(paragraph.split()) or repr(error)


# ---- refusals of the file system

FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITTEN = {  # why a file cannot be written, and the remedy
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some space"),
    errno.EFBIG: ("it is larger than this shell allows", "raise the limit (ulimit -f)"),
    errno.EROFS: ("the file system is read-only", "choose another folder, paths.logs=..., or copy the run to one"),
}
NOT_OPENED = {
    errno.EACCES: ("permission denied", "check its owner and mode (ls -l), or choose another folder, paths.logs=..."),
    errno.EPERM: ("permission denied", "check its owner and mode (ls -l)"),
    errno.ENOENT: ("no such file or folder; was it deleted or moved?", ""),
    errno.EMFILE: ("too many open files in this process", "raise the limit (ulimit -n)"),
    errno.EEXIST: ("a file is where a folder has to be", "move it, or give another folder"),
}


def file_error(error: OSError, *, path: Path | None = None, then: str = "") -> UserError:
    """A refusal of the file system as one message: the file, the reason, and what to type.

    Notes of the error (`add_note`) are part of the reason: the space that a file needs, say.

    Args:
        path: the file, where the error does not name it.
        then: the command that continues once the cause is gone.
    """
    file, code = error.filename if path is None else path, error.errno or 0
    file = os.fsdecode(file) if isinstance(file, bytes) else file
    unknown = (error.strerror or str(error) or type(error).__name__, "")
    reason, remedy = (NOT_WRITTEN | NOT_OPENED).get(code, unknown)
    details = ", ".join([*_free_space(file, code), *getattr(error, "__notes__", [])])
    place = f"{file or 'a file'} cannot be written: " if code in NOT_WRITTEN else f"{file}: " if file else ""
    ways = ", then ".join(part for part in (remedy, then and f"type {then}") if part)
    return UserError(f"{place}{reason}{details and f' ({details})'}{ways and f'; {ways}'}")


def _free_space(file: object, code: int) -> list[str]:
    if code not in FULL or not isinstance(file, str | Path):
        return []
    folder = next((parent for parent in Path(file).absolute().parents if parent.is_dir()), None)
    return [f"{megabytes(shutil.disk_usage(folder).free)} free"] if folder else []


def megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"
